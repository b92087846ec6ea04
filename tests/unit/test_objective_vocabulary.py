"""Terms over a vocabulary: one pass for divergence and cross-entropy, equal to the dense sum, however the batch is split."""

import pytest
import torch
from torch.nn import functional as F

from understudy.base.errors import RecipeError
from understudy.kinds import kind as kind_named
from understudy.losses import chunked
from understudy.losses.chunked import Head
from understudy.models.needs import Needs, Signals
from understudy.objective import Counts
from understudy.objective.pair import Pair, Side
from understudy.objective.vocabulary import build
from understudy.recipe.objective import objective_section

V, D = 13, 4


class _Causal(type(kind_named("text"))):
    causal, labelled, per_token, on_vocabulary = True, True, True, True


CAUSAL = _Causal("text")


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective_of(terms, kind=CAUSAL, outputs=V):
    settings = objective_section().model_validate(terms).terms()
    return build(settings, Pair(kind, Side(D, 2), Side(D, 2), outputs, same_tokens=True))[0]


def signals(sizes, seed, weight):
    labels = torch.arange(sum(sizes)) % V
    labels[::3] = -100
    hidden = randn(seed, int((labels != -100).sum()), D)
    return Signals(list(sizes), head=Head(hidden, weight)), labels


def test_a_language_model_learns_from_hidden_states_and_heads():
    objective = objective_of(
        {"hard": 0.3, "soft": {"weight": 0.7, "divergence": "jsd", "beta": 0.2, "temperature": 2.0}}
    )
    assert objective.needs_student == Needs(head=True)
    assert objective.needs_teacher == Needs(head=True, whole=True)  # a temperature asks for the tail
    assert not objective_of({"soft": 1.0}).needs_teacher.whole
    assert objective.units == {"hard": "label", "soft": "label"}
    weight = randn(1, V, D).requires_grad_()
    student, labels = signals([5, 4], 2, weight)
    teacher, _ = signals([5, 4], 3, randn(4, V, D))
    counts = Counts(2, 9, 6)
    total, values = objective.compute(student, teacher, labels, progress=0.5, counts=counts)
    z, t = student.head.hidden @ weight.T, teacher.head.hidden @ teacher.head.weight.T
    q, p = (z / 2).softmax(-1), (t / 2).softmax(-1)
    m = 0.2 * p + 0.8 * q
    soft = 4 * (0.2 * (p * (p / m).log()).sum() + 0.8 * (q * (q / m).log()).sum()) / 6
    hard = F.cross_entropy(z, labels[labels != -100])
    torch.testing.assert_close(values, {"hard": hard.detach(), "soft": soft.detach()})
    torch.testing.assert_close(total, 0.3 * hard + 0.7 * soft)
    (ours,), (wanted,) = (torch.autograd.grad(x, weight) for x in (total, 0.3 * hard + 0.7 * soft))
    torch.testing.assert_close(ours, wanted)


def test_parts_of_a_batch_add_up_and_both_terms_take_one_pass(monkeypatch):
    objective = objective_of({"hard": 0.5, "soft": 0.5})
    weight = randn(1, V, D)
    student, labels = signals([6, 3], 2, weight)
    teacher, _ = signals([6, 3], 3, randn(4, V, D))
    counts, products = Counts(2, 9, 6), []
    whole, _ = objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    parts = 0.0
    for size, rows, tokens in ((6, slice(0, 4), slice(0, 6)), (3, slice(4, 6), slice(6, 9))):
        one = [Signals([size], head=side.head.map(lambda x, rows=rows: x[rows])) for side in (student, teacher)]
        parts += objective.compute(*one, labels[tokens], progress=0.0, counts=counts)[0]
    torch.testing.assert_close(parts, whole)
    product = chunked.product
    monkeypatch.setattr(chunked, "product", lambda one, other: products.append(1) or product(one, other))
    objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    assert len(products) == 2  # the student's logits and the teacher's


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "tvd"])
def test_a_classification_can_learn_by_any_divergence(name):
    objective = objective_of({"soft": {"divergence": name, "temperature": 3.0}}, kind_named("classification"), 3)
    student, teacher = randn(1, 5, 3).requires_grad_(), randn(2, 5, 3)
    total, _ = objective.compute(
        Signals([1] * 5, logits=student),
        Signals([1] * 5, logits=teacher),
        torch.arange(5) % 3,
        progress=0.0,
        counts=Counts(5, 5, 5),
    )
    q, p = (student / 3).softmax(-1), (teacher / 3).softmax(-1)
    of = {"forward_kl": p * (p / q).log(), "reverse_kl": q * (q / p).log(), "tvd": (p - q).abs() / 2}[name]
    wanted = 9 * of.sum(-1).mean()
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(torch.autograd.grad(total, student), torch.autograd.grad(wanted, student))


def test_each_of_several_labels_is_a_distribution_of_two_classes():
    objective = objective_of({"soft": {"divergence": "reverse_kl"}}, kind_named("multilabel"), 3)
    student, teacher = randn(1, 5, 3), randn(2, 5, 3)
    total, _ = objective.compute(
        Signals([1] * 5, logits=student),
        Signals([1] * 5, logits=teacher),
        torch.ones(5, 3),
        progress=0.0,
        counts=Counts(5, 5, 5),
    )
    q, p = student.sigmoid(), teacher.sigmoid()
    wanted = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).mean()
    torch.testing.assert_close(total, wanted)


@pytest.mark.parametrize(
    ("terms", "kind", "message"),
    [
        ({"soft": {"beta": 0.5}}, "classification", "belong to a divergence"),
        ({"soft": {"divergence": "jsd", "beta": 1.0}}, "classification", "its ends are forward_kl"),
        ({"soft": {"divergence": "tvd", "alpha": 0.5}}, "classification", "tvd has no alpha"),
        ({"soft": {"divergence": "tvd", "loss": "mse"}}, "classification", "keep one"),
        ({"soft": {"divergence": "tvd"}}, "regression", "a regression task has none"),
        ({"logit_kl": 1.0}, CAUSAL, "soft"),
        ({"logit_mse": 1.0}, CAUSAL, "soft"),
        ({"softmax_regression": 1.0}, CAUSAL, "soft"),
    ],
)
def test_what_has_no_meaning_is_refused_with_the_reason(terms, kind, message):
    with pytest.raises(RecipeError, match=message):
        objective_of(terms, kind if isinstance(kind, _Causal) else kind_named(kind), 3)


def test_padded_heads_are_cut_to_the_real_ids_before_the_softmax():
    objective, counts = objective_of({"hard": 0.5, "soft": 0.5}), Counts(1, 6, 4)
    padded, plain = randn(1, V + 3, D), randn(4, V + 1, D)
    student, labels = signals([6], 2, padded)
    teacher, _ = signals([6], 3, plain)
    teacher.head = teacher.head.first(V)
    ours = objective.compute(student, teacher, labels, progress=0.0, counts=counts)[0]
    student, teacher = (signals([6], seed, weight[:V])[0] for seed, weight in ((2, padded), (3, plain)))
    torch.testing.assert_close(ours, objective.compute(student, teacher, labels, progress=0.0, counts=counts)[0])


def test_two_vocabularies_of_other_sizes_are_refused_by_the_term():
    objective = objective_of({"soft": 1.0})
    student, labels = signals([6], 2, randn(1, V, D))
    teacher, _ = signals([6], 3, randn(4, V + 2, D))
    with pytest.raises(RecipeError, match=r"objective.soft: The teacher's vocabulary has 15 ids, the student's 13"):
        objective.compute(student, teacher, labels, progress=0.0, counts=Counts(1, 6, 4))


def test_several_teachers_of_a_language_model_are_refused_while_the_recipe_is_read():
    from understudy.recipe.settings import Recipe

    recipe = {
        "task": {"name": "custom", "kind": "lm", "files": {"train": "a.txt"}},
        "student": {"num_layers": 1},
        "method": {"name": "kd"},
        "teacher": {"model": "x", "ensemble": 2, "finetune": {}},
    }
    with pytest.raises(ValueError, match="a language model has one teacher"):
        Recipe.model_validate(recipe)
