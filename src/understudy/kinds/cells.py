"""One cell becomes a label. Every function raises a DataError that says what to do; the caller says where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean


def label_name(cell: Any) -> str:
    """A label as people write it: `1`, `1.0` and `True` (as parquet and JSON hold them) are '1', '1' and 'True'."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def is_blank(cell: Any) -> bool:
    """No label here: nothing, an empty string, or a NaN that a data frame left."""
    if isinstance(cell, float):
        return math.isnan(cell)
    return cell is None or (isinstance(cell, str) and not cell.strip())


def text_cell(cell: Any, *, where: str) -> str:
    """The text of a cell, as it is."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        raise DataError(f"{where}: the text is missing. Give that row a text or leave the row out.")
    raise DataError(f"{where}: expected a text, got {cell!r}. Name another column in task.columns.")


def class_number(cell: Any, numbers: Mapping[str, int], *, where: str) -> int:
    """The number of a class given by its name."""
    if is_blank(cell):
        raise DataError(f"{where}: the label is missing. Give that row a label or leave the row out.")
    name = label_name(cell)
    if name not in numbers:
        raise DataError(
            f"{where}: '{name}' is not in the label set.{did_you_mean(name, numbers)} "
            f"Labels: {', '.join(list(numbers)[:20])}. Correct the row or add the label to task.labels."
        )
    return numbers[name]


def score(cell: Any, *, where: str) -> float:
    """A finite number."""
    if is_blank(cell):
        raise DataError(f"{where}: the score is missing. Give that row a number or leave the row out.")
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        comma = " Write decimals with a point." if isinstance(cell, str) and "," in cell else ""
        raise DataError(f"{where}: '{cell}' is not a number.{comma} A regression task needs scores.") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: the score is {value}. Scores must be finite; correct or drop the row.")
    return value


def label_names(cell: Any, *, separator: str, where: str) -> list[str]:
    """The labels of one multi-label cell: `a|b`, a list, or nothing."""
    if isinstance(cell, list | tuple):
        return [label_name(part) for part in cell]
    if is_blank(cell):
        return []
    if not isinstance(cell, str | int | float | bool):
        raise DataError(f"{where}: expected labels like 'a{separator}b' or a list of names, got {type(cell).__name__}.")
    return [part.strip() for part in label_name(cell).split(separator) if part.strip()]


def indicator(names: Sequence[str], numbers: Mapping[str, int], *, where: str) -> tuple[int, ...]:
    """0/1 for each label of the set."""
    on = {class_number(name, numbers, where=where) for name in names}
    return tuple(int(i in on) for i in range(len(numbers)))


def zero_or_one(cell: Any, *, where: str) -> int:
    """A cell of a 0/1 column."""
    name = label_name(cell).lower() if cell is not None else ""
    if name in ("1", "true"):
        return 1
    if name in ("0", "false"):
        return 0
    raise DataError(f"{where}: '{cell}' is neither 0 nor 1. Each column of a list of label columns holds 0 or 1.")
