"""MiniDisc's and MaxiDisc's settings: short forms, stages as text, and the flags of the original scripts."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.base.errors import RecipeError
from understudy.recipe.flags import translate
from understudy.recipe.load import recipe_from
from understudy.recipe.staged import Waypoint

BASE: dict[str, Any] = {"task": "glue/mrpc", "teacher": {"model": "somebody/teacher"}}


def recipe(method: Any, *overrides: str, **more: Any):
    return recipe_from({**BASE, "method": method, **more}, overrides)


def test_the_sparsity_may_be_given_under_the_method():
    made = recipe({"name": "minidisc", "sparsity": 0.9})
    assert made.student.sparsity == 0.9
    assert recipe("minidisc", "method.sparsity=0.8").student.sparsity == 0.8
    assert recipe({"name": "minidisc", "sparsity": 0.9}, student={"sparsity": 0.9}) == made
    with pytest.raises(RecipeError, match="sparsity"):
        recipe({"name": "minidisc", "sparsity": 0.9}, student={"sparsity": 0.8})


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("80,90S", ("80S", "90S")), ("6,4L", ("6L", "4L")), ("6L, 80S", ("6L", "80S")),
        (["6L", {"sparsity": 0.8}], ("6L", "80S")), ([{"layers": 6}, "82.5s"], ("6L", "82.5S")), ([], ()), ([0.85], ("85S",)),
    ],
)  # fmt: skip
def test_paths(given, path):
    student = {} if path else {"student": {"sparsity": 0.9}}
    made = recipe({"name": "maxidisc", "path": given}, **student)
    assert made.method.path == path
    if path:
        last = Waypoint.parse(path[-1])
        assert (made.student.sparsity, made.student.num_layers) == (last.sparsity, last.layers)


@pytest.mark.parametrize("text", ["6", "100S", "0S", "0L", "2.5L", "six", "-4L"])
def test_what_is_no_stage_is_refused(text):
    with pytest.raises(RecipeError, match="is not a stage"):
        recipe({"name": "maxidisc", "path": [text]}, student={"sparsity": 0.9})


def test_lam_is_a_float_from_the_command_line():
    """Acceptance 13: in the original `--lam 0.2` is a usage error."""
    assert recipe({"name": "minidisc", "sparsity": 0.9}, "lam=0.35").method.lam == 0.35
    assert recipe({"name": "minidisc", "sparsity": 0.9}, "method.lam=1").method.lam == 1.0


def test_a_whole_command_of_the_original():
    flags = (
        "model_type=sparsebert_cls teacher_model_path=outputs/sparsebert task_name=mrpc selection_metric=f1 max_length=128 "
        "per_device_train_batch_size=16 num_train_epochs=10 num_patience_epochs=5 learning_rate=3e-5 weight_decay=1e-2 "
        "warmup_proportion=0.1 max_grad_norm=5.0 target_iteration=2 target_sparsity=90 trunc_sparsity=50 lam=0.2"
    )
    made = recipe({"name": "minidisc"}, *flags.split())
    train, method = made.train, made.method
    assert (made.task.name, made.task.select, made.student.sparsity) == ("glue/mrpc", "f1", 0.9)
    assert (train.batch_size, train.epochs, train.patience, train.lr, train.max_grad_norm) == (16, 10, 5, 3e-5, 5.0)
    assert (method.iterations, method.min_assistant_sparsity, method.lam) == (2, 0.5, 0.2)
    assert made.objective.lines() == ["soft 0.5", "hidden 0.5 (mapping even)"]


@pytest.mark.parametrize(
    ("flag", "value", "meant"),
    [
        ("layer_or_sparsity", "4L", ("student.num_layers", 4)), ("layer_or_sparsity", "90S", ("student.sparsity", 0.9)),
        ("layer_or_sparsity", "outputs/some/ckpt", ("student.model", "outputs/some/ckpt")),
        ("layer_or_sparsity_path", "80,90S", ("method.path", "80,90S")), ("task_name", "conll", ("task.name", "conll2003")),
        ("task_name", "mnlimm", ("task.name", "glue/mnli")), ("selection_metric", "acc", ("task.select", "accuracy")),
        ("model_type", "SPS", ("student.share", "sps")),
    ],
)  # fmt: skip
def test_flags(flag, value, meant):
    assert translate(flag, value, source="command line") == meant


@pytest.mark.parametrize(
    ("flag", "value", "remedy"),
    [
        ("log_interval", 10, "evaluations_per_epoch"), ("output_dir", "out", "--out"), ("do_infer", "", "predict"),
        ("selection_metric", "acc_and_f1", "accuracy or f1"), ("layer_or_sparsity", "most", "is not a stage"),
        ("use_cpu", "", "CUDA_VISIBLE_DEVICES"), ("num_relation_heads", 32, "did nothing"),
    ],
)  # fmt: skip
def test_flags_without_a_counterpart_say_what_does_their_work(flag, value, remedy):
    with pytest.raises(RecipeError, match=remedy):
        translate(flag, value, source="command line")


def test_candidates_rise_and_seeds_differ():
    with pytest.raises(RecipeError, match="strictly increasing"):
        recipe({"name": "minidisc", "sparsity": 0.9, "candidates": [0.8, 0.7]})
    with pytest.raises(RecipeError, match="names a seed twice"):
        recipe({"name": "maxidisc", "seeds": [1, 1]}, student={"sparsity": 0.9})
    with pytest.raises(RecipeError, match="one of them"):
        recipe({"name": "maxidisc", "path": "80,90S", "assistants": ["70S"]})
