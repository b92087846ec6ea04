"""The commands: what goes to stdout and stderr, exit codes, and that no traceback reaches a user who did no wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from understudy import cli
from understudy.base.errors import DataError, DivergedError, Interrupted

RECIPE = "task: demo/intent\nteacher: {model: big, finetune: {}}\nstudent: {num_layers: 2}\nmethod: automm\n"
SCORES = {
    "test": {"accuracy": {"value": 0.91, "low": 0.85, "high": 0.96}, "mcc": {"value": None, "low": None, "high": None}}
}
RESULT = {
    "teacher": {"metrics": SCORES, "num_parameters": 22_700_000},
    "baseline": None,
    "student": {"metrics": SCORES, "num_parameters": 11_000_000},
    "verdict": "The student stands in well.",
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stands in for understudy.run, which does the work; a test sets the functions it expects to be called."""
    module = types.ModuleType("understudy.run")
    monkeypatch.setitem(sys.modules, "understudy.run", module)
    return module


def run(*arguments: object) -> int:
    """Run a command in this process and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.app([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def raising(error: BaseException) -> Any:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    return raise_it


COMMANDS = [
    "demo", "methods", "init", "check", "train", "compare", "eval", "predict", "export", "report", "verify", "doctor", "clean",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(command, capsys):
    assert run(command, "--help") == 0
    out = capsys.readouterr().out
    assert f"Example: understudy {command}" in " ".join(out.split())


def test_help_lists_every_command_without_cutting_a_sentence(capsys):
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert "..." not in out.partition("Commands:")[2]


def test_no_command_shows_the_help(capsys):
    assert run() == 2
    assert "train" in "".join(capsys.readouterr())


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["methods", "--jsn"], ["verify", "x", "--replay", "-1"]])
def test_usage_errors(arguments, capsys):
    assert run(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_methods(capsys):
    assert run("methods") == 0
    assert "automm" in capsys.readouterr().out
    assert run("methods", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["finetune"]) == {"what", "needs"}


def test_init_prints_a_recipe_that_check_accepts(tmp_path, capsys, monkeypatch):
    assert run("init", "automm", "--full") == 0
    path = tmp_path / "run.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert run("check", path, "--out", tmp_path / "run") == 0
    assert "not reachable from here" in capsys.readouterr().out  # the teacher is on the Hub; tests have no network
    assert run("init", "autom") == 2
    assert "Did you mean 'automm'?" in capsys.readouterr().err


def student_of(folder: Path) -> None:
    """What a finished run leaves for whoever says how it is loaded."""
    (folder / "student").mkdir(parents=True)
    (folder / "student" / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')


def test_train_hands_over_recipe_and_folder_and_prints_the_result(recipe, tmp_path, fake_run, capsys):
    seen = {}

    def train(loaded, folder):
        seen.update(recipe=loaded, folder=folder)
        return RESULT

    fake_run.train = train
    student_of(tmp_path / "run")
    assert run("train", recipe, "train.epochs=7", "--out", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert seen["recipe"].train.epochs == 7
    assert seen["folder"] == tmp_path / "run"
    assert "0.9100  [0.8500, 0.9600]" in out and "undefined" in out
    assert RESULT["verdict"] in out and str(tmp_path / "run" / "report.html") in out
    assert run("train", recipe, "--out", tmp_path / "run", "--json") == 0
    assert json.loads(capsys.readouterr().out) == RESULT


def test_only_the_first_process_prints(recipe, tmp_path, fake_run, capsys, monkeypatch):
    fake_run.train = lambda *_, **__: RESULT
    monkeypatch.setenv("RANK", "1")
    assert run("train", recipe, "--out", tmp_path / "run") == 0
    assert capsys.readouterr().out == ""


def test_train_understands_the_original_flags(recipe, tmp_path, fake_run):
    seen = {}
    fake_run.train = lambda loaded, folder, **_: seen.update(recipe=loaded, folder=folder) or RESULT
    flags = [
        "--max_epoch",
        "8",
        "--hard_label_weight=0.5",
        "--save_path",
        tmp_path / "cache",
        "--train_nodistill",
        "false",
    ]
    student_of(tmp_path / "cache")
    assert run("train", recipe, *flags) == 0
    assert seen["recipe"].train.epochs == 8
    assert seen["recipe"].objective.terms()["hard"].weight == 0.5
    assert seen["recipe"].evaluate.baseline is False
    assert seen["folder"] == tmp_path / "cache"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--out is missing"),
        (["--out", "x", "--jsno"], "there is no option --jsno. Did you mean --json?"),
        (["--out", "x", "--frobnicate", "1"], "there is no option --frobnicate."),
        (["--out", "x", "--resume"], "the same command continues by itself"),
        (["--out", "x", "train.lr=x"], "command line: train.lr: should be a number"),
    ],
)
def test_mistakes_on_the_command_line_end_with_2(recipe, fake_run, capsys, arguments, sentence):
    assert run("train", recipe, *arguments) == 2
    out, err = capsys.readouterr()
    assert sentence in err and "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("train.csv, row 3: too few cells."), 3),
        (DivergedError("The loss is NaN."), 5),
        (Interrupted("Stopped after step 4; the same command continues.", exit_code=143), 143),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 6),
    ],
)
def test_each_kind_of_end_has_its_code(recipe, tmp_path, fake_run, capsys, error, code):
    fake_run.train = raising(error)
    assert run("train", recipe, "--out", tmp_path / "run") == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err and out == ""
    assert str(error) in err


def test_debug_shows_the_traceback(recipe, tmp_path, fake_run, capsys, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_LOG", "debug")
    fake_run.train = raising(DataError("row 3"))
    assert run("train", recipe, "--out", tmp_path / "run") == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_asks_to_be_reported_and_leaves_its_traceback(recipe, tmp_path, fake_run, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fake_run.train = raising(ZeroDivisionError(f"in {tmp_path}/secret"))
    folder = tmp_path / "run"
    assert run("train", recipe, "--out", folder) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err  # no folder yet: the traceback itself
    folder.mkdir()
    assert run("train", recipe, "--out", folder) == 1
    err = capsys.readouterr().err
    assert "This is a bug in understudy" in err and str(folder / "crash.txt") in err and "Traceback" not in err
    kept = (folder / "crash.txt").read_text(encoding="utf-8")
    assert "ZeroDivisionError: in ~/secret" in kept and str(tmp_path) not in kept


def test_control_characters_do_not_reach_the_terminal(recipe, tmp_path, fake_run, capsys):
    fake_run.train = raising(DataError("label '\x1b[31mred'"))
    run("train", recipe, "--out", tmp_path / "run")
    assert "\x1b" not in capsys.readouterr().err


def test_eval_takes_the_task_of_the_run_or_a_recipe(recipe, tmp_path, fake_run, capsys):
    scores = {"test": {"accuracy": 0.91, "mcc": None}}
    fake_run.evaluate_folder = lambda model, loaded: {"intervals": scores, "rows": {"test": loaded.train.epochs}}
    assert run("eval", tmp_path / "model") == 2
    assert "--recipe" in capsys.readouterr().err
    assert run("eval", tmp_path / "model", "--recipe", recipe, "train.epochs=9", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"intervals": scores, "rows": {"test": 9}}
    (tmp_path / "config.yaml").write_text(RECIPE, encoding="utf-8")
    assert run("eval", tmp_path) == 0
    out = capsys.readouterr().out
    assert "0.9100" in out and "undefined" in out


def test_predict_prints_a_json_object_per_row(tmp_path, fake_run, capsys):
    fake_run.predict = lambda model, rows, *, recipe, overrides, columns: iter([{"rows": rows, **columns}, {"o": overrides}])
    assert run("predict", tmp_path, "rows.csv", "--text", "body", "task.encoding=cp1252", "--delimiter", ";") == 0
    asked, said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert asked == {"rows": "rows.csv", "text": "body", "pair": None, "id": None}
    assert said == {"o": ["task.encoding=cp1252", 'task.delimiter=";"']}
    assert run("predict", tmp_path, "rows.csv", "train.lr=1") == 2
    assert "only keys of task" in capsys.readouterr().err


def test_report_and_verify(tmp_path, fake_run, capsys):
    fake_run.write_report = lambda folder: folder / "report.html"
    fake_run.verify = lambda folder, replay: {"files": 12, "replayed_steps": replay}
    assert run("report", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    assert run("verify", tmp_path, "--replay", "5") == 0
    assert "12 files" in (out := capsys.readouterr().out) and "5 steps repeated" in out
    assert run("verify", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"files": 12, "replayed_steps": 0}


def test_doctor_is_honest_and_keeps_secrets(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    assert run("doctor", "--json") == 0
    out = capsys.readouterr().out
    facts = json.loads(out)
    assert facts["missing"] == []
    assert facts["packages"]["torch"]["installed"]
    assert facts["packages"]["torch"]["tested"]
    assert facts["hub"] | {"cached_models": 0} == {
        "offline": True,
        "reachable": None,
        "cached_models": 0,
        "token": True,
    }
    assert run("doctor") == 0
    text = capsys.readouterr().out
    for secret in ("hf_canary", str(Path.home())):
        assert len(secret) < 2 or secret not in out + text


def test_clean_says_what_it_did(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path))
    store = tmp_path / "signals" / "abc"
    store.mkdir(parents=True)
    (store / "data.f32").write_bytes(b"x" * 2_000_000)
    assert run("clean", "--dry-run") == 0
    assert "Would free 2.0 MB" in capsys.readouterr().out and store.is_dir()
    assert run("clean", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": 1, "freed": 2_000_000, "kept": 0, "left": 0, "in_use": 0}
    assert not store.exists()
    assert run("clean", "--unused-for", "-1") == 2


def test_python_m_understudy_is_the_same_command():
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "init", "nothing"],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == "" and "no method 'nothing'" in done.stderr
