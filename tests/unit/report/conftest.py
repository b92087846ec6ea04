"""A realistic run to draw: three models on an intent task of two test sets, with history, recipe and notes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from understudy.data.types import Example, Task
from understudy.evaluate.details import details
from understudy.evaluate.predictions import Predictions
from understudy.evaluate.result import assemble
from understudy.report.page import ReportInput

TEXTS = [
    "My parcel was meant to arrive on Tuesday and the tracking page still says it is being packed.",
    "Could you send the March invoice again? The first one went to my old address.",
    "I was charged twice for the same subscription, please refund one of the payments.",
    "The app logs me out every time I turn the phone sideways.",
    "How do I change the e-mail address I sign in with?",
    "The lamp came with a cracked shade; I would like a replacement rather than my money back.",
    "Is there a student discount on the yearly plan?",
    "Nobody has answered my last three messages and I am running out of patience.",
    "I cannot find the button that deletes my account.",
    "Thank you, the new charger works perfectly.",
    "The courier left the box in the rain and everything inside is soaked.",
    "Please cancel order 4471, I picked the wrong size.",
]
ABOUT = (0, 1, 2, 3, 4, 2, 1, 0, 4, 5, 0, 2)  # the label of each text
LABELS = ("delivery", "invoice", "refund", "technical", "account", "praise")


def predictions(task: Task, gold: np.ndarray, accuracy: float, rng: np.random.Generator) -> Predictions:
    """Logits that are right about this often, and unsure about it."""
    scores = rng.normal(size=(len(gold), len(task.labels)))
    right = rng.random(len(gold)) < accuracy
    aim = np.where(right, gold, (gold + rng.integers(1, len(task.labels), len(gold))) % len(task.labels))
    scores[np.arange(len(gold)), aim] += 4
    return Predictions([f"row-{row}" for row in range(len(gold))], scores, gold)


def cost(name: str, parameters: int, embeddings: int, median: float) -> dict:
    protocol = {"threads": 2, "device": "cpu", "batch_size": 1, "length": 128, "repeats": 20, "warm_up": 3}
    return {
        "name": name,
        "num_parameters": parameters,
        "num_parameters_nonembedding": parameters - embeddings,
        "size_mb": parameters * 4 / 1e6,
        "flops": 2 * 128 * (parameters - embeddings),
        "latency_ms": {"median": median, "iqr": median * 0.06, **protocol},
    }


COSTS = {
    "teacher": cost("nreimers/MiniLM-L6-H384-uncased", 22_713_216, 11_918_592, 14.83),
    "baseline": cost("layers 0, 2, 4 of the teacher, no teacher", 17_389_062, 11_918_592, 7.71),
    "student": cost("layers 0, 2, 4 of the teacher", 17_389_062, 11_918_592, 7.68),
}


def history(steps: int, every: int, *, terms: dict[str, tuple[float, float]], metric: str) -> list[dict]:
    """Rows like those of metrics.jsonl: losses that fall, a learning rate that warms up and decays."""
    rng = np.random.default_rng(steps)
    rows = []
    for step in range(1, steps + 1):
        done = step / steps
        parts = {
            name: {"value": start * math.exp(-2.5 * done) * (1 + 0.18 * rng.normal()) + 0.02, "weight": weight}
            for name, (start, weight) in terms.items()
        }
        loss = sum(part["value"] * part["weight"] for part in parts.values())
        for part in parts.values():
            part["share"] = part["value"] * part["weight"] / loss
        row = {
            "step": step,
            "epoch": done * 3,
            "loss": loss,
            "lr": 5e-5 * min(done / 0.1, (1 - done) / 0.9),
            "terms": parts,
        }
        if step % every == 0:
            row["select"] = {metric: 0.9 - 0.35 * math.exp(-3 * done) + 0.008 * rng.normal()}
        rows.append(row)
    return rows


RECIPE = """seed: 0
task:
  name: demo/intent
teacher:
  model: nreimers/MiniLM-L6-H384-uncased
  finetune: {epochs: 3, lr: 5.0e-5}
student:
  init: teacher
  keep: [0, 2, 4]
method:
  name: automm
  temperature: 5.0
  hard_label_weight: 0.1
  soft_label_weight: 1.0
train:
  epochs: 3
  batch_size: 32
evaluate:
  latency: {batch_size: 1, length: 128}
"""


def build(
    task: Task, tests: dict[str, dict[str, Predictions]], examples: dict[str, list[Example]], **more: object
) -> ReportInput:
    result = assemble(
        task,
        tests,
        costs={model: COSTS[model] for model in next(iter(tests.values()))},
        method={"name": "automm", "temperature": 5.0},
        seed=0,
        resamples=300,
        train_seconds={"teacher": 61.2, "signals": 4.1, "baseline": 38.4, "student": 41.9, "evaluate": 6.3},
        teacher_forwards=640,
        versions={"python": "3.11.7", "understudy": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        machine={
            "cpu": "AMD EPYC",
            "cores": 2,
            "threads": 2,
            "memory_gb": 25.3,
            "system": "Linux x86_64",
            "accelerator": None,
        },
    )
    found = {test: details(task, examples[test], by_model) for test, by_model in tests.items()}
    return ReportInput(result=result, details=found, **more)


@pytest.fixture(scope="session")
def run() -> ReportInput:
    task = Task("demo/intent", "classification", LABELS, ("accuracy", "macro_f1"), "accuracy")
    rng = np.random.default_rng(7)
    tests, examples = {}, {}
    for test, rows in (("test", 412), ("hard", 160)):
        gold = np.array([ABOUT[row % len(TEXTS)] for row in range(rows)])
        tests[test] = {
            "teacher": predictions(task, gold, 0.93, rng),
            "baseline": predictions(task, gold, 0.82, rng),
            "student": predictions(task, gold, 0.90, rng),
        }
        examples[test] = [
            Example(f"row-{row}", text=TEXTS[row % len(TEXTS)], label=int(gold[row])) for row in range(rows)
        ]
    terms = {"hard": (1.7, 0.1), "soft": (1.1, 1.0), "feature": (6.0, 0.02), "relation": (0.5, 0.2)}
    return build(
        task, tests, examples, recipe=RECIPE,
        history={
            "teacher": history(210, 70, terms={"hard": (1.7, 1.0)}, metric="accuracy"),
            "student": history(640, 64, terms=terms, metric="accuracy"),
        },
        notes=[
            "4 rows of train had an empty text and were dropped (rows 12, 88, 301 and 410 of intent.tsv).",
            "Selection uses 10 % of train, drawn with seed 0; the test sets were never looked at while training.",
        ],
    )  # fmt: skip


@pytest.fixture(scope="session")
def regression() -> ReportInput:
    task = Task("demo/urgency", "regression", (), ("pearson", "spearman", "mse"), "pearson")
    rng = np.random.default_rng(3)
    gold = rng.integers(0, 11, 180) / 2
    ids = [str(row) for row in range(180)]
    tests = {
        "test": {
            name: Predictions(ids, gold + noise * rng.normal(size=180), gold)
            for name, noise in (("teacher", 0.5), ("baseline", 0.9), ("student", 0.7))
        }
    }
    return build(
        task, tests, {"test": [Example(one, text=TEXTS[int(one) % len(TEXTS)], pair="It can wait.") for one in ids]}
    )


@pytest.fixture(scope="session")
def tokens() -> ReportInput:
    task = Task(
        "demo/entities", "tokens", ("O", "B-product", "I-product", "B-date", "I-date"), ("f1", "precision"), "f1"
    )
    rng = np.random.default_rng(5)
    rows = [tuple(text.split()) for text in TEXTS * 8]
    gold = []
    for words in rows:
        tags = np.zeros(len(words), dtype=np.int64)
        tags[2:4], tags[-1] = (1, 2), 3
        gold.append(tags)
    ids = [str(row) for row in range(len(rows))]
    tests = {
        "test": {
            name: Predictions(ids, [np.where(rng.random(len(tags)) < keep, tags, 0) for tags in gold], gold)
            for name, keep in (("teacher", 0.95), ("student", 0.85))
        }
    }
    return build(task, tests, {"test": [Example(one, words=rows[int(one)]) for one in ids]})
