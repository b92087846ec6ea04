"""docs/results.md and the README's table, from the files in results/ and from nothing else: `make results`.

The same files give the same page, byte for byte (tests/unit/test_results.py).
"""

from __future__ import annotations

import compare
import export
import minidisc
import mkd
import peakd
import quality
import search_page
import small
from record import ROOT

SECTIONS = {
    "quality": quality.section,
    "compare": compare.section,
    "peakd": peakd.section,
    "minidisc": minidisc.section,
    "export": export.section,
    "mkd": mkd.section,
    "small": small.section,
    "search": search_page.section,
}
"""Folder of results/ -> what is said about it."""


def page() -> str:
    """docs/results.md."""
    lines = [
        "# Results",
        "",
        "Every number on this page was measured by the command beside it, and is kept with versions and hardware in `results/`;",
        "`make results` makes the page from these files. What was not measured is not here.",
    ]
    for folder, section in SECTIONS.items():
        if found := section(ROOT / "results" / folder):
            lines += ["", *(f"#{line}" if line.startswith("#") else line for line in found)]  # headings one deeper
    return "\n".join(lines) + "\n"


def pictures() -> dict[str, str]:
    """Name in docs/ -> content, of the pictures on that page."""
    found = {search_page.CHART: search_page.chart(ROOT / "results" / "search")}
    return {name: content for name, content in found.items() if content is not None}


def readme() -> str:
    """README.md with its tables between their marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = {
        "results": quality.short_table(ROOT / "results" / "quality"),
        "methods": compare.short_table(ROOT / "results" / "compare"),
    }
    for name, table in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = "\n".join([before + start, "", *table, "", end + rest.split(end)[1]])
    return text


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    for name, content in pictures().items():
        (ROOT / "docs" / name).write_text(content, encoding="utf-8")
    print("docs/results.md, its pictures and README.md")
