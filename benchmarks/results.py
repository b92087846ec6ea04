"""docs/results.md and the README's table, from the files in results/ and from nothing else: `make results`.

The same files give the same page, byte for byte (tests/unit/test_results.py).
"""

from __future__ import annotations

import minidisc_page
import mkd_page
import peakd_page
import quality_page
import search_page
from kept import ROOT

SECTIONS = {
    "quality": quality_page.section,
    "peakd": peakd_page.section,
    "minidisc": minidisc_page.section,
    "mkd": mkd_page.section,
    "search": search_page.section,
}
"""Folder of results/ -> what is said about it."""
START, END = "<!-- results -->", "<!-- end of results -->"


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


def _one_deeper(lines: list[str]) -> list[str]:
    """A page's headings as those of a section."""
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def readme() -> str:
    """README.md with the table between its two marks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    table = quality_page.short_table(ROOT / "results" / "quality")
    return "\n".join([before + START, "", *table, "", END + after])


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    print("docs/results.md and README.md")
