"""What rows and lengths tell about a result before anything is trained."""

from __future__ import annotations

import toys

from understudy.data.known import facts_of, sentences
from understudy.data.types import Example, Task, TaskData

MOODS = Task("t", "classification", ("glad", "sad", "calm"))


def rows(*pairs: tuple[str, int | None]) -> list[Example]:
    return [Example(str(i), text=text, label=label) for i, (text, label) in enumerate(pairs)]


def test_rows_that_are_learnt_from_and_reported_on_are_counted():
    train = rows(("a", 0), ("b", 1), ("c", 1), ("a", 1))
    data = TaskData(MOODS, train, [], {"test": rows(("a", 0), ("b", 0), ("x", 2), ("b", 1)), "other": rows(("y", 0))})
    facts = facts_of(data)
    assert facts["overlap"] == {"test": {"rows": 4, "in_train": 3, "texts": 2, "other_label": 1}}
    assert (facts["in_train_and_test"], facts["other_label"], facts["unseen"]) == (3, 1, {"test": {"calm": 1}})
    said = sentences(facts)
    assert said[0].startswith("3 of 4 rows of test (2 different texts) stand in train (or the selection rows) word for word, 1 ")
    assert said[1] == "test has labels that no training row has: 'calm' (1 rows)."
    assert sentences(facts_of(TaskData(MOODS, train, [], {"test": rows(("y", 0))}))) == []
    assert facts_of(TaskData(MOODS, train[1:], train[:1], {"test": rows(("a", 0))}))["in_train_and_test"] == 1


def test_texts_that_are_cut_and_the_length_that_would_hold_them():
    tokenizer = toys.tokenizer()
    texts = ["good day"] * 60 + ["good " * 20] * 39 + ["bad " * 30]
    data = TaskData(MOODS, rows(*((text, 0) for text in texts)), [], {})
    cut = facts_of(data, tokenizer, 12, 64)["cut"]
    assert cut == {"share": 0.4, "words": 0.0, "max_length": 12, "holds_99": 22, "most": 64}
    (said,) = sentences(facts_of(data, tokenizer, 12, 16))
    assert said == (
        "40 % of the texts are longer than 12 tokens (task.max_length) and are cut; 22 would hold 99 % of them, "
        "more than the model's 16."
    )
    assert facts_of(data, tokenizer, 32, 64)["cut"] is None
    assert facts_of(data, tokenizer, 22, 64)["cut"]["share"] == 0.01


def test_words_that_are_lost_are_counted_too():
    task = Task("t", "tokens", ("O", "B-X", "I-X"))
    words = [("good",) * 10, ("bad",) * 2]
    data = TaskData(task, [Example(str(i), words=row, label=(0,) * len(row)) for i, row in enumerate(words)], [], {})
    cut = facts_of(data, toys.tokenizer(), 8)["cut"]
    assert cut["share"] == 0.5 and abs(cut["words"] - 4 / 12) < 1e-9  # eight tokens hold six words and two special ones


def test_a_hundred_thousand_rows_take_seconds():
    import time

    texts = [(f"good day {i}", i % 3) for i in range(100_000)]
    data = TaskData(MOODS, rows(*texts), [], {"test": rows(*texts[:1000])})
    start = time.perf_counter()
    assert facts_of(data, toys.tokenizer(), 4)["overlap"]["test"]["in_train"] == 1000
    assert time.perf_counter() - start < 20
