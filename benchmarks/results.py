"""docs/results.md and the README's table, from the files in results/ and from nothing else: `make results`.

The same files give the same page, byte for byte (tests/unit/test_results.py).
"""

from __future__ import annotations

import compare_page
import export_page
import minidisc_page
import mkd_page
import peakd_page
import quality_page
import search_page
from kept import ROOT

SECTIONS = {
    "quality": quality_page.section,
    "compare": compare_page.section,
    "peakd": peakd_page.section,
    "minidisc": minidisc_page.section,
    "export": export_page.section,
    "mkd": mkd_page.section,
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
            lines += ["", *_one_deeper(found)]
    return "\n".join(lines) + "\n"


def pictures() -> dict[str, str]:
    """Name in docs/ -> content, of the pictures on that page."""
    found = {search_page.CHART: search_page.chart(ROOT / "results" / "search")}
    return {name: content for name, content in found.items() if content is not None}


def _one_deeper(lines: list[str]) -> list[str]:
    """A page's headings as those of a section."""
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def readme() -> str:
    """README.md with its tables between their marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tables = {
        "results": quality_page.short_table(ROOT / "results" / "quality"),
        "methods": compare_page.short_table(ROOT / "results" / "compare"),
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
