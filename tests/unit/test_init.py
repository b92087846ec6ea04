"""`understudy init`: a short recipe that check accepts, with what was guessed and why."""

from __future__ import annotations

import pytest
import yaml
from unit.data.test_guess import PLAIN, sentence, write_csv

from understudy.cli import app
from understudy.init import first_recipe, schedule
from understudy.recipe.method import methods


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        app([str(argument) for argument in arguments])
    return end.value.code


def test_a_recipe_for_ones_own_file_is_short_says_why_and_is_accepted(tmp_path, toy_checkpoint, capsys):
    mine = write_csv(tmp_path / "mine.csv", PLAIN)
    assert run("init", "--data", mine, "--teacher", toy_checkpoint) == 0
    text = capsys.readouterr().out
    made = yaml.safe_load(text)
    assert made["task"]["columns"] == {"text": "body", "label": "mood", "id": "row_id"}
    assert 15 <= len(text.splitlines()) <= 25
    assert "# 3 classes: calm (33 %)" in text and "tokens" in text and "a small teacher, " in text
    (tmp_path / "run.yaml").write_text(text)
    assert run("check", tmp_path / "run.yaml", "--out", tmp_path / "r") == 0
    assert "3 labels: calm, cross, glad" in capsys.readouterr().out


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_has_a_short_recipe_and_a_full_one(method, tmp_path, toy_checkpoint, capsys):
    short = first_recipe(method, teacher=str(toy_checkpoint))
    assert len(short.splitlines()) <= 25 and yaml.safe_load(short)["method"] == method
    assert run("init", method, "--full") == 0
    assert len(capsys.readouterr().out.splitlines()) > 100
    assert run("init", method, "--full", "--data", "x.csv") == 2


def test_lengths_decide_on_max_length_and_letters_on_the_teacher(tmp_path, toy_checkpoint):
    long = [{"text": " ".join(sentence(j) for j in range(20)), "label": "ab"[i % 2]} for i in range(40)]
    made = yaml.safe_load(first_recipe(data=[write_csv(tmp_path / "long.csv", long)], teacher=str(toy_checkpoint)))
    assert made["task"]["max_length"] > 128 or made["task"]["max_length"] == 64  # as far as the toy's positions reach
    polish = [{"text": f"źródło żółtej łąki {i}", "label": "ab"[i % 2]} for i in range(40)]
    assert "multilingual" in yaml.safe_load(first_recipe(data=[write_csv(tmp_path / "pl.csv", polish)]))["teacher"]["model"]


def test_rates_and_epochs_follow_the_size_of_the_teacher_and_the_rows():
    small, base = schedule(10_600_000, 410), schedule(85_000_000, 410)
    assert small[1] == 2e-4 and base[1] < 1e-4
    assert schedule(None, 410)[:4] == small[:4]
    epochs = [schedule(10_600_000, rows)[0] for rows in (100, 1_000, 10_000, 100_000, 1_000_000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[-1] >= 1
