"""docs/results.md and the README's table, from the files in results/ and from nothing else: `make results`.

The same files give the same page, byte for byte (tests/unit/test_results.py).
"""

from __future__ import annotations

import json
from statistics import median
from typing import Any

import compare_page
import export_page
import minidisc_page
import mkd_page
import peakd_page
import quality_page
import search_page
from kept import ROOT, glue_score

from understudy.evaluate.compare import over_seeds

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
STUDENTS = {
    "peakd": {
        "ft": ("3 of 6 layers", "labels only (`finetune`)"),
        "kd": ("3 of 6 layers", "+ softened logits"),
        "pkd": ("3 of 6 layers", "+ layers (PKD)"),
        "sps": ("3 layers, each used twice", "+ layers (`peakd` without PTP)"),
        "sps-ptp": ("3 layers, each used twice", "`peakd`, all of it"),
        "pkd6": ("all 6 layers", "+ layers (PKD), as slow as the two above"),
    },
    "minidisc": {
        "direct": ("6 layers, a tenth of heads and neurons", "no assistant"),
        "maxidisc": ("6 layers, a tenth of heads and neurons", "`maxidisc`"),
        "minidisc-sampled": ("6 layers, a tenth of heads and neurons", "`minidisc`, candidates sampled"),
    },
}
"""Folder of results/ -> variant -> the student and its method, as the README shows them."""
TASKS = {"rte": "RTE", "mrpc": "MRPC", "cola": "CoLA", "sst2-10k": "SST-2, 10,000 rows"}


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
    for name, table in (("results", quality_page.short_table(ROOT / "results" / "quality")), ("methods", methods_table())):
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = "\n".join([before + start, "", *table, "", end + rest.split(end)[1]])
    return text


def methods_table() -> list[str]:
    """What each method made of one teacher: size, time, and the score on dev as GLUE counts it."""
    lines = [
        f"| student | how | parameters (M) | speed | {' | '.join(TASKS.values())} |",
        f"|---|---|---|---|{'---|' * len(TASKS)}",
    ]
    teacher = [record for folder in STUDENTS for record in _records(folder)]
    lines.append(_row("the teacher", "fine-tuned", teacher, "teacher"))
    for folder, variants in STUDENTS.items():
        records = _records(folder)
        for variant, (student, how) in variants.items():
            if found := [record for record in records if record["variant"] == variant]:
                lines.append(_row(student, how, found, "student"))
    return lines


def _records(folder: str) -> list[dict[str, Any]]:
    read = [json.loads(path.read_text()) for path in sorted((ROOT / "results" / folder).glob("*.json"))]
    return [record for record in read if record["recipe_name"] in TASKS]


def _row(student: str, how: str, records: list[dict[str, Any]], model: str) -> str:
    size = median(record[model]["num_parameters"] for record in records) / 1e6
    speed = 1.0 if model == "teacher" else median(record["speedup"] for record in records)  # both timed in turns
    cells = [student, how, f"{size:.1f}", f"{speed:.1f}×"]
    for task in TASKS:
        scores = [glue_score(record, task, model) for record in records if record["recipe_name"] == task]
        if not scores:
            cells.append("–")
        elif model == "teacher":
            cells.append(f"{scores[0]:.1f}")
        else:
            found = over_seeds(scores)
            cells.append(f"{found['mean']:.1f}" + ("" if found["deviation"] is None else f" ± {found['deviation']:.1f}"))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page(), encoding="utf-8")
    (ROOT / "README.md").write_text(readme(), encoding="utf-8")
    for name, content in pictures().items():
        (ROOT / "docs" / name).write_text(content, encoding="utf-8")
    print("docs/results.md, its pictures and README.md")
