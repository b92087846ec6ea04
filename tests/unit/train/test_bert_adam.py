"""BertAdam, clipping by tensor and the released schedule, against the equations written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from understudy.data.batches import training_batches
from understudy.recipe.settings import Recipe, TrainSettings
from understudy.train.bert_adam import BertAdam
from understudy.train.optim import clip_gradients, learning_rate, make_optimizer


def test_five_steps_by_the_equation():
    start, rates = [0.5, -2.0, 3.0], [0.1, 0.2, 0.2, 0.1, 0.05]
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, generator=draw, dtype=torch.float64) for _ in rates]
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = BertAdam([weight], lr=1.0, weight_decay=0.01)
    expected = []
    for place, w in enumerate(start):
        m = v = 0.0
        for rate, gradient in zip(rates, gradients, strict=True):
            g = gradient[place].item()
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w -= rate * (m / (math.sqrt(v) + 1e-6) + 0.01 * w)
        expected.append(w)
    for rate, gradient in zip(rates, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimizer.step()
    assert weight.tolist() == pytest.approx(expected, rel=1e-10)


def test_without_correction_the_first_step_is_shorter_than_adamw():
    """m = (1 - β1) g and √v = √(1 - β2) |g|: the first step is .1 / √.001 = 3.16 rates long, AdamW's 1."""
    lengths = {}
    for name, make in {"bertadam": BertAdam, "adamw": torch.optim.AdamW}.items():
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = make([weight], lr=1e-3, weight_decay=0.0)
        weight.grad = torch.tensor([0.7])
        optimizer.step()
        lengths[name] = abs(weight.item()) / 1e-3
    assert lengths["adamw"] == pytest.approx(1.0, rel=1e-3)
    assert lengths["bertadam"] == pytest.approx(0.1 / math.sqrt(0.001), rel=1e-3)


def test_the_released_course_of_the_learning_rate():
    """By the share x of the steps done: x / w while warming up, then (1 - x) / (1 - w)."""
    settings = TrainSettings(lr=2e-5, warmup=0.1, optimizer="bertadam")
    total = 50
    for step in range(total):
        x = step / total
        expected = x / 0.1 if x < 0.1 else (1 - x) / 0.9
        assert learning_rate(step, total, settings) == pytest.approx(2e-5 * expected, rel=1e-12)


def test_each_tensor_is_shortened_by_itself():
    def gradients() -> list[torch.nn.Parameter]:
        found = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
        found[0].grad, found[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
        return found

    by_tensor, together = gradients(), gradients()
    length = clip_gradients(by_tensor, TrainSettings(clip="tensor", max_grad_norm=1.0))
    assert length.item() == pytest.approx(math.sqrt(25.25))
    torch.testing.assert_close(by_tensor[0].grad, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(by_tensor[1].grad, torch.tensor([0.3, 0.4]))  # short enough
    assert clip_gradients(together, TrainSettings(max_grad_norm=1.0)).item() == pytest.approx(math.sqrt(25.25))
    torch.testing.assert_close(together[1].grad, torch.tensor([0.3, 0.4]) / math.sqrt(25.25))


def test_settings_choose_the_optimizer(toy_bert):
    nothing = torch.nn.Module()
    assert isinstance(make_optimizer(toy_bert, nothing, TrainSettings(optimizer="bertadam")), BertAdam)
    assert isinstance(make_optimizer(toy_bert, nothing, TrainSettings()), torch.optim.AdamW)


def test_rows_in_the_order_of_the_file():
    batches = training_batches([3] * 10, batch_size=4, seed=1, epoch=2, shuffle=False)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    shuffled = np.concatenate(training_batches([3] * 10, batch_size=4, seed=1, epoch=2))
    assert shuffled.tolist() != list(range(10)) and sorted(shuffled) == list(range(10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"epochs": 6, "planned_epochs": 2}, "less than `epochs: 6`"), ({"shuffle": False, "grouping": "length"}, "drop one")],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainSettings(**settings)


def test_parity_of_peakd_shows_in_the_recipe():
    """What the method's parity means for training is written out, for the teacher and the baseline as well."""
    base = {"task": "demo/intent", "teacher": {"model": "x", "finetune": {"epochs": 1}}, "student": {"num_layers": 1}}
    recipe = Recipe.model_validate(base | {"method": {"name": "peakd", "parity": True}, "train": {"clip": "global"}})
    assert recipe.teacher is not None and recipe.teacher.finetune is not None
    for settings in (recipe.train, recipe.teacher.finetune):
        assert (settings.optimizer, settings.clip, settings.shuffle) == ("bertadam", "global", False)
    plain = Recipe.model_validate(base | {"method": "peakd"})
    assert (plain.train.optimizer, plain.train.clip, plain.train.shuffle) == ("adamw", "global", True)


def test_a_teacher_with_its_own_epochs_has_its_own_plan():
    given = {"task": "demo/intent", "teacher": {"model": "x", "finetune": {"epochs": 9}}, "student": {"num_layers": 1},
             "method": "peakd", "train": {"epochs": 5, "planned_epochs": 6}}  # fmt: skip
    recipe = Recipe.model_validate(given)
    assert recipe.teacher is not None and recipe.teacher.finetune is not None
    assert (recipe.teacher.finetune.epochs, recipe.teacher.finetune.planned_epochs) == (9, None)
