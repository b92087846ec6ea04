"""The Hub's copies, with `datasets.load_dataset` replaced by sets made here: no network."""

from __future__ import annotations

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from understudy.base.errors import DataError, RecipeError
from understudy.data.tasks import load_task
from understudy.recipe.settings import TaskSettings

TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]


def pairs(columns: tuple[str, str], names: list[str], rows: int = 12) -> Dataset:
    features = Features({columns[0]: Value("string"), columns[1]: Value("string"), "label": ClassLabel(names=names)})
    data = {
        columns[0]: [f"a {i}" for i in range(rows)],
        columns[1]: ["b"] * rows,
        "label": [i % len(names) for i in range(rows)],
    }
    return Dataset.from_dict(data, features=features)


def tagged() -> Dataset:
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=TAGS))})
    return Dataset.from_dict({"tokens": [["Anna", "sings"]] * 6, "ner_tags": [[1, 0]] * 6}, features=features)


@pytest.fixture
def hub(monkeypatch):
    """hub[(name, config)] = data set; every split of it is the same. Records what was asked for."""
    shelf: dict = {}
    asked: list = []

    def load_dataset(name, config=None, *, split, revision=None):
        asked.append((name, config, split))
        if (name, config) not in shelf:
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub")
        return shelf[name, config]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    shelf["asked"] = asked
    return shelf


def load(name: str, **keys: object):
    return load_task(TaskSettings.model_validate({"name": name, **keys}), seed=0)


def test_glue_maps_labels_by_name(hub):
    hub["nyu-mll/glue", "mrpc"] = pairs(("sentence1", "sentence2"), ["equivalent", "not_equivalent"])
    data = load("glue/mrpc")
    assert data.task.labels == ("not_equivalent", "equivalent")
    assert [e.label for e in data.tests["dev"]][:3] == [1, 0, 1] and data.tests["dev"][2].text == "a 2"
    assert {split for _, _, split in hub["asked"]} == {"train", "validation"}


def test_mnli_and_stsb(hub):
    hub["nyu-mll/glue", "mnli"] = pairs(("premise", "hypothesis"), ["entailment", "neutral", "contradiction"])
    assert list(load("glue/mnli").tests) == ["dev_matched", "dev_mismatched"]
    scores = {"sentence1": ["a"] * 6, "sentence2": ["b"] * 6, "label": [0.0, 1.5, 2, 3, 4, 5]}
    hub["nyu-mll/glue", "stsb"] = Dataset.from_dict(scores)
    assert [e.label for e in load("glue/stsb").tests["dev"]] == [0.0, 1.5, 2.0, 3.0, 4.0, 5.0]


def test_languages(hub):
    for language in ("en", "de"):
        numbered = pairs(("sentence1", "sentence2"), ["0", "1"]).add_column("id", list(range(5, 17)))
        hub["google-research-datasets/paws-x", language] = numbered
        hub["facebook/xnli", language] = pairs(("premise", "hypothesis"), ["entailment", "neutral", "contradiction"])
    pawsx = load("pawsx", languages=["en", "de"], train_languages=["en"])
    assert list(pawsx.tests) == ["en", "de", "all"] and len(pawsx.train) == len(pawsx.select) == 12
    assert pawsx.tests["en"][3].group == pawsx.tests["de"][3].group and pawsx.tests["en"][1].label == 1
    assert pawsx.tests["en"][3].id == "en-test-8"  # the id of the official files
    xnli = load("xnli", languages=["de"])
    assert {e.language for e in xnli.train} == {"en"} and list(xnli.tests) == ["de"]


def test_entities(hub):
    hub["eriktks/conll2003", "conll2003"] = hub["Babelscape/wikineural", None] = tagged()
    assert load("conll2003").train[0].label == (1, 0)
    data = load("wikineural", languages=["it"])
    assert data.train[0].words == ("Anna", "sings") and data.train[0].language == "it"
    assert ("Babelscape/wikineural", None, "train_it") in hub["asked"]


def test_own_recipes_may_name_a_set_of_the_hub(hub):
    hub["some/set", None] = pairs(("body", "other"), ["neg", "pos"])
    columns = {"text": "body", "label": "label"}
    data = load("custom", kind="classification", files={"train": "hub:some/set:train"}, columns=columns)
    assert data.task.labels == ("neg", "pos")
    with pytest.raises(RecipeError, match="is not hub:OWNER/NAME:SPLIT"):
        load("custom", kind="classification", files={"train": "hub:some/set"}, columns=columns)


def test_an_unreachable_hub_says_what_to_do(hub):
    with pytest.raises(
        DataError, match=r"'nyu-mll/glue' \(rte, train\) could not be had .*Couldn't reach.* Give task\.path"
    ):
        load("glue/rte")


def test_offline_without_a_copy_is_the_same_error():
    with pytest.raises(DataError, match=r"Give task\.path with the folder of the downloaded files"):
        load("glue/rte")
