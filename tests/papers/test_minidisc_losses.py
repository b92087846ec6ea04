"""MiniDisc's four losses against the formulas written out, and hidden states for any pair of depths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from objectives import objective_of, settings_of

from understudy.base.errors import RecipeError
from understudy.mapping import layer_pairs
from understudy.models.needs import Signals
from understudy.objective import Counts

SIZES, WIDTH, LAYERS = [3, 5, 2], 4, 6
COUNTS = Counts(examples=3, tokens=10, labels=3)


def signals(seed: int, outputs: int = 3) -> Signals:
    generator = torch.Generator().manual_seed(seed)
    hidden = {layer: torch.randn(10, WIDTH, generator=generator) for layer in range(LAYERS + 1)}
    first = torch.tensor([0, 3, 8])
    return Signals(
        SIZES,
        logits=torch.randn(3, outputs, generator=generator),
        hidden=hidden,
        cls={layer: state[first] for layer, state in hidden.items()},
    )


def build(kind: str = "classification", layers: tuple[int, int] = (LAYERS, LAYERS), **settings: object):
    return objective_of(
        {"name": "minidisc", **settings}, kind=kind, student_layers=layers[0], teacher_layers=layers[1], student_width=WIDTH,
        teacher_width=WIDTH,
    )  # fmt: skip


def literal(objective: str, student: Signals, teacher: Signals, labels: torch.Tensor, kind: str) -> torch.Tensor:
    """As the released code computes them: packed tokens, one mean over states, tokens and features; T = 1."""
    if kind == "regression":
        soft, hard = F.mse_loss(student.logits, teacher.logits), F.mse_loss(student.logits[:, 0], labels)
    else:
        soft = -(teacher.logits.softmax(-1) * student.logits.log_softmax(-1)).sum(-1).mean()
        hard = F.cross_entropy(student.logits, labels)
    if objective == "ft":
        return hard
    if objective == "kd":
        return (soft + hard) / 2
    if objective == "pkd":
        ours, theirs = (F.normalize(side.cls[LAYERS], dim=-1) for side in (student, teacher))
        return (F.mse_loss(ours, theirs) + soft + hard) / 3
    states = [torch.stack([side.hidden[layer] for layer in range(LAYERS + 1)]) for side in (student, teacher)]
    return (F.mse_loss(*states) + soft) / 2


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("objective", ["ft", "kd", "pkd", "sparse"])
def test_the_losses_are_the_released_ones(objective, kind, parity):
    outputs = 1 if kind == "regression" else 3
    student, teacher = signals(0, outputs), signals(1, outputs)
    labels = torch.tensor([0.3, -1.0, 2.0]) if kind == "regression" else torch.tensor([0, 2, 1])
    built = build(kind, objective=objective, parity=parity)
    total, _ = built.compute(student, teacher, labels, progress=0.0, counts=COUNTS)
    torch.testing.assert_close(total, literal(objective, student, teacher, labels, kind))


def test_weights_can_be_changed_one_by_one():
    changed = build(hidden_weight=0.0, hard_label_weight=0.25, temperature=2.0)
    assert changed.weights(0.0) == {"soft": 0.5, "hard": 0.25}
    student, teacher, labels = signals(0), signals(1), torch.tensor([0, 2, 1])
    total, _ = changed.compute(student, teacher, labels, progress=0.0, counts=COUNTS)
    soft = -((teacher.logits / 2).softmax(-1) * (student.logits / 2).log_softmax(-1)).sum(-1).mean() * 4
    torch.testing.assert_close(total, 0.5 * soft + 0.25 * F.cross_entropy(student.logits, labels))


@pytest.mark.parametrize("name", ["sparsebert_cls", "sparsebert_ner", "kdbert_cls", "pkdbert_cls", "ftbert_ner"])
def test_the_original_model_types_name_objectives(name):
    plain = name.removesuffix("_cls").removesuffix("_ner").removesuffix("bert")
    named, known = ({"name": "minidisc", "objective": one} for one in (name, plain))
    assert settings_of(named) == settings_of(known)


def test_an_objective_that_does_not_exist_is_named():
    with pytest.raises(RecipeError, match="not 'sparce'. Did you mean 'sparse'"):
        settings_of({"name": "minidisc", "objective": "sparce"})


@pytest.mark.parametrize("depth", [6, 12, 18, 24])
@pytest.mark.parametrize("teacher_depth", [6, 12, 18, 24])
def test_where_the_original_is_defined_the_map_is_the_original(depth, teacher_depth):
    mapping = settings_of({"name": "minidisc", "parity": True}).hidden.mapping
    released = layer_pairs(mapping, depth, teacher_depth)
    assert released == tuple((i * depth // 6, i * teacher_depth // 6) for i in range(7))
    assert released == layer_pairs("even", depth, teacher_depth)


def test_every_pair_of_depths_has_a_map():
    for ours in range(1, 26):
        for theirs in range(1, 26):
            pairs = layer_pairs("even", ours, theirs)
            assert pairs[0] == (0, 0) and pairs[-1] == (ours, theirs) and len(pairs) == 1 + min(6, ours, theirs)
            for side in zip(*pairs, strict=True):
                assert list(side) == sorted(set(side))


@pytest.mark.parametrize("depths", [(4, 12), (8, 12), (3, 6)])
def test_other_depths_learn_by_default_and_are_refused_under_parity(depths):
    """Acceptance 8: 4L and 8L of a twelve-layer teacher; the original crashes on both."""
    built = build(layers=depths)
    assert max(built.needs_student.hidden) == depths[0] and max(built.needs_teacher.hidden) == depths[1]
    with pytest.raises(RecipeError, match="sixths"):
        build(layers=depths, parity=True)


def test_an_explicit_map_is_checked():
    built = build(layers=(2, 6), hidden_map=[[0, 0], [2, 5]])
    assert (built.needs_student.hidden, built.needs_teacher.hidden) == ((0, 2), (0, 5))
    with pytest.raises(RecipeError, match="student layer 3"):
        build(layers=(2, 6), hidden_map=[[3, 3]])
