"""Files, overrides, defaults and the sentences that say what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from understudy.base.errors import RecipeError
from understudy.objective.vocabulary import Soft
from understudy.recipe.load import load_recipe, recipe_from, recipe_hash, to_yaml
from understudy.recipe.settings import Recipe, Schedule, StudentSettings, TrainSettings

BASE = """\
task: {name: glue/mrpc}
teacher: {model: teachers/big, finetune: {epochs: 2}}
student: {keep: [0, 2, 4]}
method:
  name: automm
train:
  lr: 2e-5
"""


def load(tmp_path: Path, text: str = BASE, *overrides: str) -> Recipe:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def refused(tmp_path: Path, text: str = BASE, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text, *overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_automm_defaults_are_those_of_the_original():
    terms = recipe_from({"task": "demo/intent", "teacher": "big", "student": "small", "method": "automm"}).objective.terms()
    originals = ("hard", "soft", "softmax_regression", "output_feature", "rkd_distance", "rkd_angle")
    assert [terms[name].weight for name in originals] == [0.1, 1.0, 0.0, 0.01, 0.0, 0.0]
    assert isinstance(terms["soft"], Soft) and (terms["soft"].temperature, terms["soft"].scale_by_t2) == (5.0, True)


def test_the_teacher_is_finetuned_like_the_student_where_nothing_else_is_said(tmp_path):
    recipe = load(tmp_path)
    assert recipe.teacher is not None and recipe.teacher.finetune is not None
    assert recipe.teacher.finetune.epochs == 2
    assert recipe.teacher.finetune.lr == 2e-5
    assert recipe.train.epochs == TrainSettings().epochs


def test_recipes_are_frozen(tmp_path):
    with pytest.raises(ValidationError):
        load(tmp_path).train.lr = 1.0  # type: ignore[misc]


def test_yaml_holds_everything_and_reads_back_equal(tmp_path):
    recipe = load(
        tmp_path, BASE, "method.hidden_weight={start: 1, end: 0}", "task.languages=no", "student.max_length=64"
    )
    again = load(tmp_path, to_yaml(recipe))
    assert again == recipe
    assert recipe_hash(again) == recipe_hash(recipe)


def test_a_student_checkpoint_survives_the_round_trip(tmp_path):
    recipe = load(tmp_path, BASE.replace("{keep: [0, 2, 4]}", "{model: students/small}"))
    assert load(tmp_path, to_yaml(recipe)) == recipe


def test_the_hash_names_the_content_in_any_process(tmp_path):
    recipe = load(tmp_path)
    assert recipe_hash(recipe) != recipe_hash(load(tmp_path, BASE, "seed=1"))
    code = f"from understudy.recipe.load import *; print(recipe_hash(load_recipe({str(tmp_path / 'run.yaml')!r})))"
    (tmp_path / "run.yaml").write_text(BASE, encoding="utf-8")
    path = str(Path(__file__).parents[3] / "src")
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == recipe_hash(recipe)


def test_overrides_go_through_the_same_door(tmp_path):
    recipe = load(
        tmp_path, BASE, "train.lr=1e-4", "task.path=../data/MRPC", "student={num_layers: 3}", "train.patience=",
        "teacher.finetune.batch_size=16", "cache.mode=off",
    )  # fmt: skip
    assert recipe.train.lr == 1e-4
    assert recipe.task.path == "../data/MRPC"
    assert recipe.student == StudentSettings(num_layers=3)
    assert recipe.train.patience is None
    assert recipe.teacher is not None and recipe.teacher.finetune is not None
    assert recipe.teacher.finetune.batch_size == 16


def test_short_forms(tmp_path):
    recipe = load(tmp_path, "task: demo/intent\nteacher: big\nstudent: small\nmethod: automm\ntrack: tensorboard\n")
    assert (recipe.task.name, recipe.student.model, recipe.track) == ("demo/intent", "small", ("tensorboard",))
    assert load(tmp_path, "task: demo/intent\nstudent: small\nmethod: finetune\n").teacher is None


def test_original_flags_are_understood(tmp_path):
    text = """\
glue_task: mnlim
teacher_model: big
student_model: small
method: automm
max_epochs: 12
distiller: {temperature: 3, soft_label_loss_type: mean_square_error}
train_nodistill: false
"""
    recipe = load(
        tmp_path, text, "--precision=16-mixed", "hard_label_weight=0.5", "output_feature_loss_type=cosine_distance"
    )
    terms = recipe.objective.terms()
    assert recipe.task.name == "glue/mnli"
    assert recipe.train.epochs == 12
    assert recipe.train.precision == "fp16"
    assert recipe.evaluate.baseline is False
    assert terms["soft"].model_dump(include={"temperature", "loss"}) == {"temperature": 3.0, "loss": "mse"}
    assert terms["output_feature"].model_dump(include={"loss"}) == {"loss": "cosine"} and terms["hard"].weight == 0.5
    assert load(tmp_path, BASE, "soft_label_loss_type=''").objective.terms()["soft"].model_dump()["loss"] == "auto"


@pytest.mark.parametrize("key", ["num_gpu", "resume", "save_path", "finetuned_model_cache_folder"])
def test_original_flags_without_a_key_say_what_does_their_work(tmp_path, key):
    assert f"command line: {key}: not a key of a recipe; " in refused(tmp_path, BASE, f"{key}=1")


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        (BASE + "  lerning_rate: 3\n", 8, "train.lerning_rate: unknown key. Did you mean 'lr'?"),
        (BASE + "  epoch: 3\n", 8, "train.epoch: unknown key. Did you mean 'epochs'?"),
        (BASE + "lr: 3\n", 8, "lr: unknown key. Did you mean 'train.lr'?"),
        (BASE.replace("name: automm", "name: automm\n  storage: x"), 6, "unknown key. It is a key of method kdnas."),
        (BASE + "  epochs: true\n", 8, "train.epochs: should be a whole number, not true."),
        (BASE + "  epochs: 2.5\n", 8, "train.epochs: should be a whole number, not 2.5."),
        (BASE + "  weight_decay: '0.1'\n", 8, "should be a number, not the text '0.1'. Remove the quotes."),
        (BASE + "  weight_decay: .nan\n", 8, "train.weight_decay: should be a finite number"),
        (BASE + "  weight_decay: -1\n", 8, "train.weight_decay: should be at least 0, not -1."),
        (BASE + "  precision: bf-16\n", 8, "Did you mean 'bf16'?"),
        (BASE.replace("name: automm", "name: automn"), 4, "method: unknown method 'automn'. Did you mean 'automm'?"),
        (BASE.replace("name: automm", "nam: automm"), 4, "method: needs a `name`"),
        (BASE.replace("glue/mrpc", "glue/mprc"), 1, "unknown task 'glue/mprc'. Did you mean 'glue/mrpc'?"),
        (BASE.replace("glue/mrpc", "custom"), 1, "task: a custom task needs `kind`"),
        (BASE.replace("glue/mrpc", "glue/mrpc, kind: tokens"), 1, "are for `name: custom`"),
        (BASE.replace("[0, 2, 4]", "spraed"), 3, "Did you mean 'spread'?"),
        (BASE.replace("[0, 2, 4]", "first"), 3, "`keep: first` needs `num_layers`"),
        (BASE.replace("[0, 2, 4]", "[2, 0]"), 3, "rising order"),
        (BASE.replace("[0, 2, 4]", "[0, 2], num_layers: 3"), 3, "drop one"),
        (BASE.replace("[0, 2, 4]", "[0, 2], model: x"), 3, "`model` and `keep` exclude each other"),
        (BASE.replace("keep: [0, 2, 4]", ""), 3, "name the student"),
        (BASE.replace("name: automm", "name: automm\n  temperature: 0"), 6, "temperature: should be greater than 0"),
        (BASE.replace("name: automm", "name: automm\n  matches: [1]"), 4, "by the original but never used"),
    ],
)  # fmt: skip
def test_mistakes_name_file_line_key_and_remedy(tmp_path, text, line, sentence):
    message = refused(tmp_path, text)
    assert message.startswith(f"{tmp_path}/run.yaml: line {line}: ")
    assert sentence in message
    assert "\n" not in message


def test_several_mistakes_are_told_at_once(tmp_path):
    message = refused(tmp_path, BASE + "  epoch: 1\n  decay: 2\n", "seed=-1")
    assert len(message.splitlines()) == 3
    assert "command line: seed: should be at least 0, not -1." in message


def test_a_mistake_in_train_is_told_once_although_the_teacher_inherits_it(tmp_path):
    assert refused(tmp_path, BASE.replace("2e-5", "-1")).count("should be") == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lr", "an override is written key=value"),
        ("=3", "an override is written key=value"),
        ("train.lr=@", "command line: train.lr: line 1: not valid YAML"),
        ("task.name.x=1", "command line: task.name.x"),
        ("seed.x=1", "command line: seed.x"),
        ("train.lr.start=1", "train.lr is 2e-05; set it as a whole"),
        ("method.hidden_weight={strat: 1, end: 0}", "hidden_weight.strat: unknown key. Did you mean 'start'?"),
        ("method={name: kdnas, candidate: 3}", "method.candidate: unknown key. Did you mean 'candidates'?"),
        ("student.model=x", "exclude each other"),
        ("method.parity=1", "command line: method.parity: should be true or false, not 1."),
        ("train.compile=true", "determinism: fast"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(tmp_path, override, sentence):
    text = BASE + "seed: 0\n"
    assert sentence in refused(tmp_path, text, override)


@pytest.mark.parametrize("content", ["", "[]", "text", "3"])
def test_a_file_that_is_no_recipe(tmp_path, content):
    assert "a recipe is made of keys" in refused(tmp_path, content)


def test_files_that_cannot_be_read(tmp_path):
    for path, words in [(tmp_path / "none.yaml", "no such file"), (tmp_path, "is a folder")]:
        with pytest.raises(RecipeError, match=words):
            load_recipe(path)
    (tmp_path / "latin.yaml").write_bytes("task: caf\xe9".encode("latin-1"))
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")


def test_without_a_teacher_only_a_checkpoint_can_be_finetuned(tmp_path):
    assert "method automm needs a teacher" in refused(tmp_path, "task: demo/intent\nstudent: small\nmethod: automm\n")
    text = "task: demo/intent\nstudent: {num_layers: 2}\nmethod: finetune\n"
    assert "needs a teacher" in refused(tmp_path, text)


def test_further_config_keys_of_a_fresh_student_are_kept(tmp_path):
    recipe = load(tmp_path, BASE, "student={config: {hidden_size: 64, hidden_act: relu}}")
    assert recipe.student.config is not None
    assert recipe.student.config.model_dump(exclude_none=True) == {"hidden_size": 64, "hidden_act": "relu"}
    assert not recipe.student.keeps_layers


def test_a_schedule_needs_its_ends():
    with pytest.raises(ValidationError):
        Schedule(start=1.0)  # type: ignore[call-arg]
    assert Schedule(start=1, end=0).until == 1.0


def test_mappings_are_not_changed_by_loading():
    data = {"task": "demo/intent", "teacher": {"model": "a", "finetune": {}}, "student": "b", "method": "automm"}
    before = repr(data)
    recipe_from(data, ["train.epochs=9"])
    assert repr(data) == before


_keys = st.sampled_from(
    ["task", "teacher", "student", "method", "train", "evaluate", "name", "model", "keep", "lr", "x"]
)
_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_trees = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4))


@given(st.dictionaries(_keys, _trees, max_size=6), st.lists(st.text(max_size=20), max_size=2))
@settings(max_examples=300, deadline=None)
def test_anything_else_is_refused_in_a_sentence(data, overrides):
    try:
        recipe_from(data, overrides)
    except RecipeError as error:
        assert str(error)
