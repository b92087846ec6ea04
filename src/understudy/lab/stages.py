"""What distillation in stages is made of: the student of a stage, its loss, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.figures.words import duration
from understudy.lab.fits import Source
from understudy.lab.lab import Lab
from understudy.lab.pruning import allocation
from understudy.lab.vocabulary import with_embeddings
from understudy.models.model import Model
from understudy.recipe.staged import Waypoint, target_of
from understudy.steps import read_done, step_folder
from understudy.students.keep_layers import keep_layers
from understudy.students.share import share
from understudy.students.sparsify import sparsify


def student_of(lab: Lab, stage: Waypoint | None, model: Model, *, parity: bool = False) -> Model:
    """What a stage trains: made of a model that contains it, with copies of its weights.

    Args:
        stage: None is the recipe's student, whatever it is.
        model: the teacher, or an earlier stage.
        parity: keep the lowest layers, whatever `student.keep` says.
    """
    if stage is None:
        return lab.student()
    settings, last = lab.recipe.student, stage == target_of(lab.recipe.student)
    if stage.sparsity is not None:
        made = sparsify(model, allocation(lab, lab.teacher().model, stage.sparsity))
    elif last and not isinstance(settings.keep, str):
        made = keep_layers(model, settings.keep)
    else:
        keep = lab.layers_of(Source.of(model), stage.layers) if isinstance(settings.keep, str) and not parity else "first"
        made = keep_layers(model, keep, num_layers=stage.layers)
    if last and lab.recipe.share != "none":  # assistants are plain; the student uses its layers again
        made = share(made, lab.recipe.share, own_norms=settings.own_norms)
    return with_embeddings(lab, made)


def outcome(lab: Lab, name: str) -> dict[str, Any]:
    """What a finished fit says about itself (`FitResult`), wherever it was run."""
    return read_done(step_folder(lab.folder, name))


def units(teacher: float, students: Sequence[float]) -> float:
    """Cost of one example in forward passes of the whole teacher: forward = scale, backward = twice that.

    The teacher of the stage is counted once for every example, as if its outputs were not stored. Direct distillation
    to 90 % sparsity: 1 + 3 · 0.1.

    >>> round(units(1.0, [0.1]), 2)
    1.3
    """
    return teacher + 3 * sum(students)


Planned = tuple[str, float, list[float]]
"""A stage: its step, and the shares of the whole teacher that its teacher and its students are."""


def costs(lab: Lab, planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """A line of a table for each finished stage; `forwards` of the whole teacher, by the steps that were really taken."""
    rows = len(lab.data.train)
    lines = []
    for name, teacher, students in planned:
        done, each = outcome(lab, name), units(teacher, students)
        epochs = done["steps"] / -(-rows // lab.recipe.train.batch_size)
        line = {"stage": name, "units": each, "forwards": rows * epochs * each}
        lines.append(line | {"seconds": done["seconds"], "steps": done["steps"]})
    return lines


def together(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The sums of a table of costs."""
    return {key: sum(one[key] for one in lines) for key in ("units", "forwards", "seconds")}


COST = (
    "Cost: forward passes of the whole teacher for each example of a pass over the rows; a network of share a costs a forward "
    "and 2a backward, and the teacher of each stage is counted as if its outputs were not stored."
)


def cost_lines(kept: Mapping[str, Any]) -> list[str]:
    """For the report: what the stages of a run cost, from what it kept as `cost`, and how that is counted."""
    made = kept.get("cost")
    return [*([_cost(made)] if made else []), COST]


def _cost(made: Mapping[str, Any]) -> str:
    stages = "; ".join(f"{one['stage']}: {one['units']:.2f}, {duration(one['seconds'])}" for one in made["stages"])
    total, direct = made["total"], made["direct"]
    return (
        f"{stages}; together {total['units']:.2f}, {duration(total['seconds'])}: {total['units'] / direct:.1f} times direct "
        f"distillation to the same student ({direct:.2f}). Judge the assistant against direct distillation with that many times "
        "the epochs."
    )
