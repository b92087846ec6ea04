"""What every command does: read a recipe and what the command line changes of it, turn errors into a sentence and an exit
code, print results. Imports nothing heavy, and nothing of typer.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from understudy.base.errors import RecipeError, UnderstudyError
from understudy.base.progress import printable

if TYPE_CHECKING:
    from understudy.recipe.comparison import Comparison
    from understudy.recipe.settings import Recipe


_SURROUNDINGS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP, errno.EMFILE,
    errno.ENAMETOOLONG,
)  # fmt: skip
"""Errors of the operating system that speak of the machine and not of a mistake of ours, wherever they are met."""


@contextmanager
def guard(folder: Path | None = None) -> Iterator[None]:
    """Turn errors into one message and an exit code; a traceback is for bugs, and goes to a file where there is one."""
    try:
        yield
    except UnderstudyError as error:
        if os.environ.get("UNDERSTUDY_LOG", "").lower() == "debug":
            _complain(_traceback())
        _stop(str(error), error.exit_code)
    except BrokenPipeError:
        raise
    except MemoryError:
        _stop("The machine ran out of memory. Lower train.max_tokens, or run on a machine with more.", 6)
    except OSError as error:
        if error.errno not in _SURROUNDINGS:
            _stop(_bug_report(error, folder), 1)
        where = f"{error.filename}: " if error.filename else ""
        _stop(f"{where}{error.strerror}. Nothing that was saved is damaged.", 6)
    except Exception as error:
        _stop(_bug_report(error, folder), 1)


def _stop(message: str, code: int) -> NoReturn:
    _complain(message)
    raise SystemExit(code)


def _complain(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _traceback() -> str:
    """The current traceback without the name of the home folder."""
    import traceback

    text = traceback.format_exc()
    home = os.path.expanduser("~")  # itself where there is no home folder
    return text.replace(home, "~") if len(home) > 1 else text


def _bug_report(error: Exception, folder: Path | None) -> str:
    """Keep the traceback of an unexpected error, and say where it is."""
    text = _traceback()
    what = f"This is a bug in understudy, not in your recipe ({type(error).__name__}). Please report it"
    if folder is not None and os.path.isdir(folder):
        from understudy.base import disk

        try:
            disk.write_text(folder / "crash.txt", text)
            return f"{what} with {folder / 'crash.txt'}. What was committed is intact; the same command continues."
        except (UnderstudyError, OSError):
            pass  # the traceback itself must still be printed
    return f"{text}\n{what} with the lines above."


def load(path: Path, arguments: list[str] | None, out: Path | None) -> tuple[Recipe, Path | None]:
    """A recipe with what the command line changes of it, and the folder of the run."""
    from understudy.recipe.load import load_recipe

    overrides, folder = _overrides(arguments or [], out)
    return load_recipe(path, overrides), folder


def load_to_compare(
    path: Path, arguments: list[str] | None, out: Path | None, options: dict[str, object] | None = None
) -> tuple[Comparison, Path | None]:
    """The same for a comparison; `options` are keys of its section `compare`, those that are None left out."""
    from understudy.recipe.comparison import load_comparison

    overrides, folder = _overrides(arguments or [], out)
    given = [f"compare.{key}={value}" for key, value in (options or {}).items() if value is not None]
    return load_comparison(path, [*overrides, *given]), folder


def task_overrides(arguments: list[str] | None, options: dict[str, object]) -> list[str]:
    """`task.key=value` arguments, and options that are short for such; None are left out."""
    overrides, _ = _overrides(arguments or [], None)
    for text in overrides:
        if not text.startswith("task."):
            raise RecipeError(f"command line: '{text}': only keys of task say how a file is read, as in task.delimiter=';'.")
    return overrides + [f"task.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]


def _overrides(arguments: list[str], out: Path | None) -> tuple[list[str], Path | None]:
    """`key=value` arguments, the original scripts' `--flag value` written the same way; `--save_path` is `--out`."""
    from understudy.recipe.flags import OUTPUT_FLAGS, is_original_flag

    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        if not is_original_flag(name) and "." not in name:
            raise RecipeError(f"command line: there is no option {argument.partition('=')[0]}.{_nearest_option(name)}")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else ""
        if name in OUTPUT_FLAGS:
            out = out or Path(value)
        else:
            overrides.append(f"{name}={value}")
    return overrides, out


def _nearest_option(name: str) -> str:
    from understudy.base.suggest import nearest

    found = nearest(name, ["out", "json", "recipe", "help"])
    return f" Did you mean --{found}?" if found else " Settings are written key=value, as in train.lr=2e-5."


def finish(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a run came to; only the first process of several speaks."""
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        show_json(result)
        return
    models = {name: result[name] for name in ("teacher", "baseline", "student") if result.get(name)}
    for name, model in models.items():
        show(f"{name} ({model['num_parameters']:,} parameters)")
        show(score_lines(model["metrics"], indent="  "))
    show("\n".join([result["verdict"], *result.get("advice", [])]))
    student = folder / "student"
    show(f"report   {folder / 'report.html'}\nstudent  {student}  ({_loads(student)})\nresult   {folder / 'result.json'}")


def _loads(student: Path) -> str:
    """What the student's folder needs, in words: a pruned or shared network is no stock class of transformers."""
    names = json.loads((student / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    if names[0].startswith("Understudy"):
        return f"for transformers after understudy.register(); `understudy export {student.parent} --to hf` needs nothing of ours"
    return "loads with transformers alone"


def score_lines(metrics: dict[str, dict[str, Any]], *, indent: str = "") -> str:
    """Test set, metric, value, and its interval where one was computed."""
    lines = []
    for test, scores in metrics.items():
        for name, score in scores.items():
            parts = score if isinstance(score, dict) else {"value": score}
            value, low, high = (parts.get(key) for key in ("value", "low", "high"))
            shown = "undefined" if value is None else f"{value:.4f}"
            interval = f"  [{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
            lines.append(f"{indent}{test:<12} {name:<22} {shown}{interval}")
    return "\n".join(lines)


def show(text: str) -> None:
    """A result, on stdout, where nothing else goes."""
    print(printable(text.removesuffix("\n")), flush=True)


def show_json(value: Any) -> None:
    """A result for machines."""
    show(json.dumps(value, indent=2, ensure_ascii=False, default=str))
