"""Stock forms load where this package cannot be imported; the exact form does not, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from exports import inputs, pruned, run_hidden, student

from understudy.export import export_model
from understudy.models.restructure import cut
from understudy.recipe.settings import LatencySettings

QUICK = LatencySettings(length=8, repeats=3)
LOAD = """
import json, torch
from transformers import AutoModelForSequenceClassification as Auto
given = {name: torch.tensor(value) for name, value in json.load(open("inputs.json")).items()}
def logits(folder):
    with torch.inference_mode():
        return Auto.from_pretrained(folder).eval()(**given).logits.tolist()
"""


def test_with_transformers_alone(tmp_path: Path):
    small, even = pruned(student()), student()
    cut(even.net, neurons=[[9, 5], [1, 40], [3, 2]])
    given = {name: value.tolist() for name, value in inputs().items()}
    (tmp_path / "inputs.json").write_text(json.dumps(given))
    for form, model in (("padded", small), ("exact", small), ("hf", even)):
        export_model(model, form, out=tmp_path / form, latency=QUICK)
    with torch.inference_mode():
        wanted = {"padded": small.net(**inputs()).logits, "hf": even.net(**inputs()).logits}
        wanted["exact"] = wanted["padded"]

    code = (
        LOAD
        + """
print(json.dumps({form: logits(form) for form in ("hf", "padded")}))
try:
    logits("exact")
except Exception as error:
    print(type(error).__name__, error)
"""
    )
    done = run_hidden(code, tmp_path, hidden=("understudy",))
    assert done.returncode == 0, done.stderr
    found, refused = done.stdout.split("\n", 1)
    for form, logits in json.loads(found).items():
        torch.testing.assert_close(torch.tensor(logits), wanted[form], atol=1e-6, rtol=1e-5)
    assert "understudy" in refused

    done = run_hidden(f"import understudy\nunderstudy.register()\n{LOAD}print(json.dumps(logits('exact')))", tmp_path, hidden=())
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.tensor(json.loads(done.stdout)), wanted["exact"])
