"""The classes of PTP on the page."""

from __future__ import annotations

from understudy.methods.peakd.page import section
from understudy.methods.peakd.ptp import CLASSES

MADE = {
    "names": list(CLASSES), "thresholds": [0.9876, 0.6], "counts": {"train": [60, 30, 10, 0], "select": [1, 1, 1, 1]},
}  # fmt: skip


def test_counts_shares_and_thresholds_are_shown():
    shown = section({"ptp-classes": MADE})
    assert shown is not None
    train, select = shown["panels"]
    notes = ["60 · 60 %", "30 · 30 %", "10 · 10 %", "0 · 0 %"]
    assert [(part["words"], part["note"]) for part in train["legend"]] == list(zip(CLASSES, notes, strict=True))
    assert [part["note"] for part in select["legend"]] == ["1 · 25 %"] * 4
    assert train["title"] == "The 100 training rows" and str(train["chart"]).count("<rect") == 4
    assert "above 0.988 where it is right, above 0.6 where it is wrong" in train["note"]


def test_a_run_without_ptp_has_no_section():
    assert section({}) is None
