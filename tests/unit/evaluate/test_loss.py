"""The loss as a metric, against torch; and a checkpoint chosen by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from understudy.data.tasks import load_task
from understudy.data.types import Task
from understudy.evaluate.metrics import compute, statistics
from understudy.evaluate.predictions import Predictions
from understudy.recipe.load import recipe_from

IDS = [str(i) for i in range(20)]


def test_of_classes():
    draw = np.random.default_rng(0)
    logits, gold = draw.normal(size=(20, 4)) * 30, draw.integers(0, 4, 20)  # far apart: exp alone would overflow
    task = Task("toy", "classification", tuple("abcd"), ("loss",), "loss")
    expected = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(gold)).item()
    assert compute(task, Predictions(IDS, logits, gold))["loss"] == pytest.approx(expected, rel=1e-12)


def test_of_several_labels():
    draw = np.random.default_rng(1)
    logits, gold = draw.normal(size=(20, 3)) * 30, draw.integers(0, 2, (20, 3))
    task = Task("toy", "multilabel", tuple("abc"), ("loss",), "loss")
    expected = F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(gold).double()).item()
    assert compute(task, Predictions(IDS, logits, gold))["loss"] == pytest.approx(expected, rel=1e-12)


def test_of_resamples():
    """A row that is drawn twice counts twice."""
    logits, gold = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0])
    task = Task("toy", "classification", ("a", "b"), ("loss",), "loss")
    both = np.log1p(np.exp([-2.0, 1.0]))
    found = statistics(task, Predictions(["x", "y"], logits, gold), ["loss"])["loss"](np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert found.tolist() == pytest.approx([both[0], both.mean()])


def test_a_recipe_may_select_by_it():
    recipe = recipe_from({"task": {"name": "demo/intent", "select": "loss"}, "student": {"model": "x"}, "method": "finetune"})
    task = load_task(recipe.task, seed=0).task
    assert task.select == "loss" and "loss" in task.metrics
