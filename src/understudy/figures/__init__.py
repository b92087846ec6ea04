"""How results are shown: numbers in words (words.py), four charts as SVG (charts.py), and the parts that a page is made of.

What a method says about itself in a report is a `section` of these parts, which the page knows how to lay out: no method needs
a template of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.figures import charts
from understudy.figures.words import percent


def section(
    id: str, title: str, *, panels: Sequence[Any] = (), tables: Sequence[Any] = (), lines: Sequence[str] = ()
) -> dict[str, Any]:
    """A part of the page: a heading, panels beside each other, then tables, then sentences in small print.

    Args:
        id: its anchor, in lower-case letters.
        panels: from `panel` or `parts`; None is left out.
        tables: from `table`.
    """
    shown = [one for one in panels if one is not None]
    return {"id": id, "title": title, "panels": shown, "tables": list(tables), "lines": list(lines)}


def panel(
    title: str,
    chart: Markup | None = None,
    note: str = "",
    *,
    table: Mapping[str, Any] | None = None,
    key: str | None = None,
    legend: Sequence[Mapping[str, str]] = (),
    wide: bool = False,
) -> dict[str, Any] | None:
    """A chart or a small table with its title; None where the chart is empty.

    Args:
        key: the colour class shown beside the title.
        legend: {"class", "words", "note"} of what the colours mean.
        wide: over the whole width of the page.
    """
    if not chart and table is None:
        return None
    return {"title": title, "chart": chart, "note": note, "table": table, "key": key, "legend": list(legend), "wide": wide}


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> dict[str, Any]:
    """Column names and rows of plain cells, the first of which names the row."""
    return {"head": list(head), "rows": [list(row) for row in rows]}


def parts(title: str, counted: Sequence[tuple[str, str, int]], *, rows: str, note: str = "") -> dict[str, Any] | None:
    """A whole cut into parts, each a (class, words, count), as a wide panel with a legend. `rows`: what is counted."""
    total = sum(count for *_, count in counted) or 1
    said = [f"{words}: {count} {rows} ({percent(count / total)})" for _, words, count in counted]
    marks = [
        {"class": f"part {kind}", "value": count, "tip": tip} for (kind, _, count), tip in zip(counted, said, strict=True)
    ]
    shape = {"mark": "part", "left": 0, "right": 0, "width": 720}
    chart = charts.bar([{"name": "", "shown": "", "marks": marks}], label="; ".join(said), ends=(0, total), **shape)
    legend = [{"class": kind, "words": words, "note": f"{count:,} · {percent(count / total)}"} for kind, words, count in counted]
    return panel(title, chart, note, legend=legend, wide=True)
