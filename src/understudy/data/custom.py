"""Your own files and columns: any kind of task from csv, tsv, JSON, parquet, CoNLL columns or plain text.

One reader for all that rows are needed for: to learn from, to report on, and to answer (`read_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from understudy.base.errors import DataError, RecipeError
from understudy.base.suggest import did_you_mean, few, nearest
from understudy.data.answers import answer_columns, decided, names_in, read_answers
from understudy.data.glue import GLUE
from understudy.data.hub import hub_table
from understudy.data.ner import tagged_examples
from understudy.data.read import Table, find_files, inner_suffix, is_table, joined, read_lines, read_table, read_tsv
from understudy.data.tags import Sentence, labels_found, labels_given, named, read_conll
from understudy.data.types import Example, Splits, Task, Windows
from understudy.kinds import kind
from understudy.kinds.cells import is_blank, label_name, list_cell, list_literal, sorted_names, text_cell, zero_or_one

if TYPE_CHECKING:
    from understudy.recipe.settings import AnswerSettings, ColumnSettings, TaskSettings

Labels = Literal["needed", "optional", "ignored"]


def load_custom(settings: TaskSettings, answers: AnswerSettings | None = None) -> Splits:
    """The files of `settings.files`, relative to `settings.path` where that is given.

    answers: columns with what a teacher said; without a column of labels its answers are the labels.
    """
    if settings.files is None or settings.kind is None:
        raise RecipeError("task: a custom task needs `kind` (such as classification) and `files: {train: …}`.")
    notes: list[str] = []
    train_file = _File(settings, settings.files.train, "train", notes, answers=answers)
    task = custom_task(settings, _labels(settings, train_file))
    train = train_file.examples(task, notes, labels="optional")
    dev = _File(settings, settings.files.dev, "dev", notes, answers=answers).examples(task, notes) if settings.files.dev else []
    tests: dict[str, list[Example]] = {}
    unlabelled = False
    for name, file in _test_files(settings).items():
        opened = _File(settings, file, name, notes, answers=answers)
        if opened.labelled():
            tests[name] = opened.examples(task, notes)
        else:
            unlabelled = True
            notes.append(f"{opened.source} has no labels, so nothing is reported on it.")
    return Splits(task, train, dev, tests, report_dev=not tests, notes=notes, held_out="held-out" if unlabelled else "test")


def load_tests(settings: TaskSettings, labels: Sequence[str]) -> tuple[Task, dict[str, list[Example]], list[str]]:
    """The test files alone, read for a model with these labels (or with `task.labels`): each file must have labels."""
    notes: list[str] = []
    files = {name: _File(settings, file, name, notes) for name, file in _test_files(settings).items()}
    if settings.labels:
        labels = _labels(settings, next(iter(files.values())))
    task = windowed(with_metric(custom_task(settings, tuple(labels)), settings.select), settings)
    return task, {name: file.examples(task, notes) for name, file in files.items()}, notes


def custom_task(settings: TaskSettings, labels: tuple[str, ...]) -> Task:
    """The task that `settings` describe, with the labels of a file or of a model."""
    assert settings.kind is not None
    asked = kind(settings.kind)
    metrics = asked.default_metrics(labels)
    return Task(settings.name.removeprefix("custom/"), asked, labels, metrics, metrics[0], pair=settings.columns.pair is not None)


def read_rows(
    settings: TaskSettings, task: Task, file: str | Table, *, columns: Sequence[ColumnSettings]
) -> tuple[list[Example], list[str]]:
    """Rows to be answered, in the file's order, and notes on what was left out. Labels are not looked at.

    Args:
        settings: how the file is to be read: delimiter, encoding, suffix of the training file.
        file: its name, or a table that is in memory already.
        columns: which column holds what; of several layouts the first that a table has. Of a table with a single column, or one
            called `text`, the name may be missing.

    Raises:
        DataError: no such file or column, no rows, or a cell that is neither a text nor a list of words.
    """
    notes: list[str] = []
    settings = settings.model_copy(update={"columns": columns[0], "path": None})
    opened = _File(settings, file, "", notes, of_kind=task.kind, to_answer=True)
    there = opened.table.columns if opened.table is not None else ()
    fits = [one for one in columns if (one.words if task.kind.by_word else one.text) in (None, *there)]
    official = GLUE.get(settings.name.removeprefix("glue/"))
    bare = official.train_columns if official else None
    # Without a header, as the task's own files?
    if isinstance(file, str) and bare and len(there) == len(bare) and (not fits or fits[0].text is None):
        path = find_files(file, key="command line")[0]
        opened.table = read_tsv(path, columns=bare, encoding=settings.encoding)
        notes.append(f"{path} has no header: its columns are taken to be {', '.join(bare)}, as in the files of {settings.name}.")
        fits = [one for one in columns if one.text in bare]
    opened.columns = fits[0] if fits else columns[0]
    return opened.examples(task, notes, labels="ignored"), notes


def windowed(task: Task, settings: TaskSettings) -> Task:
    """The task with the windows in which the recipe reads its texts.

    Raises:
        RecipeError: for kinds where windows have no meaning, with the reason.
    """
    asked, of = settings.windows, task.kind
    if asked is None:
        return task
    reason = (
        "its rows are words with tags: cut sentences at their ends, so that each word is tagged once and in its context"
        if of.by_word
        else "a model of texts learns from each passage by itself: cut the file into passages"
        if of.on_vocabulary
        else "it has no outputs for a text that could be pooled"
        if of.pooled or of.per_token or of.rows != "custom"
        else "the weights of attention are the outputs' own, and of numbers the largest would always win; use mean or max"
        if of.numeric and asked.pool == "attention"
        else ""
    )
    if reason:
        raise RecipeError(f"task.windows: not for kind {of}: {reason}.")
    return replace(task, windows=Windows(**asked.model_dump()))


def with_metric(task: Task, metric: str | None) -> Task:
    """The task with the metric that the recipe selects by."""
    if metric is None or metric == task.select:
        return task
    known = task.kind.metrics
    if metric not in known:
        raise RecipeError(
            f"task.select: there is no metric '{metric}' for {task.name}.{did_you_mean(metric, known)} "
            f"Metrics: {', '.join(known)}."
        )
    return replace(task, metrics=tuple(dict.fromkeys((metric, *task.metrics))), select=metric)


def _test_files(settings: TaskSettings) -> dict[str, Any]:
    test = settings.files.test if settings.files else None
    return dict(test) if isinstance(test, dict) else {"test": test} if test else {}


class _File:
    """One file (or several, read as one): a table, tagged sentences, or lines of text. Read once."""

    def __init__(
        self,
        settings: TaskSettings,
        names: Any,
        split: str,
        notes: list[str],
        *,
        answers: AnswerSettings | None = None,
        of_kind: str = "",
        to_answer: bool = False,
    ) -> None:
        self.answers = answers
        self.labels_are_answers = answers is not None and settings.columns.label is None
        self.settings, self.columns, self.split = settings, settings.columns, split
        self.kind = kind(of_kind or settings.kind or "")
        self.table: Table | None = None
        self.sentences: list[Sentence] = []
        self.lines: list[str] = []
        if isinstance(names, Table):
            self.source, self.table = names.source, names
            return
        self.source = names if isinstance(names, str) else names[0]
        if self.source.startswith("hub:"):
            self.table = hub_table(self.source)
            return
        key = f"task.files.{split}" if split else "command line"
        paths = find_files(names, base=settings.path, key=key)
        self.source = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        read = settings.encoding
        form = self._form(paths[0], to_answer)
        if form == "table":
            self.table = joined([read_table(path, delimiter=settings.delimiter, encoding=read) for path in paths])
            notes += self.table.notes
        elif form == "lines":
            self.lines = [line for path in paths for line in read_lines(path, read)]
        else:
            by_number = not to_answer or str(self.columns.words).lstrip("-").isdigit()  # trained on a table, asked about columns
            words = _column_number(self.columns.words if by_number else None, 0, key="words")
            tags = _column_number(self.columns.tags if by_number else None, -1, key="tags")
            for path in paths:
                sentences, said = read_conll(path, words=words, tags=tags, delimiter=settings.delimiter, encoding=read)
                self.sentences += sentences
                notes += said

    def _form(self, path: Path, to_answer: bool) -> Literal["table", "lines", "conll"]:
        """What the file holds, by its name; rows to be answered may stand in a plain text file, a text on each line."""
        if is_table(path):
            return "table"
        if not self.kind.labelled:
            return "lines"
        if not to_answer:
            return "conll" if self.kind.by_word else "table"
        trained_on = self.settings.files.train if self.settings.files else None
        suffix = inner_suffix(Path(trained_on if isinstance(trained_on, str) else trained_on[0])) if trained_on else ""
        lines = [line for line in read_lines(path, self.settings.encoding) if line.strip()]
        if not self.kind.by_word:  # a table named .txt, as the training file, has its header
            header = lines[0].split(self.settings.delimiter or ",")
            return "table" if suffix == ".txt" and self.columns.text in [name.strip('"') for name in header] else "lines"
        widths = {len(line.split(self.settings.delimiter)) for line in lines}
        columns = inner_suffix(path) in (".conll", ".conllu", ".bio", ".iob") or suffix == inner_suffix(path) != ""
        # words with their columns have as many on each line; sentences hardly ever do
        return "conll" if columns and len(widths) == 1 and (len(lines) > 1 or widths == {1}) else "lines"

    def labelled(self) -> bool:
        """Whether there is a label column with anything in it; an error where one is called almost so."""
        if not self.kind.labelled:
            return True
        if self.table is None:
            return bool(self.sentences[0].tags)
        if self.labels_are_answers:
            return True
        column = self.columns.tags if self.kind.by_word else self.columns.label
        for name in [column] if isinstance(column, str) else column or ():
            if name not in self.table.columns and nearest(name, self.table.columns):
                self.table.column(name, key="task.columns.tags" if self.kind.by_word else "task.columns.label")
        if not isinstance(column, str):
            return column is not None and all(name in self.table.columns for name in column)
        return column in self.table.columns and not all(is_blank(cell) for cell in self.table.column(column))

    def examples(self, task: Task, notes: list[str], *, labels: Labels = "needed") -> list[Example]:
        """The rows with their labels; `notes` gets a sentence on everything that is left out."""
        if task.kind.by_word and (self.table is not None or self.sentences):
            found = self.tagged(labels)
            if labels == "ignored":
                return [Example(row.id or str(i), words=row.words) for i, row in enumerate(found, 1)]
            return tagged_examples(found, task.labels, split=self.split, source=self.source, notes=notes)
        if self.table is None:
            return self._passages(task, notes)
        return self._rows(task, notes, labels)

    def names_found(self) -> tuple[str, ...]:
        """The label names in this file, in their order."""
        if self.kind.by_word:
            return labels_found(self.tagged("optional"), source=self.source)
        assert self.table is not None
        if self.answers is not None and self.labels_are_answers:
            return tuple(sorted_names(names_in(self.answers, self.table, self.kind, separator=self.settings.label_separator)))
        column = _needed(self.columns.label, "label")
        names: set[str] = set()
        seen: set[str] = set()
        for i, cell in enumerate(self._labels_in(column)):
            if isinstance(cell, str):
                if cell in seen:
                    continue
                seen.add(cell)
            where, separator = self.table.place(i, column), self.settings.label_separator
            names.update(self.kind.names_in(cell, separator=separator, where=where))
        return tuple(sorted_names(names))

    def _labels_in(self, column: str, key: str = "task.columns.label") -> list[Any]:
        """The cells of a label column, by the names that `task.label_map` gives them."""
        assert self.table is not None
        cells = self.table.column(column, key=key)
        names = self.settings.label_map
        if not names:
            return cells
        several = self.kind.distribution == "sigmoid"

        def mapped(cell: Any) -> Any:
            if is_blank(cell):
                return cell
            if isinstance(cell, str) and (several or self.kind.by_word):
                split = list_literal(cell)
                parts = cell.split(self.settings.label_separator) if several else cell.split()
                cell = parts if split is None else split
            if isinstance(cell, list | tuple):
                return [mapped(part) if not isinstance(part, str) else names.get(part.strip(), part) for part in cell]
            return names.get(label_name(cell), cell)

        return [mapped(cell) for cell in cells]

    def _passages(self, task: Task, notes: list[str]) -> list[Example]:
        """One passage a line. Rows to be answered (`split` "") are named by their lines."""
        numbered = [(i, line) for i, line in enumerate(self.lines) if line.strip()]
        if len(numbered) < len(self.lines):
            notes.append(f"{self.source}: {len(self.lines) - len(numbered)} blank lines are left out.")
        if self.split:
            return [Example(f"{self.split}-{i}", text=line) for i, line in numbered]
        if task.pair:
            raise DataError(
                f"{self.source} holds one text on each line, but the model reads pairs. Give a table, and name its second text."
            )
        if task.kind.by_word:
            return [Example(str(i + 1), words=tuple(line.split())) for i, line in numbered]
        return [Example(str(i + 1), text=line) for i, line in numbered]

    def tagged(self, labels: Labels = "needed") -> list[Sentence]:
        """The sentences of a CoNLL file, or of a table with a column of words and one of tags."""
        table, columns = self.table, self.columns
        if table is None:
            if labels != "ignored" and not self.labelled() and (labels == "needed" or not self.settings.labels):
                raise DataError(f"{self.source} has words but no tags. Put a tag behind each word, or name its column.")
            names = self.settings.label_map or {}
            renamed = (replace(one, tags=tuple(names.get(tag, tag) for tag in one.tags)) for one in self.sentences)
            return [named(sentence, self.settings.labels, source=self.source) for sentence in renamed]
        words_column = self._text_column("words")
        words = table.column(words_column, key="task.columns.words")
        tags: list[Any] = [None] * len(words)
        if labels == "needed" or (labels == "optional" and (columns.tags in table.columns or not self.settings.labels)):
            tags = self._labels_in(_needed(columns.tags, "tags"), key="task.columns.tags")
        groups = table.column(columns.group, key="task.columns.group") if columns.group in table.columns else None
        if self._word_per_row(words, tags):
            found = self._gathered(words, tags, groups, words_column, labels)
        else:
            ids = self._ids(table)
            found = []
            for i, (cell, tag_cell) in enumerate(zip(words, tags, strict=True)):
                row = () if labels == "ignored" and is_blank(cell) else list_cell(cell, where=table.place(i, words_column))
                blank = labels != "needed" and is_blank(tag_cell)
                marks = () if blank else list_cell(tag_cell, where=table.place(i, columns.tags))
                if marks and len(row) != len(marks):
                    raise DataError(
                        f"{table.place(i)}: {len(row)} words but {len(marks)} tags. Each word needs one tag; correct that row."
                    )
                group = None if groups is None or is_blank(groups[i]) else label_name(groups[i])
                found.append(Sentence(row, marks, table.lines[i], one_line=True, id=ids[i] if ids else None, group=group))
        return [named(sentence, self.settings.labels, source=self.source) for sentence in found]

    def _word_per_row(self, words: Sequence[Any], tags: Sequence[Any]) -> bool:
        """Whether each row holds one word, rather than a sentence."""

        def single(cell: Any) -> bool:
            if isinstance(cell, str):
                return len(cell.split()) < 2 and not list_literal(cell)
            return not isinstance(cell, list | tuple)

        return len(words) > 1 and all(map(single, words)) and all(map(single, tags))

    def _gathered(
        self, words: Sequence[Any], tags: Sequence[Any], groups: Sequence[Any] | None, column: str, labels: Labels
    ) -> list[Sentence]:
        """Rows of one word each as sentences: `task.columns.group` says which it belongs to, on each row or on its first."""
        table = self.table
        assert table is not None
        if groups is None:
            raise DataError(
                f"{self.source}: each row holds one word. Name the column that says which sentence it belongs to as "
                "task.columns.group, or put the words of a sentence into one cell (a list, or with spaces between them)."
            )
        sentences: list[Sentence] = []
        now, start = None, 0
        rows: list[list[str]] = []

        def close() -> None:
            if rows:
                marks = tuple(row[1] for row in rows) if labels != "ignored" else ()
                sentences.append(Sentence(tuple(row[0] for row in rows), marks, table.lines[start], id=now))

        for i, (word, tag, group) in enumerate(zip(words, tags, groups, strict=True)):
            if is_blank(word) or (labels != "ignored" and is_blank(tag)):
                raise DataError(f"{table.place(i, column)}: a word or its tag is missing. Correct or drop that row.")
            name = now if is_blank(group) else label_name(group)
            if name is None:
                raise DataError(f"{table.place(i, self.columns.group)}: the first row does not say which sentence it belongs to.")
            if name != now:
                close()
                rows, now, start = [], name, i
            rows.append([str(word), label_name(tag)])
        close()
        return sentences

    def _text_column(self, key: Literal["text", "words"]) -> str:
        """The column named for texts or words; of rows to be answered, the only column or `text` may go without a name."""
        column = getattr(self.columns, key)
        if column is None and not self.split and self.table is not None:
            columns = self.table.columns
            column = "text" if "text" in columns else columns[0] if len(columns) == 1 else None
            if column is None:
                raise DataError(f"{self.source} has the columns {few(columns)}: say which holds the text with --text COLUMN.")
            if column not in ("text", "words") and any(mark in column for mark in ";\t|,"):
                raise DataError(
                    f"{self.source}: its only column is called '{column}', which looks like several. Give the character between "
                    "columns with --delimiter."
                )
        return _needed(column, key)

    def _ids(self, table: Table) -> list[str] | None:
        """The names of the rows, each given once. Rows to be answered may come without."""
        column = self.columns.id
        if column is None or (not self.split and column not in table.columns):
            return None
        names: list[str] = []
        seen: dict[str, int] = {}
        for i, cell in enumerate(table.column(column, key="task.columns.id")):
            name = label_name(cell, where=table.place(i, column))
            if name in seen:
                raise DataError(
                    f"{table.place(i, column)}: the id '{name}' is that of line {table.lines[seen[name]]} too. "
                    "Ids name one row each; correct it, or leave task.columns.id out."
                )
            seen[name] = i
            names.append(name)
        return names

    def _rows(self, task: Task, notes: list[str], how: Labels) -> list[Example]:
        table, columns = self.table, self.columns
        assert table is not None
        text_column = self._text_column("text")
        texts = table.column(text_column, key="task.columns.text")
        none: list[Any] = [None] * len(texts)
        if task.pair and columns.pair is None:
            raise DataError(f"{self.source}: the model reads pairs; name the column with the second text (--pair COLUMN).")
        pairs = table.column(columns.pair, key="task.columns.pair") if columns.pair else none
        ids = self._ids(table)
        groups = table.column(columns.group, key="task.columns.group") if columns.group and self.split else none
        said = none
        if self.answers is not None and how != "ignored":
            said = read_answers(self.answers, table, task, separator=self.settings.label_separator, notes=notes)
        if self.labels_are_answers:
            labels = [None if one is None else decided(task.kind, one) for one in said]
        else:
            labels = none if how == "ignored" or not task.kind.labelled else self._label_values(task, how, notes)
        rows = [
            Example(
                ids[i] if ids else f"{self.split}-{i}" if self.split else str(i + 1),
                text=text if isinstance(text, str) else text_cell(text, where=table.place(i, text_column)),
                pair=pair if isinstance(pair, str) or not columns.pair else text_cell(pair, where=table.place(i, columns.pair)),
                label=label,
                group=None if is_blank(group) else label_name(group),
                said=answer,
            )
            for i, (text, pair, group, label, answer) in enumerate(zip(texts, pairs, groups, labels, said, strict=True))
        ]
        if self.labels_are_answers and self.split == "train":
            notes.append("No column holds labels: the teacher's answers are the labels; scores tell how often both agree.")
        if self.labels_are_answers and self.split != "train":
            rows = [row for row in rows if row.said is not None]
        empty = [row for row in rows if not (row.text or "").strip()]
        if empty and not task.kind.labelled:
            notes.append(f"{table.source}: {len(empty)} blank texts are left out.")
            rows = [row for row in rows if (row.text or "").strip()]
        elif empty:
            notes.append(f"{table.source}: {len(empty)} rows have an empty text; they are kept.")
        used = {text_column, columns.pair, columns.id, columns.group}
        used |= set(answer_columns(self.answers)) if self.answers else set()
        used |= {columns.label} if isinstance(columns.label, str) else set(columns.label or ())
        if self.split == "train" and (ignored := [name for name in table.columns if name not in used]):
            notes.append(f"Columns of {table.source} that are not used: {few(ignored)}.")
        return rows

    def _label_values(self, task: Task, how: Labels, notes: list[str]) -> list[Any]:
        table, column = self.table, self.columns.label
        assert table is not None
        optional = how == "optional" and task.kind.distribution != "sigmoid"  # an empty cell there is a set without labels
        if how == "optional" and self.settings.labels and isinstance(column, str) and column not in table.columns:
            self.labelled()  # refuses a name that is almost there
            notes.append(f"{table.source} has no column '{column}'.")
            return [None] * len(table)
        numbers = {label: i for i, label in enumerate(task.labels)}
        if isinstance(column, Sequence) and not isinstance(column, str):  # one 0/1 column per label
            cells = [table.column(name, key="task.columns.label") for name in column]
            return [
                tuple(zero_or_one(c, where=table.place(i, name)) for c, name in zip(row, column, strict=True))
                for i, row in enumerate(zip(*cells, strict=True))
            ]
        name = _needed(column, "label")
        separator = self.settings.label_separator

        known: dict[Any, Any] = {}  # labels recur: each is understood once

        def value(i: int, cell: Any) -> Any:
            if isinstance(cell, str) and cell in known:
                return known[cell]
            if optional and is_blank(cell):
                return None
            found = task.kind.parse(cell, numbers, separator=separator, where=table.place(i, name))
            if isinstance(cell, str):
                known[cell] = found
            return found

        return [value(i, cell) for i, cell in enumerate(self._labels_in(name))]


def _labels(settings: TaskSettings, train: _File) -> tuple[str, ...]:
    """The label set: as given, else as found in train."""
    if not train.kind.named:
        return ()
    if train.kind.by_word:
        return labels_given(settings.labels, train.tagged("optional")) if settings.labels else train.names_found()
    column = settings.columns.label
    if column is not None and not isinstance(column, str):
        if train.kind.distribution != "sigmoid":
            raise RecipeError("task.columns.label: a list of columns is for kind multilabel; name one column.")
        if settings.labels and len(settings.labels) != len(column):
            raise RecipeError(
                f"task.labels names {len(settings.labels)} labels for {len(column)} columns; give as many."
            )
        return tuple(settings.labels or column)
    return tuple(settings.labels or train.names_found())


def _needed(column: Any, key: str) -> str:
    if isinstance(column, str):
        return column
    raise RecipeError(f"task.columns.{key} is missing: name the column of your file that holds it.")


def _column_number(column: str | None, default: int, *, key: str) -> int:
    if column is None:
        return default
    try:
        return int(column)
    except ValueError:
        raise RecipeError(
            f"task.columns.{key}: CoNLL files have no header, so a column is a number from 0 (or -1 for the last), "
            f"not '{column}'."
        ) from None
