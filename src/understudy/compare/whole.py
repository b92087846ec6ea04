"""A comparison from its file to its page: plan, do, conclude."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from understudy.base import disk, yaml
from understudy.base.errors import RecipeError
from understudy.base.lock import DAY, lock
from understudy.base.progress import say
from understudy.check import Finding
from understudy.compare.advice import ranked
from understudy.compare.arms import Plan, make_plan
from understudy.compare.gather import UNITS, gather
from understudy.compare.work import runs_of, work
from understudy.evaluate.metrics import DISPLAY
from understudy.evaluate.significance import pair
from understudy.evaluate.verdict import plain
from understudy.figures.words import duration, milliseconds, score, short
from understudy.recipe.comparison import Comparison, load_comparison
from understudy.report.comparison import render_comparison
from understudy.steps import difference
from understudy.train.guard import StopSignals

_ARMS = ("arms/",)


def compare(comparison: Comparison, folder: Path | str) -> tuple[dict[str, Any], int]:
    """Do what is left of a comparison, and conclude. Returns the content of comparison.json, and the exit code: 0, or that
    of the first arm that failed.

    Raises:
        RecipeError: an impossible arm (nothing was trained then), or a folder that holds another comparison.
        Interrupted: after a signal, with everything done so far committed.
    """
    folder = Path(folder)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("A comparison does not run under torchrun: start the command once for each device; they share it.")
    plan = make_plan(comparison)
    runs = runs_of(plan, comparison.compare.seeds, folder)
    with lock(folder, wait_seconds=DAY):
        _claim(comparison, folder)
    say(f"{len(plan.arms)} arms with {comparison.compare.seeds} seeds; each may spend {_amount(plan, comparison)}.")
    with StopSignals() as stop:
        began = work(runs, stop)
    with lock(folder, wait_seconds=DAY):
        made = gather(comparison, plan, runs, folder)
        disk.remove(folder / disk.MANIFEST)
        disk.write_json(folder / "comparison.json", made)
        write_comparison(folder)
        if all(run.finished or run.outcome for run in runs):  # its arms are sealed by themselves
            disk.write_json(folder / disk.MANIFEST, {"files": disk.manifest(folder, without=_ARMS), "without": list(_ARMS)})
    failed = [run for run in runs if run.failed(began)]
    return made, failed[0].outcome["code"] if failed else 0


def write_comparison(folder: Path) -> Path:
    """report.html from comparison.json."""
    disk.require_intact(folder, ("comparison.json", "config.yaml"))
    recipe = (folder / "config.yaml").read_text(encoding="utf-8")
    disk.write_text(folder / "report.html", render_comparison(disk.read_json(folder / "comparison.json"), recipe=recipe))
    disk.renew(folder, "report.html")
    return folder / "report.html"


def check_comparison(comparison: Comparison) -> list[Finding]:
    """What each arm will spend, or why it is impossible; nothing is trained."""
    plan = make_plan(comparison)
    found = [Finding("ok", "budget", f"each arm may spend {_amount(plan, comparison)}.")]
    for arm in plan.arms:
        trained = ", ".join(stage.name for stage in arm.stages)
        text = f"spends {arm.spends:.3g} in {sum(stage.fits for stage in arm.stages)} trainings ({trained})."
        found.append(Finding("ok", arm.name, text))
        found += [Finding("note", arm.name, note) for note in arm.notes]
    return found


def _amount(plan: Plan, comparison: Comparison) -> str:
    return f"{plan.total:.3g} {UNITS[comparison.compare.budget]}"


def _claim(comparison: Comparison, folder: Path) -> None:
    """Write the comparison into the folder. One that is there may grow: more arms, more seeds; nothing else may differ."""
    path = folder / "config.yaml"
    now = comparison.model_dump(mode="json")
    if path.exists() and (folder / "arms").is_dir():
        before = load_comparison(path).model_dump(mode="json")
        known = set(before["arms"]) & set(now["arms"])
        was, is_now = (
            {**one, "compare": {key: one["compare"][key] for key in ("budget", "sparsity")},
             "arms": {name: one["arms"][name] for name in known}}
            for one in (before, now)
        )  # fmt: skip
        if was != is_now:
            raise RecipeError(f"{folder} holds another comparison: {difference(was, is_now)}. Use another --out for this one.")
    if not path.exists() or path.read_text(encoding="utf-8") != yaml.dump(now):
        disk.remove(folder / disk.MANIFEST)
        disk.write_text(path, yaml.dump(now))


def lines(made: dict[str, Any], folder: Path) -> str:
    """The comparison as a table for a terminal, the best arm first."""
    test, metric = made["headline"]["test"], made["headline"]["metric"]
    title, against = f"{DISPLAY.get(metric, metric)} on {test}", f"against {made['baseline']}"
    found = [f"{'arm':<20} {title:<30} {against:<28} {'latency':>9} {'params':>8} {'spent':>7} {'time':>12}"]
    for name in ranked(made):
        arm = made["arms"][name]
        one, row = arm["metrics"][test][metric], pair(made, name, made["baseline"])
        deviation = f" ± {one['deviation']:.3f}" if one["deviation"] is not None else ""
        interval = f" [{score(one['low'])}, {score(one['high'])}]"
        gain = f"{plain(row['difference'], metric, sign=True)} {row['verdict']} (p {row['p_holm']:.2g})" if row else ""
        found.append(
            f"{name:<20} {score(one['mean']) + deviation + interval:<30} {gain:<28} "
            f"{milliseconds(arm['latency_ms']['median']):>9} {short(arm['num_parameters']):>8} {arm['spent']['amount']:>7.3g} "
            f"{duration(arm['spent']['seconds']):>12}"
        )
    for name, arm in made["arms"].items():
        found += [f"{name}, seed {one['seed']}: failed: {one['reason']}" for one in arm["failed"]]
    found += [made["verdict"], *(one["text"] for one in made["recommendations"])]
    return "\n".join([*found, f"report   {folder / 'report.html'}\nresult   {folder / 'comparison.json'}"])
