"""Everything that can fail early, found before it costs an hour: data, models, their fit, disk, memory, output folder.

Nothing is trained and nothing is written. What lies on the Hub and cannot be reached from here is a warning, because
the machine that will do the work may reach it.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from understudy.base.errors import RecipeError, ResourceError, UnderstudyError
from understudy.kinds import every, kind
from understudy.recipe.load import load_recipe, recipe_hash
from understudy.recipe.settings import Recipe, ServerSettings, TeacherSettings

if TYPE_CHECKING:
    from understudy.data.types import TaskData
    from understudy.models.source import CheckedFolder

_GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `exit_code` is what the run would end with (errors only)."""

    level: Literal["ok", "note", "warning", "error"]
    key: str
    text: str
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.level:<8} {self.key:<8} {self.text}"


@dataclass(frozen=True)
class Sizes:
    """What a configuration alone tells about a model."""

    layers: int
    width: int
    parameters: int
    on_vocabulary: bool
    """Whether the checkpoint was saved with a head on the vocabulary."""
    cut: str = ""
    """What pruning will leave, in a sentence."""
    net: Any = field(default=None, repr=False, compare=False)
    """The network itself, without memory for its weights, and without a head."""
    build: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    """Makes it once more, with memory."""

    def flops(self, length: int) -> int | None:
        """The operations of a forward pass over one row; None for an architecture that computes with the values of its inputs,
        which are not there."""
        from understudy.evaluate.measure import flops_without_weights

        try:
            return flops_without_weights(self.net, length=length)
        except (RuntimeError, NotImplementedError):
            return None


@dataclass(frozen=True)
class Inspection:
    """What was found, and what it was found about: data and sizes are None where there was nothing to look at."""

    findings: list[Finding]
    data: TaskData | None
    teacher: Sizes | None
    student: Sizes | None


def check(recipe: Recipe, *, out: Path | None = None) -> list[Finding]:
    """Look at everything a run of this recipe depends on; `out` is the folder it would be written to."""
    return look(recipe, out=out).findings


def look(
    recipe: Recipe, *, out: Path | None = None, data: TaskData | None = None, strict: bool = False
) -> Inspection:
    """`check`, with what it saw.

    Args:
        data: the recipe's rows, where they are at hand already.
        strict: raise the first error instead of noting it.
    """
    found = _Findings(strict)
    data = data or _task(recipe, found)
    with found.catching("method"):
        recipe, why = recipe.how.settle(recipe.method, recipe, out, look=True, task=data.task if data else None)
        for reason in why:
            found.note("method", reason)
    teacher, student = _models(recipe, data, found)
    if teacher is not None and (student is not None or recipe.student.searched):
        with found.catching("method"):
            said = recipe.how.require(recipe.method, recipe, data, teacher, student)
            found.ok("method", said or f"{recipe.method.name} fits teacher and student.")
    learner = student or (teacher if recipe.student.searched else None)  # a search finds none that is larger
    if learner is not None and data is not None and recipe.objective.terms():
        with found.catching("objective"):
            _objective(recipe, data, teacher, learner, found)
    if data is not None and data.task.windows is not None:
        with found.catching("task"):
            _windows(recipe, data, found)
    if data is not None and not strict:
        _known(recipe, data, found)
        if exit_code(found.list) == 0:
            _time(recipe, data, teacher, student, found)
    with found.catching("train"):
        from understudy.train.devices import accelerator, resolve_precision

        for settings in (recipe.train, recipe.teacher.finetune if recipe.teacher else None):
            if settings is not None:
                resolve_precision(settings.precision, accelerator().device)
    with found.catching("out"):
        _room(recipe, found, out, teacher, student)
    return Inspection(found.list, data, teacher, student)


def exit_code(findings: list[Finding]) -> int:
    """0 if the run can start, else the code of the first error."""
    return next((finding.exit_code for finding in findings if finding.level == "error"), 0)


class _Findings:
    def __init__(self, strict: bool = False) -> None:
        self.list: list[Finding] = []
        self.strict = strict

    def ok(self, key: str, text: str) -> None:
        self.list.append(Finding("ok", key, text))

    def note(self, key: str, text: str) -> None:
        self.list.append(Finding("note", key, text))

    def warn(self, key: str, text: str) -> None:
        self.list.append(Finding("warning", key, text))

    @contextmanager
    def catching(self, key: str) -> Iterator[None]:
        """An expected error inside becomes a finding."""
        try:
            yield
        except UnderstudyError as error:
            if self.strict:
                raise
            self.list.append(Finding("error", key, str(error), error.exit_code))


def _task(recipe: Recipe, found: _Findings) -> TaskData | None:
    from understudy.data.tasks import data_of
    from understudy.models.source import hub_reachable

    settings = recipe.task
    on_hub = settings.path is None and not settings.own and not settings.name.startswith("demo/")
    with found.catching("task"):
        try:
            data = data_of(recipe)
        except UnderstudyError:
            if on_hub and not hub_reachable():
                found.warn("task", f"{settings.name} is not reachable from here; it will be downloaded from the Hub.")
                return None
            raise
        tests = ", ".join(f"{name} {len(rows):,}" for name, rows in data.tests.items()) or "none"
        found.ok("task", f"{settings.name}: {len(data.train):,} rows to learn from, {len(data.select):,} to select by; "
                 f"test rows: {tests}.")  # fmt: skip
        if data.task.labels:
            shown = ", ".join(data.task.labels[:10]) + (", …" if len(data.task.labels) > 10 else "")
            found.ok("task", f"{len(data.task.labels)} labels: {shown}")
        train = recipe.train
        if train.batch_tokens is None:
            steps = f"{math.ceil(len(data.train) / train.batch_size) * train.epochs:,} optimiser steps"
        else:
            steps = f"{train.batch_tokens:,} tokens an optimiser step"
            steps += f", {math.ceil(train.tokens / train.batch_tokens):,} steps" if train.tokens else f", {train.epochs} epochs"
        found.ok("train", f"{steps} for the student.")
        for note in data.notes:
            found.note("task", note)
        return data
    return None


def _known(recipe: Recipe, data: TaskData, found: _Findings) -> None:
    """What rows and lengths tell about the result already."""
    from understudy.data.known import facts_of, sentences
    from understudy.models.load import reader_of

    with found.catching("task"):
        reader = reader_of(recipe, words=data.task.kind.by_word)
        for sentence in sentences(facts_of(data, *(reader or ()))):
            found.warn("task", sentence)


def _windows(recipe: Recipe, data: TaskData, found: _Findings) -> None:
    """The longest texts fit into windows, and how many those are."""
    from understudy.data.encode import encode
    from understudy.models.load import reader_of

    if (reader := reader_of(recipe, words=False)) is None:
        return
    tokenizer, length, most = reader
    rows = sorted(data.train, key=lambda row: -len(row.text or ""))[:100]
    rows += sorted(data.train, key=lambda row: -len(row.pair or ""))[:100] if data.task.pair else []
    encoded = encode(rows, tokenizer, data.task, max_length=min(length, most or length))
    assert encoded.firsts is not None and data.task.windows is not None
    counts = [int(end - start) for start, end in zip(encoded.firsts, encoded.firsts[1:], strict=False)]
    cut = f"; {encoded.truncated} of the {len(rows)} longest are cut there" if encoded.truncated else ""
    found.ok("task", f"the longest texts are {max(counts)} windows of {length} tokens (task.windows.most: "
             f"{data.task.windows.most}){cut}.")  # fmt: skip


def _time(recipe: Recipe, data: TaskData, teacher: Sizes | None, student: Sizes | None, found: _Findings) -> None:
    """How long it will take, where the models' tokenizer is at hand."""
    from understudy.data.known import lengths_of
    from understudy.models.load import reader_of
    from understudy.probe import estimate, said
    from understudy.recipe.method import Facts

    reader = reader_of(recipe, words=data.task.kind.by_word)
    if reader is None or data.task.kind.on_vocabulary:
        return
    tokenizer, length, _ = reader
    lengths = [min(length, one) for one in lengths_of(data, tokenizer, most=200)]
    there = {name: one for name, one in (("teacher", teacher), ("student", student)) if one is not None and one.build is not None}
    builds = {name: one.build for name, one in there.items() if one.build is not None}
    share = student.parameters / teacher.parameters if student and teacher else 1.0
    if student and teacher and (ours := student.flops(128)) and (theirs := teacher.flops(128)):
        share = ours / theirs
    expected = recipe.how.expected_share(recipe.method, recipe, teacher) if teacher and not student else share
    facts = Facts(share, teacher.layers if teacher else 1, len(data.train), expected)
    seconds = estimate(
        recipe, data, builds, facts, lengths,
        {name: one.parameters for name, one in there.items()},
    )  # fmt: skip
    if seconds is not None:
        found.ok("time", said(seconds))


def _models(recipe: Recipe, data: TaskData | None, found: _Findings) -> tuple[Sizes | None, Sizes | None]:
    teacher = student = None
    source: CheckedFolder | None = None
    settings = recipe.teacher
    if settings is not None and settings.columns is not None:
        found.ok("teacher", "its answers stand beside the rows.")
    elif settings is not None and settings.server is not None:
        with found.catching("teacher"):
            _served(settings.server, data, found)
    elif settings is not None:
        with found.catching("teacher"):
            source = _source(settings.model, "teacher", settings.revision, settings.trust_remote_code, found)
            teacher = sizes_of(source.config) if source else None
            if source and teacher:
                found.ok("teacher", f"{settings.model}: {_describe(teacher)}.")
                if _on_vocabulary(recipe) and not teacher.on_vocabulary and settings.finetune is not None:
                    raise RecipeError(
                        f"teacher.finetune: {settings.model} has no head on the vocabulary to fine-tune on plain text; leave "
                        "teacher.finetune out, or give a checkpoint saved as …ForMaskedLM."
                    )
                adapted = recipe.how.teacher_adapter(recipe.method) is not None  # brings its head
                if settings.finetune is None and not adapted and (recipe.how.needs_teacher or recipe.student.prunes):
                    _teaches_as_it_is(settings, source, recipe)
                if recipe.how.needs_teacher or settings.finetune is not None or recipe.student.model is None:
                    _loads(source, "teacher.model", recipe, data, found)
    with found.catching("student"):
        wanted = recipe.student
        if wanted.model is not None:
            own = _source(wanted.model, "student", None, False, found)
            student = sizes_of(own.config, recipe) if own else None
            if own:
                _loads(own, "student.model", recipe, data, found)
        elif source is not None and teacher is not None and not wanted.searched:
            student = _made_from(source.config, teacher, recipe)
        if student:
            found.ok("student", f"{wanted.model or 'made from the teacher'}: {_describe(student)}.")
            if student.cut:
                found.note("student", student.cut)
            if wanted.vocabulary is not None and data is not None:
                _vocabulary(recipe, data, student, found)
    _adapters(recipe, found, teacher, student)
    return teacher, student


def _served(settings: ServerSettings, data: TaskData | None, found: _Findings) -> None:
    """What asking the server comes to; it is not asked yet."""
    from understudy.cache.served import Served

    if data is None:
        return
    served = Served(settings, data.task)
    served.read()
    left = len(served.missing([*data.train, *(row for rows in data.tests.values() for row in rows)]))
    found.ok("teacher", f"{settings.model} at {settings.url}: {left:,} requests to make, {len(served.known):,} answers are kept.")
    if left and settings.max_requests is not None and left + len(served.known) > settings.max_requests:
        found.warn("teacher", f"teacher.server.max_requests: {settings.max_requests:,} end the run before all are answered.")


def _vocabulary(recipe: Recipe, data: TaskData, student: Sizes, found: _Findings) -> None:
    """How many tokens `student.vocabulary` keeps, and what that leaves of the student."""
    from understudy.data.encode import encode
    from understudy.lab.vocabulary import tokens_for
    from understudy.models.load import reader_of

    reader = reader_of(recipe, words=data.task.kind.by_word)
    if reader is None:
        return
    tokenizer, length, _ = reader
    kept = tokens_for(recipe, data, tokenizer, lambda rows: encode(rows, tokenizer, data.task, max_length=length))
    fewer = (len(tokenizer) - len(kept)) * (recipe.student.embedding_rank or student.width)
    found.note("student", f"{len(kept):,} of {len(tokenizer):,} tokens are kept: about {fewer:,} parameters fewer.")


def _adapters(recipe: Recipe, found: _Findings, teacher: Sizes | None, student: Sizes | None) -> None:
    """Adapters that will be put in, fresh or from folders, have their places in these models."""
    from understudy.adapters import put, remove
    from understudy.adapters.files import read_adapter
    from understudy.adapters.inject import places

    finetune = recipe.teacher.finetune if recipe.teacher else None
    with found.catching("adapter"):
        for sizes, settings in ((teacher, finetune), (student, recipe.train)):
            if sizes and settings and settings.adapter and settings.trains(recipe.how) == "adapter":
                places(sizes.net, settings.adapter)
    given = recipe.how.teacher_adapter(recipe.method)
    for key, sizes, folder in (("method.adapter", teacher, given), ("student.adapter", student, recipe.student.adapter)):
        with found.catching(key):
            if sizes and folder:
                read = read_adapter(Path(folder).expanduser(), sizes.net)
                put(sizes.net, read, name="check", head=False)
                remove(sizes.net, "check")
                found.ok(key, f"{folder}: its {len(read.tensors)} tensors fit.")


def _source(ref: str, key: str, revision: str | None, trust: bool, found: _Findings) -> CheckedFolder | None:
    """The checked folder of a model (weights too if they are here); None and a warning if the Hub is out of reach."""
    from understudy.models.source import hub_reachable, is_local, resolve

    here = is_local(ref, key=f"{key}.model") or ref.startswith("package:")
    try:
        return resolve(ref, key=f"{key}.model", revision=revision, trust_remote_code=trust, weights=here)
    except UnderstudyError:
        if here or ref.startswith((".", "/", "~")) or hub_reachable():
            raise
        found.warn(key, f"{ref} is not reachable from here; it will be downloaded from the Hub.")
        return None


def sizes_of(config: dict[str, Any], shares: Recipe | None = None, *, device: str = "meta") -> Sizes:
    """Build the architecture, on `meta` without memory for its weights, its layers used again as a recipe's student's, and
    count."""
    import torch
    from transformers import AutoConfig, AutoModel

    from understudy.models.anatomy import anatomy, anatomy_of
    from understudy.models.restructure import lower_rank
    from understudy.models.source import require_layers
    from understudy.students.share import share_net

    name = str(config.get("model_type", ""))
    anatomy_of(name)
    require_layers(config, "student.config")
    try:
        settings = AutoConfig.for_model(**config)
        with torch.device(device):
            net = AutoModel.from_config(settings)
    except Exception as error:  # every architecture raises errors of its own
        raise RecipeError(f"no {name} model can be built with these sizes: {' '.join(str(error).split())}") from None
    cut = _cut(net, shares) if shares is not None and shares.student.prunes else ""
    if shares is not None:
        share_net(net, shares.share, own_norms=shares.student.own_norms, again=shares.student.share != "auto")
    if shares is not None and shares.student.embedding_rank is not None:
        lower_rank(net, shares.student.embedding_rank)
    row = anatomy(net)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    headed = any(one.on_vocabulary and one.has_head(settings) for one in every())

    def build() -> Any:
        return sizes_of(config, shares, device="cpu").net

    return Sizes(row.num_layers(net), row.width(net), parameters, headed, cut, net, build)


def _made_from(config: dict[str, Any], teacher: Sizes, recipe: Recipe) -> Sizes:
    from understudy.students.stock import complete_sizes

    wanted = recipe.student
    if wanted.config is not None:
        sizes = wanted.config.model_dump(exclude_none=True)
        if wanted.init == "teacher":
            width = {name: size for name, size in sizes.items() if name != "num_hidden_layers"}
            sizes |= complete_sizes(teacher.net, width)
        depth = _depth(config, sizes["num_hidden_layers"]) if "num_hidden_layers" in sizes else {}
        return sizes_of(config | sizes | depth, recipe)
    if wanted.prunes and wanted.num_layers is None and isinstance(wanted.keep, str):
        return sizes_of(config, recipe)
    kept = (wanted.num_layers or 0) if isinstance(wanted.keep, str) else len(wanted.keep)
    highest = kept - 1 if isinstance(wanted.keep, str) else max(wanted.keep)
    if highest >= teacher.layers:
        what = f"num_layers: {kept}" if isinstance(wanted.keep, str) else f"keep: {list(wanted.keep)}"
        raise RecipeError(f"student.{what}: the teacher's layers are numbered from 0 to {teacher.layers - 1}.")
    return sizes_of(config | _depth(config, kept), recipe) if config.get("model_type") != "albert" else teacher


def _cut(net: Any, recipe: Recipe) -> str:
    """Cut a network as the recipe's student will be, except that all units matter alike, and say how much stays."""
    from understudy.lab.pruning import counted, describe, rule
    from understudy.models.restructure import cut, num_units
    from understudy.students.allocation import Scores

    kept = counted(recipe, net, rule(recipe, Scores.alike(*num_units(net))), recipe.student.sparsity)
    if kept is None:
        return "heads and neurons are cut until the budget is met; how many that takes is measured during the run."
    said = describe(net, kept)
    cut(net, heads=kept.heads, neurons=kept.neurons)
    return said


def _depth(config: dict[str, Any], layers: int) -> dict[str, Any]:
    """The configuration's keys that say how deep a model is."""
    depth: dict[str, Any] = {"n_layers" if config.get("model_type") == "distilbert" else "num_hidden_layers": layers}
    if config.get("layer_types"):  # ModernBERT
        depth["layer_types"] = config["layer_types"][:layers]
    return depth


def _on_vocabulary(recipe: Recipe) -> bool:
    return recipe.task.kind is not None and kind(recipe.task.kind).on_vocabulary


def _loads(source: CheckedFolder, key: str, recipe: Recipe, data: TaskData | None, found: _Findings) -> None:
    """Load a model that is here as the run will: tokenizer, tensors and head are judged where they are put together."""
    if data is None or not source.weights:
        return
    from understudy.evaluate.order import require_order
    from understudy.models.load import load_model

    given, teacher = recipe.teacher, key == "teacher.model"
    trained = not teacher or (given is not None and given.finetune is not None)
    trust = teacher and given is not None and given.trust_remote_code
    among = teacher and recipe.task.labels is not None
    model = load_model(source.ref, task=data.task, key=key, trust_remote_code=trust, replace_head=trained, among=among)
    for note in model.notes:
        found.note(key.partition(".")[0], note.removeprefix(f"{key}: "))
    if model.by_position and not trained:
        require_order(model, data, max_length=recipe.task.max_length)


def _teaches_as_it_is(settings: TeacherSettings, source: CheckedFolder, recipe: Recipe) -> None:
    """A teacher that will not be fine-tuned has a trained head, and its labels are those of the task."""
    if _on_vocabulary(recipe) or (recipe.task.kind is not None and kind(recipe.task.kind).pooled):
        return
    architecture = str((source.config.get("architectures") or [""])[0])
    if not architecture.endswith(("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")):
        raise RecipeError(
            f"teacher.model: {settings.model} has no trained head for this task. Give a checkpoint that was fine-tuned "
            "for it, or add `finetune: {epochs: 3}` under `teacher`."
        )


def _objective(recipe: Recipe, data: TaskData, teacher: Sizes | None, student: Sizes, found: _Findings) -> None:
    """Build the objective for these sizes: layer maps, projections and terms without a meaning are judged there."""
    import torch

    from understudy.objective.pair import ANSWERS, Pair, side_of
    from understudy.objective.vocabulary import build

    text, outputs = data.task.kind.on_vocabulary, max(1, len(data.task.labels))
    pair = Pair(
        kind=data.task.kind,
        student=side_of(student.net, outputs=not text or student.on_vocabulary, head=False),
        teacher=None,
        num_labels=outputs,
        class_weights=data.task.weights,
        seed=recipe.seed,
        same_tokens=recipe.student.model is None,
        variances=lambda layers: dict.fromkeys(layers, torch.ones(teacher.width if teacher else 0)),
    )
    if teacher is not None and recipe.how.needs_teacher:
        head = (torch.zeros(outputs, teacher.width), torch.zeros(outputs))
        side = side_of(teacher.net, outputs=not text or teacher.on_vocabulary, head=False)
        pair = replace(pair, teacher=replace(side, head=lambda: head))
    elif recipe.teacher is not None and not recipe.teacher.model:
        pair = replace(pair, teacher=ANSWERS)
    _, notes = build(recipe.objective.terms(), pair)
    for note in notes:
        found.note("objective", note)
    found.ok("objective", "; ".join(recipe.objective.lines()))


def _room(recipe: Recipe, found: _Findings, out: Path | None, teacher: Sizes | None, student: Sizes | None) -> None:
    """The output folder can be written, holds no other run, and disk and memory suffice."""
    place = (out or Path.cwd()).absolute()
    if (place / "config.yaml").exists() and out is not None and not found.strict:
        if recipe_hash(load_recipe(place / "config.yaml")) != recipe_hash(recipe):
            raise RecipeError(f"{out} holds a run with different settings; use another --out for this one.")
        found.ok("out", f"{out} holds this run already; the same command continues it.")
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not existing.is_dir():
        raise ResourceError(f"{existing} is a file, so no folder can be made there; use another --out.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ResourceError(f"{existing} cannot be written; use another --out, or change its permissions.")
    trained = [teacher.parameters] if teacher and recipe.teacher and recipe.teacher.finetune else []
    trained += [student.parameters] * (2 if recipe.evaluate.baseline else 1) if student else []
    if not trained:
        return
    # The result of each step stays (4 bytes per weight); the newest two checkpoints hold AdamW's state as well (12).
    disk = 4 * sum(trained) + 24 * max(trained)
    free = shutil.disk_usage(existing).free
    if disk > free:
        raise ResourceError(f"{existing}: {disk / _GB:.1f} GB are needed, {free / _GB:.1f} GB are free; make room.")
    cache = f" and up to {recipe.cache.budget_gb:g} GB for the teacher's outputs" if recipe.cache.mode == "auto" else ""
    found.ok("disk", f"about {disk / _GB:.1f} GB for the run{cache}; {free / _GB:.0f} GB are free.")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = 16 * max(trained) + 4 * (teacher.parameters if teacher else 0)
    if needed > memory:
        found.warn("memory", f"at least {needed / _GB:.1f} GB are needed; this machine has {memory / _GB:.1f} GB.")


def _describe(sizes: Sizes) -> str:
    layers = "1 layer" if sizes.layers == 1 else f"{sizes.layers} layers"
    return f"{layers} of width {sizes.width}, {sizes.parameters:,} parameters"
