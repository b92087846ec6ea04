"""The commands. Results go to stdout (`--json` for machines), progress and errors to stderr; the exit code says how it
ended (see base/errors.py).

The only file that knows typer, and it imports nothing heavy: every command fetches what it needs when it is called, so
that `understudy --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from understudy.base.errors import RecipeError, UnderstudyError

if TYPE_CHECKING:
    from understudy.recipe.settings import Recipe

app = typer.Typer(
    name="understudy",
    help="Turn a large language model into a small one that can stand in for it, and prove how good it is.\n\n"
    "New here? `understudy demo` shows everything once, offline, in a few minutes. For your own run: "
    "`understudy init automm > run.yaml`, change what you like, `understudy check run.yaml`, then "
    "`understudy train run.yaml --out runs/first`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time to answer
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_PASS_ON = {"ignore_unknown_options": True}  # so that the original's --flags reach `_overrides`

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, as in train.lr=2e-5.", show_default=False),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="The folder of this run.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Run = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.", show_default=False)]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder of this run.")] = Path(
        "runs/demo"
    ),
    as_json: Json = False,
) -> None:
    """See everything once: teacher, student, baseline and a report.

    Fine-tunes a small encoder on a built-in help-desk data set, distils it into three layers, and compares all three.
    Takes a few minutes on two processor cores and needs no network if the `demo` extra is installed.

    Example: understudy demo
    """
    with _guard(out):
        from understudy.demo import run

        _finish(run(out), out, as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods: what each does and what it needs.

    Example: understudy methods
    """
    with _guard():
        from understudy.recipe.methods import METHODS
        from understudy.recipe.reference import methods_table

        if as_json:
            _print_json({name: {"what": method.summary, "needs": method.needs} for name, method in METHODS.items()})
        else:
            _print(methods_table())


@app.command()
def init(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="A name from `understudy methods`.", show_default=False)
    ],
) -> None:
    """Print a commented recipe to start from.

    It holds every setting with its default and what it means, ready to be changed.

    Example: understudy init automm > run.yaml
    """
    with _guard():
        from understudy.recipe.reference import template

        _print(template(method))


@app.command(context_settings=_PASS_ON)
def check(recipe: RecipePath, overrides: Overrides = None, out: Out = None, as_json: Json = False) -> None:
    """Find what would fail, before it costs an hour.

    Looks at files, labels, models, widths, disk and the output folder, and starts nothing. Ends with 0 if the run can
    start, else with the exit code it would have failed with.

    Example: understudy check run.yaml task.path=data/MRPC --out runs/mrpc
    """
    with _guard():
        from understudy.check import check as check_recipe
        from understudy.check import exit_code

        loaded, folder = _load(recipe, overrides, out)
        findings = check_recipe(loaded, out=folder)
        if as_json:
            _print_json({"findings": [finding.as_dict() for finding in findings], "exit_code": exit_code(findings)})
        else:
            _print("\n".join(str(finding) for finding in findings))
        raise typer.Exit(exit_code(findings))


@app.command(context_settings=_PASS_ON)
def train(recipe: RecipePath, overrides: Overrides = None, out: Out = None, as_json: Json = False) -> None:
    """Make the student, or continue where the run stopped.

    You may stop it at any moment, even by pulling the plug: the same command again goes on where it was. In DIR you
    find student/ (a Hugging Face folder), report.html (for you) and result.json (for programs).

    Example: understudy train run.yaml train.epochs=10 --out runs/first
    """
    loaded, folder = None, None
    with _guard():
        loaded, folder = _load(recipe, overrides, out)
        if folder is None:
            raise RecipeError("command line: --out is missing: the folder of this run, as in --out runs/first.")
    with _guard(folder):
        from understudy.run import train as train_run

        _finish(train_run(loaded, folder, json=as_json), folder, as_json)


@app.command("eval", context_settings=_PASS_ON)
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a model folder.", show_default=False)],
    overrides: Overrides = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="RECIPE", help="The task to score on; else that of the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a model folder, or the student of a run, on a task.

    Example: understudy eval runs/first task.path=data/other_MRPC
    """
    with _guard():
        from understudy.run import evaluate_folder

        source = recipe or model / "config.yaml"
        if recipe is None and not source.exists():
            raise RecipeError(f"{model} is not the folder of a run; name the task with --recipe RECIPE.")
        loaded, _ = _load(source, overrides, None)
        scores = evaluate_folder(model, loaded)
        if as_json:
            _print_json(scores)
        else:
            _print(_score_lines(scores["metrics"]))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a model folder.", show_default=False)],
    rows: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="csv, tsv, jsonl, parquet, or a text on each line.", show_default=False),
    ],
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the text.")] = None,
    pair: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the second text.")] = None,
) -> None:
    """Let a student answer, one JSON object per row.

    Example: understudy predict runs/first mails.csv --text body > answers.jsonl
    """
    with _guard():
        from understudy.run import predict as predict_rows

        for answer in predict_rows(model, rows, text=text, pair=pair):
            _print(json.dumps(answer, ensure_ascii=False))


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a model folder.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="hf, padded, exact or onnx.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Where; else beside DIR, as DIR-FORM.", show_default=False),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="With onnx: also a second file with 8-bit weights.")] = False,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", metavar="RECIPE", help="The rows to compare on; else those of the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a student in the form others need.

    hf and padded load with transformers alone, onnx runs with onnxruntime alone, exact is the smallest for PyTorch. Each
    is compared with the student on real rows before it appears; what was kept, sizes and times are in structure.json.

    Example: understudy export runs/first --to onnx --int8
    """
    with _guard():
        from understudy.export import export_folder
        from understudy.export.describe import lines

        made = export_folder(model, to, out=out, int8=int8, recipe=recipe)
        if as_json:
            _print_json(made)
        else:
            _print("\n".join(lines(made)))


@app.command()
def report(run: Run) -> None:
    """Write the report of a finished run again.

    Made from result.json and the recorded curves; prints where the page is.

    Example: understudy report runs/first
    """
    with _guard(run):
        from understudy.run import write_report

        _print(str(write_report(run)))


@app.command()
def verify(
    run: Run,
    replay: Annotated[
        int, typer.Option(metavar="N", min=0, help="Also repeat the last N optimiser steps and compare every bit.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Check that no bit of a run has changed.

    Every file is compared with its checksum; exit code 7, and the file's name, if one differs.

    Example: understudy verify runs/first --replay 5
    """
    with _guard():
        from understudy.run import verify as verify_run

        found = verify_run(run, replay)
        if as_json:
            _print_json(found)
        else:
            _print(f"{run}: {found['files']} files are as they were written.")
            if replay:
                _print(f"{run}: {found['replayed_steps']} steps repeated, every bit equal.")


@app.command()
def transfer(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="An adapter's folder.", show_default=False)],
    source: Annotated[str, typer.Option("--from", metavar="MODEL", help="The model it was trained on.", show_default=False)],
    target: Annotated[str, typer.Option("--to", metavar="MODEL", help="The model it is for.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The new adapter's folder.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="How, as in layer_map=last align=lsa.", show_default=False),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option("--texts", metavar="FILE", help="Texts to align the two models on.", show_default=False)
    ] = None,
    layout: Annotated[str, typer.Option(metavar="LAYOUT", help="auto, peft or adapterhub.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Which texts are drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Move a trained adapter to another model.

    Layers are chosen and, where the models differ, dimensions matched by correlation; nothing is trained. The plan is
    printed before it is executed. The settings are those of method mkd (docs/mkd.md).

    Example: understudy transfer runs/large/adapter --from big --to small --texts mails.txt --out small-adapter
    """
    with _guard():
        from understudy.adapters.transfer.command import transfer_folder
        from understudy.recipe.transfer import transfer_settings

        report = transfer_folder(
            adapter, teacher=source, student=target, out=out, texts=texts, settings=transfer_settings(settings or []), seed=seed,
            layout=layout,
        )  # fmt: skip
        if as_json:
            _print_json(report)
        else:
            _print(f"adapter  {out}")


@app.command()
def doctor(
    network: Annotated[bool, typer.Option("--network", help="Also try to reach the Hugging Face Hub.")] = False,
    as_json: Json = False,
) -> None:
    """Describe this machine and this installation.

    Versions (and whether they are the tested ones), processor, devices, threads, disk, and models at hand. Send its
    output along when you report a problem: it holds no names, tokens or paths of yours.

    Example: understudy doctor
    """
    with _guard():
        from understudy.doctor import examine, lines

        facts = examine(network=network)
        if as_json:
            _print_json(facts)
        else:
            _print("\n".join(lines(facts)))


def main() -> None:
    """The `understudy` command."""
    # Bars and hints of the libraries underneath would mix with ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()


@contextmanager
def _guard(folder: Path | None = None) -> Iterator[None]:
    """Turn errors into one message and an exit code; a traceback is for bugs, and goes to a file where there is one."""
    try:
        yield
    except UnderstudyError as error:
        if os.environ.get("UNDERSTUDY_LOG", "").lower() == "debug":
            _complain(_traceback())
        _stop(str(error), error.exit_code)
    except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
        raise
    except MemoryError:
        _stop("The machine ran out of memory. Lower train.max_tokens, or run on a machine with more.", 6)
    except Exception as error:
        _stop(_bug_report(error, folder), 1)


def _stop(message: str, code: int) -> NoReturn:
    _complain(message)
    raise typer.Exit(code)


def _complain(text: str) -> None:
    print("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text), file=sys.stderr)


def _traceback() -> str:
    """The current traceback without the name of the home folder."""
    import traceback

    text = traceback.format_exc()
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _bug_report(error: Exception, folder: Path | None) -> str:
    """Keep the traceback of an unexpected error, and say where it is."""
    text = _traceback()
    what = f"This is a bug in understudy, not in your recipe ({type(error).__name__}). Please report it"
    if folder is not None and folder.is_dir():
        from understudy.base import disk

        try:
            disk.write_text(folder / "crash.txt", text)
            return f"{what} with {folder / 'crash.txt'}. What was committed is intact; the same command continues."
        except (UnderstudyError, OSError):
            pass  # the traceback itself still has to reach somebody
    return f"{text}\n{what} with the lines above."


def _load(path: Path, arguments: list[str] | None, out: Path | None) -> tuple[Recipe, Path | None]:
    from understudy.recipe.load import load_recipe

    overrides, folder = _overrides(arguments or [], out)
    return load_recipe(path, overrides), folder


def _overrides(arguments: list[str], out: Path | None) -> tuple[list[str], Path | None]:
    """`key=value` arguments, the original scripts' `--flag value` written the same way; `--save_path` is `--out`."""
    from understudy.recipe.aliases import OUTPUT_FLAGS, is_original_flag

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


def _finish(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a run came to; only the first process of several speaks."""
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        _print_json(result)
        return
    models = {name: result[name] for name in ("teacher", "baseline", "student") if result.get(name)}
    for name, model in models.items():
        _print(f"{name} ({model['num_parameters']:,} parameters)")
        _print(_score_lines(model["metrics"], indent="  "))
    _print(result["verdict"])
    _print(f"report   {folder / 'report.html'}\nstudent  {folder / 'student'}\nresult   {folder / 'result.json'}")


def _score_lines(metrics: dict[str, dict[str, Any]], *, indent: str = "") -> str:
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


def _print(text: str) -> None:
    """A result, on stdout, where nothing else goes."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
