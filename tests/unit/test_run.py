"""What can be done with a run afterwards: which rows it is scored on, and that everything reads as it was scored."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import toys

from understudy.base import yaml
from understudy.base.errors import DataError, RecipeError, VerifyError
from understudy.recipe.load import recipe_from
from understudy.run import evaluate_folder, predict, train, verify, write_report

WORDS = ("good", "bad", "day", "fine", "lamp", "desk")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on texts of 3 to 30 words, cut at 12 tokens."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for name, number in (("train", 40), ("test", 12)):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            out = csv.writer(stream, delimiter=";")
            out.writerow(("no", "body", "mood"))
            for i in range(number):
                body = " ".join(rng.choice(WORDS, size=rng.integers(3, 30)))
                out.writerow((f"{name}/{i}", body, ("glad", "sad")[i % 2]))
    model = toys.save_checkpoint(folder / "model")
    recipe = recipe_from(
        {
            "task": {
                "name": "custom", "kind": "classification", "delimiter": ";", "max_length": 12,
                "columns": {"text": "body", "label": "mood", "id": "no"},
                "files": {"train": str(folder / "train.csv"), "test": str(folder / "test.csv")},
            },
            "student": str(model), "method": "finetune", "train": {"epochs": 1, "lr": 1e-3, "precision": "fp32"},
            "evaluate": {"bootstrap": 10, "latency": {"length": 8, "repeats": 3}},
        }
    )  # fmt: skip
    train(recipe, folder / "run")
    return folder


def _written(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def recipe_of(run: Path, *, train: dict[str, Any] | None = None, evaluate: dict[str, Any] | None = None, **task: Any):
    data = yaml.parse((run / "run" / "config.yaml").read_text(), "config").data
    for name, section in (("task", task), ("train", train or {}), ("evaluate", evaluate or {})):
        data[name] = {**data[name], **section}
    return recipe_from(data)


def test_eval_scores_the_rows_that_were_asked_for_or_nothing(run: Path, tmp_path: Path):
    files = recipe_of(run).task.files
    assert files is not None
    rows = (run / "test.csv").read_text()

    def scored(content: str) -> dict[str, Any]:
        named = {"train": files.train, "test": _written(tmp_path / "asked.csv", content)}
        return evaluate_folder(run / "run", recipe_of(run, files=named))

    assert scored(rows) == evaluate_folder(run / "run", recipe_of(run))
    assert scored("\n".join(rows.splitlines()[:6]))["rows"] == {"test": 5}
    with pytest.raises(DataError, match="no column 'mood'.* Did you mean 'Mood'"):
        scored(rows.replace("mood", "Mood", 1))
    with pytest.raises(DataError, match="no column 'mood'"):
        scored("no;body\n1;good day\n")
    with pytest.raises(DataError, match="line 2, column 'mood': the label is missing"):
        scored("no;body;mood\n1;good day;\n")
    with pytest.raises(DataError, match="'calm' is not in the label set"):
        scored("no;body;mood\n1;good day;calm\n")


def test_rows_that_were_held_out_are_scored_only_while_they_are_the_same(tmp_path: Path):
    """Without a test file these are rows of train, and the seed and the file say which."""
    folder = toys.save_csv(tmp_path / "data")
    model = toys.save_checkpoint(tmp_path / "model", head="BertForSequenceClassification")

    def recipe(seed: int, **task: Any):
        own = {"name": "custom", "kind": "classification", "columns": {"text": "body", "label": "mood"}, "select": "loss"}
        files = {"train": str(folder / "train.csv")}
        short = {"train": {"epochs": 1}, "evaluate": {"bootstrap": 10, "latency": {"length": 8, "repeats": 3}}}
        return recipe_from(
            {"seed": seed, "task": {**own, "files": files, **task}, "student": str(model), "method": "finetune", **short}
        )

    def scores(seed: int, **task: Any) -> dict[str, float]:
        return evaluate_folder(model, recipe(seed, **task))["metrics"]["test"]

    assert scores(1, split_seed=0) == scores(0) != scores(1)
    train(recipe(0), tmp_path / "run")
    evaluate_folder(tmp_path / "run", recipe(0))
    for other in (recipe(1), recipe(0, max_train_examples=20)):
        with pytest.raises(DataError, match="held out of its training file, and these are others now"):
            evaluate_folder(tmp_path / "run", other)
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="these are others now"):
        evaluate_folder(tmp_path / "run", recipe(0))


def test_everything_that_reads_reads_what_was_scored(run: Path, monkeypatch: pytest.MonkeyPatch):
    """The same rows, most of them too long, through eval, predict, the stock pipeline, the card's code and ONNX."""
    pytest.importorskip("onnxruntime")
    from transformers import pipeline

    from understudy.export import export_folder

    with (run / "test.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=";"))
    answers = list(predict(run / "run", str(run / "test.csv")))
    assert [answer["row"] for answer in answers] == [row["no"] for row in rows]
    cut = [answer.get("cut", False) for answer in answers]
    assert cut == [len(row["body"].split()) > 10 for row in rows] and 0 < sum(cut) < len(cut)
    accuracy = np.mean([answer["label"] == row["mood"] for answer, row in zip(answers, rows, strict=True)])
    assert evaluate_folder(run / "run", recipe_of(run))["metrics"]["test"]["accuracy"] == pytest.approx(accuracy)
    said = [answer["probabilities"][answer["label"]] for answer in answers]

    bodies = [row["body"] for row in rows]
    for folder in ("run/student", *(f"{form}" for form in ("hf", "padded", "exact"))):
        place = run / folder
        if not place.exists():
            export_folder(run / "run", folder, out=place)
        made = pipeline("text-classification", model=str(place), truncation=True)(bodies)
        assert [one["label"] for one in made] == [answer["label"] for answer in answers]
        assert [one["score"] for one in made] == pytest.approx(said, abs=1e-5)
        assert [answer["row"] for answer in predict(place, str(run / "test.csv"))] == [row["no"] for row in rows]

    code = re.search(r"```python\n(.*?)```", (run / "run" / "student" / "README.md").read_text(), re.DOTALL)
    assert code is not None
    used: dict[str, Any] = {}
    monkeypatch.chdir(run / "run" / "student")
    exec(code[1], used)
    assert [one["score"] for one in used["answer"](bodies)] == pytest.approx(said, abs=1e-5)

    import onnxruntime
    import tokenizers

    graph = run / "onnx"
    export_folder(run / "run", "onnx", out=graph)
    config = json.loads((graph / "config.json").read_text())
    tokenizer = tokenizers.Tokenizer.from_file(str(graph / "tokenizer.json"))
    tokenizer.enable_truncation(config["max_length"], direction=config["truncation_side"])
    tokenizer.enable_padding(pad_id=config["pad_token_id"])
    encoded = tokenizer.encode_batch(bodies)
    names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    inputs = {name: np.array([getattr(row, names[name]) for row in encoded]) for name in config["inputs"]}
    logits = onnxruntime.InferenceSession(str(graph / "model.onnx")).run(None, inputs)[0]
    assert [config["id2label"][str(i)] for i in logits.argmax(-1)] == [answer["label"] for answer in answers]


def test_predict_reads_the_layout_of_its_run_unless_told_otherwise(run: Path, tmp_path: Path):
    first = next(predict(run / "run", str(run / "test.csv")))
    other = _written(tmp_path / "o.csv", (run / "test.csv").read_text().replace(";", ",").replace("body", "words"))
    assert next(predict(run / "run", str(other), overrides=["task.delimiter=','"], columns={"text": "words"})) == first
    with pytest.raises(DataError, match="no column 'body'"):
        next(predict(run / "run", str(other)))
    longer = list(predict(run / "run", str(run / "test.csv"), overrides=["task.max_length=40"]))
    assert not any(answer.get("cut") for answer in longer)
    with pytest.raises(RecipeError, match="was trained for classification, not for tokens"):
        next(predict(run / "run", str(other), overrides=["task.kind=tokens"]))


def test_a_refused_command_leaves_a_finished_run_finished(run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run / "run", copy)
    before = verify(copy)
    with pytest.raises(RecipeError, match=r"train\.lr was 0\.001"):
        train(recipe_of(run, train={"lr": 1e-2}), copy)
    with pytest.raises(RecipeError, match="More epochs cannot be added to these"):
        train(recipe_of(run, train={"epochs": 3}), copy)
    assert verify(copy) == before
    rows = (run / "train.csv").read_text()
    try:
        (run / "train.csv").write_text(rows + "train/40;good day;glad\n")
        with pytest.raises(RecipeError, match=r"different rows than its files hold now \(.*train\.csv.*train had 32 rows"):
            train(recipe_of(run), copy)
    finally:
        (run / "train.csv").write_text(rows)
    assert verify(copy) == before
    result = train(recipe_of(run, evaluate={"bootstrap": 20, "latency": {"length": 6, "repeats": 3}}), copy)
    assert result["student"]["latency_ms"]["length"] == 6 and verify(copy)["files"] == before["files"]


def test_rows_of_train_in_test_are_left_out_of_a_second_score(toy_checkpoint, toy_csv, tmp_path: Path, capsys):
    """The second score is that of a file with the other rows alone."""
    recipe = runs.recipe(toy_checkpoint, toy_csv)
    header, *new = (toy_csv / "test.csv").read_text().splitlines()
    old = (toy_csv / "train.csv").read_text().splitlines()[1:8]
    for name, lines in (("mixed", [*new[:5], *old, *new[5:9], old[0]]), ("new", new[:9])):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    recipe["task"]["files"]["test"] = str(tmp_path / "mixed.csv")
    result = train(recipe_from(recipe), tmp_path / "run")
    apart = result["new_rows"]["test"]
    asked = recipe_from(recipe, [f"task.files.test={tmp_path / 'new.csv'}"])
    alone = evaluate_folder(tmp_path / "run", asked)
    assert apart["rows"] == 9 and set(apart["models"]) == {"teacher", "baseline", "student"}
    assert {name: one["value"] for name, one in apart["models"]["student"].items()} == pytest.approx(alone["metrics"]["test"])
    said = capsys.readouterr().err
    assert "8 of 17 rows of test (7 different texts) stand in train" in said and "On the 9 rows that do not, accuracy is" in said
    assert "On the 9 rows that do not" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    "course",
    [["train.schedule=constant", "train.warmup=0.0"], pytest.param(["train.planned_epochs=5"], marks=pytest.mark.slow)],
)
def test_more_epochs_go_on_from_a_finished_run_as_if_they_had_been_asked_for_at_once(
    toy_checkpoint, toy_csv, tmp_path: Path, course, capsys
):
    def made(epochs: int, folder: Path) -> dict[str, Any]:
        own = ["train.lr=1e-3", "task.select=loss", "train.checkpoint_steps=null", f"train.epochs={epochs}", *course]
        return train(recipe_from(runs.recipe(toy_checkpoint, toy_csv), own), folder)

    def student(name: str) -> bytes:
        return (tmp_path / name / "student" / "model.safetensors").read_bytes()

    def weights(name: str) -> list[Any]:
        lines = (tmp_path / name / "steps" / "student" / "metrics.jsonl").read_text().splitlines()
        return [row["weights"] for row in map(json.loads, lines) if "weights" in row]

    made(2, tmp_path / "longer")
    first = student("longer")
    capsys.readouterr()
    result = made(4, tmp_path / "longer")
    assert "4 epochs in place of 2" in capsys.readouterr().err
    at_once = made(4, tmp_path / "whole")
    assert student("longer") == student("whole")
    best = json.loads((tmp_path / "whole" / "steps" / "student" / "done.json").read_text())["best_step"]
    assert (student("longer") != first) == (best > 2 * 13)  # 13 steps an epoch; in one of the two courses it gets better
    assert weights("longer") == weights("whole") and len(weights("whole")) == 4
    for name in ("teacher", "baseline", "student"):
        assert result[name]["metrics"] == at_once[name]["metrics"]
    verify(tmp_path / "longer")
    made(4, tmp_path / "longer")  # finished: nothing is done again
    assert student("longer") == student("whole")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "the learning rate came to its end"),
        ({"schedule": "constant", "warmup": 0.1}, "the learning rate came to its end"),
        ({"schedule": "constant", "warmup": 0.0, "time_limit": 100.0}, "train.time_limit"),
    ],
)
def test_more_epochs_are_refused_where_they_would_not_be_exact(run: Path, tmp_path: Path, settings, why):
    train(recipe_of(run, train=settings), tmp_path / "run")
    before = verify(tmp_path / "run")
    with pytest.raises(RecipeError, match=rf"as if they had been asked for at once: {why}.*student="):
        train(recipe_of(run, train={**settings, "epochs": 2}), tmp_path / "run")
    with pytest.raises(RecipeError, match=r"more than that changes \(train.lr was"):
        train(recipe_of(run, train={**settings, "epochs": 2, "lr": 1e-2}), tmp_path / "run")
    assert verify(tmp_path / "run") == before


def test_a_report_is_made_of_what_was_written_or_not_at_all(run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run / "run", copy)
    write_report(copy)
    verify(copy)
    for name in ("result.json", "details.json"):
        kept = (copy / name).read_bytes()
        for damaged in ("{}", "[]", "null", "[" * 100_000):
            (copy / name).write_text(damaged)
            with pytest.raises(VerifyError, match=name.replace(".", r"\.")):
                write_report(copy)
        (copy / name).write_bytes(kept)
    verify(copy)


def test_eval_gives_the_intervals_of_the_run_and_a_task_of_ones_own_has_a_name(toy_checkpoint, toy_csv, tmp_path: Path):
    recipe = recipe_from(runs.recipe(toy_checkpoint, toy_csv), ["task.name=custom/moods", "evaluate.baseline=false"])
    result = train(recipe, tmp_path / "run")
    scored = evaluate_folder(tmp_path / "run", recipe)
    assert scored["intervals"]["test"]["accuracy"] == pytest.approx(result["student"]["metrics"]["test"]["accuracy"])
    assert result["task"]["name"] == "moods"
    assert "for moods" in (tmp_path / "run" / "student" / "README.md").read_text()
    assert "moods" in (tmp_path / "run" / "report.html").read_text()
    assert next(predict(tmp_path / "run" / "student", str(toy_csv / "test.csv")))["label"]
