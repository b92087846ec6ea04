"""Metrics against scikit-learn, scipy and seqeval, and against literal definitions written out here, to 1e-12."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.base.errors import DataError, DivergedError, RecipeError
from understudy.data.types import Task
from understudy.evaluate.metrics import compute, statistics
from understudy.evaluate.predictions import Predictions
from understudy.kinds.tokens import entities

EXACT = 1e-12
patient = settings(deadline=None, max_examples=60)  # the first call of an oracle imports it
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def task(kind: str, *metrics: str, labels: tuple[str, ...] = ()) -> Task:
    return Task("toy", kind, labels, metrics, metrics[0])


def rows(scores, gold) -> Predictions:
    return Predictions([str(row) for row in range(len(gold))], scores, gold)


def logits(said: list[int], size: int) -> np.ndarray:
    return np.eye(size)[said]


def pairs_of(size: int):
    """Lists of (truth, prediction)."""
    return st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), min_size=1, max_size=40)


@patient
@given(pairs_of(2))
def test_binary_metrics_are_those_of_sklearn_and_of_the_definition(pairs):
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_score, recall_score

    gold, said = map(list, zip(*pairs, strict=True))
    names = ("accuracy", "f1", "precision", "recall", "mcc")
    found = compute(task("classification", *names, labels=("0", "1")), rows(logits(said, 2), np.array(gold)))
    expected = {
        "accuracy": accuracy_score(gold, said),
        "f1": f1_score(gold, said, zero_division=0),
        "precision": precision_score(gold, said, zero_division=0),
        "recall": recall_score(gold, said, zero_division=0),
        "mcc": matthews_corrcoef(gold, said) if len(set(gold)) > 1 and len(set(said)) > 1 else 0,
    }
    assert found == pytest.approx(expected, abs=EXACT)
    tp = sum(g and s for g, s in pairs)
    fp = sum((not g) and s for g, s in pairs)
    fn = sum(g and not s for g, s in pairs)
    tn = len(pairs) - tp - fp - fn
    spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0, abs=EXACT)
    assert found["mcc"] == pytest.approx((tp * tn - fp * fn) / math.sqrt(spread) if spread else 0, abs=EXACT)


def test_the_positive_class_is_the_label_named_1_wherever_it_stands():
    gold, scores = np.array([0, 0, 1]), logits([0, 1, 1], 2)
    assert compute(task("classification", "recall", labels=("1", "0")), rows(scores, gold))["recall"] == 0.5
    assert compute(task("classification", "recall", labels=("no", "yes")), rows(scores, gold))["recall"] == 1.0


@patient
@given(pairs_of(4))
def test_metrics_of_several_classes_are_those_of_sklearn(pairs):
    from sklearn.metrics import f1_score, matthews_corrcoef, precision_score, recall_score

    gold, said = map(list, zip(*pairs, strict=True))
    names = ("f1", "macro_f1", "micro_f1", "precision", "recall", "mcc")
    found = compute(task("classification", *names, labels=("a", "b", "c", "d")), rows(logits(said, 4), np.array(gold)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = f1_score(gold, said, average="macro", zero_division=0)
        assert found == pytest.approx(
            {
                "f1": macro,
                "macro_f1": macro,
                "micro_f1": f1_score(gold, said, average="micro"),
                "precision": precision_score(gold, said, average="macro", zero_division=0),
                "recall": recall_score(gold, said, average="macro", zero_division=0),
                "mcc": matthews_corrcoef(gold, said),
            },
            abs=EXACT,
        )


@patient
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 6), min_size=1, max_size=30))
def test_multilabel_metrics_are_those_of_sklearn(both):
    from sklearn.metrics import accuracy_score, f1_score

    gold, said = np.array(both)[:, :3], np.array(both)[:, 3:]
    names = ("micro_f1", "macro_f1", "accuracy")
    found = compute(task("multilabel", *names, labels=("a", "b", "c")), rows(said - 0.5, gold))
    assert found == pytest.approx(
        {
            "micro_f1": f1_score(gold, said, average="micro", zero_division=0),
            "macro_f1": f1_score(gold, said, average="macro", zero_division=0),
            "accuracy": accuracy_score(gold, said),
        },
        abs=EXACT,
    )


sentences = st.lists(
    st.integers(0, 9).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)),
    min_size=1,
    max_size=12,
)


def literal_spans(tags: list[str]) -> set[tuple[str, int, int]]:
    """Strict IOB2 in words: a span begins at B-X and goes on while I-X follows."""
    found = set()
    for start, tag in enumerate(tags):
        if tag.startswith("B-"):
            end = start + 1
            while end < len(tags) and tags[end] == "I-" + tag[2:]:
                end += 1
            found.add((tag[2:], start, end))
    return found


@patient
@given(sentences)
def test_entity_scores_are_those_of_seqeval_and_of_the_definition(pairs):
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    gold, said = ([list(part) for part in side] for side in zip(*pairs, strict=True))
    names = ("f1", "precision", "recall")
    found = compute(task("tokens", *names, labels=TAGS), rows(said, gold))
    gold_tags, said_tags = ([[TAGS[tag] for tag in row] for row in side] for side in (gold, said))
    hit = total_said = total_gold = 0
    for a, b in zip(gold_tags, said_tags, strict=True):
        assert entities(tuple(a)) == literal_spans(a)
        hit += len(literal_spans(a) & literal_spans(b))
        total_said += len(literal_spans(b))
        total_gold += len(literal_spans(a))
    both = total_said + total_gold
    assert found["f1"] == pytest.approx(2 * hit / both if both else 0.0, abs=EXACT)
    if not both:
        return  # seqeval itself fails where no sentence has an entity
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, oracle in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            expected = oracle(gold_tags, said_tags, mode="strict", scheme=IOB2, zero_division=0)
            assert found[name] == pytest.approx(expected, abs=EXACT)


numbers = st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=3, max_size=40)


@patient
@given(numbers, st.sampled_from([1.0, 1e-3, 1e6]), st.sampled_from([0.0, 50.0]))
def test_correlations_are_those_of_scipy(pairs, scale, shift):
    from scipy.stats import pearsonr, spearmanr

    gold, said = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    said = said * scale + shift
    names = ("pearson", "spearman", "mse", "mae")
    found = compute(task("regression", *names), rows(said, gold))
    assert found["mse"] == pytest.approx(float(((said - gold) ** 2).mean()), rel=EXACT)
    assert found["mae"] == pytest.approx(float(np.abs(said - gold).mean()), rel=EXACT)
    if np.ptp(gold) == 0 or np.ptp(said) == 0:
        assert found["pearson"] == found["spearman"] == 0
    else:
        assert found["pearson"] == pytest.approx(float(pearsonr(gold, said).statistic), abs=EXACT)
        assert found["spearman"] == pytest.approx(float(spearmanr(gold, said).statistic), abs=EXACT)


def test_text_metrics_are_the_mean_loss_per_masked_token():
    found = compute(task("text", "loss", "perplexity"), rows(np.array([3.0, 1.0]), np.array([3, 1])))
    assert found == pytest.approx({"loss": 1.0, "perplexity": math.e})


CASES = {
    "binary": (
        task("classification", "accuracy", "f1", "mcc", labels=("0", "1")),
        lambda rng, n: (rng.normal(size=(n, 2)), rng.integers(0, 2, n)),
    ),
    "classes": (
        task("classification", "macro_f1", "precision", "mcc", labels=tuple("abcd")),
        lambda rng, n: (rng.normal(size=(n, 4)), rng.integers(0, 4, n)),
    ),
    "multilabel": (
        task("multilabel", "micro_f1", "macro_f1", "accuracy", labels=tuple("abc")),
        lambda rng, n: (rng.normal(size=(n, 3)), rng.integers(0, 2, (n, 3))),
    ),
    "tokens": (
        task("tokens", "f1", "precision", "recall", "accuracy", labels=TAGS),
        lambda rng, n: (list(rng.integers(0, 5, (n, 7))), list(rng.integers(0, 5, (n, 7)))),
    ),
    "regression": (
        task("regression", "pearson", "spearman", "mse", "mae"),
        lambda rng, n: (rng.integers(0, 6, n).astype(float), rng.integers(0, 6, n).astype(float)),
    ),
    "text": (task("text", "loss", "perplexity"), lambda rng, n: (rng.random(n), rng.integers(1, 9, n))),
}


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_a_resample_by_weights_is_the_score_of_the_repeated_rows(case, seed):
    """The whole bootstrap rests on this: W rows of weights give what computing on the drawn rows gives."""
    asked, make = CASES[case]
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 25))
    scores, gold = make(rng, n)
    drawn = rng.integers(0, n, size=(3, n))
    weights = np.stack([np.bincount(one, minlength=n) for one in drawn]).astype(float)
    by_weights = {
        name: measure(weights) for name, measure in statistics(asked, rows(scores, gold), asked.metrics).items()
    }
    for place, one in enumerate(drawn):
        again = rows([scores[row] for row in one], [gold[row] for row in one])
        for name, value in compute(asked, again).items():
            assert by_weights[name][place] == pytest.approx(value, abs=EXACT)


def test_unknown_metric_names_the_nearest():
    with pytest.raises(RecipeError, match=r"'acuracy' does not exist.*Did you mean 'accuracy'"):
        compute(task("classification", "acuracy", labels=("a", "b")), rows(np.zeros((1, 2)), np.array([0])))


def test_what_cannot_be_scored_is_refused():
    asked = task("classification", "accuracy", labels=("a", "b"))
    with pytest.raises(DataError, match="no labelled rows"):
        compute(asked, rows(np.zeros((0, 2)), np.zeros(0, dtype=int)))
    with pytest.raises(DataError, match="one output per label"):
        compute(asked, rows(np.zeros((1, 3)), np.array([0])))
    with pytest.raises(DataError, match="2 scores for 1 rows"):
        compute(asked, rows(np.zeros((2, 2)), np.array([0])))
    with pytest.raises(DivergedError, match="NaN"):
        compute(asked, rows(np.array([[np.nan, 0]]), np.array([0])))
    with pytest.raises(DataError, match="row '0': 1 predicted tags for 2 words"):
        compute(task("tokens", "f1", labels=TAGS), rows([[0]], [[0, 1]]))
