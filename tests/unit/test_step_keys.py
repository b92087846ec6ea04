"""Steps made before a setting existed are still found: at its default it is not part of a key."""

from __future__ import annotations

from understudy.lab.fits import settings_key
from understudy.recipe.settings import TrainSettings

FIRST = {
    "epochs", "batch_size", "lr", "weight_decay", "warmup", "schedule", "layer_lr_decay", "max_grad_norm", "dropout",
    "precision", "grouping", "evaluations_per_epoch", "patience", "time_limit", "nonfinite", "compile",
}  # fmt: skip
"""What the keys of the first version's steps were made of."""


def test_defaults_of_later_settings_are_not_in_keys():
    assert set(settings_key(TrainSettings())) == FIRST


def test_other_values_of_later_settings_are():
    assert settings_key(TrainSettings(optimizer="bertadam"))["optimizer"] == "bertadam"
    assert settings_key(TrainSettings(evaluate_at=(100, 500)))["evaluate_at"] == [100, 500]
