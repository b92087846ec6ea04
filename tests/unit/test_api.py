"""The Python page: rows of every form come to the same run as the command's, and refusals say what to do."""

from __future__ import annotations

import json
import random

import datasets
import pandas as pd
import pytest
import toys
from runs import digest

import understudy
from understudy import DataError, Distilled, RecipeError
from understudy.api import _teaches
from understudy.data.memory import guessed, table_in_memory
from understudy.recipe.load import load_recipe
from understudy.run import train

ROWS = toys.sentences(160)
TEXTS, MOODS = [text for text, _ in ROWS], [mood for _, mood in ROWS]
QUICK = {
    "train.precision": "fp32", "train.batch_size": 16, "evaluate.bootstrap": 20, "evaluate.latency.repeats": 3,
    "evaluate.latency.length": 16,
}  # fmt: skip


@pytest.fixture
def distil(toy_checkpoint, understudy_home, tmp_path):
    """`understudy.distil` on toys: a second or two a run."""

    def call(train, *, teacher=None, out=tmp_path / "run", **changes):
        given = {"student": 1, "epochs": 2, "lr": 1e-2, "max_length": 32, "settings": QUICK} | changes
        if teacher is None:
            given = {"finetune": {"epochs": 2}} | given
        return understudy.distil(teacher or str(toy_checkpoint), train, out=out, **given)

    return call


@pytest.fixture(scope="module")
def run(toy_checkpoint, tmp_path_factory):
    """A run from two lists that learnt its task."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_HOME", str(tmp_path_factory.mktemp("home")))
        return understudy.distil(
            str(toy_checkpoint), (TEXTS, MOODS), test=(TEXTS[:40], MOODS[:40]), student=1, finetune={"epochs": 6}, epochs=12,
            lr=1e-2, max_length=32, out=tmp_path_factory.mktemp("api") / "run",
            settings=QUICK | {"objective": {"hard": 1.0, "soft": 1.0}},
        )  # fmt: skip


def test_two_lists(run, tmp_path):
    assert set(run.scores) == {"teacher", "baseline", "student"}
    assert run.scores["student"]["test"]["accuracy"] == run.result["student"]["metrics"]["test"]["accuracy"]["value"] > 0.8
    answers = run.predict(TEXTS[:40])
    right = sum(answer["label"] == mood for answer, mood in zip(answers, MOODS, strict=False)) / 40
    assert right == pytest.approx(run.scores["student"]["test"]["accuracy"])  # what was scored answers
    assert run.predict(TEXTS[0]) == answers[0]
    assert run.predict(pd.DataFrame({"body": TEXTS[:3]}), text="body") == answers[:3]
    lines = tmp_path / "rows.txt"
    lines.write_text("\n".join(TEXTS[:3]))
    assert run.predict(lines) == answers[:3]
    assert run.verdict in repr(run) and run.report.is_file() and run.student.is_dir()


@pytest.mark.slow
def test_it_is_the_command_s_run(run, tmp_path, monkeypatch):
    """The recipe it left, run as the command runs it, leads to the same student to the last byte."""
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    train(load_recipe(run.folder / "config.yaml"), tmp_path / "again")
    assert digest(tmp_path / "again" / "student") == digest(run.student)
    assert Distilled(tmp_path / "again").scores == run.scores


def test_saved(run, tmp_path):
    from transformers import AutoModelForSequenceClassification

    saved = run.save(tmp_path / "mine")
    assert digest(saved) == digest(run.student)
    assert AutoModelForSequenceClassification.from_pretrained(saved).config.num_hidden_layers == 1
    run.save(tmp_path / "mine")  # a student may be replaced, other things not
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    with pytest.raises(RecipeError, match="is not a student"):
        run.save(tmp_path / "letters")
    assert (run.save(tmp_path / "hf", form="hf") / "structure.json").is_file()


def test_in_a_notebook(run):
    page = run._repr_html_()
    assert page.startswith("<iframe srcdoc=") and page.count('"') == 6  # the page's own quotes cannot end the attribute
    assert "What to do next" in page or "Scores" in page


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"text": TEXTS, "label": MOODS}),
        datasets.Dataset.from_dict({"text": TEXTS, "label": MOODS}),
        datasets.Dataset.from_dict(
            {"text": TEXTS, "label": [int(mood == "sad") for mood in MOODS]},
            features=datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["glad", "sad"])),
        ),
        {"text": TEXTS, "label": MOODS},
        [{"text": text, "label": mood} for text, mood in ROWS],
        (pd.Series(TEXTS), pd.Series(MOODS)),
    ],
    ids=["frame", "dataset", "class-labels", "columns", "dictionaries", "series"],
)
def test_every_form_is_the_same_table(rows):
    table = table_in_memory(rows, "train")
    assert guessed(table) == {"kind": "classification", "columns": {"text": "text", "label": "label"}}
    assert table.column("text") == TEXTS and table.column("label") == MOODS


@pytest.mark.parametrize(
    ("labels", "kind"),
    [([1, 0, 2, 1], "classification"), (["a", "b", "a", "b"], "classification"), ([0.5, 1.0, 2.0, 0.1], "regression"),
     ([1.0, 0.0, None, 1.0], "classification"), ([["a"], [], ["a", "b"], ["b"]], "multilabel")],
)  # fmt: skip
def test_the_kind_is_seen_by_the_labels(labels, kind):
    table = table_in_memory((["one text", "two texts", "three texts", "four"] * 5, labels * 5), "train")
    assert guessed(table, text="text", label="label") == {"kind": kind, "columns": {"text": "text", "label": "label"}}


def test_known_columns_are_kept_and_others_guessed():
    table = table_in_memory({"text": ["x y"] * 20, "body": TEXTS[:20], "mood": MOODS[:20], "b": [1, 0] * 10}, "train")
    assert guessed(table, text="body", label="mood")["columns"] == {"text": "body", "label": "mood"}
    assert guessed(table, text="body", label=["mood", "b"]) == {
        "kind": "multilabel", "columns": {"text": "body", "label": ["mood", "b"]}
    }  # fmt: skip
    assert guessed(table, label="mood")["columns"] == {"text": "text", "label": "mood"}


def test_a_frame_and_what_its_columns_are_called(distil):
    frame = pd.DataFrame({"nr": range(160), "body": TEXTS, "mood": MOODS, "note": [float("nan")] * 160})
    run = distil(frame, text="body", label="mood")
    assert load_recipe(run.folder / "config.yaml").task.columns.text == "body"
    assert "nr" not in (run.folder / "rows" / "train.jsonl").read_text()  # only what is used lies beside the run


@pytest.mark.slow
def test_a_dataset_with_its_splits(distil):
    def part(rows):
        return datasets.Dataset.from_dict({"text": [text for text, _ in rows], "label": [mood for _, mood in rows]})

    splits = datasets.DatasetDict(train=part(ROWS[:100]), validation=part(ROWS[100:130]), test=part(ROWS[130:]))
    assert distil(splits).result["task"]["tests"] == {"test": 30}


@pytest.mark.slow
def test_files_stay_where_they_are(distil, toy_csv):
    run = distil(str(toy_csv / "train.csv"), test={"one": str(toy_csv / "test.csv"), "two": (TEXTS, MOODS)}, text="body",
                 label="mood")  # fmt: skip
    assert run.result["task"]["tests"] == {"one": 50, "two": 160}


def test_pairs_and_numbers(distil):
    draw = random.Random(0)
    pairs = [(text, draw.choice(TEXTS)) for text in TEXTS[:80]]
    run = distil((pairs, [len(one.split()) / 3 for one, _ in pairs]))
    assert run.result["task"]["kind"] == "regression"
    first = run.predict(pairs[0])
    assert isinstance(first["value"], float) and run.predict(pairs[:2])[0] == first
    with pytest.raises(DataError, match="pair"):
        run.predict("one text alone")


def test_words_and_tags(distil):
    words = [text.split() for text in TEXTS[:80]]
    tags = [["B-MOOD" if word in toys.GLAD + toys.SAD else "O" for word in sentence] for sentence in words]
    run = distil((words, tags))
    assert run.result["task"]["kind"] == "tokens"
    assert [len(answer["words"]) for answer in run.predict(words[:3])] == [len(sentence) for sentence in words[:3]]


def test_a_teacher_in_memory_teaches_rows_without_labels(distil, tmp_path):
    net = toys.bert(seed=3)
    net.config.id2label, net.config.label2id = {0: "glad", 1: "sad"}, {"glad": 0, "sad": 1}
    known = {"test": (TEXTS[:30], MOODS[:30]), "dev": (TEXTS[30:60], MOODS[30:60])}
    unlabelled = TEXTS[60:]
    run = distil(unlabelled, teacher=(net, toys.tokenizer()), **known)
    assert run.result["task"]["labels"] == ["glad", "sad"] and not run.result["baseline"]
    assert load_recipe(run.folder / "config.yaml").teacher.finetune is None  # it has these labels already
    with pytest.raises(RecipeError, match="another teacher"):
        distil(unlabelled, teacher=(toys.bert(seed=4), toys.tokenizer()), finetune=False, **known)


def test_the_teacher_s_head_decides_whether_it_is_fine_tuned():
    head = {"architectures": ["BertForSequenceClassification"]}
    named = head | {"id2label": {"0": "glad", "1": "sad", "2": "other"}}
    assert _teaches(named, "classification", {"sad", "glad"}) and not _teaches(named, "classification", {"a", "b"})
    assert _teaches(head, "classification", {"a", "b"}) and not _teaches(head, "classification", {"a", "b", "c"})
    assert not _teaches({"architectures": ["BertModel"]}, "classification", {"a", "b"})
    assert not _teaches(named, "tokens", {"glad"})


def test_the_same_call_finds_its_run_again(distil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = distil((TEXTS, MOODS), out=None)
    before = {name: digest(first.folder / name) for name in ("steps", "student", "rows")}
    assert first.folder.parent.name == "runs"
    assert distil((TEXTS, MOODS), out=None).folder == first.folder
    with pytest.raises(RecipeError, match="other rows"):
        distil((TEXTS[1:], MOODS[1:]), out=first.folder)
    with pytest.raises(RecipeError, match=r"train\.epochs"):
        distil((TEXTS, MOODS), out=first.folder, epochs=3)
    assert {name: digest(first.folder / name) for name in before} == before  # a refusal changes nothing


@pytest.mark.parametrize(
    ("train", "changes", "message"),
    [
        ((TEXTS, MOODS[1:]), {}, r"160 in 'text', 159 in 'label'"),
        ("the text itself", {}, "the text itself"),
        ([("one", "glad", 1)], {}, r"two lists: \(texts, labels\)"),
        (pd.DataFrame({"a": [1, 2], "mood": [0, 1]}), {}, "looks like a text"),
        ({"text": TEXTS, "label": MOODS}, {"text": "txet"}, "Did you mean 'text'"),
        ({"text": TEXTS, "moods": MOODS}, {"label": "mood"}, "Did you mean 'moods'"),
        ((TEXTS, MOODS), {"student": True}, "student: expected a number of layers"),
        ((TEXTS, MOODS), {"student": 9}, "9"),
        ((TEXTS, MOODS), {"settings": {"train.epoch": 2}}, "epoch"),
        ((TEXTS, MOODS), {"teacher": 3}, "teacher: expected a name"),
        ((TEXTS, ["glad"] * 160), {}, "glad"),
        ([], {}, "no rows"),
    ],
)
def test_refusals_read_well(distil, tmp_path, train, changes, message):
    with pytest.raises(understudy.UnderstudyError, match=message) as refused:
        distil(train, **changes)
    assert "\n" not in str(refused.value).strip() or "train.epoch" in str(refused.value)
    assert not (tmp_path / "run" / "steps").exists()


def test_rows_lie_beside_the_run(run):
    first = json.loads((run.folder / "rows" / "train.jsonl").read_text().splitlines()[0])
    assert first == {"text": TEXTS[0], "label": MOODS[0]}
