"""The curves of a step carry the step's own name, whatever it was scored by."""

from __future__ import annotations

from understudy.report.sections import training


def test_a_step_keeps_its_name_beside_its_metrics():
    rows = [
        {"step": 0, "loss": 2.0, "lr": 1e-4, "terms": {"hard": {"value": 2.0, "weight": 1.0, "share": 1.0}}},
        {"step": 1, "loss": 1.0, "lr": 2e-4, "terms": {"hard": {"value": 1.0, "weight": 1.0, "share": 1.0}}},
        {"step": 1, "select": {"accuracy": 0.5, "f1": 0.25}},
        {"step": 2, "select": {"accuracy": 0.75, "f1": 0.5}},
    ]
    made = training("student", rows)
    assert made["name"] == "student" and made["steps"] == 2
    titles = {panel["title"]: panel["note"] for panel in made["panels"]}
    assert titles["Validation: accuracy"] == "best 0.750 at step 2"
    assert {"Loss", "Validation: F1", "Learning rate"} <= set(titles)
