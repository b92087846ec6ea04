"""The process's one Accelerator."""

from __future__ import annotations

from transformers import TrainingArguments

from understudy.train.devices import accelerator


def test_it_survives_a_trainer_of_transformers(tmp_path):
    """Making TrainingArguments resets the state that all Accelerators of a process share."""
    before = accelerator().device
    TrainingArguments(output_dir=str(tmp_path), use_cpu=True).device  # noqa: B018 asked for, it is set up
    assert accelerator().device == before and accelerator().num_processes == 1
