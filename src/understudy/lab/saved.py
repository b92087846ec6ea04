"""Arrays on disk; among them predictions, what a finished model said about a test set. The labels stay in the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from understudy.base import disk
from understudy.data.types import Example
from understudy.evaluate.predict import gold_labels, groups_of
from understudy.evaluate.predictions import Predictions
from understudy.kinds import Kind
from understudy.objective import Objective

PROJECTIONS = "projections.safetensors"


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays by name as one safetensors file."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    disk.write_bytes(folder / "arrays.safetensors", save(whole))


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote."""
    from safetensors.numpy import load_file

    return load_file(folder / "arrays.safetensors")


def write_projections(folder: Path, objective: Objective) -> None:
    """What an objective trained along with the student, for a later fit that goes on with it."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in objective.projections.state_dict().items()}
    if tensors:
        disk.write_bytes(folder / PROJECTIONS, save(tensors))


def read_projections(folder: Path, objective: Objective) -> None:
    """Give an objective back what `write_projections` wrote; steps made before that was kept have nothing."""
    from safetensors.torch import load_file

    if (folder / PROJECTIONS).exists():
        objective.projections.load_state_dict(load_file(folder / PROJECTIONS))


def write_predictions(folder: Path, made: Predictions) -> None:
    """Scores as one safetensors file."""
    from safetensors.numpy import save

    if isinstance(made.scores, list):
        sizes = np.array([len(row) for row in made.scores], np.int64)
        arrays = {"scores": np.concatenate(made.scores) if len(sizes) else np.empty(0, np.int64), "sizes": sizes}
    else:
        arrays = {"scores": np.ascontiguousarray(made.scores)}
        if made.gold is not None and made.gold.ndim == 1:  # what is not in the rows themselves
            arrays["gold"] = np.ascontiguousarray(made.gold)
    disk.write_bytes(folder / "predictions.safetensors", save(arrays))


def read_predictions(folder: Path, examples: Sequence[Example], kind: Kind) -> Predictions:
    """What `write_predictions` wrote, for the same examples in the same order."""
    from safetensors.numpy import load_file

    examples, arrays = kind.judged(examples), load_file(folder / "predictions.safetensors")
    ids = [example.id for example in examples]
    groups = groups_of(examples)
    if not kind.labelled:
        return Predictions(ids, arrays["scores"], arrays["gold"], groups)
    gold = gold_labels(kind, examples)
    if "sizes" in arrays:
        rows = np.split(arrays["scores"], np.cumsum(arrays["sizes"])[:-1]) if len(ids) else []
        return Predictions(ids, list(rows), gold, groups)
    return Predictions(ids, arrays["scores"], gold, groups)
