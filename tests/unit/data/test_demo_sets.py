from __future__ import annotations

import doctest
import json

import pytest

from understudy.base.errors import DataError
from understudy.data import demo_sets
from understudy.data.demo_sets import demo_splits, part_of, words_and_tags
from understudy.data.tasks import load_task
from understudy.recipe.settings import TaskSettings


def test_doctests():
    assert doctest.testmod(demo_sets).failed == 0 and doctest.testmod(demo_sets).attempted > 0


@pytest.mark.parametrize("name", ["intent", "entities", "urgency", "paraphrase"])
def test_every_kind_of_task_runs_offline(name):
    data = load_task(TaskSettings(name=f"demo/{name}"), seed=0)
    rows = len(data.train) + len(data.select) + len(data.tests["test"])
    assert len(data.train) == pytest.approx(0.7 * rows, rel=0.08)
    assert len({e.id for e in data.train + data.select + data.tests["test"]}) == rows
    assert load_task(TaskSettings(name=f"demo/{name}"), seed=9).digest() == data.digest()


def test_entities_become_words_and_bio():
    text = "Ask Jo-Anne in Room 4, not Room 5."
    spans = [{"start": 4, "end": 11, "label": "WHO"}, {"start": 15, "end": 21, "label": "ROOM"}]
    words, tags = words_and_tags(text, spans)
    assert words == ("Ask", "Jo-Anne", "in", "Room", "4", ",", "not", "Room", "5", ".")
    assert tags == ("O", "B-WHO", "O", "B-ROOM", "I-ROOM", "O", "O", "O", "O", "O")


def test_spans_that_touch_are_two_entities():
    spans = [{"start": 0, "end": 1, "label": "A"}, {"start": 2, "end": 3, "label": "A"}]
    assert words_and_tags("x y", spans)[1] == ("B-A", "B-A")


def test_a_span_outside_the_text(write):
    row = {
        "id": "1",
        "text": "short",
        "intent": "x",
        "urgency": 0.5,
        "entities": [{"start": 3, "end": 9, "label": "A"}],
    }
    with pytest.raises(DataError, match="line 1, column 'entities': the span 3–9 is not inside the text"):
        demo_splits("demo/entities", write("a.jsonl", json.dumps(row)))


def test_the_part_of_a_row_depends_on_its_id_alone():
    assert [part_of(f"h{i:04}") for i in range(1, 8)] == [part_of(f"h{i:04}") for i in range(1, 8)]
    counts = {"train": 0, "dev": 0, "test": 0}
    for i in range(5000):
        counts[part_of(str(i))] += 1
    assert 3400 < counts["train"] < 3600 and 430 < counts["dev"] < 570
