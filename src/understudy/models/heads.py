"""What a model's outputs mean: which checkpoints have a head for a task, and in which order its outputs stand.

Labels are matched by name, never by luck.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from understudy.base.errors import DataError, RecipeError
from understudy.kinds import Kind
from understudy.models.anatomy import anatomy


class TaskLabels(Protocol):
    """What loading needs to know of a task."""

    @property
    def kind(self) -> Kind: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


def settle(
    net: Any, task: TaskLabels | None, *, kind: Kind, source: str, key: str, own_head: bool, among: bool = False
) -> tuple[tuple[str, ...], list[str]]:
    """The labels in the order of the outputs, and what was done to get there; the configuration then says the same.

    Raises DataError where the checkpoint's own head was trained for something else than the task.
    """
    if kind.on_vocabulary or kind.pooled:
        return (), []
    if kind.standardise and anatomy(net).final_linear(net).bias is None:
        raise RecipeError(
            f"{key}: the head of a stock {net.config.model_type} has no bias, and numbers in units of their own need one. Use an "
            "encoder for a regression, or make classes of the numbers."
        )
    if task is None:
        return tuple(names_of(net.config)) if kind.named else (), []
    notes: list[str] = []
    if own_head:
        problem = net.config.problem_type
        if kind.problem_type and problem not in (None, kind.problem_type):
            raise DataError(
                f"{key}: '{source}' was trained for {problem}, but the task is {kind}. Use another model or fine-tune "
                "a base checkpoint."
            )
        if kind.named:
            notes = align(net, task.labels, source=source, key=key, among=among)
        elif net.config.num_labels != (wanted := kind.outputs(task.labels)):
            many = "one" if wanted == 1 else str(wanted)
            raise DataError(f"{key}: '{source}' has {net.config.num_labels} outputs, but a {kind} task needs {many}.")
    set_outputs(net.config, kind, task.labels)
    return tuple(task.labels), notes


def set_outputs(config: Any, kind: Kind, labels: tuple[str, ...]) -> None:
    """Write a task's outputs into a configuration: their number, names and what they are for."""
    config.id2label = dict(enumerate(labels)) if kind.named else {i: f"LABEL_{i}" for i in range(kind.outputs(labels))}
    config.label2id = {name: i for i, name in config.id2label.items()}
    config.problem_type = kind.problem_type


def names_of(config: Any) -> list[str]:
    """The label names of a configuration, output by output."""
    return [str(config.id2label.get(i, f"LABEL_{i}")) for i in range(config.num_labels)]


def fits(config: Any, task: TaskLabels) -> bool:
    """Whether a checkpoint's head for this kind of task was trained for the labels of this one, in whatever order."""
    own, kind = names_of(config), task.kind
    if kind.problem_type is not None and config.problem_type not in (None, kind.problem_type):
        return False
    if not kind.named:
        return config.num_labels == kind.outputs(task.labels)
    return len(own) == len(task.labels) and (unnamed(config) or {*map(_folded, own)} == {*map(_folded, task.labels)})


def unnamed(config: Any) -> bool:
    """Whether nobody chose names for the outputs: they are LABEL_0, LABEL_1, …, and are taken by their position."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names_of(config))


def align(net: Any, labels: Sequence[str], *, source: str, key: str = "model", among: bool = False) -> list[str]:
    """Put a head's outputs into the order of the task's labels, in place.

    The names must be the same set; capitals, spaces, hyphens and underscores are forgiven. Generic names
    (`LABEL_0`, …) are taken by position, and only where there are as many. Returns what was done, one sentence each. Raises
    DataError, naming both sets, when they do not match.

    Shapes: the head's weight (C, D) and bias (C,) are permuted by rows, so that output i means `labels[i]`.

    Args:
        among: of a head that knows all labels and more, keep those of the task. The softmax over fewer outputs is the old one
            renormalised: p_c / (sum of p over the labels that stay).
    """
    own = names_of(net.config)
    if unnamed(net.config) and len(own) == len(labels):
        taken = f"they are taken in the order of the task: {', '.join(labels)}"
        return [f"{key}: '{source}' does not name its labels ({', '.join(own)}); {taken}."]
    rows = {_folded(name): i for i, name in enumerate(own)}
    wanted = [_folded(label) for label in labels]
    if len(rows) != len(own) or len(set(wanted)) != len(wanted):
        rows, wanted = {name: i for i, name in enumerate(own)}, list(labels)
    if len(rows) != len(own) or set(rows) != set(wanted):
        more = len(rows) == len(own) and set(wanted) < set(rows)
        if more and among:
            _keep(net, [rows[name] for name in wanted])
            others = ", ".join(name for name in own if _folded(name) not in wanted and name not in wanted)
            said = "knows more labels than task.labels; its probabilities are taken among these, without"
            return [f"{key}: '{source}' {said} {others}."]
        help_text = (
            f"It knows all of these and more: give the task its labels, task.labels: [{', '.join(own)}], or leave its others out "
            f"(probabilities are then taken among the rest), task.labels: [{', '.join(labels)}]."
            if more
            else "Use a model trained for these labels, give the task's files its names (task.label_map), or fine-tune it."
        )
        raise DataError(f"{key}: the labels of '{source}' are {_listed(own)}, those of the task {_listed(labels)}. {help_text}")
    order = [rows[name] for name in wanted]
    notes = []
    if [own[i] for i in order] != list(labels):
        notes.append(
            f"{key}: label names of '{source}' were matched by meaning: {_pairs([own[i] for i in order], labels)}."
        )
    if order != list(range(len(order))):
        _keep(net, order)
        notes.append(f"{key}: the outputs of '{source}' were reordered from {', '.join(own)} to {', '.join(labels)}.")
    return notes


def _keep(net: Any, rows: list[int]) -> None:
    """The head's outputs `rows`, in that order, in place."""
    head = anatomy(net).final_linear(net)
    with torch.no_grad():
        head.weight = torch.nn.Parameter(head.weight[rows].clone(), requires_grad=head.weight.requires_grad)
        if head.bias is not None:
            head.bias = torch.nn.Parameter(head.bias[rows].clone(), requires_grad=head.bias.requires_grad)
    head.out_features = net.num_labels = len(rows)


def to_label_units(net: Any, mean: float, deviation: float) -> None:
    """Standard units -> label units, in place: W·s, b·s + m.

    While training, a regression model's output has mean 0 and deviation 1 on the training labels, so that one learning rate
    suits scores from 0 to 1 and prices in thousands; saved, it speaks the label's own units. The change is exact.
    """
    head = anatomy(net).final_linear(net)
    with torch.no_grad():
        head.weight.mul_(deviation)
        head.bias.mul_(deviation).add_(mean)


def to_standard_units(net: Any, mean: float, deviation: float) -> None:
    """Label units -> standard units, in place: W/s, (b - m)/s."""
    head = anatomy(net).final_linear(net)
    with torch.no_grad():
        head.weight.div_(deviation)
        head.bias.sub_(mean).div_(deviation)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip()).casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return f"[{shown}{', …' if len(names) > 20 else ''}] ({len(names)})"


def _pairs(own: Sequence[str], labels: Sequence[str]) -> str:
    return ", ".join(f"{a} = {b}" for a, b in zip(own, labels, strict=True) if a != b)
