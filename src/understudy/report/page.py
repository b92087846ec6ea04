"""The report: one page that shows what a run is worth, to a reader who was not there.

`render` turns plain data into one HTML text with everything inside: styles, a few lines of script, charts as SVG. It
loads nothing, from nowhere. Texts from data sets, labels and names are hostile until escaped: the template escapes
everything, the charts escape everything, and a content security policy allows exactly our own script and style by hash,
so that even a hole would not run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from understudy.evaluate.result import MODELS
from understudy.evaluate.verdict import advice
from understudy.figures.svg import clean
from understudy.recipe.method import methods
from understudy.report import sections
from understudy.report.structure import cuts, structure, vocabulary


@dataclass(frozen=True)
class ReportInput:
    """Everything the page shows, as plain data.

    result    a checked result (docs/result.md)
    recipe    the recipe as YAML text
    history   step name -> rows of its metrics.jsonl: {"step", "epoch", "loss", "lr", "terms": {name: {"value",
              "weight", "share"}}, "select": {metric: value}}; keys may be missing from a row
    details   test set -> what `evaluate.details.details` found there
    kept      step name -> what was decided there, for the method's own section (`Method.section`)
    structure what the student's network is where no stock class has it (`report.structure.facts`)
    notes     what was decided or dropped while reading the data, in sentences
    title     heading of the page; the task and the method when None
    """

    result: Mapping[str, Any]
    recipe: str = ""
    history: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    structure: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    title: str | None = None


def render(run: ReportInput) -> str:
    """The whole page as HTML."""
    result = run.result
    how = methods().get(result["method"].get("name", ""))  # None where the package that brought it is gone
    own = [how.section(run.kept) if how else None, structure(run.structure), *cuts(run.kept)]
    own.append(vocabulary(run.kept.get("vocabulary")))
    return fill(
        "page.html.j2",
        resource("page.js"),
        title=run.title or f"{result['task']['name']} · {result['method'].get('name', 'distillation')}",
        made=result,
        recipe=run.recipe,
        notes=list(run.notes),
        models=[model for model in MODELS if result[model]],
        cards=sections.cards(result),
        scores=[one for one in sections.scores(result) if one],
        table=sections.score_table(result),
        advice=advice(result),
        references=sections.references(result),
        reasons=sections.reasons(result),
        sizes=sections.sizes(result),
        method=[one for one in own if one],
        training=[sections.training(name, rows) for name, rows in run.history.items() if rows],
        time=sections.time_spent(result),
        samples=[{"prompt": one["prompt"], "said": [(name, one[name]) for name in MODELS if name in one]}
                 for one in result.get("samples", [])],
        tests=[sections.behaviour(name, found, result) for name, found in run.details.items() if found],
    )


def fill(template: str, script: str, **values: Any) -> str:
    """A page from one of our templates and our own script, with the style sheet and the policy that allows nothing else."""
    style = resource("page.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _template(template).render(policy=policy, script=script, style=style, **values)


@cache
def _template(name: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(resource)
    )
    # Everything printed is cleaned of control characters first; Markup made by our own charts passes as it is.
    environment.finalize = lambda value: clean(value) if type(value) is str else value
    environment.filters["tied"] = lambda text: re.sub(r"(?<=\d) %", "\u00a0%", text)  # '98 %' stays on one line
    return environment.get_template(name)


@cache
def resource(name: str) -> Any:
    """One of our own files as text that is not escaped again."""
    from markupsafe import Markup

    return Markup(files("understudy.report").joinpath(name).read_text(encoding="utf-8"))


def _hash(inline: str) -> str:
    """The source expression that allows exactly this inline text (Content Security Policy level 2)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode("utf-8")).digest()).decode()
