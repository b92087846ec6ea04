"""Layouts that others write, and what is said about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.base.errors import DataError
from understudy.data.documents import documents
from understudy.data.tasks import load_task
from understudy.recipe.settings import TaskSettings

CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
LAYOUTS = {
    "sft": [
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "output": "a"},
    ],
    "chat": [
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"prompt": "q", "completion": "a"},
        {"instruction": "q", "input": "", "output": "a"},
    ],
}


def load(folder: Path, kind: str, rows: list[dict], **more):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = TaskSettings(name="custom", kind=kind, files={"train": str(path), "test": str(path)}, **more)
    return load_task(settings, seed=0)


@pytest.mark.parametrize("row", LAYOUTS["sft"], ids=lambda row: "-".join(row))
def test_pairs(tmp_path: Path, row: dict) -> None:
    data = load(tmp_path, "sft", [row] * 6)
    assert [(one.text, one.pair) for one in data.tests["test"]] == [("q", "a")] * 6
    assert any("read as prompt and" in note for note in data.notes)


def test_alpaca_is_written_as_one_stated_prompt(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Hi.", "input": "", "output": "Hi!"}]
    found = load(tmp_path, "sft", rows * 3).tests["test"]
    assert found[0].text == "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n" and found[0].pair == "3"
    assert found[1].text == "### Instruction:\nHi.\n\n### Response:\n"


@pytest.mark.parametrize("row", LAYOUTS["chat"], ids=lambda row: "-".join(row))
def test_conversations(tmp_path: Path, row: dict) -> None:
    data = load(tmp_path, "chat", [row] * 6)
    assert [json.loads(one.text or "") for one in data.tests["test"]] == [{"messages": CHAT}] * 6


def test_columns_that_the_recipe_names(tmp_path: Path) -> None:
    data = load(tmp_path, "sft", [{"frage": "q", "antwort": "a", "id": 1}] * 6, columns={"text": "frage", "pair": "antwort"})
    assert (data.tests["test"][0].text, data.tests["test"][0].pair) == ("q", "a")


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("sft", [{"question": "q", "answer": "a"}], "which is no layout of kind sft"),
        ("chat", [{"messages": CHAT}, {"text": "x"}], "rows.jsonl, line 2: its layout is another one"),
        ("chat", [{"messages": CHAT}, {"messages": CHAT[:1]}], "line 2: no message is the assistant's"),
        ("chat", [{"messages": [{"role": "robot", "content": "x"}]}], "'robot' is not a role"),
        ("chat", [{"messages": [{"from": "human", "value": "x"}]}], "a message needs 'role' and 'content'"),
        ("sft", [{"prompt": "q", "completion": "a"}, {"prompt": "q"}], "line 2, column 'completion': this cell is missing"),
        ("sft", [{"prompt": ["q"], "completion": "a"}], "'prompt' is list, not a text"),
    ],
)
def test_what_is_refused(tmp_path: Path, kind: str, rows: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, kind, rows)


@pytest.mark.parametrize(
    ("text", "found", "said"),
    [
        ("a\nb\n\n \nc\n", ["a\nb", "c"], "blank lines"),
        ("a\n\nb\n<|endoftext|>\nc\n<|endoftext|>\n", ["a\n\nb", "c"], "lines of <|endoftext|>"),
        ("a\nb\n", ["a", "b"], "line ends"),
    ],
)
def test_documents_of_plain_text(text: str, found: list[str], said: str) -> None:
    notes: list[str] = []
    assert documents(text, "file.txt", notes) == found
    assert notes == [f"file.txt: {len(found)} documents, told apart by {said}."]
