"""Promise R6: what is wrong with a command, a recipe, a file or a model is said in a sentence, with the right exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys

HEAD = "body,mood\n"
GOOD = "good the door,glad\nbad the lamp,sad\n" * 8


class World:
    """A copy of the toy recipe and its files, to be spoilt."""

    def __init__(self, folder: Path, recipe: dict[str, Any], checkpoint: Path, data: Path) -> None:
        self.folder = folder
        self.data = Path(shutil.copytree(data, folder / "data"))
        self.model = Path(shutil.copytree(checkpoint, folder / "model"))
        self.recipe = json.loads(json.dumps(recipe))
        self.recipe["task"]["files"] = {name: str(self.data / f"{name}.csv") for name in ("train", "dev", "test")}
        self.recipe["teacher"]["model"] = str(self.model)
        self.overrides: list[str] = []

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.data / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def use(self, name: str, content: str | bytes, **task: Any) -> None:
        self.recipe["task"]["files"]["train"] = str(self.write(name, content))
        self.recipe["task"].update(task)


@pytest.fixture
def world(tmp_path: Path, toy_recipe, toy_checkpoint, toy_csv) -> World:
    return World(tmp_path, toy_recipe, toy_checkpoint, toy_csv)


def unknown_key(world: World) -> None:
    world.recipe["train"]["epoch"] = 3


def wrong_type(world: World) -> None:
    world.recipe["train"]["epochs"] = "many"


def wrong_override(world: World) -> None:
    world.overrides = ["train.lr=fast"]


def no_recipe(world: World) -> None:
    world.overrides = ["--recipe"]


def label_outside_the_set(world: World) -> None:
    world.recipe["task"]["labels"] = ["glad", "grim"]


def label_only_in_test(world: World) -> None:
    world.write("test.csv", HEAD + GOOD + "the chair is,furious\n")


def missing_column(world: World) -> None:
    world.recipe["task"]["columns"]["label"] = "moood"


def ragged_row(world: World) -> None:
    world.use("train.tsv", "body\tmood\ngood the door\tglad\nbad\tthe lamp\tsad\n")


def empty_file(world: World) -> None:
    world.use("train.csv", "")


def only_a_header(world: World) -> None:
    world.use("train.csv", HEAD)


def another_encoding(world: World) -> None:
    world.use("train.csv", (HEAD + GOOD + "schön,glad\n").encode("latin-1"))


def utf_16(world: World) -> None:
    world.use("train.csv", (HEAD + GOOD).encode("utf-16"))


def a_nul_byte(world: World) -> None:
    world.use("train.csv", HEAD + GOOD + "a\0b,glad\n")


def broken_json_line(world: World) -> None:
    world.use("train.jsonl", '{"body": "good", "mood": "glad"}\n{"body": "bad", "mood": \n')


def not_parquet(world: World) -> None:
    world.use("train.parquet", b"PAR1 this is not a parquet file PAR1")


def no_such_file(world: World) -> None:
    world.recipe["task"]["files"]["dev"] = str(world.data / "nowhere.csv")


def one_class_only(world: World) -> None:
    world.use("train.csv", HEAD + "good the door,glad\n" * 8)


def a_number_that_is_none(world: World) -> None:
    world.use("train.csv", "body,mood\ngood,1.5\nbad,high\n", kind="regression")
    world.recipe["task"]["columns"]["label"] = "mood"


def other_label_sets(world: World) -> None:
    teacher = toys.save_checkpoint(world.folder / "teacher", head="BertForSequenceClassification")
    config = json.loads((teacher / "config.json").read_text())
    config |= {"id2label": {"0": "red", "1": "blue"}, "label2id": {"red": 0, "blue": 1}}
    (teacher / "config.json").write_text(json.dumps(config))
    world.recipe["teacher"] = {"model": str(teacher)}


def pickle_only(world: World) -> None:
    (world.model / "model.safetensors").rename(world.model / "pytorch_model.bin")


def code_of_its_own(world: World) -> None:
    config = json.loads((world.model / "config.json").read_text())
    (world.model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling.Model"}}))


def unreachable_hub(world: World) -> None:
    world.recipe["teacher"]["model"] = "nobody/no-such-model"


def task_of_the_hub(world: World) -> None:
    world.recipe["task"] = {"name": "glue/rte"}


def truncated_weights(world: World) -> None:
    path = world.model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def no_tokenizer(world: World) -> None:
    (world.model / "tokenizer.json").unlink()


def damaged_tokenizer(world: World) -> None:
    (world.model / "tokenizer.json").write_text('{"version": "1.0"')


def no_such_layer(world: World) -> None:
    world.recipe["student"] = {"keep": [0, 7]}


def unknown_metric(world: World) -> None:
    world.recipe["task"]["select"] = "f7"


CASES: list[tuple[Callable[[World], None], int, list[str]]] = [
    (unknown_key, 2, ["recipe.json", "train.epoch", "epochs"]),
    (wrong_type, 2, ["recipe.json", "train.epochs", "many"]),
    (wrong_override, 2, ["command line", "train.lr", "fast"]),
    (no_recipe, 2, ["command line", "--recipe"]),
    (no_such_layer, 2, ["student", "7"]),
    (unknown_metric, 2, ["task.select", "f7", "accuracy"]),
    (label_outside_the_set, 3, ["train.csv", "'sad'", "glad, grim"]),
    (label_only_in_test, 3, ["test.csv", "'furious'", "18"]),
    (missing_column, 3, ["train.csv", "moood", "mood"]),
    (ragged_row, 3, ["train.tsv", "3"]),
    (empty_file, 3, ["train.csv", "empty"]),
    (only_a_header, 3, ["train.csv"]),
    (another_encoding, 3, ["train.csv", "utf-8", "encoding"]),
    (utf_16, 3, ["train.csv", "utf-8", "encoding"]),
    (a_nul_byte, 3, ["train.csv", "18"]),
    (broken_json_line, 3, ["train.jsonl", "2"]),
    (not_parquet, 3, ["train.parquet"]),
    (no_such_file, 3, ["nowhere.csv"]),
    (one_class_only, 3, ["dev.csv", "line 3", "'sad'", "task.labels"]),
    (a_number_that_is_none, 3, ["train.csv", "'high'", "3"]),
    (other_label_sets, 3, ["teacher.model", "'red'", "'glad'"]),
    (truncated_weights, 3, ["model.safetensors", "damaged"]),
    (no_tokenizer, 3, ["teacher.model", "tokenizer"]),
    (damaged_tokenizer, 3, ["teacher.model", "tokenizer"]),
    (unreachable_hub, 3, ["teacher.model", "nobody/no-such-model", "folder"]),
    (task_of_the_hub, 3, ["glue", "rte", "Hub", "task.path"]),
    (pickle_only, 4, ["pytorch_model.bin", "convert"]),
    (code_of_its_own, 4, ["auto_map", "trust_remote_code"]),
]


@pytest.mark.parametrize(("spoil", "code", "words"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_sentence_names_place_and_remedy(spoil, code, words, world: World, launcher):
    spoil(world)
    path = world.folder / "recipe.json"
    path.write_text(json.dumps(world.recipe))
    run = world.folder / "run"
    ended = launcher.run("train", path, *world.overrides, "--out", run, home=world.folder / "home")
    assert ended.code == code, ended.err
    assert not ended.traceback and not (run / "crash.txt").exists()
    message = ended.err.strip().splitlines()[-1] if code != 2 else ended.err
    assert all(word in message for word in words), message
    assert ended.out == ""


def test_nothing_is_left_behind_by_a_refused_run(world: World, launcher):
    """So that the same folder serves once the mistake is mended."""
    missing_column(world)
    path = world.folder / "recipe.json"
    path.write_text(json.dumps(world.recipe))
    command = ("train", path, "--out", world.folder / "run")
    assert launcher.run(*command, home=world.folder / "home").code == 3
    world.recipe["task"]["columns"]["label"] = "mood"
    path.write_text(json.dumps(world.recipe))
    ended = launcher.run(*command, home=world.folder / "home")
    assert ended.code == 0, ended.err
