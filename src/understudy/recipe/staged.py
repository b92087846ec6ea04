"""What MiniDisc and MaxiDisc share: what every stage learns, and how a stage is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean
from understudy.recipe.method import Method, MethodSettings
from understudy.recipe.objective import Sets
from understudy.recipe.types import Flag

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""The sparsities of the released code, without 0."""

_OBJECTIVES = {"pkd_last": "pkd"} | {
    f"{name}bert_{head}": name for name in ("ft", "kd", "pkd", "sparse") for head in ("cls", "ner")
}


@dataclass(frozen=True)
class Waypoint:
    """A student on the way: some of the teacher's layers ("6L"), or a share of its heads and neurons gone ("80S")."""

    layers: int | None = None
    sparsity: float | None = None

    @classmethod
    def parse(cls, text: str) -> Waypoint:
        """Raises ValueError for anything but a whole number above 0 and L, or a number between 0 and 100 and S."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([LSls])\s*", text)
        if found is not None:
            number, kind = found[1], found[2].upper()
            if kind == "L" and number.isdigit() and int(number) > 0:
                return cls(layers=int(number))
            if kind == "S" and 0 < float(number) < 100:
                return cls(sparsity=round(float(number) / 100, 10))
        raise ValueError(f"'{text}' is not a stage: write 6L for six layers, 80S for a sparsity of 80 %.")

    @property
    def label(self) -> str:
        """As it is written: 6L, 80S, 82.5S."""
        return f"{self.layers}L" if self.sparsity is None else f"{round(100 * self.sparsity, 8):g}S"


def _one(value: Any) -> Any:
    """`{layers: 6}` and `{sparsity: 0.8}` are 6L and 80S; so is the bare number 0.8."""
    if isinstance(value, dict) and len(value) == 1:
        (key, number), *_ = value.items()
        if key in ("layers", "sparsity") and isinstance(number, int | float) and not isinstance(number, bool):
            return f"{number:g}L" if key == "layers" else f"{100 * number:.10g}S"
    if isinstance(value, float) and 0 < value < 1:
        return f"{100 * value:.10g}S"
    return value


def _several(value: Any) -> Any:
    """The original's `80,90S`: numbers without a letter take the next one."""
    if not isinstance(value, str) or value == "auto":
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].replace(".", "", 1).isdigit():
            parts[place] += parts[place + 1][-1]
    return parts


StageText = Annotated[str, BeforeValidator(_one), AfterValidator(lambda text: Waypoint.parse(text).label)]
Stages = Annotated[tuple[StageText, ...], BeforeValidator(_several)]


WEIGHTS = {
    "ft": {"hard": 1.0},
    "kd": {"soft": 1 / 2, "hard": 1 / 2},
    "pkd": {"patient": 1 / 3, "soft": 1 / 3, "hard": 1 / 3},
    "sparse": {"hidden": 1 / 2, "soft": 1 / 2},
}
"""The losses of the released model types; all parts of one weigh the same."""


class Staged(MethodSettings):
    """What MiniDisc and MaxiDisc have in common; every stage is trained with `objective`."""

    parity: Flag = Field(
        default=False,
        description="reproduce the numbers of the released code, including those listed as wrong on the method's page",
    )


def target_of(student: Any) -> Waypoint | None:
    """The recipe's student as a stage; None where it is not a part of the teacher, or is cut in both ways."""
    layers = len(student.keep) if not isinstance(student.keep, str) else student.num_layers
    if student.model is not None or student.config is not None or (student.prunes and (layers or not student.sparsity)):
        return None
    return Waypoint(layers=layers) if student.sparsity is None else Waypoint(sparsity=student.sparsity)


def scale_of(stage: Waypoint | None, teacher_layers: int) -> float:
    """The share of the teacher's layers, heads and neurons that a stage has; 1 for the teacher and for foreign students."""
    if stage is None:
        return 1.0
    return stage.layers / teacher_layers if stage.layers is not None else 1 - (stage.sparsity or 0.0)


class StagedMethod(Method):
    """What MiniDisc and MaxiDisc have in common."""

    student_example = {"sparsity": 0.9}
    elsewhere = ("sparsity",)
    objective_keys = {
        "objective": Sets(),
        "temperature": Sets("soft.temperature"),
        "hidden_weight": Sets("hidden.weight"),
        "soft_label_weight": Sets("soft.weight"),
        "hard_label_weight": Sets("hard.weight"),
        "hidden_map": Sets("hidden.mapping"),
    }

    def objective(self, section: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        """The losses of the released code, `method.objective` being one of them:

            ft      CE(labels)                          kd      [softCE + CE] / 2
            sparse  [MSE(h_s, h_t) + softCE] / 2        pkd     [MSE(h_s/|h_s|, h_t/|h_t|) + softCE + CE] / 3

        softCE = -sum softmax(z_t/T) log softmax(z_s/T) · T^2, T = 1; for regression, squared errors of the outputs. h of `sparse`
        are hidden states of all tokens, the embeddings among them; h of `pkd` the first token's of the last layer.
        """
        asked = section.get("objective") or "sparse"
        name = _OBJECTIVES.get(str(asked), str(asked))
        if name not in WEIGHTS:
            raise RecipeError(
                f"method.objective: should be one of {', '.join(WEIGHTS)}, not '{asked}'.{did_you_mean(name, WEIGHTS)}"
            )
        terms = {
            "hard": {},
            "soft": {"temperature": 1.0},
            "hidden": {"mapping": "sixths" if section.get("parity") is True else "even"},
            "patient": {"mapping": "top", "over": "mean"},
        }
        return {term: {"weight": WEIGHTS[name].get(term, 0.0), **settings} for term, settings in terms.items()}

    def prunes_as_released(self, settings: Staged) -> bool:
        return settings.parity

    def complete(self, data: dict[str, Any]) -> dict[str, Any]:
        """The student may be said under `method` only: `method.sparsity`, or the last stage of `method.path`. Anything
        malformed is left for validation."""
        method, student = data["method"], data.get("student") or {}
        if not isinstance(student, dict):
            return data
        if "sparsity" in method and student.get("sparsity", method["sparsity"]) == method["sparsity"]:
            rest = {key: value for key, value in method.items() if key != "sparsity"}
            return {**data, "method": rest, "student": {**student, "sparsity": method["sparsity"]}}
        path = _several(method.get("path"))
        if isinstance(path, list | tuple) and path and not student:
            try:
                last = Waypoint.parse(str(_one(path[-1])))
            except ValueError:
                return data
            made = {"num_layers": last.layers} if last.sparsity is None else {"sparsity": last.sparsity}
            return {**data, "student": made}
        return data
