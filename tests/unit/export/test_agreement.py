"""The comparison that every export has to pass."""

from __future__ import annotations

import numpy as np
import pytest
from exports import student

from understudy.base.errors import VerifyError
from understudy.data.encode import Encoded
from understudy.export.agreement import Rows, agreement, batches, built_in_rows, require_equal, torch_call


def encoded(*rows: list[int]) -> Encoded:
    offsets = np.cumsum([0, *map(len, rows)])
    types = np.concatenate([np.arange(len(row)) % 2 for row in rows]).astype(np.int8)
    ids = np.concatenate(rows).astype(np.int32)
    return Encoded([str(i) for i in range(len(rows))], ids, offsets, token_type_ids=types)


ROWS = encoded([2, 6, 3], [2, 7, 8, 9, 3], [2, 6, 6, 3])


def test_batches_are_one_row_alone_and_then_padded_ones():
    first, second = batches(student(types=True), ROWS, limit=10)
    assert first["input_ids"].tolist() == [[2, 6, 3]] and first["token_type_ids"].tolist() == [[0, 1, 0]]
    assert second["input_ids"].tolist() == [[2, 7, 8, 9, 3], [2, 6, 6, 3, 0]]
    assert second["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
    assert second["token_type_ids"].tolist() == [[0, 1, 0, 1, 0], [0, 1, 0, 1, 0]]
    assert "token_type_ids" not in next(batches(student(), ROWS, limit=10))
    assert [len(batch["input_ids"]) for batch in batches(student(), ROWS, limit=1)] == [1]


def call_of(table):
    """Logits by the second token of a row."""
    return lambda given: np.array([table[int(row[1])] for row in given["input_ids"]], np.float32)


def test_a_small_difference_passes_and_is_reported():
    wanted, given = call_of({6: [1.0, 0.0], 7: [0.0, 2.0]}), call_of({6: [1.0, 0.0], 7: [0.00005, 2.0]})
    found = require_equal(student(), wanted, given, Rows("toys", {"select": ROWS}), form="hf")
    assert found["rows"] == 3 and found["on"] == "toys" and found["largest_logit"] == 2.0
    assert found["max_abs_difference"] == pytest.approx(5e-5)


@pytest.mark.parametrize("wrong", [0.01, float("nan"), float("inf")])
def test_a_difference_in_one_row_is_an_error(wrong):
    wanted, given = call_of({6: [1.0, 0.0], 7: [0.0, 2.0]}), call_of({6: [1.0, 0.0], 7: [wrong, 2.0]})
    with pytest.raises(VerifyError, match="padded export differs from the student by .* on toys"):
        require_equal(student(), wanted, given, Rows("toys", {"select": ROWS}), form="padded")


def test_another_number_of_outputs_is_an_error():
    wanted, given = call_of({6: [1.0, 0.0], 7: [0.0, 2.0]}), call_of({6: [1.0], 7: [0.0]})
    with pytest.raises(VerifyError, match="shape"):
        require_equal(student(), wanted, given, Rows("toys", {"select": ROWS}), form="onnx")


def test_padding_is_not_compared():
    model = student(kind="tokens")

    def noisy(given):
        clean = torch_call(model.net)(given)
        return np.where(given["attention_mask"][..., None] == 1, clean, 1e6)

    rows = Rows("toys", {"select": ROWS})
    assert require_equal(model, torch_call(model.net), noisy, rows, form="onnx")["max_abs_difference"] == 0
    same = agreement(model, torch_call(model.net), noisy, rows)
    assert same["select"] == {"rows": 3, "same": 1.0, "mean_abs_difference": 0.0}


def test_agreement_counts_decisions():
    wanted, given = call_of({6: [1.0, 0.0], 7: [0.0, 2.0]}), call_of({6: [0.9, 0.0], 7: [3.0, 2.0]})
    rows = Rows("toys", {"select": ROWS, "test": encoded([2, 7, 3])})
    found = agreement(student(), wanted, given, rows)
    assert found["select"]["same"] == pytest.approx(2 / 3) and found["test"]["same"] == 0
    assert found["select"]["mean_abs_difference"] == pytest.approx((0.05 + 1.5 + 0.05) / 3)
    assert agreement(student(kind="regression"), wanted, given, rows)["select"]["same"] is None
    # Several labels: the same set of them, not the same largest one.
    assert agreement(student(kind="multilabel"), wanted, given, rows)["test"]["same"] == 0
    up = call_of({6: [9.0, 0.0], 7: [0.0, 0.1]})
    assert agreement(student(kind="multilabel"), wanted, up, rows)["select"]["same"] == 1


@pytest.mark.parametrize("kind", ["classification", "tokens", "text"])
def test_built_in_rows_fit_every_kind(kind):
    rows = built_in_rows(student(kind=kind))
    (part,) = rows.parts.values()
    assert len(part) > 64 and part.lengths.max() <= 40 and "built-in" in rows.what
