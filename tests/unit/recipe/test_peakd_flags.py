"""The flags of the original Pea-KD scripts, on the command line of `understudy train`."""

from __future__ import annotations

import pytest

from understudy.base.errors import RecipeError
from understudy.recipe.flags import is_original_flag, translate
from understudy.recipe.load import recipe_from

BASE = {"task": {"name": "glue/rte"}, "teacher": {"model": "x", "finetune": {"epochs": 3}}, "student": {"num_layers": 3},
        "method": {"name": "peakd"}}  # fmt: skip


def test_a_command_of_the_original():
    flags = ["task=MRPC", "train_type=kd", "student_hidden_layers=2", "train_seed=71", "train_batch_size=32", "T=5",
             "learning_rate=1e-5", "num_train_epochs=10", "alpha=0.5", "beta=40", "max_seq_length=64",
             "saving_criterion_loss=0.6", "fc_layer_idx=3,7", "normalize_patience=True"]  # fmt: skip
    recipe = recipe_from(BASE, flags)
    assert (recipe.task.name, recipe.task.max_length, recipe.task.select, recipe.seed) == ("glue/mrpc", 64, "loss", 71)
    assert (recipe.student.num_layers, recipe.train.lr, recipe.train.epochs, recipe.train.batch_size) == (2, 1e-5, 10, 32)
    terms = recipe.objective.terms()
    assert {name: term.weight for name, term in terms.items()} == {"hard": 0.5, "logit_kl": 0.5, "patient": 0.0}  # kd: no layers
    assert terms["logit_kl"].model_dump()["temperature"] == 5.0
    assert terms["patient"].model_dump(include={"mapping", "normalize"}) == {"mapping": (4, 8), "normalize": True}
    learns_layers = recipe_from(BASE, [*flags, "train_type=pkd"]).objective.terms()
    assert learns_layers["patient"].weight == 40.0


@pytest.mark.parametrize(
    ("flag", "value", "key", "meant"),
    [
        ("model_type", "Original", "student.share", "none"),
        ("model_type", "SPS", "student.share", "sps"),
        ("model_type", "SPS_no_shuffle", "student.share", "sps_no_shuffle"),
        ("kd_model", "kd.cls", "method.train_type", "pkd"),
        ("fp16", False, "train.precision", "fp32"),
        ("saving_criterion_acc", 0.8, "task.select", "accuracy"),
        ("task", "SST-2", "task.name", "glue/sst2"),
        ("task", {"name": "glue/rte"}, "task", {"name": "glue/rte"}),
    ],
)
def test_values_are_translated(flag, value, key, meant):
    assert is_original_flag(flag) and translate(flag, value, source="command line") == (key, meant)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("train_seed", "None", "leave the flag out"),
        ("saving_criterion_acc", 1.0, "never to save by accuracy"),
        ("saving_criterion_loss", 0.0, "never to save by loss"),
        ("fc_layer_idx", "a,b", "not a value the original takes"),
        ("gradient_accumulation_steps", 2, "train.max_tokens"),
        ("load_model", "x", "by themselves"),
        ("output_dir", "x", "--out"),
    ],
)
def test_flags_without_a_key_say_what_does_their_work(flag, value, says):
    with pytest.raises(RecipeError, match=says):
        translate(flag, value, source="command line")


@pytest.mark.parametrize(("given", "read"), [(False, None), ("off", None), (True, 2), ("on", 2), ({"epochs": 4}, 4)])
def test_ptp_is_switched(given, read):
    stage = recipe_from(BASE | {"method": {"name": "peakd", "ptp": given}}).method.model_dump()["ptp"]
    assert (stage and stage["epochs"]) == read


def test_a_quantile_that_is_not_used_is_refused():
    with pytest.raises(RecipeError, match="thresholds: quantile"):
        recipe_from(BASE, ["method.quantile=0.3"])
