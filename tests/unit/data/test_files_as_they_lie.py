"""Files as they lie around: what spreadsheets add, what is no file, what would never end, and rows that do not fit a task."""

from __future__ import annotations

import os

import pytest
import toys

from understudy.base.errors import DataError, ResourceError
from understudy.data import read as reading
from understudy.data.encode import encode
from understudy.data.read import read_table
from understudy.data.tasks import load_task
from understudy.data.types import Example, Task
from understudy.recipe.settings import TaskSettings

ROWS = "".join(f"the lamp {i} hums,{'on' if i % 2 else 'off'}\n" for i in range(20))


def load(path, **keys):
    columns = keys.pop("columns", {"text": "text", "label": "state"})
    files = {"train": str(path), **keys.pop("files", {})}
    given = {"name": "custom", "kind": "classification", "files": files, "columns": columns, **keys}
    return load_task(TaskSettings.model_validate(given), seed=0)


def test_columns_and_rows_that_a_spreadsheet_adds_are_left_out_and_counted(write):
    rows = ROWS.replace("\n", ",,\n")
    data = load(write("sheet.csv", "text,state,,\n" + rows + ",,,\n,,,\n"))
    assert len(data.train) + len(data.select) + len(data.tests["test"]) == 20
    assert any("2 rows without any content" in note for note in data.notes)
    assert any("2 columns without a name and content" in note for note in data.notes)


def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "endless.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "endless.csv"):
        with pytest.raises(DataError, match=f"{name} is not a regular file"):
            read_table(tmp_path / name)
    with pytest.raises(DataError, match="is a folder; name a file in it"):
        read_table(tmp_path)


@pytest.mark.parametrize("name", ["small.csv.gz", "small.parquet"])
def test_what_would_not_fit_into_memory_is_refused(tmp_path, monkeypatch, name):
    import gzip

    import pyarrow
    import pyarrow.parquet

    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"text,state\n" + b"a" * 100_000))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a" * 100] * 1000, "state": ["on"] * 1000}), tmp_path / name)
    assert (tmp_path / name).stat().st_size < 20_000  # it is small on disk
    monkeypatch.setattr(reading, "MOST_BYTES", 90_000)
    with pytest.raises(ResourceError, match="give a part of it"):
        read_table(tmp_path / name).column("text")


def test_a_test_file_without_labels_is_not_reported_on_and_rows_are_held_out(write):
    bare = write("later.csv", "text\nthe lamp hums\n")
    data = load(write("train.csv", "text,state\n" + ROWS), files={"test": str(bare)})
    assert list(data.tests) == ["held-out"] and any("nothing is reported on it" in note for note in data.notes)


def test_ones_and_zeros_that_a_data_frame_wrote_as_numbers(write):
    path = write("wide.csv", "text,red,blue\n" + "".join(f"lamp {i},{i % 2}.0,{float(i % 3 == 0)}\n" for i in range(20)))
    data = load(path, kind="multilabel", columns={"text": "text", "label": ["red", "blue"]})
    by_text = {row.text: row.label for part in (data.train, data.select, *data.tests.values()) for row in part}
    assert by_text == {f"lamp {i}": (i % 2, int(i % 3 == 0)) for i in range(20)}
    with pytest.raises(DataError, match="'2.0' is neither 0 nor 1"):
        odd = write("odd.csv", "text,red,blue\nlamp,2.0,0.0\n")
        load(odd, kind="multilabel", columns={"text": "text", "label": ["red", "blue"]})


def test_a_label_that_has_no_end_is_shown_cut(write):
    with pytest.raises(DataError) as caught:
        load(write("lost.csv", 'text,state\nthe lamp,on\nthe desk,"' + "x" * 1_000_000 + '"\n'))
    assert "a label of 1,000,000 characters" in str(caught.value) and len(str(caught.value)) < 500


class Broken:
    """A tokenizer whose compiled part gives up on a character."""

    is_fast, name_or_path = True, "broken"

    def __init__(self):
        self.whole = toys.tokenizer()

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def __call__(self, texts, *rest, **options):
        if any("☃" in text for text in texts):
            raise type("PanicException", (BaseException,), {})("no entry for this character")
        return self.whole(texts, *rest, **options)


def test_a_text_that_the_tokenizer_gives_up_on_is_named():
    task = Task("t", "classification", ("on", "off"))
    rows = [Example("a", text="good day"), Example("b", text="bad ☃")]
    with pytest.raises(DataError, match=r"tokenizer of broken cannot cut the text of row 'b' .*no entry for this character"):
        encode(rows, Broken(), task, max_length=16)


def test_a_second_text_that_the_task_would_not_read_is_refused():
    rows = [Example("a", text="good day"), Example("b", text="good", pair="bad")]
    with pytest.raises(DataError, match=r"row 'b' has a second text, which the task 't' does not read.*pair=True"):
        encode(rows, toys.tokenizer(), Task("t", "classification", ("on", "off")), max_length=16)
    assert len(encode(rows, toys.tokenizer(), Task("t", "classification", ("on", "off"), pair=True), max_length=16)) == 2
