"""`task.class_weights`: what a row counts, against sums written out; and that teacher, baseline and student all learn by it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import runs
import torch

from understudy.base.errors import RecipeError
from understudy.data.tasks import load_task
from understudy.kinds import kind
from understudy.models.needs import Signals
from understudy.objective import Counts, Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.load import recipe_from
from understudy.run import train


def loss(name, logits, labels, weights, sizes, counts):
    objective = Objective(hard=hard_labels(name, class_weights=weights))
    return float(objective.compute(Signals(sizes, logits=logits), None, labels, progress=0.0, counts=counts)[0])


def test_classes_and_tags_cost_their_weight_times_the_cross_entropy():
    logits, labels = torch.randn(6, 3, dtype=torch.float64), [2, 0, 1, 1, 2, 0]
    weights = [0.5, 2.0, 7.0]
    rows = zip(logits.tolist(), labels, strict=True)
    by_hand = [-weights[y] * math.log(math.exp(z[y]) / sum(map(math.exp, z))) for z, y in rows]
    found = loss("classification", logits, torch.tensor(labels), weights, [1] * 6, Counts(6, 6, 6))
    assert found == pytest.approx(sum(by_hand) / 6, rel=1e-6)
    some = [label if i % 2 else -100 for i, label in enumerate(labels)]
    found = loss("tokens", logits, torch.tensor(some), weights, [3, 3], Counts(2, 6, 3))
    assert found == pytest.approx(sum(by_hand[1::2]) / 3, rel=1e-6)


def test_rows_that_have_a_label_cost_its_weight():
    logits, labels = torch.randn(4, 2, dtype=torch.float64), [[1, 0], [0, 0], [1, 1], [0, 1]]
    weights, total = [3.0, 0.25], 0.0
    for z, y in zip(logits.tolist(), labels, strict=True):
        for zc, yc, wc in zip(z, y, weights, strict=True):
            share = 1 / (1 + math.exp(-zc))
            total += -(wc * math.log(share) if yc else math.log(1 - share)) / 2
    found = loss("multilabel", logits, torch.tensor(labels, dtype=torch.float64), weights, [1] * 4, Counts(4, 4, 4))
    assert found == pytest.approx(total / 4, rel=1e-6)


def test_balanced_is_what_scikit_learn_calls_so():
    from sklearn.utils.class_weight import compute_class_weight

    labels = [0] * 7 + [1] * 2 + [2]
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    assert kind("classification").balanced(labels, 3) == pytest.approx(theirs)
    assert kind("tokens").balanced([tuple(labels[:4]), tuple(labels[4:])], 3) == pytest.approx(theirs)
    assert kind("classification").balanced(labels, 4)[3] == 0  # a class that no row has
    assert kind("multilabel").balanced([(1, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 1)], 3) == [3.0, 1.0, 1 / 3]


@pytest.fixture
def made(toy_checkpoint, toy_csv):
    return runs.recipe(toy_checkpoint, toy_csv)


def test_teacher_baseline_and_student_all_learn_by_the_weights(made, tmp_path):
    """Rows that count nothing are not learnt: everybody answers with the other class."""
    only = ["task.class_weights={glad: 0.0}", "objective={hard: 1.0}", "evaluate.bootstrap=0"]
    result = train(recipe_from(made, only), tmp_path / "run")
    rows = load_task(recipe_from(made).task, seed=0)
    sad = rows.task.labels.index("sad")
    share = np.mean([row.label == sad for row in rows.tests["test"]])
    for name in ("teacher", "baseline", "student"):
        assert result[name]["metrics"]["test"]["accuracy"]["value"] == pytest.approx(share), name


def test_weights_are_said_and_names_and_kinds_are_judged(made):
    def notes(*overrides):
        return load_task(recipe_from(made, overrides).task, seed=0).notes

    assert any("task.class_weights): glad " in note for note in notes("task.class_weights=balanced"))
    with pytest.raises(RecipeError, match="no label 'gald'.*Did you mean 'glad'"):
        notes("task.class_weights={gald: 2}")
    with pytest.raises(RecipeError, match="has no classes"):
        notes("task.class_weights=balanced", "task.kind=text")
    plain = load_task(recipe_from(made).task, seed=0)
    assert plain.digest() != load_task(recipe_from(made, ["task.class_weights=balanced"]).task, seed=0).digest()
