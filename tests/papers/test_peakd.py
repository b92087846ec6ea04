"""Pea-KD and Patient KD against their equations, written out slowly, and against numbers computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from objectives import objective_of, settings_of
from torch import Tensor

from understudy import losses
from understudy.base.errors import RecipeError
from understudy.mapping import layer_pairs
from understudy.methods.peakd import ptp
from understudy.models.needs import Signals
from understudy.objective import Counts, Objective
from understudy.objective.terms import hard_labels

ROWS, CLASSES, WIDTH = 5, 3, 8
SIZES = {"student_width": WIDTH, "teacher_width": WIDTH, "student_layers": 3, "teacher_layers": 6, "seed": 0}


def random_signals(seed: int, *, layers: tuple[int, ...], width: int = WIDTH) -> Signals:
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    return Signals(sizes=[4] * ROWS, logits=numbers(ROWS, CLASSES), cls={i: numbers(ROWS, width) for i in layers})


def evaluate(settings: dict[str, Any], student: Signals, teacher: Signals, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The total and its gradients in the student's logits and states."""
    objective = objective_of({"name": "peakd", **settings}, **SIZES).double()
    assert student.logits is not None
    leaves = [student.logits, *student.cls.values()]
    total, _ = objective.compute(student, teacher, labels, progress=0.0, counts=Counts(ROWS, 4 * ROWS, ROWS))
    return total.detach(), list(torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True))


@pytest.fixture
def batch() -> tuple[Signals, Signals, Tensor]:
    return random_signals(1, layers=(1, 2)), random_signals(2, layers=(2, 4)), torch.tensor([0, 2, 1, 1, 0])


def slow(student: Signals, teacher: Signals, labels: Tensor, *, alpha: float, beta: float, heat: float, released: bool) -> float:
    """L = (1 - α) CE + α T² KL + β PT, number by number; `released`: averaged over classes and width as well."""
    assert student.logits is not None and teacher.logits is not None
    z, u = student.logits.tolist(), teacher.logits.tolist()

    def softmax(row: list[float], t: float) -> list[float]:
        powers = [math.exp(value / t) for value in row]
        return [power / sum(powers) for power in powers]

    hard = sum(-math.log(softmax(row, 1.0)[y]) for row, y in zip(z, labels.tolist(), strict=True)) / ROWS
    kl = 0.0
    for ours, theirs in zip(z, u, strict=True):
        q, p = softmax(ours, heat), softmax(theirs, heat)
        kl += sum(pc * math.log(pc / qc) for pc, qc in zip(p, q, strict=True))
    soft = heat**2 * kl / (ROWS * CLASSES if released else ROWS)
    distance = 0.0
    for ours, theirs in ((1, 2), (2, 4)):
        for s, t in zip(student.cls[ours].tolist(), teacher.cls[theirs].tolist(), strict=True):
            ns, nt = math.hypot(*s), math.hypot(*t)
            distance += sum((a / ns - b / nt) ** 2 for a, b in zip(s, t, strict=True))
    patient = distance / (2 * ROWS * WIDTH)  # released: over rows, layers and width; ours by default: β / width
    return (1 - alpha) * hard + alpha * soft + beta * patient


@pytest.mark.parametrize("parity", [False, True])
def test_the_whole_loss(parity, batch):
    student, teacher, labels = batch
    settings = {"parity": parity, "alpha": 0.6, "beta": 40.0, "temperature": 5.0}
    total, _ = evaluate(settings, *batch)
    expected = slow(student, teacher, labels, alpha=0.6, beta=40.0, heat=5.0, released=parity)
    assert total.item() == pytest.approx(expected, rel=1e-12)


def test_textbook_terms_with_converted_weights_are_the_released_loss(batch):
    """Labels 1 - α, soft α / C, layers β / D: the same value and the same gradients."""
    student, teacher, labels = batch
    total, gradients = evaluate({"parity": True, "alpha": 0.7, "beta": 100.0}, *batch)
    logits, cls = student.logits, student.cls
    assert logits is not None and teacher.logits is not None
    textbook = (
        0.3 * losses.cross_entropy(logits, labels)
        + 0.7 / CLASSES * losses.soft_kl(logits, teacher.logits, temperature=10.0)
        + 100 / WIDTH * losses.patient([cls[1], cls[2]], [teacher.cls[2], teacher.cls[4]])
    )
    assert total.item() == pytest.approx(textbook.item(), rel=1e-12)
    for ours, theirs in zip(gradients, torch.autograd.grad(textbook, [logits, *cls.values()]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_each_reduction_can_be_set_alone(batch):
    released, textbook = evaluate({"parity": True}, *batch)[0], evaluate({}, *batch)[0]
    assert released != textbook
    assert evaluate({"kd_reduction": "mean"}, *batch)[0].item() == pytest.approx(released.item(), rel=1e-12)
    assert evaluate({"parity": True, "kd_reduction": "batchmean"}, *batch)[0].item() == pytest.approx(textbook.item(), rel=1e-12)


def test_soft_kl_of_two_rows_by_hand():
    """T = 2. Teacher probabilities (1/2, 1/4, 1/4) and uniform, student's uniform: KL is 1.5 ln 3 - ... in closed form."""
    teacher = 2 * torch.log(torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64))
    student = torch.zeros(2, 3, dtype=torch.float64)
    row = 0.5 * math.log(1.5) + 0.5 * math.log(0.75)  # Σ p ln(p / (1/3))
    by_hand = 4 * row / 2  # T² and the mean over two rows
    assert losses.soft_kl(student, teacher, temperature=2.0).item() == pytest.approx(by_hand, rel=1e-12)
    assert losses.soft_kl(student, teacher, temperature=2.0, over="mean").item() == pytest.approx(by_hand / 3, rel=1e-12)
    without = losses.soft_kl(student, teacher, temperature=2.0, scale_by_t2=False).item()
    assert without * 4 == pytest.approx(by_hand, rel=1e-12)


def test_element_mean_times_width_is_the_distance_of_vectors(batch):
    student, teacher, _ = batch
    sides = [student.cls[1], student.cls[2]], [teacher.cls[2], teacher.cls[4]]
    ratio = losses.patient(*sides, over="sum") / losses.patient(*sides, over="mean")
    assert ratio.item() == pytest.approx(WIDTH, rel=1e-12)


def test_train_types_and_ablations():
    def terms(**settings) -> set[str]:
        return set(objective_of({"name": "peakd", **settings}, **SIZES).terms)

    assert terms(train_type="ft") == {"hard"}
    assert terms(train_type="kd") == {"hard", "logit_kl"}
    assert terms() == {"hard", "logit_kl", "patient"}
    assert terms(beta=0.0) == {"hard", "logit_kl"}
    assert terms(alpha=1.0, beta=0.0) == {"logit_kl"}


# -- layer pairs ---------------------------------------------------------------------------------------------------------

PAIRS = {  # (virtual layers, teacher's depth) -> (student's, teacher's), counted from 1
    (3, 12): ((1, 4), (2, 8)),
    (6, 12): ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10)),
    (2, 12): ((1, 6),),
    (4, 12): ((1, 3), (2, 6), (3, 9)),
    (9, 12): ((3, 4), (6, 8)),
    (6, 24): ((1, 4), (2, 8), (3, 12), (4, 16), (5, 20)),
    (3, 24): ((1, 8), (2, 16)),
}


@pytest.mark.parametrize(("depths", "pairs"), PAIRS.items())
def test_skip_gives_the_whole_published_table(depths, pairs):
    assert layer_pairs("multiples", *depths, inner=True) == pairs


def test_last_and_explicit_pairs():
    assert layer_pairs("last", 6, 12, inner=True) == ((1, 7), (2, 8), (3, 9), (4, 10), (5, 11))
    assert layer_pairs("last", 3, 12, inner=True) == ((1, 10), (2, 11)) == layer_pairs([10, 11], 3, 12, inner=True)
    with pytest.raises(RecipeError, match="3 entries for 2"):
        layer_pairs([1, 2, 3], 3, 12, inner=True)


@pytest.mark.parametrize("depth", [5, 7])
def test_skip_without_a_pair_names_another_rule(depth):
    with pytest.raises(RecipeError, match="Use spread"):
        layer_pairs("multiples", depth, 12, inner=True)


def test_a_student_of_one_layer_learns_no_layers():
    with pytest.raises(RecipeError, match="one layer has none"):
        objective_of({"name": "peakd"}, **SIZES | {"student_layers": 1})
    assert "patient" not in objective_of({"name": "peakd", "train_type": "kd"}, **SIZES | {"student_layers": 1}).terms


def test_a_number_is_learnt_by_its_square_and_bad_weights_are_refused():
    assert set(objective_of({"name": "peakd"}, kind="regression", **SIZES).terms) == {"hard", "logit_mse", "patient"}
    for bad in ({"alpha": 1.5}, {"alpha": "much"}, {"train_type": "pdk"}):
        with pytest.raises(RecipeError, match=f"method.{next(iter(bad))}: should be"):
            settings_of({"name": "peakd", **bad})


# -- the four classes ------------------------------------------------------------------------------------------------------


def logits_of(confidence: list[float], says: list[int]) -> np.ndarray:
    """Two-class logits whose largest softmax probability is the one given."""
    rows = np.zeros((len(says), 2))
    rows[np.arange(len(says)), says] = np.log(np.array(confidence) / (1 - np.array(confidence)))
    return rows


def test_eight_rows_by_hand_ties_are_unconfident():
    sure = [0.9, 0.8, 0.7, 0.95, 0.9, 0.6, 0.55, 0.75]
    says = [1, 0, 1, 0, 1, 0, 1, 1]
    gold = [1, 0, 1, 0, 0, 1, 0, 0]
    confidence, right = ptp.judge(logits_of(sure, says), np.array(gold), "classification")
    np.testing.assert_allclose(confidence, sure, rtol=1e-12)
    assert right.tolist() == [True] * 4 + [False] * 4
    exact = np.array(sure)
    assert ptp.thresholds((0.8, 0.6), exact, right) == (0.8, 0.6)
    assert ptp.classify(exact, right, (0.8, 0.6)).tolist() == [0, 1, 1, 0, 2, 3, 3, 2]
    # Medians: right .7 .8 .9 .95 -> .85; wrong .55 .6 .75 .9 -> .675.
    assert ptp.thresholds("median", exact, right) == pytest.approx((0.85, 0.675))
    assert ptp.classify(exact, right, (0.85, 0.675)).tolist() == [0, 1, 1, 0, 2, 3, 3, 2]
    assert ptp.counts_of([0, 1, 1, 0, 2, 3, 3, 2]) == [2, 2, 2, 2]
    # An odd number of rows: the median is a row, and that row is unconfident.
    three = np.array([0.7, 0.8, 0.9])
    pair = ptp.thresholds("median", three, np.ones(3, bool))
    assert pair == (0.8, 0.8) and ptp.classify(three, np.ones(3, bool), pair).tolist() == [1, 1, 0]


def test_other_thresholds():
    confidence, right = np.linspace(0.5, 0.9, 5), np.ones(5, bool)
    assert ptp.thresholds("quantile", confidence, right, quantile=0.25)[0] == pytest.approx(0.6)
    assert ptp.thresholds("published", confidence, right, task="glue/mrpc") == (0.95, 0.75)
    with pytest.raises(RecipeError, match="there are none for glue/qqp, only for glue/rte"):
        ptp.thresholds("published", confidence, right, task="glue/qqp")


def test_several_labels_are_one_answer():
    """Right when the whole set is; as sure as the product of the parts."""
    logits = np.log(np.array([[3.0, 1 / 3], [4.0, 4.0]]))  # probabilities (.75, .25) and (.8, .8)
    confidence, right = ptp.judge(logits, np.array([[1, 0], [1, 0]]), "multilabel")
    np.testing.assert_allclose(confidence, [0.75 * 0.75, 0.8 * 0.8], rtol=1e-12)
    assert right.tolist() == [True, False]


def test_nearly_empty_classes_are_named():
    found = ptp.warnings_of([50, 40, 0, 3], few=20)
    assert len(found) == 2 and "only 0 training rows are 'confidently wrong'" in found[0]
    assert ptp.warnings_of([50, 40, 20, 30], few=20) == []


@pytest.mark.parametrize(("kind", "reason"), [("regression", "no confidence"), ("tokens", "tagged O"), ("text", "no labels")])
def test_kinds_without_the_classes_are_refused_with_the_reason(kind, reason):
    with pytest.raises(RecipeError, match=f"{reason}.*method.ptp: off"):
        ptp.refuse(kind)


def test_balanced_classes_weigh_alike():
    counts = [12, 6, 2, 0]
    weights = torch.tensor(ptp.balanced(counts), dtype=torch.float64)
    assert (weights * torch.tensor(counts)).tolist() == pytest.approx([20 / 3, 20 / 3, 20 / 3, 0])
    logits, labels = torch.randn(20, 4, dtype=torch.float64), torch.tensor([0] * 12 + [1] * 6 + [2] * 2)
    total, _ = Objective(ptp=hard_labels("classification", class_weights=ptp.balanced(counts))).compute(
        Signals(sizes=[3] * 20, logits=logits), None, labels, progress=0.0, counts=Counts(20, 60, 20)
    )
    by_class = torch.stack([torch.nn.functional.cross_entropy(logits[labels == c], labels[labels == c]) for c in range(3)])
    assert total.item() == pytest.approx(by_class.mean().item(), rel=1e-12)
