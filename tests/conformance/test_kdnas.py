"""KD-NAS from recipes to students: the published settings on tiny models of the same architectures, tasks of several
kinds, students that start from their teacher, workers that join, kills and resumption of a whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import tiny_models
import torch
import transformers

from understudy.base import disk
from understudy.base.errors import RecipeError
from understudy.check import check, exit_code
from understudy.data.tasks import load_task
from understudy.methods.kdnas.page import rank_correlation
from understudy.methods.kdnas.space import Architecture, as_config
from understudy.methods.kdnas.warm_start import chosen_neurons, start_from_teacher
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.recipe.load import load_recipe, recipe_from
from understudy.run import train, verify
from understudy.students.fresh import fresh

RECIPES = Path(__file__).parents[2] / "recipes"
PAPER = sorted((RECIPES / "paper").glob("kdnas-*.yaml"))
SMALL = {"layers": [1, 2], "heads": [2, 4], "hidden": [16, 32], "intermediate": [24, 48], "activations": ["gelu"]}


def recipe_of(folder: Path, kind: str, family: str = "bert", *, head: str | None = None, **method: Any) -> dict[str, Any]:
    head = head or ("text" if kind == "text" else "backbone")
    model = checkpoints.save_checkpoint(folder / "model", family, head=head, num_hidden_layers=2)
    mini = {"epochs": 2, "lr": 3e-3, "batch_size": 16, "proxy": 0.7}
    return {
        "task": checkpoints.task_settings(folder / "data", kind),
        "teacher": {"model": str(model), **({} if kind == "text" else {"finetune": {"epochs": 1}})},
        "method": {"name": "kdnas", "episodes": 2, "candidates": 2, "space": SMALL, "mini_kd": mini, **method},
        "train": {"epochs": 2, "batch_size": 16, "lr": 3e-3, "precision": "fp32"},
        "evaluate": {"bootstrap": 10, "latency": {"repeats": 3, "length": 8}},
    }


def found(run: Path) -> dict[str, Any]:
    return json.loads((run / "steps" / "search" / "done.json").read_text())["value"]


def pareto_of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Who nobody beats in quality, latency and size together, the best quality first; written out literally."""
    done = [row for row in rows if row["state"] == "complete"]
    costs = [(-row["quality"], row["latency_ms"], row["parameters"]) for row in done]
    free = [one for one in range(len(done)) if not any(
        other != costs[one] and all(a <= b for a, b in zip(other, costs[one], strict=True)) for other in costs
    )]  # fmt: skip
    names = ("layers", "heads", "hidden", "intermediate", "activation", "quality", "latency_ms", "parameters", "value")
    return [tuple(done[one][name] for name in names) for one in sorted(free, key=lambda one: costs[one])]


def test_the_three_published_settings_are_there():
    assert [path.stem for path in PAPER] == ["kdnas-albert", "kdnas-bert", "kdnas-roberta"]
    for path in PAPER:
        recipe = load_recipe(path)
        assert recipe.student.searched and recipe.teacher is not None
        assert recipe.method.name == "kdnas" and recipe.method.space.preset == "kdnas-paper"
        branch = "refactor" if "bert" in path.stem and "ro" not in path.stem and "al" not in path.stem else "main"
        assert recipe.method.parity == branch and recipe.objective.terms()["two_layers"].model_dump()["mapping"] == "group_first"
        assert (recipe.train.lr, recipe.train.batch_size) == (5e-5, 32 if branch == "refactor" else 8)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_check_accepts_them_and_they_run_end_to_end(path, tmp_path, understudy_home):
    family = path.stem.removeprefix("kdnas-")
    model = checkpoints.save_checkpoint(tmp_path / "model", family, head="text", num_hidden_layers=2)
    files = checkpoints.task_settings(tmp_path / "data", "text")["files"]
    tiny = [
        f"task.files.train={files['train']}", f"teacher.model={model}", "train.epochs=1", "method.episodes=2",
        "method.candidates=2", "method.mini_kd.epochs=1", "task.max_length=30",
        "method.space={layers: [1, 2], heads: [2, 4], hidden: [16, 32], intermediate: [24, 48]}",
        "evaluate.bootstrap=10", "evaluate.latency={length: 8, repeats: 3}",
    ]  # fmt: skip
    unchanged = check(load_recipe(path, [f"task.files.train={files['train']}"]), out=tmp_path / "other")
    assert exit_code(unchanged) == 0, [str(one) for one in unchanged]
    recipe = load_recipe(path, tiny)
    findings = check(recipe, out=tmp_path / "run")
    assert exit_code(findings) == 0, [str(one) for one in findings]
    assert any("architectures" in one.text for one in findings if one.key == "method")
    train(recipe, tmp_path / "run")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "run" / "student")
    assert config.model_type == family
    transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "student")
    assert 1 <= len(found(tmp_path / "run")["rows"]) <= 4  # a repeated candidate is answered, and costs a slot


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("text", {"head": "backbone", "top_k": 3, "init": "teacher"}),
        ("text", {"hard_label_weight": 0.5, "soft_label_weight": 0.5, "candidates": 1, "engine": "random"}),
        ("classification", {"halving": 2, "engine": "tpe"}),
        pytest.param("regression", {"engine": "random", "mini_kd": {"score": "held_out", "epochs": 1}}, marks=pytest.mark.slow),
        pytest.param("tokens", {"engine": "evolution", "reinit": True}, marks=pytest.mark.slow),
        pytest.param("multilabel", {"relation_weight": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_a_search_ends_in_a_stock_student(kind, method, tmp_path, understudy_home):
    settings = recipe_of(tmp_path, kind, **method)
    run = tmp_path / "run"
    train(recipe_from(settings), run)
    search = found(run)
    best = max((row for row in search["rows"] if row["state"] == "complete"), key=lambda row: row["value"])
    full = json.loads((run / "steps" / "full-kd" / "done.json").read_text())["value"]
    config = transformers.AutoConfig.from_pretrained(run / "student")
    chosen = full["rows"][full["chosen"]]
    row = next(row for row in search["rows"] if row["point"] == chosen["point"])
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    assert sizes == (row["layers"], row["hidden"], row["heads"])
    assert full["rows"][0]["point"] == best["point"]
    if len(full["rows"]) >= 3:
        rank_correlation([r["mini_quality"] for r in full["rows"]], [r["quality"] for r in full["rows"]])
    result = json.loads((run / "result.json").read_text())
    assert (result["baseline"] is None) == (kind == "text")
    assert pareto_of(search["rows"]) == [tuple(one.values()) for one in result["search"]["front"]]
    assert result["search"]["chosen"]["reward"] == row["value"] and result["search"]["tried"] == len(search["rows"])
    seconds = result["train_seconds"]
    assert seconds["search"] > 0 and not [name for name in seconds if name.startswith("candidate")]
    kept = [path.name for path in (run / "steps").glob("candidate-*")]
    assert len({name.split("-")[1] for name in kept}) <= settings["method"].get("top_k", 1)
    for other in full["rows"]:
        saved = run / "steps" / other["step"] / "model"
        assert transformers.AutoModel.from_pretrained(saved).config.model_type == config.model_type
        transformers.AutoTokenizer.from_pretrained(saved)
    assert 'id="search"' in (run / "report.html").read_text()
    assert not disk.problems(run) and verify(run)["files"] > 0
    files = {path: path.stat().st_mtime_ns for path in (run / "steps").rglob("*") if path.is_file()}
    train(recipe_from(settings), run)  # again: nothing is done
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_candidates_share_what_the_teacher_says_and_the_student_goes_on_to_a_task(tmp_path, understudy_home):
    """The teacher reads each row once for all candidates and for full KD; its student is then fine-tuned as any checkpoint
    is."""
    settings = recipe_of(tmp_path, "text", engine="random", space={**SMALL, "layers": [2]}, mini_kd={"epochs": 1, "proxy": 1.0})
    settings["task"]["mask_variants"] = 2
    run = tmp_path / "run"
    result = train(recipe_from(settings), run)
    assert {row["state"] for row in found(run)["rows"]} == {"complete"}
    data = load_task(recipe_from(settings).task, seed=0)
    # Each row as often as it is masked anew; where two maskings hide the same of it, once.
    each = 2 * len(data.train) + len(data.select)
    assert 0.9 * each < result["teacher_forwards"] <= each

    task = {
        **settings, "task": checkpoints.task_settings(tmp_path / "labelled", "classification"), "method": {"name": "finetune"},
        "student": {"model": str(run / "student")}, "teacher": None,
    }  # fmt: skip
    tuned = train(recipe_from({name: value for name, value in task.items() if value}), tmp_path / "tuned")
    assert "accuracy" in tuned["student"]["metrics"]["test"] and tuned["search"] is None
    transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned" / "student")


def test_more_students_than_candidates_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"top_k: 5. is more than all 4 candidates"):
        recipe_from(recipe_of(tmp_path, "text", top_k=5))


def test_candidates_over_the_latency_budget_are_never_trained(tmp_path, understudy_home):
    settings = recipe_of(tmp_path, "text", space={**SMALL, "max_latency_ms": 1e-6})
    with pytest.raises(Exception, match="max_latency_ms"):
        train(recipe_from(settings), tmp_path / "run")
    rows = found(tmp_path / "run")["rows"]
    assert len(rows) == 4 and all(row["over_budget"] and row["value"] < 0 for row in rows)
    assert not list((tmp_path / "run" / "steps").glob("candidate-*"))


def test_a_candidate_that_takes_too_long_is_a_row(tmp_path, understudy_home):
    settings = recipe_of(tmp_path, "text", trial_timeout=1e-6)
    with pytest.raises(Exception, match="No candidate was trained"):
        train(recipe_from(settings), tmp_path / "run")
    assert {row["state"] for row in found(tmp_path / "run")["rows"]} == {"failed"}
    assert all("trial_timeout" in row["error"] for row in found(tmp_path / "run")["rows"])


@pytest.mark.slow
def test_workers_join_a_run(tmp_path, understudy_home):
    """Two processes of the command line on one search: every candidate once, and a run that verifies."""
    settings = recipe_of(tmp_path, "text", engine="random", episodes=3)
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(settings))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "understudy", "train", str(path), "--out", str(run)]
    main = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (run / "study" / "study.db").exists() and main.poll() is None:
        pass
    worker = subprocess.run(
        [sys.executable, "-m", "understudy", "search", "worker", str(run), "--json"], capture_output=True, text=True
    )
    assert main.wait(timeout=240) == 0, main.stderr and main.stderr.read()
    assert worker.returncode == 0, worker.stderr
    rows = found(run)["rows"]
    assert len(rows) == 6 == len({row["point"] for row in rows}) == json.loads(worker.stdout)["candidates"]
    assert not disk.problems(run)


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert", "distilbert"])
def test_a_student_of_the_same_sizes_that_starts_from_its_teacher_is_its_teacher(family):
    teacher = Model(tiny_models.tiny_net(family), tiny_models.tiny_tokenizer(), ("a", "b"), "classification", family, None)
    row = anatomy(teacher.net)
    inner = row.down(row.layers(teacher.net)[0]).in_features
    config = teacher.net.config
    activation = next(getattr(config, n) for n in ("hidden_act", "hidden_activation", "activation") if hasattr(config, n))
    same = Architecture(row.num_layers(teacher.net), row.num_heads(teacher.net), row.width(teacher.net), inner, activation)
    student = start_from_teacher(fresh(teacher, as_config(same, teacher.net.config), seed=3), teacher)
    for name, weight in teacher.net.state_dict().items():
        torch.testing.assert_close(student.net.state_dict()[name], weight)


def test_neurons_are_chosen_by_strength_and_cut_consistently():
    """Neurons that do nothing are the ones that go: a student without them, of the same width, is its teacher."""
    teacher = Model(tiny_models.tiny_net("bert"), tiny_models.tiny_tokenizer(), ("a", "b"), "classification", "bert", None)
    row = anatomy(teacher.net)
    dead = torch.arange(0, 48, 2)
    with torch.no_grad():
        for layer in row.layers(teacher.net):
            row.down(layer).weight[:, dead] = 0
    assert torch.equal(chosen_neurons(row, row.layers(teacher.net)[0], 24), torch.arange(1, 48, 2))
    half = Architecture(3, 4, 32, 24, teacher.net.config.hidden_act)
    student = start_from_teacher(fresh(teacher, as_config(half, teacher.net.config), seed=3), teacher)
    ids = tiny_models.tiny_ids()
    with torch.no_grad():
        np.testing.assert_allclose(student.net(ids).logits, teacher.net(ids).logits, rtol=1e-4, atol=1e-5)
