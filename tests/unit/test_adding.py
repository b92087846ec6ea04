"""What somebody adds, and the files that takes: a folder for a method, two files for a loss (and for a kind, which
test_adding_kind.py adds). Done in a scratch copy of the package, whose other files stay as they are."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from understudy.recipe.method import Method, methods

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "understudy"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A copy of the package."""
    shutil.copytree(SOURCE, tmp_path / "understudy", ignore=shutil.ignore_patterns("__pycache__", "demo"))
    return tmp_path


def answer_of(scratch: Path, code: str) -> Any:
    """What `print(json.dumps(…))` printed, in a process that sees the copy."""
    environment = os.environ | {"PYTHONPATH": str(scratch)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=scratch)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_method_is_a_folder(scratch):
    folder = scratch / "understudy" / "methods" / "whisper"
    folder.mkdir()
    (folder / "__init__.py").write_text('''
from typing import Literal
from pydantic import Field
from understudy.recipe.method import Method, MethodSettings

class Whisper(MethodSettings):
    """Hardly a method."""
    name: Literal["whisper"] = Field(default="whisper", description="this method")
    loudness: float = Field(default=0.5, description="how loud")

class _Whisper(Method):
    Settings = Whisper
    summary = "learn what is whispered"
    needs = "quiet"
    share = "cyclic"

    def distil(self, settings, lab):
        from understudy.methods.whisper.distil import distil
        return distil(settings, lab)

METHOD = _Whisper()
''')  # fmt: skip
    (folder / "distil.py").write_text("def distil(settings, lab):\n    return settings.loudness\n")
    code = """
import json
from understudy.base.errors import RecipeError
from understudy.recipe.comparison import CompareSettings
from understudy.recipe.load import recipe_from
from understudy.recipe.reference import methods_table, reference, template
data = {"task": "demo/intent", "teacher": {"model": "x", "finetune": {}}, "student": {"num_layers": 3}, "method": "whisper"}
made = recipe_from(data, ["method.loudness=0.25"])
try:
    recipe_from(data, ["method.loudnes=1"])
    refused = ""
except RecipeError as error:
    refused = str(error)
print(json.dumps([made.how.distil(made.method, None), made.share, refused, "loudness: 0.5" in template("whisper"),
                  "Learn what is whispered" in methods_table(), "how loud" in reference(),
                  CompareSettings(methods="whisper").methods]))
"""
    said = answer_of(scratch, code)
    assert said[:2] == [0.25, "cyclic"] and said[3:] == [True, True, True, ["whisper"]]
    assert "Did you mean 'loudness'" in said[2]


def test_a_loss_is_two_files(scratch):
    """Its arithmetic in losses/, its term in the vocabulary: with any method, in `check`'s sentences and in the reference."""
    (scratch / "understudy" / "losses" / "hush.py").write_text('''
def hush(student, teacher):
    """Mean absolute difference of the logits, added up over the rows."""
    return (student - teacher).abs().mean(-1).sum()
''')  # fmt: skip
    vocabulary = scratch / "understudy" / "objective" / "vocabulary.py"
    before, table, after = vocabulary.read_text(encoding="utf-8").partition("TERMS: dict[str, type[TermSettings]] = {")
    vocabulary.write_text(before + '''
class Hush(TermSettings):
    """Absolute differences of the raw outputs."""

    def build(self, pair):
        from understudy.losses.hush import hush
        from understudy.models.needs import Needs
        from understudy.objective.weighted import Term

        logits = Needs(logits=True)
        return Term(lambda seen: hush(seen.student.logits, seen.teacher.logits), pair.kind.unit, logits, logits)


''' + table + '"hush": Hush,' + after, encoding="utf-8")  # fmt: skip
    code = """
import json
from understudy.base.errors import RecipeError
from understudy.kinds import kind
from understudy.objective.pair import Pair, Side
from understudy.objective.vocabulary import build
from understudy.recipe.load import recipe_from
from understudy.recipe.reference import reference
data = {"task": "demo/intent", "teacher": {"model": "x", "finetune": {}}, "student": {"sparsity": 0.5}, "method": "minidisc"}
made = recipe_from({**data, "objective": {"hush": {"weight": 0.5}, "hard": 1}})
side = Side(width=8, layers=2)
objective, _ = build(made.objective.terms(), Pair(kind("classification"), side, side, num_labels=3))
try:
    build(made.objective.terms(), Pair(kind("classification"), side, None, num_labels=3))
except RecipeError as error:
    print(json.dumps([sorted(objective.terms), str(objective.terms["hush"].weight), str(error),
                      "Absolute differences of the raw outputs." in reference()]))
"""
    names, weight, refused, documented = answer_of(scratch, code)
    assert names == ["hard", "hush"] and weight == "0.5" and documented
    assert refused.startswith("objective.hush: it asks a teacher, and here nobody teaches")


@pytest.mark.parametrize(
    ("name", "said"),
    [("automm", "method 'automm' of clash:METHOD: there is a method of that name already"),
     ("mine", "method 'mine' calls itself 'automm' in a recipe")],
)  # fmt: skip
def test_a_name_that_is_taken_or_another_is_refused(scratch, name, said):
    clash = scratch / "clash-1.dist-info"
    clash.mkdir()
    (clash / "METADATA").write_text("Metadata-Version: 2.1\nName: clash\nVersion: 1\n")
    (clash / "entry_points.txt").write_text(f"[understudy.methods]\n{name} = clash:METHOD\n")
    (scratch / "clash.py").write_text(
        "from understudy.methods.automm import METHOD as theirs\nMETHOD = type(theirs)()\n"
    )
    code = """
import json
from understudy.base.errors import RecipeError
try:
    import understudy.recipe.settings
    print(json.dumps(""))
except RecipeError as error:
    print(json.dumps(str(error)))
"""
    assert said in str(answer_of(scratch, code))


def test_nobody_compares_the_name_of_a_method():
    """`auto` and `finetune` are also values and keys of a recipe; of them only what is compared with `….method.name` counts."""
    names = {folder.name for folder in (SOURCE / "methods").iterdir() if (folder / "__init__.py").exists()}
    assert len(names) >= 8
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        compared = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare)]
        for node in compared if "methods" not in path.relative_to(SOURCE).parts else ():
            constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)} & names
            if constants - {"auto", "finetune"} or (constants and "method.name" in ast.unparse(node)):
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("method", methods().values(), ids=lambda method: method.name)
def test_what_a_method_answers_is_what_it_is_asked(method):
    """The functions beside a method's object that have the name of a question take what the question gives."""
    questions = {name: one for name, one in vars(Method).items() if inspect.isfunction(one) and not name.startswith("_")}
    answered = []
    for part in ("objective", "plan", "distil", "page"):
        package = type(method).__module__
        if find_spec(f"{package}.{part}") is None:
            continue
        for name, one in vars(import_module(f"{package}.{part}")).items():
            if name in questions and inspect.isfunction(one) and one.__module__.startswith(package):
                taken = inspect.signature(one).parameters.values()
                given = list(inspect.signature(questions[name].__wrapped__).parameters.values())[1:]
                assert [one.kind for one in taken] == [one.kind for one in given], (part, name)
                assert f'"{part}"' in inspect.getsource(questions[name].__wrapped__).splitlines()[0], (part, name)
                answered.append(name)
    assert "distil" in answered or method.name == "auto"
