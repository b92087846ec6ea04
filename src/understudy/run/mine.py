"""Lists of a query, its relevant documents and the hardest that are not, found with an embedding model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from understudy.base.errors import DataError
from understudy.base.progress import say
from understudy.data.encode import encode
from understudy.data.texts import read_judged
from understudy.data.types import Task
from understudy.evaluate.predict import outputs
from understudy.kinds import kind
from understudy.kinds.retrieval import ranked
from understudy.models.embedder import prompts_of
from understudy.models.handover import longest_input
from understudy.models.load import load_model
from understudy.run.finished import student_of
from understudy.train.devices import accelerator


def mine(
    model: Path | str,
    judgements: Path | str,
    *,
    top: int = 30,
    negatives: int = 7,
    margin: float = 0.05,
    candidates: bool = False,
) -> list[dict[str, Any]]:
    """Lists for `task.files`: {"query", "passages", "labels"}.

    Args:
        judgements: a file of judgements in a folder of BEIR's layout.
        top: of each query's nearest documents so many are looked at.
        negatives: how many of them are kept, the nearest first.
        margin: see `hard`.
        candidates: instead, all of the nearest with their grades, relevant or not: what a reranker is given. `missed` are the
            grades of relevant documents that are not among them.
    """
    rows = read_judged(Path(judgements))
    loaded = load_model(str(student_of(Path(model))), task=Task("texts", kind("embedding")), key="DIR")
    loaded.net.to(accelerator().device)
    task, length = Task("texts", loaded.kind), longest_input(loaded)
    vectors = np.stack(outputs(loaded, encode(rows, loaded.tokenizer, task, max_length=length, prompts=prompts_of(loaded.net))))
    places = [i for i, row in enumerate(rows) if row.role == "document"]
    ids, texts = [rows[i].id for i in places], [rows[i].text or "" for i in places]
    of = {name: place for place, name in enumerate(ids)}
    found: list[dict[str, Any]] = []
    few = 0
    for i, row in enumerate(rows):
        if row.role != "query":
            continue
        scores = vectors[places] @ vectors[i]
        near = ranked(scores, ids)
        assert isinstance(row.label, tuple)
        grades: dict[str, float] = dict(row.label)
        good = {name: grade for name, grade in grades.items() if grade > 0 and name in of}
        if candidates:
            kept = [int(place) for place in near[:top]]
            labels = [float(max(0.0, grades.get(ids[place], 0.0))) for place in kept]
            missed = [grade for name, grade in grades.items() if grade > 0 and (name not in of or of[name] not in kept)]
        elif not good:
            continue
        else:
            positives = [of[name] for name in good]
            hardest = hard(scores, near[:top], positives, texts, margin=margin)[:negatives]
            few += len(hardest) < negatives
            kept, labels, missed = [*positives, *hardest], [1.0] * len(positives) + [0.0] * len(hardest), []
        found.append({"query": row.text, "passages": [texts[place] for place in kept], "labels": labels, "missed": missed})
    if few:
        say(f"{few:,} queries have fewer than {negatives} negatives among their {top} nearest documents.")
    if not found:
        raise DataError(f"{judgements}: no query has a relevant document in the corpus.")
    return found


def hard(scores: np.ndarray, near: np.ndarray, positives: list[int], texts: list[str], *, margin: float) -> list[int]:
    """Of the nearest documents those that are negatives, the nearest first (NV-Retriever's rule, de Souza et al. 2024).

    Left out are the positives, copies of them under other ids, and documents with a score above s - margin · |s|, s being the
    lowest score of a positive: they may be relevant though nobody said so. With s below 0 the bound is lower than s too, which
    (1 - margin) · s would not be.
    """
    known = {texts[place] for place in positives}
    lowest = min(float(scores[place]) for place in positives)
    bound = lowest - margin * abs(lowest)
    return [int(place) for place in near if texts[place] not in known and scores[place] <= bound]
