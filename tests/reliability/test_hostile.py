"""Promises R10 to R14: files of unknown origin run no code, leave no folder, inject nothing, take no for ever; secrets
stay out of what a run writes."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

CANARY = "canary-4f9d1c"


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.fixture
def model(toy_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_checkpoint, tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def pickled(model: Path, mark: Path) -> str:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    return "pytorch_model.bin"


def code_of_its_own(model: Path, mark: Path) -> str:
    (model / "modeling.py").write_text(f"open({str(mark)!r}, 'w')\n")
    edit(model / "config.json", auto_map={"AutoModelForSequenceClassification": "modeling.Model"})
    return "auto_map"


def code_of_the_tokenizer(model: Path, mark: Path) -> str:
    (model / "tokenization.py").write_text(f"open({str(mark)!r}, 'w')\n")
    edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization.Tokenizer", None]})
    return "auto_map"


def nested_trust(model: Path, mark: Path) -> str:
    edit(model / "config.json", text_config={"inner": {"trust_remote_code": True}})
    return "trust_remote_code"


def fetched_attention(model: Path, mark: Path) -> str:
    edit(model / "config.json", _attn_implementation_internal="somebody/kernel")
    return "_attn_implementation_internal"


def index_out_of_the_folder(model: Path, mark: Path) -> str:
    secret = model.parent / "secret"
    secret.mkdir()
    (model / "model.safetensors").rename(secret / "x.safetensors")
    index = {"weight_map": {"bert.pooler.dense.bias": "../secret/x.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return "../secret/x.safetensors"


def link_out_of_the_folder(model: Path, mark: Path) -> str:
    (model / "model.safetensors").rename(model.parent / "outside.safetensors")
    (model / "model.safetensors").symlink_to(model.parent / "outside.safetensors")
    return "model.safetensors is a link"


@pytest.mark.parametrize(
    "trap",
    [pickled, code_of_its_own, code_of_the_tokenizer, nested_trust, fetched_attention, index_out_of_the_folder,
     link_out_of_the_folder],
)  # fmt: skip
def test_a_hostile_model_is_refused_before_anything_of_it_runs(trap, model, train, tmp_path: Path):
    mark = tmp_path / "mark"
    named = trap(model, mark)
    ended = train(f"teacher.model={model}")
    assert ended.code == 4, ended.err
    assert named in ended.err and not ended.traceback
    assert not mark.exists()


def test_a_header_of_absurd_size(model, train):
    (model / "model.safetensors").write_bytes((1 << 63).to_bytes(8, "little") + b"{}")
    ended = train(f"teacher.model={model}")
    assert ended.code == 3 and "model.safetensors is damaged" in ended.err and not ended.traceback


RECIPES = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "depth": "task: " + "[" * 100_000,
    "python": "task: !!python/object/apply:os.system ['touch mark']\n",
    "size": "# " + "x" * 20_000_000,
    "nul": "task: demo/intent\0\n",
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_refused_at_once(name, launcher, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPES[name])
    ended = launcher.run("train", path, "--out", tmp_path / "run", home=tmp_path / "home", cwd=tmp_path)
    assert ended.code == 2, ended.err
    assert str(path) in ended.err and not ended.traceback
    assert ended.cpu < 2.0
    assert not (tmp_path / "mark").exists() and not (tmp_path / "run").exists()


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and attributes that run code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


EVIL = [
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "</style><svg onload=alert(1)>", "{{7*7}}",
    "<a href='javascript:alert(1)'>x</a>", "=HYPERLINK(\"x\")", "\x1b[31mred\x07", "</script><b>",
]  # fmt: skip


def test_labels_and_texts_of_the_data_stay_text(reference, launcher, toy_recipe, tmp_path: Path):
    labels = ["<img src=x onerror=alert(2)>", "--- \nname: evil"]
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "dev", "test"):
        with open(data / f"{name}.csv", "w", newline="") as handle:
            rows = csv.writer(handle)
            rows.writerow(["body", "mood"])
            rows.writerows([f"{EVIL[i % len(EVIL)]} good {i}", labels[i % 2]] for i in range(48))
    files = {name: str(data / f"{name}.csv") for name in ("train", "dev", "test")}
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({**toy_recipe, "task": {**toy_recipe["task"], "files": files}}))
    run = tmp_path / "run"
    ended = launcher.run("train", recipe, "--out", run, home=tmp_path / "home")
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.err + ended.out

    text, plain = (folder.joinpath("report.html").read_text() for folder in (run, reference.run))
    page, harmless = Page(text), Page(plain)
    assert "onerror" in text and "&lt;img" in text  # it is shown
    assert not page.handlers
    # Which rows the two models disagree about differs, and with it whether there is a list of them.
    assert set(page.tags) <= set(harmless.tags) | {"th", "td", "tr", "ol", "li", "blockquote"}
    assert page.tags.count("script") == harmless.tags.count("script")
    assert "Content-Security-Policy" in text

    from ruamel.yaml import YAML

    head = (run / "student" / "README.md").read_text().split("---\n")[1]
    assert "name" not in YAML(typ="safe").load(head)  # the label did not become a line of the card


def test_secrets_and_places_of_this_machine_stay_out(launcher, toy_recipe, toy_checkpoint, toy_csv, tmp_path: Path):
    home = tmp_path / f"home-{CANARY}"
    shutil.copytree(toy_checkpoint, home / "models" / "toy")
    shutil.copytree(toy_csv, home / "data")
    files = {name: f"data/{name}.csv" for name in ("train", "dev", "test")}
    recipe = {**toy_recipe, "task": {**toy_recipe["task"], "files": files}}
    recipe["teacher"] = {**recipe["teacher"], "model": "models/toy"}
    (home / "recipe.json").write_text(json.dumps(recipe))
    names = ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "USER", "LOGNAME")
    environment = {name: f"{CANARY}-{name}" for name in names} | {"HOME": str(home)}
    ended = launcher.run(
        "train", "recipe.json", "--out", "run", home=home / ".cache" / "understudy", cwd=home, env=environment
    )
    assert ended.code == 0, ended.err
    written = [path for folder in (home / "run", home / ".cache") for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 50
    assert [str(path) for path in written if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in ended.err + ended.out


def test_a_crash_keeps_the_home_folder_out(launcher, recipe_file, tmp_path: Path):
    """crash.txt is made to be sent to us."""
    home = tmp_path / f"home-{CANARY}"
    home.mkdir()
    ended = launcher.run(
        "train", recipe_file, "--out", home / "run", home=home / "store", env={"HOME": str(home)},
        bug="understudy.run.training:_train_models",
    )  # fmt: skip
    assert ended.code == 1 and not ended.traceback
    crash = (home / "run" / "crash.txt").read_text()
    assert "Traceback" in crash and CANARY not in crash
