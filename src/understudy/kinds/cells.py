"""One cell becomes a text, a list of words, a label. Every function raises a DataError that says what to do; the caller says
where. Values in messages are cut: a lost quote makes cells of millions of characters."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.errors import DataError
from understudy.base.suggest import did_you_mean, few, shown

_LONGEST_LABEL = 1000
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_WHOLE = r"-?\d{1,18}"


def label_name(cell: Any, *, where: str = "") -> str:
    """A label as people write it: `1`, `1.0` and `True` (as parquet and JSON hold them) are '1', '1' and 'True'."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    name = str(cell).strip()
    if len(name) > _LONGEST_LABEL:
        raise DataError(
            f"{where}: a label of {len(name):,} characters ({shown(name)}). Is a quote missing, or another column the label's?"
        )
    return name


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
    raise DataError(f"{where}: expected a text, got {shown(repr(cell))}. Name another column in task.columns.")


def list_cell(cell: Any, *, where: str) -> tuple[str, ...]:
    """A list of words or tags, also one that a data frame wrote as text; else words with single spaces between them."""
    if isinstance(cell, str):
        found = list_literal(cell) or cell.split()
    else:
        found = list(cell) if isinstance(cell, list | tuple) else []
    if not found or any(not isinstance(part, str | int) or isinstance(part, bool) for part in found):
        raise DataError(f"{where}: expected a list of words or tags, got {shown(repr(cell))}. Correct or drop that row.")
    return tuple(str(part) for part in found)


def list_literal(cell: str) -> list[Any] | None:
    """The items of a list of texts or whole numbers as Python and numpy print it; None for anything else.

    >>> list_literal("['red', 'blue']"), list_literal("['red' 'blue']"), list_literal("[1 0]"), list_literal("[sic]")
    (['red', 'blue'], ['red', 'blue'], [1, 0], None)
    """
    text = cell.strip()
    if not re.fullmatch(r"[\[({].*[\])}]", text, re.DOTALL):
        return None
    inside = text[1:-1]
    for item in (_QUOTED, _WHOLE):
        if re.fullmatch(rf"\s*(?:(?:{item})[\s,]*)*", inside):
            return [ast.literal_eval(found) for found in re.findall(item, inside)]
    return None


def class_number(cell: Any, numbers: Mapping[str, int], *, where: str) -> int:
    """The number of a class given by its name."""
    if is_blank(cell):
        raise DataError(f"{where}: the label is missing. Give that row a label or leave the row out.")
    name = label_name(cell, where=where)
    if name not in numbers and re.fullmatch(rf"{_WHOLE}\.0+", name):  # as data frames write whole numbers
        name = name.partition(".")[0]
    if name not in numbers:
        raise DataError(
            f"{where}: '{shown(name)}' is not in the label set.{did_you_mean(name, numbers)} "
            f"Labels: {few(list(numbers), 20)}. Correct the row or add the label to task.labels."
        )
    return numbers[name]


def sorted_names(names: set[str]) -> list[str]:
    """Label names in their order: numbers by value (`1.0` is 1 where all are written so), others by name."""
    if names and all(re.fullmatch(rf"{_WHOLE}\.0+", name) for name in names):
        names = {name.partition(".")[0] for name in names}
    return sorted(names, key=int) if all(re.fullmatch(_WHOLE, name) for name in names) else sorted(names)


def score(cell: Any, *, where: str) -> float:
    """A finite number."""
    if is_blank(cell):
        raise DataError(f"{where}: the score is missing. Give that row a number or leave the row out.")
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        comma = " Write decimals with a point." if isinstance(cell, str) and "," in cell else ""
        raise DataError(f"{where}: '{shown(str(cell))}' is not a number.{comma} A regression task needs scores.") from None
    if not math.isfinite(value):
        raise DataError(f"{where}: the score is {value}. Scores must be finite; correct or drop the row.")
    return value


def label_names(cell: Any, *, separator: str, where: str) -> list[str]:
    """The labels of one multi-label cell: `a|b`, a list (also one written as text), or nothing."""
    if isinstance(cell, str) and (listed := list_literal(cell)) is not None:
        cell = listed
    if isinstance(cell, list | tuple):
        return [label_name(part, where=where) for part in cell]
    if is_blank(cell):
        return []
    if not isinstance(cell, str | int | float | bool):
        raise DataError(f"{where}: expected labels like 'a{separator}b' or a list of names, got {type(cell).__name__}.")
    parts = str(cell).split(separator) if isinstance(cell, str) else [label_name(cell)]
    return [label_name(part, where=where) for part in parts if part.strip()]


def indicator(names: Sequence[str], numbers: Mapping[str, int], *, where: str) -> tuple[int, ...]:
    """0/1 for each label of the set."""
    on = {class_number(name, numbers, where=where) for name in names}
    return tuple(int(i in on) for i in range(len(numbers)))


def zero_or_one(cell: Any, *, where: str) -> int:
    """A cell of a 0/1 column; data frames write 1.0 and 0.0 as soon as one value is missing."""
    name = label_name(cell, where=where).lower() if cell is not None else ""
    if name in ("1", "1.0", "true"):
        return 1
    if name in ("0", "0.0", "false"):
        return 0
    raise DataError(f"{where}: '{shown(str(cell))}' is neither 0 nor 1. Each column of a list of label columns holds 0 or 1.")
