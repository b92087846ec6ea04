"""The commands. Results go to stdout (`--json` for machines), progress and errors to stderr; the exit code says how it
ended (see base/errors.py).

The only file that knows typer, and it imports nothing heavy: every command fetches what it needs when it is called, so
that `understudy --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from understudy.base.distribution import clash
from understudy.base.errors import RecipeError
from understudy.cli_support import finish, guard, load, load_to_compare, score_lines, show, show_json, task_overrides

app = typer.Typer(
    name="understudy",
    help="Turn a large language model into a small one that can stand in for it, and prove how good it is.\n\n"
    "New here? `understudy demo` shows everything once, offline, in a few minutes. For your own run: "
    "`understudy init --data mails.csv > run.yaml`, change what you like, `understudy check run.yaml`, then "
    "`understudy train run.yaml --out runs/first`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time to answer
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_PASS_ON = {"ignore_unknown_options": True}  # so that the original's --flags reach `load`

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
    with guard(out):
        from understudy.demo import run

        finish(run(out), out, as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods: what each does and what it needs.

    Example: understudy methods
    """
    with guard():
        from understudy.recipe.method import methods as known
        from understudy.recipe.reference import methods_table

        if as_json:
            show_json({name: {"what": method.summary, "needs": method.needs} for name, method in known().items()})
        else:
            show(methods_table())


@app.command()
def init(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A name from `understudy methods`.")] = "auto",
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="FILE",
            help="Your rows; several files, a pattern or a folder: train, dev and test by their names, or as in test=FILE.",
        ),
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="MODEL", help="Folder or Hub name of the teacher.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every setting with its default and what it means.")] = False,
) -> None:
    """Print a recipe to start from.

    With --data it looks at your files and says what it took them for: columns, kind of task, labels, lengths. What it says
    behind each line is why; correct what is wrong.

    Example: understudy init --data mails.csv > run.yaml
    """
    with guard():
        if full:
            from understudy.recipe.reference import template

            if data or teacher:
                raise RecipeError("command line: --full prints the settings of a method for the built-in task; drop the rest.")
            show(template(method))
        else:
            from understudy.init import first_recipe

            show(first_recipe(method, data=data or [], teacher=teacher))


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors.

    Beside a recipe, it lets an editor complete and check keys while they are typed: recipes of `understudy init` name the
    file in their first line. `check-jsonschema` reads it too. Methods and terms of other packages that are installed are in it.

    Example: understudy schema > understudy.schema.json
    """
    with guard():
        from understudy.recipe.schema import schema as recipe_schema

        show_json(recipe_schema())


@app.command(context_settings=_PASS_ON)
def check(recipe: RecipePath, overrides: Overrides = None, out: Out = None, as_json: Json = False) -> None:
    """Find what would fail, before it costs an hour.

    Looks at files, labels, models, widths, disk and the output folder, and starts nothing. Says what method auto would
    choose, and what each arm of a comparison would spend. Ends with 0 if the run can start, else with the exit code it
    would have failed with.

    Example: understudy check run.yaml task.path=data/MRPC --out runs/mrpc
    """
    with guard():
        from understudy.check import check as check_recipe
        from understudy.check import exit_code
        from understudy.recipe.comparison import is_comparison

        if is_comparison(recipe):
            from understudy.compare.whole import check_comparison

            findings = check_comparison(load_to_compare(recipe, overrides, out)[0])
        else:
            loaded, folder = load(recipe, overrides, out)
            findings = check_recipe(loaded, out=folder)
        if as_json:
            show_json({"findings": [finding.as_dict() for finding in findings], "exit_code": exit_code(findings)})
        else:
            show("\n".join(str(finding) for finding in findings))
        raise SystemExit(exit_code(findings))


@app.command(context_settings=_PASS_ON)
def train(recipe: RecipePath, overrides: Overrides = None, out: Out = None, as_json: Json = False) -> None:
    """Make the student, or continue where the run stopped.

    You may stop it at any moment, even by pulling the plug: the same command again goes on where it was. In DIR you
    find student/ (a Hugging Face folder), report.html (for you) and result.json (for programs).

    Example: understudy train run.yaml train.epochs=10 --out runs/first
    """
    loaded, folder = None, None
    with guard():
        loaded, folder = load(recipe, overrides, out)
        if folder is None:
            raise RecipeError("command line: --out is missing: the folder of this run, as in --out runs/first.")
    with guard(folder):
        from understudy.run import train as train_run

        finish(train_run(loaded, folder), folder, as_json)


@app.command(context_settings=_PASS_ON)
def teach(recipe: RecipePath, overrides: Overrides = None, as_json: Json = False) -> None:
    """Let the teacher answer ahead, in several processes.

    The teacher is fine-tuned if the recipe says so, and what the student will ask it about each row is stored where all runs
    find it ($UNDERSTUDY_HOME). Start it several times, on any machines that see that folder, before `understudy train` or
    beside it: they share the rows among them, and one that is killed costs only what it was at.

    Example: understudy teach run.yaml & understudy teach run.yaml & wait
    """
    with guard():
        loaded, _ = load(recipe, overrides, None)
        from understudy.run import teach as teach_here

        examples = teach_here(loaded)
        if as_json:
            show_json({"examples": examples})
        else:
            show(f"The teacher's answers are stored; it was run on {examples:,} examples here.")


@app.command(context_settings=_PASS_ON)
def compare(
    recipe: RecipePath,
    overrides: Overrides = None,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Methods to compare; finetune is always one.", show_default=False)
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How often each is trained; else 3.", show_default=False)] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="WHAT", help="What is the same for all: steps, flops or seconds.", show_default=False)
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option(metavar="S", help="Of pruned students; else as large as the recipe's.", show_default=False)
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find out which method is best here, on equal budgets.

    Every method, and whatever you put together under `arms:` in the recipe, learns from the same teacher and the same
    rows, with several seeds; differences are believed only where rows, seeds and the number of comparisons leave no other
    explanation. In DIR you find report.html, comparison.json and, under arms/, a complete run for each.

    You may stop it at any moment: the same command goes on where it was. Start it a second time, in another terminal, and
    both share the work. What cannot be compared is said before anything is trained.

    Example: understudy compare run.yaml --methods automm,minidisc --seeds 3 --out runs/which
    """
    loaded, folder = None, None
    with guard():
        options = {"methods": methods, "seeds": seeds, "budget": budget, "sparsity": sparsity}
        loaded, folder = load_to_compare(recipe, overrides, out, options)
        if folder is None:
            raise RecipeError("command line: --out is missing: the folder of this comparison, as in --out runs/which.")
    with guard(folder):
        from understudy.compare.whole import compare as compare_arms
        from understudy.compare.whole import lines

        made, code = compare_arms(loaded, folder)
        if as_json:
            show_json(made)
        else:
            show(lines(made, folder))
        raise SystemExit(code)


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

    With the 95 % interval of each score over the rows.

    Example: understudy eval runs/first task.path=data/other_MRPC
    """
    with guard():
        from understudy.run import evaluate_folder

        source = recipe or model / "config.yaml"
        if recipe is None and not source.exists():
            raise RecipeError(f"{model} is not the folder of a run; name the task with --recipe RECIPE.")
        loaded, _ = load(source, overrides, None)
        scores = evaluate_folder(model, loaded)
        if as_json:
            show_json(scores)
        else:
            show(score_lines(scores["intervals"]))


@app.command(context_settings=_PASS_ON)
def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a model folder.", show_default=False)],
    rows: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="csv, tsv, json, jsonl, parquet, CoNLL columns, or a text on each line.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    task: Annotated[
        Path | None, typer.Option("--task", metavar="RECIPE", help="How the file is laid out; else as that of the run.")
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the text (or the words).")] = None,
    pair: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the second text.")] = None,
    id_: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="The column that names the rows.")] = None,
    delimiter: Annotated[str | None, typer.Option(metavar="CHARACTER", help="What stands between columns.")] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of the file's characters, as utf-8.")] = None,
    max_length: Annotated[int | None, typer.Option(min=8, metavar="TOKENS", help="Read longer or shorter texts.")] = None,
) -> None:
    """Let a student answer, one JSON object per row.

    Answers stand in the order of the file. It is read as those were that the student was trained on: a run, and a student's
    folder, know their columns, delimiter, encoding and longest input. Options, `task.key=value` and --task say where a file
    differs, or how it is laid out where the folder comes from elsewhere.

    Example: understudy predict runs/first mails.csv --text body > answers.jsonl
    """
    with guard():
        from understudy.run import predict as predict_rows

        given = {"delimiter": delimiter, "encoding": encoding, "max_length": max_length}
        columns = {"text": text, "pair": pair, "id": id_}
        for answer in predict_rows(model, rows, recipe=task, overrides=task_overrides(overrides, given), columns=columns):
            show(json.dumps(answer, ensure_ascii=False))


@app.command(context_settings=_PASS_ON)
def encode(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or an embedding model.", show_default=False)],
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Texts: a line each, or tables.", show_default=False)],
    role: Annotated[str | None, typer.Option(help="query or document: with the model's prompt for it.")] = None,
    dims: Annotated[int | None, typer.Option(min=1, help="Only the first so many numbers of each vector.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.npy", help="An array; else a list per text.")] = None,
) -> None:
    """Turn texts into vectors.

    Vectors stand in the order of the texts: as JSON lists, one a line, or as a numpy array (texts, dimensions) of float32.

    Example: understudy encode runs/minilm-half queries.txt --role query --out queries.npy
    """
    with guard():
        import io

        import numpy as np

        from understudy.base import disk
        from understudy.run.finished import encode_texts

        if role not in (None, "query", "document"):
            raise RecipeError(f"--role {role}: a text is a query, a document, or neither (leave --role out).")
        settings = [one for one in files if "=" in one and one.startswith("task.")]
        vectors = encode_texts(model, [one for one in files if one not in settings], role=role, dims=dims, overrides=settings)
        if out is None:
            for vector in vectors.tolist():
                show(json.dumps(vector))
            return
        written = io.BytesIO()
        np.lib.format.write_array(written, vectors)
        disk.write_bytes(out, written.getvalue())
        show(f"{len(vectors):,} vectors of {vectors.shape[1]} dimensions are in {out} ({vectors.nbytes:,} bytes).")


@app.command(context_settings=_PASS_ON)
def mine(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="An embedding model.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="FILE", help="Judgements in a folder of BEIR's layout.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="Of each query's nearest documents so many are looked at.")] = 30,
    negatives: Annotated[int, typer.Option(min=1, help="So many of them are kept.")] = 7,
    margin: Annotated[float, typer.Option(min=0, max=1, help="Nearer than a positive less this share of it: left out.")] = 0.05,
    candidates: Annotated[bool, typer.Option("--candidates", help="All nearest with their grades, to be ranked again.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.jsonl", help="Where.")] = Path("lists.jsonl"),
) -> None:
    """Find hard negatives for queries and their documents.

    Documents that an embedding model finds near a query teach more than any others. Those nearer than the farthest positive, less
    a margin, are left out as perhaps relevant, and so are copies of positives under other ids.

    Example: understudy mine runs/minilm-half data/scifact/qrels/train.tsv --out lists.jsonl
    """
    with guard():
        from understudy.base import disk
        from understudy.run.mine import mine as mine_lists

        lists = mine_lists(model, folder, top=top, negatives=negatives, margin=margin, candidates=candidates)
        disk.write_text(out, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lists))
        show(f"{len(lists):,} lists are in {out}; {sum(len(one['passages']) for one in lists):,} passages.")


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
    which: Annotated[str, typer.Option("--model", metavar="NAME", help="Of a run: student or teacher.")] = "student",
    as_json: Json = False,
) -> None:
    """Write a student in the form others need.

    hf and padded load with transformers alone, onnx runs with onnxruntime alone, exact is the smallest for PyTorch. Each
    is compared with the student on real rows before it appears; what was kept, sizes and times are in structure.json.

    Example: understudy export runs/first --to onnx --int8
    """
    with guard():
        from understudy.export import export_folder
        from understudy.export.describe import lines

        made = export_folder(model, to, out=out, int8=int8, recipe=recipe, model=which)
        if as_json:
            show_json(made)
        else:
            show("\n".join(lines(made)))


@app.command()
def trim(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder, Hub name, or package:NAME/FOLDER.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The new model's folder.", show_default=False)],
    texts: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Texts whose tokens stay; may be repeated.", show_default=False)
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of a table with the text.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Keep so many at most, the most frequent.")] = None,
    scripts: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Keep all tokens of these scripts, as LATIN,CYRILLIC.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep the part of a model's vocabulary that your texts use.

    Most parameters of a small or multilingual model are embeddings of words it will never read. What is left out is spelled
    in smaller pieces, so nothing becomes unknown; for texts of kept tokens the outputs are the same to the bit. DIR loads with
    transformers alone. Score both with `understudy eval`.

    Example: understudy trim runs/first/student --texts mails.csv --text body --out runs/first-small
    """
    with guard():
        from understudy.export.trim import lines, trim_folder

        asked = scripts.split(",") if scripts else []
        made = trim_folder(model, texts=texts or [], out=out, number=tokens, scripts=asked, column=text)
        if as_json:
            show_json(made)
        else:
            show("\n".join(lines(made)))


@app.command()
def push(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A run, a student's folder or an export.", show_default=False)],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the Hub.", show_default=False)],
    public: Annotated[bool, typer.Option("--public", help="For everybody; else the repository is made private.")] = False,
    license_: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="As apache-2.0; else that of the model it was made from.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option("--language", metavar="CODE", help="As en, once for each; else as the model's.")
    ] = None,
    base_model: Annotated[
        str | None, typer.Option("--base-model", metavar="NAME", help="The model it was made from, where the card names none.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="NAME", help="A data set on the Hub that it learnt from.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a student on the Hugging Face Hub, with its card.

    All files in one commit, checksums looked at first. The card says what the student was made from, its scores with intervals,
    size and measured latency, and has code that runs. Log in with `hf auth login`, or set HF_TOKEN.

    Example: understudy push runs/first your-name/tickets-small --license apache-2.0
    """
    with guard():
        from understudy.push import lines
        from understudy.push import push as push_folder

        made = push_folder(
            model, repo, public=public, license=license_, languages=language or (), base_model=base_model, datasets=dataset or ()
        )
        if as_json:
            show_json(made)
        else:
            show("\n".join(lines(made, repo)))


@app.command()
def report(run: Run) -> None:
    """Write the report of a finished run or comparison again.

    Made from result.json and the recorded curves, or from comparison.json; prints where the page is.

    Example: understudy report runs/first
    """
    with guard(run):
        if (run / "comparison.json").exists():
            from understudy.compare.whole import write_comparison as write_report
        else:
            from understudy.run import write_report
        show(str(write_report(run)))


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
    with guard():
        from understudy.run import verify as verify_run

        found = verify_run(run, replay)
        if as_json:
            show_json(found)
        else:
            show(f"{run}: {found['files']} files are as they were written.")
            if replay:
                show(f"{run}: {found['replayed_steps']} steps repeated, every bit equal.")


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
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the text.")] = None,
    layout: Annotated[str, typer.Option(metavar="LAYOUT", help="auto, peft or adapterhub.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Which texts are drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Move a trained adapter to another model.

    Layers are chosen and, where the models differ, dimensions matched by correlation; nothing is trained. The plan is
    printed before it is executed. The settings are those of method mkd (docs/mkd.md). A recipe goes on from the result
    with `student.adapter`.

    Example: understudy transfer runs/large/adapter --from big --to small --texts mails.txt --out small-adapter
    """
    with guard():
        from understudy.adapters.transfer.command import transfer_folder
        from understudy.recipe.transfer import transfer_settings

        report = transfer_folder(
            adapter, teacher=source, student=target, out=out, texts=texts, text=text, seed=seed, layout=layout,
            settings=transfer_settings(settings or []),
        )  # fmt: skip
        if as_json:
            show_json(report)
        else:
            show(f"adapter  {out}")


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
    with guard():
        from understudy.doctor import examine, lines

        facts = examine(network=network)
        if as_json:
            show_json(facts)
        else:
            show("\n".join(lines(facts)))


@app.command()
def clean(
    unused_for: Annotated[
        float, typer.Option("--unused-for", metavar="DAYS", min=0, help="Keep what a run asked for in the last DAYS days.")
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Free the disk: delete the stored outputs of teachers.

    They are kept so that no teacher is asked twice, up to 10 GB for each (`cache.budget_gb`), and are computed again where
    they are needed. Fine-tuned teachers and the folders of runs stay. It may be called while runs are under way.

    Example: understudy clean --unused-for 7
    """
    with guard():
        from understudy.clean import clean as clean_up
        from understudy.clean import words

        found = clean_up(unused_for=unused_for, dry_run=dry_run)
        if as_json:
            show_json(found.__dict__)
        else:
            show(words(found, dry_run=dry_run))


search = typer.Typer(help="Take part in a search for architectures (kdnas, auto).", no_args_is_help=True, add_completion=False)
app.add_typer(search, name="search")


@search.command()
def worker(run: Run, as_json: Json = False) -> None:
    """Try candidates for a run that searches, until its search is over.

    Start as many as you like, on this machine or, with `method.storage` and a folder that all can reach, on others. A
    worker may be killed at any moment: its candidate is tried again by another.

    Example: understudy search worker runs/nas
    """
    with guard(run):
        from understudy.run import search_worker

        tried = search_worker(run)
        if as_json:
            show_json({"candidates": tried})
        else:
            show(f"{run}: the search is over, {tried} candidates were tried.")


def main() -> None:
    """The `understudy` command."""
    if other := clash():  # said again: where the other package came last, the start of ours was not run
        print(other, file=sys.stderr)
    # Bars and hints of the libraries underneath would mix with ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each of several processes would repeat torch's hints
    try:
        app()
    except SystemExit as end:
        if not end.code and "torch" in sys.modules:  # after an error the others may still wait for this one
            from understudy.train.devices import leave_group

            leave_group()
        raise
