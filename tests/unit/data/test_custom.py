from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from understudy.base.errors import DataError, RecipeError
from understudy.data.custom import load_tests
from understudy.data.tasks import load_task

ONE = {"text": "body", "label": "mood"}


def csv(*rows: str, head: str = "body,mood") -> str:
    return "\n".join((head, *rows)) + "\n"


GLAD_OR_SAD = csv(*["good day,glad", "bad day,sad"] * 10)


def load(task, seed: int = 0):
    return load_task(task, seed=seed)


def test_classification_with_a_labelled_test_file_selects_on_dev(write, custom):
    for name in ("train", "dev", "test"):
        write(f"{name}.csv", GLAD_OR_SAD)
    files = {name: f"{name}.csv" for name in ("train", "dev", "test")}
    data = load(custom("classification", columns=ONE, files=files))
    assert data.task.labels == ("glad", "sad") and data.task.metrics == ("accuracy", "f1") and not data.task.pair
    assert (len(data.train), len(data.select), len(data.tests["test"])) == (20, 20, 20)
    assert [e.label for e in data.train[:2]] == [0, 1] and data.train[0].text == "good day"
    assert data.digest() == load(custom("classification", columns=ONE, files=files)).digest()
    assert data.digest() != load(custom("classification", columns=ONE, files=files, labels=["sad", "glad"])).digest()


def test_which_rows_select_and_which_are_reported(write, custom):
    for name in ("train", "dev", "test"):
        write(f"{name}.csv", GLAD_OR_SAD)

    def sizes(files: dict, **keys):
        data = load(custom("classification", columns=ONE, files=files, **keys))
        return len(data.train), len(data.select), {name: len(part) for name, part in data.tests.items()}

    train, dev, test = ({name: f"{name}.csv"} for name in ("train", "dev", "test"))
    assert sizes(train) == (13, 3, {"test": 4})  # both held out of train
    assert sizes(train | dev) == (16, 4, {"dev": 20})
    assert sizes(train | test) == (16, 4, {"test": 20})
    assert sizes(train | dev | {"test": {"a": "test.csv", "b": "dev.csv"}}) == (20, 20, {"a": 20, "b": 20})
    assert sizes(train | dev | test, selection=0.5) == (10, 10, {"test": 20})
    assert sizes(train | dev | test, max_train_examples=6) == (6, 20, {"test": 20})
    with pytest.raises(RecipeError, match="selection: dev would select on the rows that are reported on"):
        sizes(train | dev, selection="dev")


def test_an_unlabelled_test_file_is_not_reported_on(write, custom):
    write("train.csv", GLAD_OR_SAD)
    write("dev.csv", GLAD_OR_SAD)
    for content in ("body\ngood\n", "body,mood\ngood,\n"):
        write("test.csv", content)
        task = custom("classification", columns=ONE, files={"train": "train.csv", "dev": "dev.csv", "test": "test.csv"})
        data = load(task)
        assert list(data.tests) == ["dev"] and any("test.csv has no labels" in note for note in data.notes)


def test_pairs_ids_groups_and_unused_columns(write, custom):
    rows = [f"{i},s{i // 2},one {i},two {i},{'yn'[i % 2]},x" for i in range(20)]
    write("train.csv", csv(*rows, head="key,source,a,b,same,extra"))
    columns = {"text": "a", "pair": "b", "label": "same", "id": "key", "group": "source"}
    data = load(custom("classification", columns=columns))
    assert data.task.pair and data.task.labels == ("n", "y")
    first = next(e for e in data.train + data.select + data.tests["test"] if e.id == "3")
    assert (first.text, first.pair, first.group) == ("one 3", "two 3", "s1")
    for part in (data.select, data.tests["test"]):
        assert {e.group for e in part}.isdisjoint(e.group for e in data.train)
    assert any("not used: extra" in note for note in data.notes)
    write("train.csv", csv("1,s,a,b,y,", "1,s,a,b,n,", head="key,source,a,b,same,extra"))
    with pytest.raises(DataError, match="line 3, column 'key': the id '1' is that of line 2 too"):
        load(custom("classification", columns=columns))


def test_regression(write, custom):
    write("train.csv", csv(*[f"text {i},{i / 4}" for i in range(20)]))
    data = load(custom("regression", columns=ONE))
    assert data.task.labels == () and data.task.select == "pearson"
    assert sorted(e.label for e in data.train + data.select + data.tests["test"]) == [i / 4 for i in range(20)]
    for cell, says in (("warm", "'warm' is not a number"), ("nan", "the score is nan")):
        write("train.csv", csv("a,1", f"b,{cell}"))
        with pytest.raises(DataError, match=f"line 3, column 'mood': .*{says}"):
            load(custom("regression", columns=ONE))


def test_rows_without_labels_are_learnt_from_and_never_held_out(write, custom):
    write("train.csv", csv(*["good day,glad", "bad day,sad", "some day,"] * 10))
    data = load(custom("classification", columns=ONE))
    assert sum(row.label is None for row in data.train) == 10
    assert all(row.label is not None for row in [*data.select, *data.tests["test"]])
    assert any("10 of" in note and "training rows have no label" in note for note in data.notes)
    assert {row.label for row in data.labelled().train} == {0, 1}
    write("test.csv", csv("good,"))
    with pytest.raises(DataError, match=r"test\.csv, line 2, column 'mood': the label is missing"):
        load_tests(custom("classification", columns=ONE, files={"train": "train.csv", "test": "test.csv"}), ("glad", "sad"))
    write("bare.csv", "body\ngood\nbad\n")
    write("dev.csv", GLAD_OR_SAD)
    files = {"train": "bare.csv", "dev": "dev.csv", "test": "dev.csv"}
    bare = load(custom("classification", columns=ONE, files=files, labels=["glad", "sad"]))
    assert [row.label for row in bare.train] == [None, None] and "No training row has a label" in " ".join(bare.notes)
    with pytest.raises(DataError, match="no training row has a label to learn from"):
        bare.labelled()
    with pytest.raises(DataError, match="so none can be held out"):
        load(custom("classification", columns=ONE, files={"train": "bare.csv"}, labels=["glad", "sad"]))
    with pytest.raises(DataError, match="no column 'mood'"):
        load(custom("classification", columns=ONE, files=files))


def test_labels_are_mapped_as_the_recipe_says(write, custom):
    write("train.csv", csv(*["a,1", "b,2", "c,5"] * 10))
    data = load(custom("classification", columns=ONE, label_map={1: "bad", 2: "bad", 5: "good"}))
    assert data.task.labels == ("bad", "good") and {row.text: row.label for row in data.train} == {"a": 0, "b": 0, "c": 1}
    write("train.csv", csv(*["a,r|b", "b,b", "c,"] * 10))
    assert load(custom("multilabel", columns=ONE, label_map={"r": "red", "b": "blue"})).task.labels == ("blue", "red")
    write("train.jsonl", "\n".join([json.dumps({"w": ["Anna", "sings"], "t": [0, 1]})] * 10))
    columns = {"words": "w", "tags": "t"}
    data = load(custom("tokens", files={"train": "train.jsonl"}, columns=columns, label_map={0: "NOUN", 1: "VERB"}))
    assert data.task.labels == ("NOUN", "VERB") and data.task.select == "accuracy"


def test_tags_that_are_numbers_and_tags_that_are_no_entities(write, custom):
    write("train.jsonl", "\n".join([json.dumps({"w": ["Anna", "sings", "in", "Rome"], "t": [1, 0, 0, 3]})] * 10))
    task = {"files": {"train": "train.jsonl"}, "columns": {"words": "w", "tags": "t"}}
    data = load(custom("tokens", **task, labels=["PER", "LOC"]))
    assert data.task.labels == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC") and data.train[0].label == (1, 0, 0, 3)
    listed = load(custom("tokens", **task, labels=["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]))
    assert listed.train[0].label == (1, 0, 0, 3) and listed.task.labels[1] == "B-LOC"
    with pytest.raises(DataError, match="the tags are numbers .*task.labels"):
        load(custom("tokens", **task))
    write("train.txt", "Anna NOUN\nsings VERB\n\n" * 10)
    data = load(custom("tokens", files={"train": "train.txt"}))
    assert data.task.labels == ("NOUN", "VERB") and data.task.metrics == ("accuracy", "macro_f1")
    write("train.txt", "Anna B-PER\nsings VERB\n\n" * 10)
    with pytest.raises(DataError, match="line 2: the tag 'VERB' has no scheme"):
        load(custom("tokens", files={"train": "train.txt"}))


def test_a_word_in_each_row(write, custom):
    rows = [row for i in range(12) for row in (f"s{i},Anna,B-PER", ",sings,O", ",.,O")]
    write("train.csv", csv(*rows, head="sentence,word,tag"))
    columns = {"words": "word", "tags": "tag", "group": "sentence"}
    data = load(custom("tokens", columns=columns))
    every = [*data.train, *data.select, *data.tests["test"]]
    assert len(every) == 12 and {row.words for row in every} == {("Anna", "sings", ".")}
    write("train.csv", csv(*(row.replace(",", f"s{i // 3},", 1) if row[0] == "," else row for i, row in enumerate(rows)),
                           head="sentence,word,tag"))  # fmt: skip
    assert load(custom("tokens", columns=columns)).digest() == data.digest()
    with pytest.raises(DataError, match="each row holds one word. Name the column"):
        load(custom("tokens", columns={"words": "word", "tags": "tag"}))


def test_files_as_they_lie_around(write, custom, tmp_path):
    import gzip

    whole = load(custom("classification", columns=ONE, files={"train": str(write("a.csv", GLAD_OR_SAD))}))
    lines = GLAD_OR_SAD.splitlines()[1:]
    objects = [{"body": line.split(",")[0], "mood": line.split(",")[1]} for line in lines]
    write("one.json", "\n".join(map(json.dumps, objects)))
    write("list.json", json.dumps(objects, indent=1))
    write("under.json", json.dumps({"version": 1, "data": objects}))
    write("a.csv.gz", gzip.compress(GLAD_OR_SAD.encode()))
    write("excel.csv", "sep=;\nbody;mood;;\n" + "".join(f"{line.replace(',', ';')};;\n" for line in lines) + ";;;\n")
    write("part1.csv", csv(*lines[:7]))
    write("part2.csv", csv(*lines[7:], head="body,mood"))
    for file in ("one.json", "list.json", "under.json", "a.csv.gz", "excel.csv", "part*.csv", ["part1.csv", "part2.csv"]):
        assert load(custom("classification", columns=ONE, files={"train": file})).digest() == whole.digest(), file
    excel = load(custom("classification", columns=ONE, files={"train": "excel.csv"})).notes
    assert [note.partition(": ")[2][:14] for note in excel[:2]] == ["1 rows without", "2 columns with"]
    with pytest.raises(DataError, match=r"no file is called like '.*nothing\*\.csv'"):
        load(custom("classification", columns=ONE, files={"train": "nothing*.csv"}))
    with pytest.raises(DataError, match=r"part2\.csv, line 2: 3 cells"):
        write("part2.csv", csv("a,b,c"))
        load(custom("classification", columns=ONE, files={"train": "part*.csv"}))


def test_folders_and_shards_of_datasets_keep_the_names_of_their_classes(custom, tmp_path):
    import datasets

    made = datasets.Dataset.from_dict(
        {"body": ["001", "NA", ""] * 10, "mood": [0, 1, 0] * 10},
        features=datasets.Features({"body": datasets.Value("string"), "mood": datasets.ClassLabel(names=["sad", "glad"])}),
    )
    made.save_to_disk(str(tmp_path / "folder"))
    datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "splits"))
    for i in range(2):
        made.shard(2, i, contiguous=True).to_parquet(str(tmp_path / f"train-{i}.parquet"))
    for file in ("folder", "splits/train", "train-*.parquet"):
        data = load(custom("classification", columns=ONE, files={"train": file}))
        assert data.task.labels == ("glad", "sad"), file
        assert {(row.text, row.label) for row in data.train} == {("001", 1), ("NA", 0), ("", 1)}
    with pytest.raises(DataError, match=r"holds the splits train; name one, as in .*splits/train"):
        load(custom("classification", columns=ONE, files={"train": "splits"}))


def test_multilabel_in_one_cell_in_lists_and_in_columns(write, custom):
    write("train.csv", csv(*["a,red|blue", "b,", "c, blue "] * 5))
    data = load(custom("multilabel", columns=ONE))
    assert data.task.labels == ("blue", "red")
    assert {e.text: e.label for e in data.train} == {"a": (1, 1), "b": (0, 0), "c": (1, 0)}
    cells = [["red", "blue"], [], ["blue"]] * 5
    write("train.jsonl", "\n".join(json.dumps({"body": "x", "mood": cell}) for cell in cells))
    listed = load(custom("multilabel", columns=ONE, files={"train": "train.jsonl"}))
    assert listed.task.labels == ("blue", "red") and {e.label for e in listed.train} == {(1, 1), (0, 0), (1, 0)}
    write("train.csv", csv(*["a,1,0", "b,0,1"] * 5, head="body,red,blue"))
    columns = {"text": "body", "label": ["red", "blue"]}
    assert load(custom("multilabel", columns=columns)).task.labels == ("red", "blue")
    write("train.csv", csv(*["a,1.0,0.0", "b,0.0,1.0"] * 5, head="body,red,blue"))
    assert {e.text: e.label for e in load(custom("multilabel", columns=columns)).train} == {"a": (1, 0), "b": (0, 1)}
    write("train.csv", csv(*["a,\"['red', 'blue']\"", "b,[]", "c,['blue']"] * 5))
    assert load(custom("multilabel", columns=ONE)).task.labels == ("blue", "red")
    write("train.csv", csv("a,1,0", "b,0,2", head="body,red,blue"))
    with pytest.raises(DataError, match="line 3, column 'blue': '2' is neither 0 nor 1"):
        load(custom("multilabel", columns=columns))
    with pytest.raises(RecipeError, match="a list of columns is for kind multilabel"):
        load(custom("classification", columns=columns))


def test_tags_in_conll_columns(write, custom):
    write("train.txt", "Anna I-PER\nsings O\n\nRome I-CITY\n\n" * 5)
    data = load(custom("tokens", files={"train": "train.txt"}))
    assert data.task.labels == ("O", "B-CITY", "I-CITY", "B-PER", "I-PER")
    assert {e.label for e in data.train} == {(3, 0), (1,)}
    write("new.txt", "Anna\nsings\n")
    tested = load(custom("tokens", files={"train": "train.txt", "test": {"old": "train.txt", "new": "new.txt"}}))
    assert list(tested.tests) == ["old"] and any("new.txt has no labels" in note for note in tested.notes)
    for files in ({"train": "new.txt"}, {"train": "train.txt", "dev": "new.txt"}):
        with pytest.raises(DataError, match=r"new\.txt has words but no tags"):
            load(custom("tokens", files=files))
    with pytest.raises(RecipeError, match=r"columns\.words: CoNLL files have no header"):
        load(custom("tokens", files={"train": "train.txt"}, columns={"words": "token"}))
    write("none.txt", "Anna O\nsings O\n\n" * 9)
    with pytest.raises(DataError, match="no word of the training rows has a tag but O"):
        load(custom("tokens", files={"train": "none.txt"}))


def test_tags_in_tables(write, custom):
    columns = {"words": "w", "tags": "t"}
    lines = [{"w": ["Anna", "sings"], "t": ["B-PER", "O"]}] * 10
    write("train.jsonl", "\n".join(map(json.dumps, lines)))
    data = load(custom("tokens", files={"train": "train.jsonl"}, columns=columns, labels=["PER", "LOC"]))
    assert data.task.labels == ("O", "B-PER", "I-PER", "B-LOC", "I-LOC") and data.train[0].label == (1, 0)
    write("train.tsv", "w\tt\n" + "Anna sings\tB-PER O\n" * 10)
    assert load(custom("tokens", files={"train": "train.tsv"}, columns=columns)).train[0].words == ("Anna", "sings")
    write("train.tsv", "w\tt\nAnna sings\tB-PER O\nAnna sings\tO\n")
    with pytest.raises(DataError, match="line 3: 2 words but 1 tags"):
        load(custom("tokens", files={"train": "train.tsv"}, columns=columns))
    write("train.tsv", "w\tt\nAnna sings\tB-PER O\n \tO\n")
    with pytest.raises(DataError, match="line 3, column 'w': expected a list of words"):
        load(custom("tokens", files={"train": "train.tsv"}, columns=columns))


def test_plain_text_is_one_passage_a_line(write, custom):
    write("train.txt", "one line, with a comma\n\n \ntwo\n" * 10)
    data = load(custom("text", files={"train": "train.txt"}))
    assert data.task.labels == () and data.task.select == "loss"
    assert len(data.train) + len(data.select) + len(data.tests["test"]) == 20
    assert any("20 blank lines are left out" in note for note in data.notes)
    write("train.csv", csv(*["one,x", "two,y"] * 5))
    assert load(custom("text", columns={"text": "body"})).train[0].text in ("one", "two")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (("good,glad", "good,glad"), "all 1 training rows have the label 'glad'; at least two"),
        (("good,glad", "bad,"), "line 3, column 'mood': the label is missing"),
        (("good,glad", "bad,sad,x"), "line 3: 3 cells where the header has 2"),
    ],
)
def test_bad_classification_rows(write, custom, rows, says):
    write("train.csv", csv(*rows))
    write("dev.csv", csv(*rows))
    with pytest.raises(DataError, match=says):
        load(custom("classification", columns=ONE, files={"train": "train.csv", "dev": "dev.csv"}))


def test_labels_outside_the_set_name_the_nearest(write, custom):
    write("train.csv", GLAD_OR_SAD)
    write("test.csv", csv("fine,gladd"))
    files = {"train": "train.csv", "test": "test.csv"}
    with pytest.raises(
        DataError, match=r"test\.csv, line 2, column 'mood': 'gladd' is not in the label set. Did you mean 'glad'"
    ):
        load(custom("classification", columns=ONE, files=files))
    data = load(custom("classification", columns=ONE, labels=["glad", "sad", "calm"]))
    assert "No training row has the label 'calm'." in data.notes


def test_number_labels_are_in_order_of_their_values(write, custom):
    write("train.jsonl", "\n".join(json.dumps({"body": "x", "mood": i}) for i in [2, 10, 1.0] * 5))
    assert load(custom("classification", columns=ONE, files={"train": "train.jsonl"})).task.labels == ("1", "2", "10")


def test_missing_things(write, custom):
    write("train.csv", GLAD_OR_SAD)
    with pytest.raises(
        DataError, match=r"no column 'boddy' \(asked for by task\.columns\.text\)\. Did you mean 'body'"
    ):
        load(custom("classification", columns={"text": "boddy", "label": "mood"}))
    with pytest.raises(RecipeError, match=r"task\.columns\.label is missing"):
        load(custom("classification", columns={"text": "body"}))
    with pytest.raises(DataError, match=r"Looked for trian\.csv; found train\.csv"):
        load(custom("classification", columns=ONE, files={"train": "trian.csv"}))
    with pytest.raises(RecipeError, match=r"task\.select: there is no metric 'acuracy' .* Did you mean 'accuracy'"):
        load(custom("classification", columns=ONE, select="acuracy"))
    assert load(custom("classification", columns=ONE, select="mcc")).task.metrics == ("mcc", "accuracy", "f1")


def test_texts_must_be_texts_and_empty_ones_are_counted(write, custom):
    write("train.jsonl", '{"body": "a", "mood": "x"}\n{"body": 3, "mood": "y"}\n')
    with pytest.raises(DataError, match="line 2, column 'body': expected a text, got 3"):
        load(custom("classification", columns=ONE, files={"train": "train.jsonl"}))
    write("train.jsonl", '{"body": "a", "mood": "x"}\n{"mood": "y"}\n')
    with pytest.raises(DataError, match="line 2, column 'body': the text is missing"):
        load(custom("classification", columns=ONE, files={"train": "train.jsonl"}))
    write("train.csv", csv(*["good,glad", ",sad"] * 5))
    assert any("5 rows have an empty text" in note for note in load(custom("classification", columns=ONE)).notes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["classification", "regression", "multilabel", "text"]),
    at=st.integers(0, 80),
    gone=st.integers(0, 2),
    put=st.sampled_from(['"', "\n", "\r", "\x00", ",", "nan", "1e999", "|", "\ud800", "é", ""]),
)
def test_a_damaged_file_is_loaded_or_refused_in_a_sentence(write, custom, kind, at, gone, put):
    whole = csv(*[f"text {i},{i % 3}" for i in range(9)])
    write("train.csv", (whole[:at] + put + whole[at + gone :]).encode("utf-8", "surrogatepass"))
    try:
        data = load(custom(kind, columns=ONE))
    except DataError as error:
        assert "train.csv" in str(error) or "training rows" in str(error)
    else:
        assert data.train and data.select and data.tests["test"] and len(data.digest()) == 32


def test_task_names_are_those_of_the_recipe():
    from understudy.data.tasks import TASK_NAMES
    from understudy.recipe.settings import TASK_NAMES as OF_THE_RECIPE

    assert set(TASK_NAMES) == set(OF_THE_RECIPE)


def test_reading_data_loads_no_heavy_package():
    code = (
        "import sys, understudy.data.tasks; print({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules))"
    )
    source = Path(__file__).resolve().parents[3] / "src"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "set()"


def test_metrics_exist_in_the_evaluation():
    import numpy as np

    from understudy.data.types import Task
    from understudy.evaluate.metrics import compute
    from understudy.evaluate.predictions import Predictions

    one = {
        "classification": (np.eye(2), np.array([0, 1])),
        "multilabel": (np.ones((2, 2)), np.ones((2, 2))),
        "tokens": ([[1], [0]], [[1], [0]]),
        "regression": (np.array([0.0, 1.0]), np.array([0.0, 1.0])),
        "text": (np.array([1.0, 2.0]), np.array([1, 2])),
    }
    for kind, (scores, gold) in one.items():
        labels = ("O", "B-X") if kind == "tokens" else ("a", "b")
        task = Task("t", kind, labels)
        task = dataclasses.replace(task, metrics=task.kind.metrics)
        assert set(compute(task, Predictions(["1", "2"], scores, gold))) == set(task.kind.metrics)
