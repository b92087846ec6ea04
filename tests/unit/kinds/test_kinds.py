"""What holds of every kind of task, and of some."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from understudy import kinds
from understudy.base.errors import DataError, RecipeError
from understudy.recipe.types import KINDS

CAUSAL = ("lm", "sft", "chat")
JUDGED = ("embedding", "ranking", "spans")
"""Kinds whose scores are no rows of outputs: test_embedding.py and test_spans.py here, tests/unit/test_ranking_run.py."""
LABELS = {
    "classification": ("bad", "good", "so so"),
    "regression": (),
    "multilabel": ("a", "b"),
    "tokens": ("O", "B-PER", "I-PER"),
    "text": (),
    **dict.fromkeys((*CAUSAL, *JUDGED), ()),
}
TRUTH = {  # labels of four rows, and scores of a model that is right about all but the last
    "classification": ([0, 1, 2, 1], np.array([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [3, 0, 0]])),
    "regression": ([1.0, 2.0, 3.0, 4.0], np.array([1.0, 2.0, 3.0, 0.0])),
    "multilabel": ([(0, 1), (1, 1), (0, 0), (1, 0)], np.array([[-1.0, 1], [1, 1], [-1, -1], [-1, 1]])),
    "tokens": (
        [(1, 2), (0, 0, 0), (0, 1), (1, 0)],
        [np.array(tags) for tags in ((1, 2), (0, 0, 0), (0, 1), (0, 0))],
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> kinds.Kind:
    return kinds.kind(request.param)


def test_one_object_per_kind(kind: kinds.Kind) -> None:
    assert kinds.kind(kind) is kinds.kind(str(kind)) is kind
    assert pickle.loads(pickle.dumps(kind)) is copy.deepcopy(kind) is kind


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'regression'"):
        kinds.kind("regresion")


def test_the_head_is_a_class_of_transformers(kind: kinds.Kind) -> None:
    family = transformers.LlamaConfig if kind.causal else transformers.BertConfig
    named = getattr(transformers, kind.auto)._model_mapping[family].__name__
    assert named.endswith(kind.ending) and kind.has_head(SimpleNamespace(architectures=[named]))


@pytest.mark.parametrize(
    ("architecture", "problem", "outputs", "expected"),
    [
        ("BertForSequenceClassification", None, 3, "classification"),
        ("BertForSequenceClassification", None, 1, "regression"),
        ("BertForSequenceClassification", "regression", 1, "regression"),
        ("BertForSequenceClassification", "single_label_classification", 1, "classification"),
        ("BertForSequenceClassification", "multi_label_classification", 3, "multilabel"),
        ("BertForTokenClassification", None, 1, "tokens"),
        ("BertForMaskedLM", None, 2, "text"),
        ("BertForPreTraining", None, 2, "text"),
        ("BertModel", None, 2, "text"),
        ("LlamaForCausalLM", None, 2, "lm"),
        ("LlamaForSequenceClassification", None, 3, "classification"),
        (None, None, 2, "text"),
    ],
)
def test_a_checkpoint_tells_its_kind(architecture: str | None, problem: str | None, outputs: int, expected: str) -> None:
    config = SimpleNamespace(architectures=architecture and [architecture], problem_type=problem, num_labels=outputs)
    assert str(kinds.of_checkpoint(config)) == expected


SCORED = {  # scores and gold of two rows
    "embedding": (np.full((2, 8), 0.5), np.array([1.0, 2.0])),
    "spans": (np.full((2, 5), 0.5), np.zeros(2)),
    "ranking": ([np.array([1.0, 0.0]), np.array([0.0, 1.0])], [np.array([1.0, 0.0]), np.array([0.0, 1.0])]),
}


def test_every_metric_is_there(kind: kinds.Kind) -> None:
    summed = np.array([[3.0, 2.0, 0.5, 1.0], [1.0, 2.0, 0.1, 2.0]]) if kind.causal else np.array([3.0, 1.0])
    labels, scores = TRUTH.get(str(kind), ([], summed))
    gold = kind.gold(labels) if kind.labelled else np.array([2.0, 2.0])
    scores, gold = SCORED.get(str(kind), (scores, gold))
    found = kind.statistics(LABELS[str(kind)], scores, gold)
    assert set(kind.metrics) <= set(found)
    assert set(kind.default_metrics(LABELS[str(kind)])) <= set(kind.metrics)
    for name in kind.metrics:
        assert found[name](np.ones((2, len(gold)))).shape == (2,)


@pytest.mark.parametrize("name", TRUTH)
def test_right_distance_and_words_agree(name: str) -> None:
    kind = kinds.kind(name)
    labels, scores = TRUTH[name]
    gold = kind.gold(labels)
    said = kind.decide(scores)
    assert kind.right(said, gold).tolist() == [True, True, True, False]
    assert not kind.one_answer(said)
    words = [[kind.in_words(one, LABELS[name], ("New", "York", "City")) for one in side] for side in (said, gold)]
    assert words[0][:3] == words[1][:3] and words[0][3] != words[1][3]
    perfect = [np.array(tags) for tags in labels] if kind.by_word else np.array(scores)
    if not kind.by_word:
        perfect[3] = {"classification": [0, 3, 0], "regression": 4.0, "multilabel": [1, -1]}[name]
    far = kind.distance(scores, perfect)
    assert far[:3].tolist() == [0, 0, 0] and far[3] > 0


@pytest.mark.parametrize("name", TRUTH)
def test_the_constant_reference_answers_all_rows_alike(name: str) -> None:
    kind = kinds.kind(name)
    labels = TRUTH[name][0]
    made = kind.constant(labels, len(LABELS[name]), [2, 3, 2, 2])
    said = kind.decide(made)
    assert kind.problem(["1", "2", "3", "4"], made, kind.gold(labels), LABELS[name]) is None
    if name == "regression":
        assert said.tolist() == [2.5] * 4
    else:
        assert kind.one_answer(said)
    if name == "classification":  # the shares, as probabilities
        assert np.exp(made[0]).tolist() == pytest.approx([0.25, 0.5, 0.25])
    if name == "multilabel":
        assert (1 / (1 + np.exp(-made[0]))).tolist() == pytest.approx([0.5, 0.5])


def test_losses_are_those_of_torch() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1, 2, 1])
    for reduction in ("mean", "sum", "none"):
        made = kinds.kind("classification").loss(logits, classes, reduction=reduction)
        assert torch.allclose(made, F.cross_entropy(logits, classes, reduction=reduction))
    both = torch.tensor([[0.0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
    made = kinds.kind("multilabel").loss(logits, both, reduction="none")
    assert torch.allclose(made, F.binary_cross_entropy_with_logits(logits, both, reduction="none").mean(1))
    numbers = torch.tensor([1.0, 2, 3, 4])
    made = kinds.kind("regression").loss(logits[:, :1], numbers, reduction="none")
    assert torch.allclose(made, (logits[:, 0] - numbers) ** 2)
    tags = torch.tensor([0, -100, 2, 1])
    for name in ("tokens", "text", "lm"):
        assert torch.allclose(kinds.kind(name).loss(logits, tags), F.cross_entropy(logits, tags))


def test_parsing() -> None:
    numbers = {"a": 0, "b": 1}
    about = {"separator": "|", "where": "file, line 2"}
    assert kinds.kind("classification").parse("b", numbers, **about) == 1
    assert kinds.kind("multilabel").parse("a|b", numbers, **about) == (1, 1)
    assert kinds.kind("regression").parse("2.5", {}, **about) == 2.5
    with pytest.raises(DataError, match="file, line 2: 'c' is not in the label set"):
        kinds.kind("multilabel").parse("a|c", numbers, **about)


def test_confidence_is_the_probability_of_the_answer() -> None:
    logits = np.array([[0.0, np.log(3.0)], [0.0, 0.0]])
    assert kinds.kind("classification").confidence(logits).tolist() == pytest.approx([0.75, 0.5])
    assert kinds.kind("multilabel").confidence(logits).tolist() == pytest.approx([0.5 * 0.75, 0.25])
    without = [name for name in KINDS if kinds.kind(name).no_confidence]
    assert without == ["regression", "tokens", "text", *CAUSAL, *JUDGED]


def test_what_cannot_be_learned_says_why() -> None:
    assert kinds.kind("classification").unlearnable([1, 1], ("no", "yes")) == (
        "all 2 training rows have the label 'yes'; at least two are needed."
    )
    assert "no word" in (kinds.kind("tokens").unlearnable([(0, 0), (0,)], LABELS["tokens"]) or "")
    assert kinds.kind("text").unlearnable([None, None], ()) is None
    assert kinds.kind("classification").absent([0, 2], LABELS["classification"]) == ["good"]
