"""A comparison of four arms as comparison.json would hold it, with scores that are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.compare.advice import fronts, recommendations, verdict
from understudy.evaluate.significance import Score, compared, summary

ARMS = {"finetune": 0.80, "automm": 0.86, "minidisc": 0.86, "kdnas": 0.83}
LATENCY = {"finetune": 8.0, "automm": 8.1, "minidisc": 9.4, "kdnas": 3.2}


def latency(median: float) -> dict[str, Any]:
    protocol = {"threads": 1, "device": "cpu", "batch_size": 1, "length": 128, "repeats": 20, "warm_up": 3}
    return {"median": median, "iqr": 0.1, **protocol}


def comparison(
    *, metric: str = "accuracy", scores: dict[str, float] = ARMS, tests: tuple[str, ...] = ("dev-set", "later")
) -> dict[str, Any]:
    """Three seeds that differ by a thousandth, and rows that add little: differences of a point are real, others ties."""
    rng = np.random.default_rng(0)
    shift = 0.002 * rng.normal(size=4000)
    made = {
        name: Score((0, 1, 2), mean + 0.001 * rng.normal(size=3), mean + 0.001 * rng.normal(size=(3, 1)) + shift)
        for name, mean in scores.items()
    }
    arms = {
        name: {
            "method": name, "changes": {}, "epochs": {"train.epochs": 10}, "planned": 10.0, "notes": [], "failed": [],
            "seeds": [0, 1, 2], "num_parameters": 17e6, "num_parameters_nonembedding": 5e6,
            "size_mb": 40.0 if name == "kdnas" else 60.0, "flops": 1e8 * LATENCY.get(name, 8.0),
            "teacher_forwards": 300.0, "peak_memory_mb": 900.0, "latency_ms": latency(LATENCY.get(name, 8.0)),
            "spent": {"amount": 10.0, "steps": 500.0, "seconds": 60.0, "training_flops": 3e14,
                      "stages": [{"stage": "student", "steps": 500, "seconds": 60.0, "amount": 10.0}]},
            "metrics": {test: {metric: summary(score) | {"values": score.values.tolist()}} for test in tests},
            "curve": [[1.0, 0.5], [10.0, score.values.mean()]],
        }
        for name, score in made.items()
    }  # fmt: skip
    found: dict[str, Any] = {
        "version": 1,
        "task": {"name": "toy", "kind": "classification", "labels": ["a", "b"], "metrics": [metric], "select": metric,
                 "tests": dict.fromkeys(tests, 400)},
        "headline": {"test": tests[0], "metric": metric},
        "budget": {"kind": "steps", "amount": 10.0, "unit": "epochs of optimiser steps", "epochs": 10},
        "seeds": 3, "baseline": "finetune", "resamples": 4000,
        "teacher": {"name": "big", "num_parameters": 22e6, "num_parameters_nonembedding": 1e7, "size_mb": 90.0, "flops": 2e9,
                    "metrics": {test: {metric: 0.9} for test in tests}, "latency_ms": latency(15.0), "seconds": 100.0},
        "arms": arms,
        "comparisons": [{"test": test, "metric": metric, **row} for test in tests for row in compared(made, metric)],
    }  # fmt: skip
    found |= {"fronts": fronts(found), "recommendations": recommendations(found), "verdict": verdict(found)}
    return found | {"notes": [], "versions": {"understudy": "0.1.0"}, "machine": {"cpu": "some", "cores": 2}}
