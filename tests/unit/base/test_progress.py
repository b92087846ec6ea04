"""What a waiting person sees, and what cannot reach the terminal."""

from __future__ import annotations

import pytest

from understudy.base import progress


def test_plain_lines_for_a_log(capsys, monkeypatch):
    clock = iter(float(20 * i) for i in range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress(4, "student", done=1) as bar:
        bar.note("loss 0.5")
        for _ in range(3):
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("student: 2/4, about ") and lines[0].endswith("left  loss 0.5")
    assert lines[-1].startswith("student: 4/4, took ")


def test_nothing_done_is_nothing_said(capsys):
    with progress.progress(4, "student", done=4):
        pass
    assert capsys.readouterr().err == ""


def test_an_error_does_not_look_like_an_end(capsys):
    with pytest.raises(KeyError), progress.progress(4, "student") as bar:
        bar.advance(2)
        raise KeyError
    assert capsys.readouterr().err == ""


def test_control_characters_do_not_reach_the_terminal(capsys):
    progress.say("label \x1b[31mred\x07 \x9b fine\tä")
    assert capsys.readouterr().err == "label ?[31mred? ? fine\tä\n"


def test_quiet(capsys, monkeypatch):
    monkeypatch.setattr(progress, "quiet", True)
    progress.say("nothing")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3599.9, "1 h 00 min"), (9e4, "25 h 00 min")]
)
def test_duration(seconds: float, text: str):
    assert progress.duration(seconds) == text
