"""Your own text for language models: documents, prompts with their answers, conversations.

Files are those that `data/read.py` opens, or plain text for documents. The layouts that others write are understood, and which
one was found is said:

    lm     text
    sft    prompt, completion · prompt, output (MiniLLM) · instruction, input, output (Alpaca)
    chat   messages (TRL) · conversations (ShareGPT) · any layout of sft, as a question and its answer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from understudy.base.errors import DataError
from understudy.base.suggest import few
from understudy.data.custom import with_metric
from understudy.data.hub import hub_table
from understudy.data.read import Table, find_files, is_table, joined, read_table, read_text
from understudy.data.types import Example, Splits, Task
from understudy.kinds import Kind, kind

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

END = "<|endoftext|>"
"""A line of its own that ends a document, as in the files of TinyStories and GPT-2."""
ALPACA = "### Instruction:\n{instruction}\n\n### Response:\n"
ALPACA_INPUT = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system", "tool": "tool"}

Row = dict[str, Any]


def load(settings: TaskSettings) -> Splits:
    """The files of `settings.files`, relative to `settings.path` where that is given.

    Raises:
        DataError: a file without a layout that is understood, or a row that does not hold to it, with its place.
    """
    assert settings.files is not None
    files, notes = settings.files, list[str]()
    train = _examples(settings, files.train, "train", notes)
    dev = _examples(settings, files.dev, "dev", notes) if files.dev else []
    tests = _tests(settings, notes)
    return Splits(_task(settings), train, dev, tests, report_dev=not tests, notes=list(dict.fromkeys(notes)))


def load_tests(settings: TaskSettings, labels: Sequence[str]) -> tuple[Task, dict[str, list[Example]], list[str]]:
    """The test files alone; these kinds have no labels."""
    notes: list[str] = []
    return with_metric(_task(settings), settings.select), _tests(settings, notes), notes


def _task(settings: TaskSettings) -> Task:
    asked = kind(settings.kind or "")
    metrics = asked.default_metrics(())
    return Task(settings.name.removeprefix("custom/"), asked, (), metrics, metrics[0])


def _tests(settings: TaskSettings, notes: list[str]) -> dict[str, list[Example]]:
    test = settings.files.test if settings.files else None
    named = dict(test) if isinstance(test, dict) else {"test": test} if test else {}
    return {name: _examples(settings, file, name, notes) for name, file in named.items()}


def _examples(settings: TaskSettings, names: Any, split: str, notes: list[str]) -> list[Example]:
    source = names if isinstance(names, str) else names[0]
    if source.startswith("hub:"):
        return _rows(settings, hub_table(source), split, notes)
    paths = find_files(names, base=settings.path, key=f"task.files.{split}")
    if is_table(paths[0]):
        table = joined([read_table(path, delimiter=settings.delimiter, encoding=settings.encoding) for path in paths])
        notes += table.notes
        return _rows(settings, table, split, notes)
    if "document" not in kind(settings.kind or "").layouts:
        raise DataError(f"{paths[0]}: kind {settings.kind} needs a table (jsonl, json, csv, parquet), not plain text.")
    texts = [text for path in paths for text in documents(read_text(path, settings.encoding), str(path), notes)]
    return [Example(f"{split}-{i}", text=text) for i, text in enumerate(texts)]


def documents(text: str, source: str, notes: list[str]) -> list[str]:
    """The documents of a plain text file: between lines of `<|endoftext|>` if it has any, else between blank lines, else its
    lines. Which of them it was is noted."""
    lines = text.split("\n")
    if any(line.strip() == END for line in lines):
        parts, what = _between(lines, lambda line: line.strip() == END), f"lines of {END}"
    elif any(not line.strip() for line in lines[:-1]):
        parts, what = _between(lines, lambda line: not line.strip()), "blank lines"
    else:
        parts, what = lines, "line ends"
    found = [part for part in map(str.strip, parts) if part]
    if not found:
        raise DataError(f"{source} holds no text.")
    notes.append(f"{source}: {len(found):,} documents, told apart by {what}.")
    return found


def _between(lines: Sequence[str], ends: Callable[[str], bool]) -> list[str]:
    parts: list[list[str]] = [[]]
    for line in lines:
        if ends(line):
            parts.append([])
        else:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _rows(settings: TaskSettings, table: Table, split: str, notes: list[str]) -> list[Example]:
    columns = settings.columns
    told = {name: column for name, column in (("text", columns.text), ("pair", columns.pair)) if column is not None}
    read, needed, what = _layout(kind(settings.kind or ""), table, told)
    used = {column: table.column(column) for column in needed if column in table.columns}
    optional = {column: table.column(column) for column in ("input", "system", "tools") if column in table.columns}
    names = table.column(columns.id, key="task.columns.id") if columns.id else None
    groups = table.column(columns.group, key="task.columns.group") if columns.group else None
    found, blank = [], 0
    for i in range(len(table)):
        row = {column: cells[i] for column, cells in {**optional, **used}.items()}
        missing = [column for column in needed if row.get(column) is None]
        if len(missing) == len(needed):
            others = [name for name in table.columns if name not in used and table.column(name)[i] is not None]
            raise DataError(
                f"{table.place(i)}: its layout is another one than that of the file ({what}); it has {few(others) or 'nothing'}."
            )
        if missing:
            raise DataError(f"{table.place(i, missing[0])}: this cell is missing. Complete or drop the row.")
        try:
            text, pair = read(row)
        except ValueError as error:
            raise DataError(f"{table.place(i)}: {error}") from None
        if not (text.strip() if pair is None else pair.strip()):
            blank += 1
            continue
        found.append(Example(
            str(names[i]) if names else f"{split}-{i}", text=text, pair=pair,
            group=None if groups is None or groups[i] is None else str(groups[i]),
        ))  # fmt: skip
    notes.append(f"{table.source}: read as {what}.")
    if blank:
        notes.append(f"{table.source}: {blank} rows without a text to learn are left out.")
    return found


def _layout(asked: Kind, table: Table, told: Row) -> tuple[Callable[[Row], tuple[str, str | None]], list[str], str]:
    """How a row of this table is read, the columns that it needs, and what that is called."""
    there = set(table.columns)
    if "document" in asked.layouts:
        column = told.get("text", "text")
        return lambda row: (_string(row[column], column), None), [column], f"documents ({column})"
    pairs = [
        (["prompt", "completion"], _plain("prompt", "completion"), "prompt and completion (TRL)"),
        (["prompt", "output"], _plain("prompt", "output"), "prompt and output (MiniLLM)"),
        (["instruction", "output"], _alpaca, "instruction, input and output (Alpaca)"),
    ]
    if told:
        both = [told.get("text", "prompt"), told.get("pair", "completion")]
        pairs = [(both, _plain(*both), " and ".join(both))]
    chat = "conversation" in asked.layouts
    if chat and not told:
        for column, reader, what in (("messages", _messages, "messages (TRL)"), ("conversations", _sharegpt, "ShareGPT")):
            if column in there:
                return lambda row, reader=reader: (reader(row), None), [column], what
    for needed, reader, what in pairs:
        if there.issuperset(needed):
            if chat:
                return lambda row, needed=needed: (_as_chat(row, needed), None), needed, f"{what}, as question and answer"
            return reader, needed, what
    wanted = "messages, conversations, " if chat else ""
    raise DataError(
        f"{table.source} has the columns {few(table.columns)}, which is no layout of kind {asked}: it needs {wanted}prompt and "
        "completion, prompt and output, or instruction and output. Name them: task.columns={text: …, pair: …}."
    )


def _plain(prompt: str, answer: str) -> Callable[[Row], tuple[str, str | None]]:
    return lambda row: (_string(row[prompt], prompt), _string(row[answer], answer))


def _alpaca(row: Row) -> tuple[str, str | None]:
    prompt = (ALPACA_INPUT if row.get("input") else ALPACA).format(instruction=row["instruction"], input=row.get("input"))
    return prompt, _string(row["output"], "output")


def _as_chat(row: Row, needed: Sequence[str]) -> str:
    question = _string(row[needed[0]], needed[0])
    if needed[0] == "instruction" and row.get("input"):
        question = f"{question}\n\n{row['input']}"
    return _said([("user", question), ("assistant", _string(row[needed[1]], needed[1]))], row)


def _messages(row: Row) -> str:
    return _said([_turn(one, "role", "content") for one in _list(row["messages"], "messages")], row)


def _sharegpt(row: Row) -> str:
    return _said([_turn(one, "from", "value") for one in _list(row["conversations"], "conversations")], row)


def _list(cell: Any, column: str) -> list[Any]:
    found = json.loads(cell) if isinstance(cell, str) else cell
    if not isinstance(found, list) or not found:
        raise ValueError(f"'{column}' is not a list of messages.")
    return found


def _turn(message: Any, who: str, what: str) -> tuple[str, str]:
    if not isinstance(message, dict) or who not in message or what not in message:
        raise ValueError(f"a message needs '{who}' and '{what}'; this one is {str(message)[:80]}.")
    if message[who] not in _ROLES:
        raise ValueError(f"'{message[who]}' is not a role; roles are {', '.join(_ROLES)}.")
    return _ROLES[message[who]], _string(message[what], what)


def _said(turns: Sequence[tuple[str, str]], row: Row) -> str:
    """A conversation as the text of an example: JSON that `kinds/chat.py` puts into the model's template."""
    if not any(role == "assistant" for role, _ in turns):
        raise ValueError("no message is the assistant's, so there is nothing to learn.")
    if row.get("system"):
        turns = [("system", str(row["system"])), *turns]
    tools = row.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages, **({"tools": tools} if tools else {})}, ensure_ascii=False)


def _string(cell: Any, column: str) -> str:
    if not isinstance(cell, str):
        raise ValueError(f"'{column}' is {type(cell).__name__}, not a text.")
    return cell
