"""README and docs are true: every block of bash, YAML and Python in them is a command that parses, a recipe that loads, code
that compiles. `tests/conformance/test_documents.py` runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from documents import PAGES, ROOT, RUN, SHOWN, Block, blocks

from understudy.base import yaml
from understudy.cli import app
from understudy.cli_support import _overrides
from understudy.recipe.comparison import load_comparison
from understudy.recipe.load import load_recipe, recipe_from
from understudy.recipe.method import methods

COMMANDS = [(block, words) for page in PAGES for block in blocks(page, "bash") for words in block.commands()]
GROUP = typer.main.get_command(app)
BASE = {"task": {"name": "demo/intent"}, "teacher": {"model": "owner/name", "finetune": {"epochs": 1}},
        "student": {"num_layers": 3}, "method": "automm"}  # fmt: skip


def test_every_block_says_what_it_is():
    """No block without a language, and none by indentation, where nothing could tell a command from its output."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language in RUN + SHOWN, f"{block}: ```{block.language}"
            assert not re.search(r"^\$ ", block.text, re.M), f"{block}: a command and its output are two blocks"
        outside = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        indented = re.search(r"(?:^|\n)(?![ ]*(?:[*+-]|\d+\.) )\S[^\n]*\n\n(    [^\s*+-][^\n]*)", outside)
        assert indented is None, f"{page}: a block by indentation: {indented and indented[1]}"


@pytest.mark.parametrize(("block", "words"), COMMANDS, ids=lambda one: str(one) if isinstance(one, Block) else one[:1][0])
def test_every_command_parses(block, words, tmp_path):
    """Options exist; recipes of ours load with what the command changes of them, and so do those of the page's own."""
    while re.fullmatch(r"[A-Z_]+=.*|export|srun", words[0]):  # settings, and a scheduler's own start of a command
        words = words[1:]
        if not words:
            return
    if ">" in words:
        words = words[: words.index(">")]
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.M)
        assert all(one in targets or "=" in one for one in arguments), block
    elif program == "python":
        assert arguments[0] == "-m" or (ROOT / arguments[0]).is_file(), block
    elif program == "pip":
        about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        known = set(about["optional-dependencies"])
        wanted = [one for one in arguments if one.startswith((about["name"], "."))]
        assert wanted and all(set(re.findall(r"[\w-]+", one.partition("[")[2])) <= known for one in wanted), block
    elif program == "torchrun":
        assert "understudy" in arguments, block
    elif program in ("git", "cd"):
        pass
    else:
        assert program == "understudy", f"{block}: '{program}' is no command this test knows"
        parsed = GROUP
        name, *arguments = arguments
        parsed = GROUP.commands[name]  # type: ignore[attr-defined]
        if hasattr(parsed, "commands"):
            parsed, arguments = parsed.commands[arguments[0]], arguments[1:]
        given = parsed.make_context(name, list(arguments)).params  # raises where there is no such option
        if "overrides" in given and name in ("train", "check", "compare"):
            overrides, _ = _overrides(given["overrides"] or [], None)
            own = given["recipe"]
            read = load_comparison if name == "compare" else load_recipe
            if own.parts[0] == "recipes":
                read(ROOT / own, overrides)
            else:
                methods_here = [how for how in methods() if how in block.page.stem] or ["automm"]
                for how in methods_here[:1]:
                    base = BASE | {"method": how}
                    if methods()[how].finds_student:
                        base.pop("student")
                    (tmp_path / "run.yaml").write_text(yaml.dump(base))
                    read(tmp_path / "run.yaml", [one for one in overrides if one != "task.path=…"])


def test_every_recipe_loads():
    """A whole recipe as it stands; a section of one inside a recipe that has the others."""
    seen = 0
    for page in PAGES:
        for block in blocks(page, "yaml"):
            data = yaml.parse(block.text, str(block)).data
            whole = {key: value for key, value in BASE.items() if key not in data} | data
            if "columns" in (data.get("teacher") or {}) or "server" in (data.get("teacher") or {}):
                whole["student"] = data.get("student") or {"model": "owner/small"}
            if "sparsity" in str(data.get("method")) or data.get("method") == "minidisc":
                whole["student"] = {"sparsity": 0.5}
            if methods()[_method(whole)].finds_student and "student" not in data:
                whole.pop("student", None)
            if "compare" in data or "arms" in data or "apiVersion" in data:  # a comparison, or a job for Kubernetes
                continue
            recipe_from(whole, source=str(block))
            seen += 1
    assert seen > 8


def _method(recipe: dict) -> str:
    method = recipe["method"]
    return method["name"] if isinstance(method, dict) else method


def test_all_code_compiles():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile("\n" * block.line + block.text, str(page), "exec")


def test_links_lead_somewhere():
    """Files and headings that pages name are there."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            place = (page.parent / name).resolve() if name else page
            assert place.exists(), f"{page}: {target}"
            if anchor and place.suffix == ".md":
                assert anchor in anchors(place), f"{page}: {target}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as its links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_the_site(tmp_path):
    """Built without the network, strictly: every page is in the navigation, every link and anchor is there; search knows them."""
    pytest.importorskip("material", reason="mkdocs-material (extra `docs`) is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())
    found = {one["location"].partition("#")[0] for one in index["docs"]}
    assert found == {page.with_suffix(".html").name for page in (ROOT / "docs").glob("*.md")}
    for page in (tmp_path / "site").rglob("*.html"):  # a page fetches nothing from elsewhere
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://(?!squidfunk)", page.read_text()), page
