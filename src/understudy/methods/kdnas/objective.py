"""What a search learns where a recipe's `objective` does not say, and the names under `method` that set it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.recipe.objective import Sets

KEYS = {
    "mapping": Sets("two_layers.mapping"),
    "projection": Sets("two_layers.projection"),
    "normalise": Sets("two_layers.normalise"),
    "hidden_weight": Sets("two_layers.weight"),
    "hard_label_weight": Sets("hard.weight"),
    "soft_label_weight": Sets("soft.weight"),
    "temperature": Sets("soft.temperature"),
    "relation_weight": Sets("relations.weight"),
}


def objective(section: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Hidden states; on a task with labels also these and the teacher's outputs, on plain text not."""
    from understudy.kinds import kind as kind_named

    labelled = 1.0 if kind_named(kind).labelled else 0.0
    released = section.get("parity", "none") not in (None, False, "none")
    layers = {"mapping": "group_first", "normalise": "none"} if released else {}
    return {"hard": labelled, "soft": {"weight": labelled, "temperature": 2.0}, "two_layers": {"weight": 1.0, **layers}}
