"""Texts that become vectors: alone, in pairs, with the passages that answer them, in the files people have.

    lines                                   a text on each line
    a table                                 a text in each column that is known or named: `text`; `sentence1, sentence2[, score]`;
                                            `source, translation`; `premise, hypothesis`; …
    a table of lists                        `anchor, positive[, negative…]`, `query, pos, neg`, `query, passages[, scores]`
    STS                                     its unquoted tsv, with a header or without
    BEIR                                    a folder with corpus.jsonl and queries.jsonl, or the file of judgements in it
    MS MARCO                                collection.tsv, queries.tsv: `id TAB text`

In training, lists stay together; all else is texts, each once, whatever stood beside it. In tests, pairs with a score and
judgements are what results are measured on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import few, shown
from understudy.data.read import Table, find_files, is_table, read_json, read_lines, read_table, read_tsv
from understudy.data.types import Example, Splits, Task
from understudy.kinds import Kind, kind
from understudy.kinds.cells import is_blank, label_name, score, text_cell

if TYPE_CHECKING:
    from understudy.recipe.settings import TaskSettings

_STS = ("genre", "file", "year", "index", "score", "sentence1", "sentence2")
_PAIRS = (
    ("sentence1", "sentence2"), ("sentence_A", "sentence_B"), ("source", "translation"), ("premise", "hypothesis"),
    ("question", "sentence"), ("question1", "question2"), ("text1", "text2"), ("#1 String", "#2 String"),
)  # fmt: skip
_ALONE = ("text", "sentence", "body", "content", "title")
_ANCHORS, _POSITIVES = ("anchor", "query", "question"), ("positive", "pos", "answer", "passage")
_LEAST = 1e-6
"""How near to 0 and 1 probabilities are taken seriously."""
_SCORES = ("score", "similarity_score", "relatedness_score", "label")


def load(settings: TaskSettings) -> Splits:
    """The files of `settings.files`. Training rows need no label."""
    assert settings.kind is not None and settings.files is not None
    notes: list[str] = []
    asked, files = kind(settings.kind), settings.files
    train = _training(settings, files.train, "train", notes)
    dev = _training(settings, files.dev, "dev", notes) if files.dev else []
    task, tests, said = load_tests(settings, ()) if files.test else (_task(asked, settings.name), {}, [])
    return Splits(task, train, dev, tests, notes=[*notes, *said])


def load_tests(settings: TaskSettings, labels: Sequence[str]) -> tuple[Task, dict[str, list[Example]], list[str]]:
    """The test files alone."""
    assert settings.kind is not None and settings.files is not None
    notes: list[str] = []
    test = settings.files.test if isinstance(settings.files.test, dict) else {"test": settings.files.test}
    tests = {name: _judged(settings, names, name, notes) for name, names in test.items()}
    return _task(kind(settings.kind), settings.name), tests, notes


def _task(asked: Kind, name: str) -> Task:
    metrics = asked.default_metrics(())
    return Task(name.removeprefix("custom/"), asked, (), metrics, metrics[0], pair=asked.apart == "pairs")


def _paths(settings: TaskSettings, names: Any, split: str) -> list[Path]:
    return find_files(names, base=settings.path, key=f"task.files.{split}")


def _training(settings: TaskSettings, names: Any, split: str, notes: list[str]) -> list[Example]:
    """Lists as they are, and every other text once."""
    lists: list[Example] = []
    pairs = kind(settings.kind or "").apart == "pairs"
    seen: dict[tuple[str, str | None], Example] = {}
    number = blank = again = 0
    for path in _paths(settings, names, split):
        for row in _rows(settings, path, notes):
            if pairs and not row.more:
                what = "a reranker learns from queries with passages"
                raise DataError(f"{path}: {what}; give columns such as query, passages, labels.")
            if row.more:
                lists.append(Example(f"{split}-{len(lists) + 1}", row.text, more=row.more, label=row.label, role=row.role))
                continue
            for text in (row.text, row.pair):
                if text is None:
                    continue
                if not text.strip():
                    blank += 1
                elif (text, row.role) in seen:
                    again += 1
                else:
                    number += 1
                    seen[text, row.role] = Example(f"{split}-t{number}", text, role=row.role)
    if again or blank:
        notes.append(f"{split}: {number:,} texts; {again:,} that were there already and {blank:,} blank ones are left out.")
    return [*lists, *seen.values()]


def _judged(settings: TaskSettings, names: Any, split: str, notes: list[str]) -> list[Example]:
    """Rows that results are measured on."""
    paths = _paths(settings, names, split)
    of_pairs = kind(settings.kind or "").apart == "pairs"
    if not of_pairs and len(paths) == 1 and (folder := _beir_folder(paths[0])) is not None:
        return _beir(folder, paths[0], split, notes)
    rows = [row for path in paths for row in _rows(settings, path, notes)]
    if of_pairs:
        if any(row.label is None for row in rows):
            raise DataError(f"task.files.test: {split} has lists without labels; give each passage one.")
        return [replace(row, id=f"{split}-{i}") for i, row in enumerate(rows, 1)]
    found = [
        Example(f"{split}-{i}", row.text, row.pair, label=row.label, role=row.role)
        if row.pair is not None and row.label is not None
        else Example(f"{split}-{i}", row.text, more=(*((row.pair,) if row.pair is not None else ()), *row.more), role=row.role)
        for i, row in enumerate(rows, 1)
    ]  # fmt: skip
    if any(isinstance(row.label, int | float) for row in found) and any(row.label is None for row in found):
        raise DataError(f"task.files.test.{split}: some pairs have a score and some have none. Give all of them one, or none.")
    if any(row.more for row in found):  # without judgements nothing is known but what the teacher says
        alone = dict.fromkeys(text for row in found for text in (row.text, *row.more) if text)
        return [Example(f"{split}-{i}", text) for i, text in enumerate(alone, 1)]
    return found


def _rows(settings: TaskSettings, path: Path, notes: list[str]) -> Iterable[Example]:
    """The rows of one file, with what stands beside a text in `pair` or `more`."""
    folder = _beir_folder(path)
    if folder is not None:
        if path.is_dir():
            return [*_beir_texts(folder / "corpus.jsonl", "document"), *_beir_texts(folder / "queries.jsonl", "query")]
        return _answered(folder, path)
    if not is_table(path):
        return [Example(str(i), line) for i, line in enumerate(read_lines(path, settings.encoding), 1) if line.strip()]
    if path.suffix == ".tsv":
        first = read_lines(path, settings.encoding)[0].split("\t")
        if len(first) >= len(_STS) and re.fullmatch(r"\d+(\.\d+)?", first[4]) and "sentence1" not in first:
            return _table_rows(settings, read_tsv(path, columns=_STS, encoding=settings.encoding, ragged="longer"))
        if len(first) == 2 and first[0].isdigit():
            role = "query" if "quer" in path.name else "document"
            table = read_tsv(path, columns=("id", "text"), encoding=settings.encoding)
            return [Example(name, text, role=role) for name, text in table.rows]
    table = read_table(path, delimiter=settings.delimiter, encoding=settings.encoding)
    notes += table.notes
    return _table_rows(settings, table)


def _table_rows(settings: TaskSettings, table: Table) -> list[Example]:
    there, named = table.columns, settings.columns
    if named.text is not None and named.text in there:
        pair = named.pair if named.pair in there else None
        return _pairs(table, named.text, pair, named.label if isinstance(named.label, str) and named.label in there else None)
    anchor = next((name for name in _ANCHORS if name in there), None)
    if anchor is not None and "passages" in there:
        return _lists(table, anchor, probabilities=settings.scores == "probabilities")
    positive = next((name for name in there if name in _POSITIVES or re.fullmatch(r"(positive|pos)_\d+", name)), None)
    if anchor is not None and positive is not None:
        return _triplets(table, anchor)
    for one, two in _PAIRS:
        if one in there and two in there:
            return _pairs(table, one, two, next((name for name in _SCORES if name in there), None))
    alone = next((name for name in _ALONE if name in there), there[0] if len(there) == 1 else None)
    if alone is None:
        raise DataError(f"{table.source} has the columns {few(there)}; say which holds the text (task.columns.text).")
    return _pairs(table, alone, None, None)


def _pairs(table: Table, one: str, two: str | None, label: str | None) -> list[Example]:
    texts = table.column(one, key="task.columns.text")
    seconds = [None] * len(texts) if two is None else table.column(two, key="task.columns.pair")
    labels = [None] * len(texts) if label is None else table.column(label)
    numbers = label in _SCORES[:-1] or (label is not None and all(_number(cell) for cell in labels))
    return [
        Example(
            str(i),
            text_cell(text, where=table.place(i, one)),
            None if two is None else text_cell(second, where=table.place(i, two)),
            label=score(cell, where=table.place(i, label)) if numbers and not is_blank(cell) else None,
        )
        for i, (text, second, cell) in enumerate(zip(texts, seconds, labels, strict=True))
    ]  # fmt: skip


def _number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _several(cell: Any, *, where: str) -> list[str]:
    """The texts of a cell that holds one, or a list of them."""
    if is_blank(cell):
        return []
    return [text_cell(part, where=where) for part in (cell if isinstance(cell, list | tuple) else [cell])]


def _triplets(table: Table, anchor: str) -> list[Example]:
    """Anchor, positives and negatives: flat columns, or lists in a cell."""
    good = [name for name in table.columns if name in _POSITIVES or re.fullmatch(r"(positive|pos)_\d+", name)]
    bad = [name for name in table.columns if re.fullmatch(r"(negative|neg)(_\d+)?", name)]
    columns = {name: table.column(name) for name in (anchor, *good, *bad)}
    found = []
    for i, text in enumerate(columns[anchor]):
        parts = [[p for n in names for p in _several(columns[n][i], where=table.place(i, n))] for names in (good, bad)]
        if not parts[0]:
            raise DataError(f"{table.place(i)}: there is no positive. Give that row one, or leave it out.")
        grades = (*[1.0] * len(parts[0]), *[0.0] * len(parts[1]))
        query = text_cell(text, where=table.place(i, anchor))
        found.append(Example(str(i), query, more=(*parts[0], *parts[1]), label=grades, role="query"))
    return found


def _lists(table: Table, anchor: str, *, probabilities: bool) -> list[Example]:
    """A query, its passages, and what a teacher or people said of each (`scores`, `labels`); `missed` are the grades of relevant
    passages that the list lacks."""
    queries, passages = table.column(anchor), table.column("passages")
    named = next((name for name in ("scores", "labels", "teacher_scores") if name in table.columns), None)
    nothing: list[Any] = [None] * len(queries)
    said = table.column(named) if named else nothing
    missed = table.column("missed") if "missed" in table.columns else nothing
    found = []
    for i, (query, texts, numbers, lacks) in enumerate(zip(queries, passages, said, missed, strict=True)):
        more = tuple(_several(texts, where=table.place(i, "passages")))
        if not more:
            raise DataError(f"{table.place(i)}: a list without passages. Give that row some, or leave it out.")
        if numbers is not None and (not isinstance(numbers, list | tuple) or len(numbers) != len(more)):
            raise DataError(f"{table.place(i, named)}: {len(more)} passages need as many scores, got {shown(repr(numbers))}.")
        scores = None if numbers is None else tuple(score(one, where=table.place(i, named)) for one in [*numbers, *(lacks or ())])
        text = text_cell(query, where=table.place(i, anchor))
        found.append(Example(str(i), text, more=more, label=scores, role="query"))
    return _as_logits(found, table.source, probabilities) if named in ("scores", "teacher_scores") else found


def _as_logits(rows: list[Example], source: str, probabilities: bool) -> list[Example]:
    """Scores as a teacher's outputs are compared: before a sigmoid."""
    every = [one for row in rows for one in row.label or ()]  # type: ignore[union-attr]
    between = all(0 <= one <= 1 for one in every) and not all(one in (0, 1) for one in every)
    if between and not probabilities:
        raise DataError(
            f"{source}: all scores lie between 0 and 1, as behind a sigmoid, which squeezes what tells passages apart. Give "
            "logits, or say task.scores: probabilities, which undoes the sigmoid; people's grades belong into a column `labels`."
        )
    if not probabilities:
        return rows
    if not all(0 <= one <= 1 for one in every):
        raise DataError(f"{source}: task.scores: probabilities, but some scores are below 0 or above 1. Leave it out.")

    def logit(one: float) -> float:
        one = min(max(one, _LEAST), 1 - _LEAST)
        return math.log(one / (1 - one))

    return [replace(row, label=None if row.label is None else tuple(map(logit, row.label))) for row in rows]  # type: ignore[arg-type]


# -- BEIR --------------------------------------------------------------------------------------------------------------


def _beir_folder(path: Path) -> Path | None:
    """The folder of a set in BEIR's layout: itself, or that of its judgements."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "corpus.jsonl").is_file() and (folder / "queries.jsonl").is_file():
            return folder if path.is_dir() or path.parent.name == "qrels" or path.parent == folder else None
    return None


def _beir_texts(path: Path, role: str) -> list[Example]:
    """Documents (title and text, one blank between them) or queries, by their ids."""
    table = read_json(path)
    ids = table.column("_id")
    texts = table.column("text")
    titles = table.column("title") if role == "document" and "title" in table.columns else [None] * len(ids)
    found: dict[str, Example] = {}
    for i, (name, title, text) in enumerate(zip(ids, titles, texts, strict=True)):
        if (key := label_name(name)) in found:
            raise DataError(f"{table.place(i)}: the id '{key}' is there twice. Ids name one row each.")
        found[key] = Example(key, f"{title or ''} {text or ''}".strip(), role=role)
    return list(found.values())


def read_qrels(path: Path) -> dict[str, dict[str, float]]:
    """Query -> document -> grade: three columns with a header or without, or the four of TREC. Ids are texts.

    Raises:
        DataError: another number of columns, a grade that is not a number, or one pair with two grades.
    """
    found: dict[str, dict[str, float]] = {}
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("\t") if "\t" in line else line.split()
        if not cells or (number == 1 and not _number(cells[-1])):
            continue
        if len(cells) not in (3, 4):
            raise DataError(f"{path}, line {number}: {len(cells)} columns; judgements have query, document and grade (TREC: 4).")
        query, document, grade = cells[0], cells[-2], score(cells[-1], where=f"{path}, line {number}")
        if found.setdefault(query, {}).setdefault(document, grade) != grade:
            raise DataError(f"{path}, line {number}: query '{query}' and document '{document}' have two grades. Keep one.")
    return found


def _qrels_of(folder: Path, path: Path, split: str) -> Path:
    if path.is_file() and path.parent.name == "qrels":
        return path
    there = sorted(one.name for one in (folder / "qrels").glob("*.tsv")) if (folder / "qrels").is_dir() else []
    for name in (f"{split}.tsv", "test.tsv"):
        if name in there:
            return folder / "qrels" / name
    raise RecipeError(f"{folder}: name the file of judgements to report on; qrels/ has {few(there) or 'none'}.")


def _beir(folder: Path, path: Path, split: str, notes: list[str]) -> list[Example]:
    """Documents, and the queries that have a relevant one, which `label` gives as (document, grade)."""
    documents, queries = _beir_texts(folder / "corpus.jsonl", "document"), _beir_texts(folder / "queries.jsonl", "query")
    qrels = read_qrels(_qrels_of(folder, path, split))
    known = {row.id for row in documents}
    unknown = sum(document not in known for judged in qrels.values() for document in judged)
    asked = {row.id for row in queries}
    lost = sum(query not in asked for query in qrels)
    without = sum(all(grade <= 0 for grade in judged.values()) for judged in qrels.values())
    for count, what in (
        (unknown, "judged documents are not in the corpus; they count as not found"),
        (lost, "judged queries are not in queries.jsonl and are left out"),
        (without, "queries have no relevant document and are left out"),
    ):
        if count:
            notes.append(f"{split}: {count:,} {what}.")
    good = {name: judged for name, judged in qrels.items() if any(grade > 0 for grade in judged.values())}
    rows = [
        Example(row.id, row.text, label=tuple(sorted(good[row.id].items())), role="query")  # type: ignore[arg-type]
        for row in queries
        if row.id in good
    ]
    if not rows:
        raise DataError(f"{split}: no query of {folder} has a relevant document in its judgements.")
    return [*rows, *documents]


def _answered(folder: Path, path: Path) -> list[Example]:
    """Each query of some judgements with its relevant documents, to learn from."""
    documents = {row.id: row.text or "" for row in _beir_texts(folder / "corpus.jsonl", "document")}
    queries = {row.id: row.text for row in _beir_texts(folder / "queries.jsonl", "query")}
    found = []
    for query, judged in read_qrels(path).items():
        good = tuple(documents[name] for name, grade in judged.items() if grade > 0 and name in documents)
        if good and query in queries:
            found.append(Example(query, queries[query], more=good, label=(1.0,) * len(good), role="query"))
    return found


def read_judged(path: Path) -> list[Example]:
    """Queries with a relevant document, as (document, grade), and all documents, of judgements in a folder of BEIR's layout."""
    folder = _beir_folder(path)
    if folder is None:
        raise DataError(f"{path} does not lie in a folder with corpus.jsonl and queries.jsonl.")
    return _beir(folder, path, path.stem, [])


def read_rows(
    settings: TaskSettings, task: Task, file: Any, *, columns: Sequence[Any] = ()
) -> tuple[list[Example], list[str]]:
    """Queries with their passages, to be answered."""
    notes: list[str] = []
    rows = [row for path in find_files(file, key="command line") for row in _rows(settings, path, notes)]
    if any(not row.more for row in rows):
        raise DataError(f"{file}: rows without passages cannot be ranked; give columns query and passages.")
    return rows, notes


def read_texts(names: Sequence[str] | str, settings: TaskSettings) -> list[str]:
    """The texts of files, in their order: what is to be encoded."""
    notes: list[str] = []
    found = []
    for path in find_files(names, key="command line"):
        for row in _rows(settings, path, notes):
            found += [text for text in (row.text, row.pair, *row.more) if text is not None]
    return found


