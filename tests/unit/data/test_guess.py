"""What init takes files for: each layout that the reader reads, guessed, and then read by the guess."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pytest

from understudy.base.errors import DataError, RecipeError
from understudy.data.guess import guess_files
from understudy.data.tasks import load_task
from understudy.recipe.settings import TaskSettings

WORDS = "river stone lantern paper garden winter letter copper window harbour".split()


def sentence(i: int) -> str:
    picked = random.Random(i)
    return " ".join(picked.choice(WORDS) for _ in range(picked.randint(4, 12))) + f" {i}"


def rows(number: int, **columns) -> list[dict]:
    return [{name: value(i) for name, value in columns.items()} for i in range(number)]


def write_csv(path, made, delimiter=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as stream:
        out = csv.DictWriter(stream, list(made[0]), delimiter=delimiter)
        out.writeheader()
        out.writerows(made)
    return str(path)


def write_json(path, made):
    path.write_text("\n".join(json.dumps(row) for row in made), encoding="utf-8")
    return str(path)


def guessed(*names):
    """The guess, after it was seen to load."""
    found = guess_files(names)
    return found, load_task(TaskSettings.model_validate(found.task), seed=0)


MOODS = ["calm", "cross", "glad"]
PLAIN = rows(60, row_id=lambda i: 900 + i, body=sentence, mood=lambda i: MOODS[i % 3])


@pytest.mark.parametrize("form", ["csv", "semicolon", "tsv", "cp1252", "utf16", "jsonl", "list", "gz", "parquet", "dataset"])
def test_classes_in_every_format(tmp_path, form):
    made = [dict(row) for row in PLAIN]
    if form == "csv":
        name = write_csv(tmp_path / "mine.csv", made)
    elif form == "semicolon":
        name = write_csv(tmp_path / "mine.csv", made, delimiter=";")
    elif form == "tsv":
        name = write_csv(tmp_path / "mine.tsv", made, delimiter="\t")
    elif form in ("cp1252", "utf16"):
        made[3]["body"] = "the café at the harbour"
        name = write_csv(tmp_path / "mine.csv", made, encoding={"cp1252": "cp1252", "utf16": "utf-16"}[form])
    elif form == "jsonl":
        name = write_json(tmp_path / "mine.jsonl", made)
    elif form == "list":
        (tmp_path / "mine.json").write_text(json.dumps(made))
        name = str(tmp_path / "mine.json")
    elif form == "gz":
        plain = write_csv(tmp_path / "plain.csv", made)
        name = str(tmp_path / "mine.csv.gz")
        with gzip.open(name, "wb") as stream:
            stream.write(Path(plain).read_bytes())
    else:
        import datasets

        table = datasets.Dataset.from_list(made)
        name = str(tmp_path / ("mine.parquet" if form == "parquet" else "mine"))
        table.to_parquet(name) if form == "parquet" else table.save_to_disk(name)
    found, data = guessed(name)
    assert found.task["kind"] == "classification"
    assert found.task["columns"] == {"text": "body", "label": "mood", "id": "row_id"}
    assert data.task.labels == ("calm", "cross", "glad")
    assert "calm (33 %)" in found.why["kind"]


def test_files_get_their_roles_by_name_and_a_folder_stands_for_its_files(tmp_path):
    for name, number in (("train-0", 30), ("train-1", 33), ("valid", 12), ("test", 9)):
        write_csv(tmp_path / f"{name}.csv", [{"text": row["body"], "label": row["mood"]} for row in PLAIN[:number]])
    found, data = guessed(str(tmp_path))
    assert [len(found.task["files"]["train"]), len(data.train), len(data.select), len(data.tests["test"])] == [2, 63, 12, 9]
    write_csv(tmp_path / "more.csv", [{"text": "x y", "label": "calm"}])
    with pytest.raises(RecipeError, match=r"--data train=.*more\.csv"):
        guess_files([str(tmp_path)])
    found = guess_files([f"train={tmp_path / 'more.csv'}", f"test={tmp_path / 'train-0.csv'}"])
    assert found.task["files"] == {"train": str(tmp_path / "more.csv"), "test": str(tmp_path / "train-0.csv")}


def test_a_folder_of_splits(tmp_path):
    import datasets

    names = datasets.ClassLabel(names=MOODS)
    table = datasets.Dataset.from_list([{"text": row["body"], "label": MOODS.index(row["mood"])} for row in PLAIN])
    table = table.cast_column("label", names)
    splits = datasets.DatasetDict(train=table, validation=table.select(range(9)), test=table.select(range(12)))
    splits.save_to_disk(str(tmp_path / "d"))
    _, data = guessed(str(tmp_path / "d"))
    assert [len(data.train), len(data.select), len(data.tests["test"]), data.task.labels] == [60, 9, 12, tuple(MOODS)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("premise", "hypothesis"), ("premise", "hypothesis")),
        (("#1 String", "#2 String"), ("#1 String", "#2 String")),
        (("question1", "question2"), ("question1", "question2")),
        (("text_a", "text_b"), ("text_a", "text_b")),
        (("query", "passage"), ("query", "passage")),
    ],
)
def test_pairs_by_the_names_of_their_columns(tmp_path, names, expected):
    made = rows(40, **{names[0]: sentence, names[1]: lambda i: sentence(i + 99), "same": lambda i: i % 2})
    found, data = guessed(write_csv(tmp_path / "pairs.csv", made))
    assert (found.task["columns"]["text"], found.task["columns"]["pair"]) == expected
    assert data.task.pair and found.task["columns"]["label"] == "same"


def test_two_texts_with_other_names_are_not_a_pair_and_it_is_said(tmp_path):
    made = rows(40, title=sentence, abstract=lambda i: sentence(i + 99), field=lambda i: "xy"[i % 2])
    found, data = guessed(write_csv(tmp_path / "papers.csv", made))
    assert not data.task.pair and found.task["columns"]["label"] == "field"
    assert any("pair:" in note for note in found.notes)


def test_numbers(tmp_path):
    made = rows(60, sentence1=sentence, sentence2=lambda i: sentence(i + 1), score=lambda i: (i * 7 % 26) / 5)
    found, data = guessed(write_csv(tmp_path / "similar.csv", made))
    assert data.task.kind == "regression" and "from 0 to 5" in found.why["kind"]
    made = rows(60, review=sentence, stars=lambda i: i % 5 + 1)
    found, data = guessed(write_csv(tmp_path / "stars.csv", made))
    assert data.task.kind == "classification" and "regression would use their order" in found.why["kind"]


@pytest.mark.parametrize("form", ["lists", "literals", "separated", "columns"])
def test_several_labels(tmp_path, form):
    tags = ["red", "blue", "old", "new"]

    def chosen(i):
        return [tag for j, tag in enumerate(tags) if i >> j & 1] or ["red"]

    made = rows(60, text=sentence)
    for i, row in enumerate(made):
        if form == "columns":
            row |= {tag: float(tag in chosen(i)) for tag in tags}
        else:
            row["tags"] = {"lists": chosen(i), "literals": str(chosen(i)), "separated": "; ".join(chosen(i))}[form]
    name = write_json(tmp_path / "m.jsonl", made) if form == "lists" else write_csv(tmp_path / "m.csv", made)
    found, data = guessed(name)
    assert found.task["kind"] == "multilabel" and sorted(data.task.labels) == sorted(tags)
    read = [row.label for row in [*data.train, *data.select, *data.tests["test"]]]
    assert sum(map(sum, read)) == sum(len(chosen(i)) for i in range(60))


@pytest.mark.parametrize("form", ["lists", "spaces", "rows", "conll", "text"])
def test_words_with_tags(tmp_path, form):
    def words(i):
        return sentence(i).split()

    def tags(i):
        return ["B-PER" if word == "stone" else "O" for word in words(i)]

    if form == "lists":
        name = write_json(tmp_path / "n.jsonl", rows(40, tokens=words, ner_tags=tags))
    elif form == "spaces":
        name = write_csv(tmp_path / "n.csv", rows(40, words=lambda i: " ".join(words(i)), tags=lambda i: " ".join(tags(i))))
    elif form == "rows":
        made = [{"sentence": i, "word": w, "tag": t} for i in range(40) for w, t in zip(words(i), tags(i), strict=True)]
        name = write_csv(tmp_path / "n.csv", made)
    else:
        lines = "\n\n".join("\n".join(map(" ".join, zip(words(i), tags(i), strict=True))) for i in range(40))
        name = str(tmp_path / ("n.conll" if form == "conll" else "n.txt"))
        Path(name).write_text(lines + "\n")
    found, data = guessed(name)
    assert found.task["kind"] == "tokens" and data.task.labels == ("O", "B-PER", "I-PER")
    assert len(data.train) + len(data.select) + len(data.tests["test"]) == 40


def test_dates_addresses_and_lopsided_columns_are_no_labels(tmp_path):
    made = rows(
        60, message=sentence, desk=lambda i: "xyz"[i % 3], created=lambda i: f"2024-05-0{i % 7 + 1}",
        by=lambda i: f"{'ab'[i % 2]}@x.org",
        seen=lambda i: "no" if i == 7 else "yes",
        at=lambda i: f"1{i % 2}:30",
    )  # fmt: skip
    found, data = guessed(write_csv(tmp_path / "m.csv", made))
    assert found.task["columns"]["label"] == "desk" and data.task.labels == ("x", "y", "z")


def test_no_labels_at_all_and_labels_for_some(tmp_path):
    found, data = guessed(write_csv(tmp_path / "plain.csv", rows(40, text=sentence, url=lambda i: f"http://x/{i}")))
    assert found.task["kind"] == "text" and "language model" in found.why["kind"]
    (tmp_path / "plain.txt").write_text("\n".join(map(sentence, range(40))))
    assert guessed(str(tmp_path / "plain.txt"))[0].task["kind"] == "text"
    made = rows(90, text=sentence, label=lambda i: MOODS[i % 3] if i % 2 else "")
    found, data = guessed(write_csv(tmp_path / "some.csv", made))
    assert data.task.kind == "classification" and "50 % of the rows have none" in found.why["columns.label"]


def test_a_first_line_that_is_a_row_is_refused_and_numbered_columns_are_not(tmp_path):
    (tmp_path / "bare.tsv").write_text("".join(f"x{i}\t{i % 2}\t*\t{sentence(i)}\n" for i in range(30)))
    with pytest.raises(DataError, match=r"line 1: this looks like a row.*Put a line with names above it"):
        guess_files([str(tmp_path / "bare.tsv")])
    found, _ = guessed(write_csv(tmp_path / "frame.csv", rows(40, **{"0": sentence, "1": lambda i: "ab"[i % 2]})))
    assert found.task["columns"] == {"text": "0", "label": "1"}


def test_nothing_that_looks_like_a_text_is_an_error(tmp_path):
    with pytest.raises(DataError, match="looks like a text"):
        guess_files([write_csv(tmp_path / "numbers.csv", rows(20, a=lambda i: i, b=lambda i: i % 2))])
