"""Durable steps: keyed by what went into them, made once, never silently made otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
import toys
from safetensors.torch import load_file, save_file

from understudy.base import disk
from understudy.base.errors import Interrupted, RecipeError, VerifyError
from understudy.base.home import home
from understudy.lab import Lab, copy_of, tokenizer_digest
from understudy.lab.fits import labels_only
from understudy.lab.replay import newest_before
from understudy.models.model import digest
from understudy.recipe.load import recipe_from
from understudy.steps import difference, exchanged, read_done, step_folder
from understudy.train.guard import StopSignals


@pytest.fixture
def recipe(toy_checkpoint: Path, toy_csv: Path) -> dict[str, Any]:
    return runs.recipe(toy_checkpoint, toy_csv)


@pytest.fixture
def lab(recipe, understudy_home: Path, tmp_path: Path) -> Lab:
    return Lab(recipe_from(recipe), tmp_path / "run", StopSignals())


def another(lab: Lab, folder: Path | None = None, overrides: list[str] | None = None) -> Lab:
    """A process that comes later."""
    recipe = recipe_from(lab.recipe.model_dump(mode="json", exclude_none=True), overrides or [])
    return Lab(recipe, folder or lab.folder, StopSignals())


def fail() -> Any:
    pytest.fail("made again")


def test_a_choice_is_made_once(lab: Lab):
    value = {"assistant": 3, "score": 0.1 + 0.2, "why": None}
    assert lab.keep("choice", {"of": [1, 2, 3]}, lambda: value) == value
    assert another(lab).keep("choice", {"of": [1, 2, 3]}, fail) == value


def test_the_same_name_with_another_key_is_refused_with_the_difference(lab: Lab):
    lab.keep("choice", {"of": {"layers": [1, 2]}, "by": "score"}, lambda: 1)
    with pytest.raises(RecipeError, match=r"of\.layers was \[1, 2\], is \[1, 3\]") as caught:
        another(lab).keep("choice", {"of": {"layers": [1, 3]}, "by": "score"}, fail)
    assert "--out" in str(caught.value) and str(lab.folder / "steps" / "choice") in str(caught.value)
    assert another(lab).keep("choice", {"of": {"layers": [1, 2]}, "by": "score"}, fail) == 1


def test_a_choice_that_failed_is_made_again(lab: Lab):
    with pytest.raises(KeyError):
        lab.keep("choice", {}, lambda: {}["nothing"])
    assert another(lab).keep("choice", {}, lambda: 2) == 2


def test_a_step_name_cannot_leave_its_folder(lab: Lab):
    lab.keep("../../outside", {}, lambda: 1)
    assert [path.parent for path in lab.folder.parent.rglob("done.json")] == [lab.folder / "steps" / "------outside"]


def test_a_damaged_choice_is_made_again_and_that_is_said(lab: Lab, capsys):
    lab.keep("choice", {}, lambda: 1)
    path = lab.folder / "steps" / "choice" / "done.json"
    data = bytearray(path.read_bytes())
    data[data.index(b"1")] ^= 3  # 2 instead of 1: still readable
    path.write_bytes(data)
    assert another(lab).keep("choice", {}, lambda: 1) == 1
    assert f"choice is damaged ({path}" in capsys.readouterr().err
    assert another(lab).keep("choice", {}, fail) == 1


@pytest.mark.parametrize("what", ["key", "shared", "about", "name of a key"])
def test_a_flipped_bit_in_the_record_of_a_step_is_named_with_the_remedy(what: str, lab: Lab):
    lab.keep("choice", {"of": "layers"}, lambda: 1)
    path = lab.folder / "steps" / "choice" / "step.json"
    mark = json.loads(path.read_text())
    place = {"key": mark["key"], "shared": "shared", "about": "layers", "name of a key": "about"}[what]
    data = bytearray(path.read_bytes())
    data[data.index(place.encode())] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerifyError, match=r"step\.json is damaged: .*Delete it and repeat the command"):
        another(lab).keep("choice", {"of": "layers"}, fail)
    with pytest.raises(VerifyError, match=r"step\.json is damaged"):
        step_folder(lab.folder, "choice")
    path.unlink()
    assert another(lab).keep("choice", {"of": "layers"}, fail) == 1


def test_a_signal_between_two_steps_is_obeyed(lab: Lab):
    lab.keep("one", {}, lambda: 1)
    lab.stop.received = 15
    with pytest.raises(Interrupted, match="all finished steps are saved") as caught:
        lab.keep("two", {}, fail)
    assert caught.value.exit_code == 143
    assert another(lab).keep("one", {}, fail) == 1


def fitted(lab: Lab, name: str = "student", *, shared: bool = False):
    return lab.fit(name, lab.student(), labels_only(lab.data.task), shared=shared)


def test_a_finished_fit_is_loaded(lab: Lab, monkeypatch):
    model = fitted(lab)
    monkeypatch.setattr("understudy.lab.bench.fit", lambda *a, **k: pytest.fail("trained again"))
    again = another(lab)
    assert digest(fitted(again).net) == digest(model.net)
    assert again.seconds == lab.seconds
    assert not again.folder.joinpath("steps/student/best").exists()


def test_a_shared_fit_serves_other_runs(lab: Lab, tmp_path: Path, monkeypatch):
    model = fitted(lab, "baseline", shared=True)
    assert step_folder(lab.folder, "baseline").is_relative_to(home())
    monkeypatch.setattr("understudy.lab.bench.fit", lambda *a, **k: pytest.fail("trained again"))
    other = another(lab, tmp_path / "other")
    assert digest(fitted(other, "baseline", shared=True).net) == digest(model.net)


def test_an_exchange_in_the_store_is_found_by_the_run_that_took_from_it(lab: Lab, tmp_path: Path, capsys):
    """Whoever can write to the store can also write its checksums; what a run took is noted in the run."""
    fitted(lab, "baseline", shared=True)
    folder = step_folder(lab.folder, "baseline")
    assert exchanged(lab.folder, "baseline") == ""

    disk.remove(folder)
    fitted(another(lab, tmp_path / "other"), "baseline", shared=True)  # the same, done again
    assert exchanged(lab.folder, "baseline") == ""

    weights, done = next(folder.rglob("model.safetensors")), read_done(folder)
    save_file({name: tensor + 0.5 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    for name in ("done.json", disk.MANIFEST):
        disk.remove(folder / name)
    disk.seal(weights.parent, "mark.json", {})
    disk.seal(folder, "done.json", done)
    assert not disk.problems(folder)
    assert "other tensors than those that this run took" in exchanged(lab.folder, "baseline")
    fitted(another(lab), "baseline", shared=True)
    assert "no longer holds what this run took" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("train.lr=0.02", "settings.lr was 0.01, is 0.02"),
        ("seed=3", "seed was 0, is 3"),
        ("student.keep=[1]", "model was"),
        ("task.max_length=10", "train was"),
        ("task.max_train_examples=150", "train was"),
    ],
)
def test_whatever_changes_the_result_changes_the_key(override: str, difference: str, lab: Lab):
    fitted(lab)
    changed = another(lab, overrides=["student.num_layers=null", override] if "keep" in override else [override])
    with pytest.raises(RecipeError) as caught:
        fitted(changed)
    assert difference in str(caught.value)


@pytest.mark.parametrize("override", ["train.checkpoint_steps=1", "train.checkpoint_seconds=1", "train.max_tokens=500"])
def test_what_does_not_change_the_result_does_not(override: str, lab: Lab, monkeypatch):
    model = fitted(lab)
    monkeypatch.setattr("understudy.lab.bench.fit", lambda *a, **k: pytest.fail("trained again"))
    assert digest(fitted(another(lab, overrides=[override])).net) == digest(model.net)


def test_a_damaged_finished_fit_is_done_again_with_the_same_bits(lab: Lab, capsys):
    expected = digest(fitted(lab).net)
    path = lab.folder / "steps" / "student" / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert digest(fitted(another(lab)).net) == expected
    assert "student is damaged" in capsys.readouterr().err
    data[-3] ^= 1
    assert path.read_bytes() == data


def test_a_damaged_checkpoint_of_a_finished_fit_costs_no_training(lab: Lab, monkeypatch):
    model = fitted(lab)
    path = next((lab.folder / "steps" / "student").glob("step-*/model.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr("understudy.lab.bench.fit", lambda *a, **k: pytest.fail("trained again"))
    assert digest(fitted(another(lab)).net) == digest(model.net)


def test_a_shared_step_made_with_other_threads_is_used_and_that_is_said(lab: Lab, tmp_path: Path, capsys, monkeypatch):
    model = fitted(lab, "baseline", shared=True)
    fitted(another(lab, tmp_path / "other"), "baseline", shared=True)
    assert "another run" not in capsys.readouterr().err
    threads = torch.get_num_threads() + 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert digest(fitted(another(lab, tmp_path / "third"), "baseline", shared=True).net) == digest(model.net)
    assert f"baseline: made by another run with threads {threads - 1}, here {threads}" in capsys.readouterr().err


def test_training_leaves_what_it_started_from_alone(lab: Lab):
    start = digest(lab.pretrained().model.net)
    fitted(lab)
    assert digest(lab.pretrained().model.net) == start == lab.pretrained().digest


def test_a_copy_has_weights_of_its_own(lab: Lab):
    model = lab.pretrained().model
    copy = copy_of(model)
    with torch.no_grad():
        for parameter in copy.net.parameters():
            parameter.zero_()
    assert all(parameter.abs().sum() > 0 for name, parameter in model.net.named_parameters() if name.endswith("query.weight"))


def test_a_teacher_without_a_trained_head_needs_fine_tuning(recipe, understudy_home: Path, tmp_path: Path):
    recipe["teacher"].pop("finetune")
    with pytest.raises(RecipeError, match="no trained head for .* add `teacher: {finetune"):
        Lab(recipe_from(recipe), tmp_path / "run", StopSignals()).teacher()


def test_the_newest_checkpoint_before_a_step(tmp_path: Path):
    for step in (3, 6, 9):
        with disk.commit_dir(tmp_path / f"step-{step:08d}") as folder:
            disk.write_text(folder / "state.json", "{}")
    assert newest_before(tmp_path, 100).name == "step-00000009"  # type: ignore[union-attr]
    assert newest_before(tmp_path, 8).name == "step-00000006"  # type: ignore[union-attr]
    (tmp_path / "step-00000006" / "state.json").write_text("{ }")
    assert newest_before(tmp_path, 8).name == "step-00000003"  # type: ignore[union-attr]
    assert newest_before(tmp_path, 2) is None


def test_differences_in_words():
    assert difference({"a": 1}, {"a": 1}) == ""
    assert difference({"a": {"b": [1]}}, {"a": {"b": [2]}, "c": True}) == "a.b was [1], is [2], c was null, is true"
    many = difference({str(i): i for i in range(9)}, {str(i): -i for i in range(9)})
    assert many.endswith("and 4 more") and many.count(" was ") == 4
    assert "…" in difference({"a": "x" * 100}, {"a": "y"})


def test_tokenizers_that_cut_alike_have_one_digest(toy_tokenizer):
    assert tokenizer_digest(toy_tokenizer) == tokenizer_digest(toys.tokenizer())
    other = toys.tokenizer()
    assert tokenizer_digest(other) == tokenizer_digest(toy_tokenizer)
    other.add_tokens(["printer"])  # after its digest was made once
    assert tokenizer_digest(other) != tokenizer_digest(toy_tokenizer)


def test_what_was_done_with_a_tokenizer_does_not_change_its_digest():
    """Truncation and padding of the last call are part of its state, not of what it does."""
    used = toys.tokenizer()
    used(["good the door", "bad"], truncation=True, max_length=4, padding=True)
    assert tokenizer_digest(used) == tokenizer_digest(toys.tokenizer())


def test_where_steps_are_shared(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "x"))
    assert home() == tmp_path / "x"
    monkeypatch.delenv("UNDERSTUDY_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "understudy"


def test_the_mark_of_a_step_tells_what_went_into_it(lab: Lab):
    lab.keep("choice", {"of": [1, 2]}, lambda: 1)
    mark = json.loads((lab.folder / "steps" / "choice" / "step.json").read_text())
    assert mark["name"] == "choice" and mark["about"]["of"] == [1, 2] and len(mark["key"]) == 32


def test_a_rate_left_to_us_is_the_best_of_those_tried(lab: Lab):
    auto = another(lab, overrides=["teacher.finetune.lr=auto"])
    teacher = auto.teacher()
    tried = {}
    for place in auto.folder.glob("steps/teacher-lr-*"):
        done = json.loads((step_folder(auto.folder, place.name) / "done.json").read_text())
        tried[float(place.name.removeprefix("teacher-lr-"))] = done["best_metrics"][auto.data.task.select]
    assert sorted(tried) == [5e-5, 1e-4, 2e-4]
    best = max(tried, key=lambda rate: (tried[rate], rate))
    assert auto.teaching.lr == best
    (why,) = [note for note in teacher.model.notes if "lr: auto took" in note]
    assert f"took {best:.0e} " in why and all(f"{value:.4f}" in why for value in tried.values())
    # The teacher is the one that this rate gives when it is named.
    named = another(lab, lab.folder.parent / "named", [f"teacher.finetune.lr={best}"])
    assert named.teacher().digest == teacher.digest
