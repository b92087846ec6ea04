"""The plan of the house, kept by tests: one door for disk, randomness and weights, and light imports.

The floors (who may import whom) are import-linter's, in pyproject.toml; `make lint` checks them.
"""

from __future__ import annotations

import ast
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from understudy.recipe.types import KINDS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "understudy"
FILES = sorted(SOURCE.rglob("*.py"))

WRITERS = {
    "os.replace", "os.rename", "os.remove", "os.unlink", "os.fsync", "os.makedirs", "os.mkdir", "os.rmdir", "os.link",
    "os.symlink", "os.truncate", "os.open", "shutil.move", "shutil.copy", "shutil.copy2", "shutil.copyfile",
    "shutil.copytree", "shutil.rmtree", "json.dump", "torch.save", "np.save", "np.savez", "numpy.save",
}  # fmt: skip
WRITING_METHODS = {"write_text", "write_bytes", "touch", "unlink", "rmdir", "symlink_to", "hardlink_to", "tofile"}
RANDOM_MODULES = {"random", "secrets"}
RANDOM_CALLS = {
    "torch.manual_seed", "torch.seed", "torch.rand", "torch.randn", "torch.randint", "torch.randperm",
    "torch.rand_like",
    "torch.randn_like", "torch.normal", "torch.bernoulli", "torch.multinomial", "torch.Generator", "uuid.uuid4",
    "torch.set_rng_state", "torch.get_rng_state", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all",
    "transformers.set_seed", "accelerate.utils.set_seed", "os.urandom",
}  # fmt: skip
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FLOOR_OF_LOSSES = {"torch", *sys.stdlib_module_names}


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@lru_cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain, or the empty string."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if isinstance(node, ast.Attribute) and inner else ""


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Line, dotted name (or `?.method` for a method of an expression) and node of each call."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if not name and isinstance(node.func, ast.Attribute):
                name = f"?.{node.func.attr}"
            yield node.lineno, name, node


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def opens_for_writing(name: str, node: ast.Call) -> bool:
    """`open(path, "w")`, `path.open("wb")`, `np.memmap(path, mode="w+")`."""
    method = name.rpartition(".")[2]
    if method not in ("open", "memmap"):
        return False
    position = 0 if method == "open" and name != "open" else 1
    modes = [keyword.value for keyword in node.keywords if keyword.arg == "mode"] or node.args[position : position + 1]
    text = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
    return any(set(mode) & set("wax+") for mode in text)


def violations(found: Iterator[tuple[Path, int, str]]) -> str:
    return "\n".join(f"{place(path)}:{line}: {what}" for path, line, what in found)


def test_only_disk_writes():
    def found() -> Iterator[tuple[Path, int, str]]:
        for path in FILES:
            if place(path) == "base/disk.py":
                continue
            for line, name, node in calls(path):
                owner, _, method = name.rpartition(".")
                written = method in WRITING_METHODS and owner.rpartition(".")[2] != "disk"
                if name in WRITERS or written or opens_for_writing(name, node):
                    yield path, line, name

    assert not violations(found()), violations(found())


def test_only_seeds_touches_a_random_generator():
    def found() -> Iterator[tuple[Path, int, str]]:
        for path in FILES:
            if place(path) == "base/seeds.py":
                continue
            yield from ((path, line, name) for line, name in imports(path) if name.split(".")[0] in RANDOM_MODULES)
            for line, name, _ in calls(path):
                if name in RANDOM_CALLS or name.startswith(("np.random.", "numpy.random.")):
                    yield path, line, name

    assert not violations(found()), violations(found())


def test_only_load_calls_from_pretrained():
    def found() -> Iterator[tuple[Path, int, str]]:
        for path in FILES:
            if place(path) != "models/load.py":
                named = ((line, name) for line, name, _ in calls(path))
                yield from ((path, line, name) for line, name in named if name.endswith(".from_pretrained"))

    assert not violations(found()), violations(found())


def data_only(name: str, node: ast.Call) -> bool:
    """torch's reader that builds tensors and plain containers and runs nothing."""
    given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
    return name == "torch.load" and given.get("weights_only") is True


def test_nothing_pickles_or_evaluates_text():
    def found() -> Iterator[tuple[Path, int, str]]:
        for path in FILES:
            yield from ((path, line, name) for line, name in imports(path) if name.split(".")[0] in PICKLES)
            bad = {"torch.load", "eval", "exec", "np.load", "os.system"}
            yield from ((path, line, name) for line, name, node in calls(path) if name in bad and not data_only(name, node))

    assert not violations(found()), violations(found())


def test_no_file_leads_back_to_itself():
    """Imports inside functions and those for the type checker count as well."""
    graph = grimp.build_graph("understudy", exclude_type_checking_imports=False, cache_dir=None)
    imported = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert "understudy.base.disk" in imported["understudy.run.claim"]
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        pytest.fail(" is imported by ".join(error.args[1]))


def test_losses_know_torch_and_nothing_else():
    def found() -> Iterator[tuple[Path, int, str]]:
        for path in sorted((SOURCE / "losses").glob("*.py")):
            for line, name in imports(path):
                if name.split(".")[0] not in FLOOR_OF_LOSSES and not name.startswith("understudy.losses"):
                    yield path, line, name

    assert not violations(found()), violations(found())


def test_only_cli_knows_typer():
    def found() -> Iterator[tuple[Path, int, str]]:
        for path in FILES:
            if place(path) != "cli.py":
                yield from (
                    (path, line, name) for line, name in imports(path) if name.split(".")[0] in ("typer", "click")
                )

    assert not violations(found()), violations(found())


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("open(p, 'w')", True),
        ("p.open('ab')", True),
        ("p.open(mode='r+')", True),
        ("np.memmap(p, mode='w+')", True),
        ("open(p)", False),
        ("p.open('rb')", False),
        ("np.memmap(p, dtype=d, mode='r')", False),
    ],
)
def test_the_door_of_the_disk_sees_every_way_to_open(code, caught, tmp_path):
    (tmp_path / "x.py").write_text(code)
    [(_, name, node)] = calls(tmp_path / "x.py")
    assert opens_for_writing(name, node) is caught


# -- import budgets ----------------------------------------------------------------------------------------------------

HEAVY = {
    "torch", "transformers", "numpy", "pandas", "datasets", "sklearn", "scipy", "accelerate", "pydantic", "ruamel",
    "plotly", "jinja2", "rich", "huggingface_hub",
}  # fmt: skip


def run_python(*arguments: str) -> tuple[str, float]:
    """Standard output, and the processor seconds of the fastest of three runs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return done.stdout, min(seconds)


def modules_after(code: str) -> set[str]:
    out, _ = run_python("-c", f"{code}\nimport sys, json\nprint('MODULES' + json.dumps(list(sys.modules)))")
    return set(json.loads(out.rpartition("MODULES")[2]))


def test_importing_the_package_costs_nothing():
    bare, full = modules_after("pass"), modules_after("import understudy")
    assert not {name.split(".")[0] for name in full} & HEAVY
    ours = {name for name in full if name.startswith("understudy")}
    assert ours == {"understudy", "understudy.base", "understudy.base.distribution"}  # the last looks for a clash of names
    assert len(full - bare) < 30


def test_help_imports_nothing_heavy():
    code = "from understudy import cli\ntry: cli.app(['--help'])\nexcept SystemExit: pass"
    loaded = modules_after(code)
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert len(loaded) < 350


def test_help_answers_at_once():
    out, seconds = run_python("-m", "understudy", "--help")
    assert "demo" in out
    assert seconds < 0.3


def test_settings_do_not_import_torch():
    loaded = {
        name.split(".")[0] for name in modules_after("import understudy.recipe.load, understudy.recipe.reference")
    }
    assert not loaded & {"torch", "transformers", "numpy", "datasets", "rich", "typer"}


def test_every_public_name_is_there():
    import understudy

    for name in understudy.__all__:
        assert getattr(understudy, name) is not None
        assert name in dir(understudy)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        understudy.nothing  # noqa: B018


def test_nothing_outside_kinds_knows_a_kind_of_task_by_name():
    """A kind is asked, never compared: what differs between kinds stands in `kinds/`, so that a new one is one new file.
    Naming the kind of a data set, `kind("tokens")`, is no comparison."""
    found = []
    for path in FILES:
        if place(path).split("/")[0] in ("kinds", "recipe"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                names = {leaf.value for side in sides for leaf in ast.walk(side) if isinstance(leaf, ast.Constant)}
                wrong = any(re.search(r"kind\b", ast.unparse(side)) for side in sides) and names & set(KINDS)
            elif isinstance(node, ast.Dict):
                wrong = len({key.value for key in node.keys if isinstance(key, ast.Constant)} & set(KINDS)) > 1
            else:
                continue
            found += [f"{place(path)}:{node.lineno}"] if wrong else []
    assert not found
