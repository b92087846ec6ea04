"""The built-in data set keeps what its card promises: distinct sentences, exact spans, labels from the closed lists."""

from __future__ import annotations

import json
import re
import statistics
import unicodedata
from collections import Counter
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any

INTENTS = {
    "account_change",
    "billing",
    "data_request",
    "facilities",
    "hardware",
    "hr_leave",
    "network",
    "order_delivery",
    "password_access",
    "software",
}
ENTITIES = {"PERSON", "DEVICE", "SOFTWARE", "LOCATION", "DATE", "ORDER"}


@cache
def raw(name: str) -> str:
    return (files("understudy") / "demo" / name).read_bytes().decode("utf-8")


@cache
def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw(name).splitlines()]


def helpdesk() -> list[dict[str, Any]]:
    return rows("helpdesk.jsonl")


def pairs() -> list[dict[str, Any]]:
    return rows("paraphrases.jsonl")


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


def normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def every_text() -> list[str]:
    return [row["text"] for row in helpdesk()] + [row[side] for row in pairs() for side in ("text_a", "text_b")]


def test_rows_have_exactly_the_documented_fields_and_running_ids() -> None:
    assert [row["id"] for row in helpdesk()] == [f"h{n:04d}" for n in range(1, len(helpdesk()) + 1)]
    assert [row["id"] for row in pairs()] == [f"p{n:03d}" for n in range(1, len(pairs()) + 1)]
    assert {tuple(row) for row in helpdesk()} == {("id", "text", "intent", "urgency", "entities")}
    assert {tuple(row) for row in pairs()} == {("id", "text_a", "text_b", "label")}


def test_at_least_800_distinct_sentences() -> None:
    repeated = [text for text, n in Counter(normalised(row["text"]) for row in helpdesk()).items() if n > 1]
    assert not repeated
    assert len(helpdesk()) >= 800


def test_no_sentence_is_a_variant_of_another() -> None:
    bags = [(row["id"], words(row["text"])) for row in helpdesk()]
    close = [(i, j) for (i, a), (j, b) in combinations(bags, 2) if jaccard(a, b) > 0.6]
    assert not close


def test_no_opening_is_used_as_a_template() -> None:
    """Blown-up templates share their first words; people's sentences rarely share the first four."""
    openings = Counter(tuple(normalised(row["text"]).split()[:4]) for row in helpdesk())
    assert max(openings.values()) <= 12


def test_lengths_run_from_fragments_to_long_messages() -> None:
    lengths = sorted(len(row["text"].split()) for row in helpdesk())
    assert lengths[0] >= 3
    assert lengths[len(lengths) // 10] <= 8
    assert 35 <= lengths[-1] <= 45


def test_intents_are_the_documented_ten_and_balanced() -> None:
    counts = Counter(row["intent"] for row in helpdesk())
    assert set(counts) == INTENTS
    assert min(counts.values()) >= 70
    assert max(counts.values()) <= 1.2 * min(counts.values())


def test_urgency_is_judged_row_by_row() -> None:
    scores = [row["urgency"] for row in helpdesk()]
    assert all(0.0 <= score <= 1.0 and score == round(score, 2) for score in scores)
    assert statistics.pstdev(scores) > 0.15
    assert min(scores) < 0.15 and max(scores) > 0.9
    by_intent = [[row["urgency"] for row in helpdesk() if row["intent"] == intent] for intent in INTENTS]
    # The intent alone must not give the score away.
    assert all(statistics.pstdev(group) > 0.1 for group in by_intent)


def test_spans_lie_at_word_boundaries_and_do_not_overlap() -> None:
    for row in helpdesk():
        text, end = row["text"], 0
        for span in row["entities"]:
            assert set(span) == {"start", "end", "label"}, row["id"]
            assert end <= span["start"] < span["end"] <= len(text), row["id"]
            end = span["end"]
            inside = text[span["start"] : span["end"]]
            assert inside == inside.strip() and inside[0].isalnum() and inside[-1].isalnum(), (row["id"], inside)
            assert span["start"] == 0 or not text[span["start"] - 1].isalnum(), (row["id"], inside)
            assert end == len(text) or not text[end].isalnum(), (row["id"], inside)


def test_entity_labels_are_the_documented_six_and_all_frequent() -> None:
    counts = Counter(span["label"] for row in helpdesk() for span in row["entities"])
    assert set(counts) == ENTITIES
    assert min(counts.values()) >= 50
    per_row = Counter(len(row["entities"]) for row in helpdesk())
    assert set(per_row) == {0, 1, 2, 3, 4}


def test_names_and_ids_are_never_left_untagged() -> None:
    """A person or a number that is tagged in one row is tagged in every row that has it."""
    tagged = {
        row["text"][span["start"] : span["end"]]
        for row in helpdesk()
        for span in row["entities"]
        if span["label"] in {"PERSON", "ORDER"}
    }
    for row in helpdesk():
        covered = {i for span in row["entities"] for i in range(span["start"], span["end"])}
        for name in tagged:
            for match in re.finditer(rf"(?<![\w-]){re.escape(name)}(?![\w-])", row["text"]):
                assert match.start() in covered, (row["id"], name)


def test_pairs_are_many_balanced_and_distinct() -> None:
    counts = Counter(row["label"] for row in pairs())
    assert set(counts) == {"same", "different"}
    assert min(counts.values()) >= 250
    assert max(counts.values()) <= 1.1 * min(counts.values())
    assert len({frozenset((row["text_a"], row["text_b"])) for row in pairs()}) == len(pairs())
    assert all(normalised(row["text_a"]) != normalised(row["text_b"]) for row in pairs())


def test_no_sentence_serves_in_two_pairs() -> None:
    """A sentence on both sides of a split would let a model recognise it."""
    uses = Counter(normalised(row[side]) for row in pairs() for side in ("text_a", "text_b"))
    assert [text for text, n in uses.items() if n > 1] == []


def test_word_overlap_does_not_answer_the_pairs() -> None:
    """Both labels hold pairs with many and with few words in common, so that counting words is not enough."""
    for label in ("same", "different"):
        overlap = [jaccard(words(row["text_a"]), words(row["text_b"])) for row in pairs() if row["label"] == label]
        assert sum(value >= 0.5 for value in overlap) >= 30, label
        assert sum(value <= 0.15 for value in overlap) >= 30, label


def test_text_is_clean_utf8() -> None:
    for name in ("helpdesk.jsonl", "paraphrases.jsonl"):
        assert raw(name).endswith("\n") and "\r" not in raw(name) and "\ufeff" not in raw(name)
    for text in every_text():
        assert text == " ".join(text.split())
        assert text == unicodedata.normalize("NFC", text)
        assert all(char.isprintable() and char != "\ufffd" for char in text)
        # No mark-up of the writing left behind.
        assert not re.search(r"[\[\]{}|<>]", text)


def test_the_card_states_the_counts_of_the_files() -> None:
    card = raw("README.md")
    assert f"| `helpdesk.jsonl` | {len(helpdesk())} |" in card
    assert f"| `paraphrases.jsonl` | {len(pairs())} |" in card
    for intent, n in Counter(row["intent"] for row in helpdesk()).items():
        assert re.search(rf"^\| `{intent}` \| {n} \|", card, re.M), (intent, n)
    for label, n in Counter(span["label"] for row in helpdesk() for span in row["entities"]).items():
        assert re.search(rf"^\| `{label}` \| {n} \|", card, re.M), (label, n)
    for label, n in Counter(row["label"] for row in pairs()).items():
        assert re.search(rf"^\| `{label}` \| {n} \|", card, re.M), (label, n)
