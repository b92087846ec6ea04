"""Durable steps: a method calls them as if nothing could go wrong, and a killed run continues where it was.

Every step owns `steps/<name>/` and is keyed by what went into it. Same key and finished: loaded. Same key, unfinished:
continued. Same name, another key: an error that says what differs. Steps that do not depend on the method (the
fine-tuned teacher, its outputs, what it predicts) are shared between runs: they live under $UNDERSTUDY_HOME, by key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.base import disk, seeds
from understudy.base.errors import Interrupted, RecipeError, VerifyError
from understudy.base.progress import say
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, Teacher, content_digest
from understudy.data.encode import Encoded, encode
from understudy.data.masking import mask_inputs
from understudy.data.tasks import load_task
from understudy.data.types import Example, TaskData
from understudy.evaluate.metrics import Predictions, compute
from understudy.evaluate.predict import predict
from understudy.models.anatomy import anatomy
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.needs import Needs
from understudy.models.save import save_model
from understudy.models.scale import to_label_units, to_standard_units
from understudy.objective import Objective
from understudy.objective.terms import hard_labels
from understudy.recipe.settings import Recipe, TrainSettings
from understudy.students.fresh import fresh
from understudy.students.keep_layers import keep_layers
from understudy.train.devices import accelerator, any_process, main_says, resolve_precision
from understudy.train.guard import StopSignals
from understudy.train.learner import held_out_loss
from understudy.train.loop import Fit, FitResult, fit

VERSIONS = {"fit": 1, "predict": 1, "keep": 1}
"""Raised by hand when a kind of step would give other results than before."""

_NOT_RESULT = {"checkpoint_seconds", "checkpoint_steps", "max_tokens"}
"""Training settings that never change the result: they are not part of a step's key."""


def home() -> Path:
    """Where steps are shared between runs: $UNDERSTUDY_HOME, else ~/.cache/understudy."""
    given = os.environ.get("UNDERSTUDY_HOME")
    return Path(given) if given else Path.home() / ".cache" / "understudy"


@dataclass(frozen=True)
class Source:
    """A teacher as a method sees it: the model, and the digest that names it in keys."""

    model: Model
    digest: str


@dataclass
class Replay:
    """A finished step whose last `steps` are to be repeated; `repeated` says how many were."""

    name: str
    folder: Path
    steps: int
    repeated: int = 0


class Lab:
    """What a method works with: the task, the teacher, the untrained student, and durable steps."""

    def __init__(self, recipe: Recipe, folder: Path, stop: StopSignals, trackers: Sequence[Any] = ()) -> None:
        self.recipe, self.folder, self.stop, self.trackers = recipe, folder, stop, trackers
        self.device = accelerator().device
        self.seconds: dict[str, float] = {}
        """How long each step took, those before an interruption included."""
        self.teacher_examples = 0
        """On how many examples this process ran a teacher: 0 when everything was known already."""
        self._encoded: dict[Any, Any] = {}
        self._replay: Replay | None = None

    def replaying(self, name: str, folder: Path, steps: int) -> Replay:
        """Make the step `name` repeat the last steps of the finished step in `folder` instead of training."""
        self._replay = Replay(name, folder, steps)
        return self._replay

    # -- data ----------------------------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> TaskData:
        split_seed = self.recipe.task.split_seed
        return load_task(self.recipe.task, seed=self.recipe.seed if split_seed is None else split_seed)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Mean and deviation of the training labels of a regression task: the units models train in."""
        if self.data.task.kind != "regression":
            return 0.0, 1.0
        labels = np.array([example.label for example in self.data.train], dtype=np.float64)
        return float(labels.mean()), float(labels.std()) or 1.0

    def encoded(self, model: Model, examples: Sequence[Example], *, max_length: int | None = None) -> list[Encoded]:
        """Examples in a model's own tokens. One encoding, or one for each masking of plain text."""
        task, settings = self.data.task, self.recipe.task
        length = min(max_length or settings.max_length, anatomy(model.net).max_tokens(model.net))
        key = (tokenizer_digest(model.tokenizer), length, id(examples))
        if key not in self._encoded:
            whole = encode(examples, model.tokenizer, task, max_length=length)
            if task.kind == "regression" and whole.labels is not None:
                mean, deviation = self.scale
                whole = dataclasses.replace(whole, labels=((whole.labels - mean) / deviation).astype(np.float32))
            if task.kind == "text":
                variants = settings.mask_variants if examples is self.data.train else 1
                self._encoded[key] = [
                    mask_inputs(
                        whole,
                        model.tokenizer,
                        seed=self.recipe.seed,
                        variant=variant,
                        probability=settings.mask_probability,
                    )
                    for variant in range(variants)
                ]
            else:
                self._encoded[key] = [whole]
        return self._encoded[key]

    def same_tokens(self, one: Model, other: Model) -> bool:
        """Whether two models cut every text of this task into the same tokens."""
        lengths = {anatomy(model.net).max_tokens(model.net) for model in (one, other)}
        cut_alike = self.recipe.student.max_length in (None, self.recipe.task.max_length)
        cut_alike = cut_alike and (len(lengths) == 1 or min(lengths) >= self.recipe.task.max_length)
        return cut_alike and tokenizer_digest(one.tokenizer) == tokenizer_digest(other.tokenizer)

    # -- models --------------------------------------------------------------------------------------------------------

    def pretrained(self) -> Source:
        """The checkpoint `teacher.model` as it is, with a fresh head where it has none for this task."""
        settings = self.recipe.teacher
        if settings is None:
            raise RecipeError("This method needs a teacher: add `teacher: {model: …}` to the recipe.")
        return self._source("pretrained", settings.model, settings.revision, settings.trust_remote_code)

    def _source(self, name: str, ref: str, revision: str | None, trust: bool) -> Source:
        if name not in self._encoded:
            model = load_model(
                ref,
                task=self.data.task,
                key="student.model" if name == "student" else "teacher.model",
                revision=revision,
                trust_remote_code=trust,
                seed=seeds.derive(self._head_seed(name), "head"),
            )
            if self.data.task.kind == "text" and model.fresh_head:
                key = "student.model" if name == "student" else "teacher.model"
                raise RecipeError(
                    f"{key}: {ref} has no head on the vocabulary, which learning from plain text needs. Give a masked "
                    "language model (a checkpoint saved as …ForMaskedLM)."
                )
            if self.data.task.kind == "regression" and not model.fresh_head:
                to_standard_units(model.net, *self.scale)
            self._encoded[name] = Source(model, digest(model.net))
        return self._encoded[name]

    def _head_seed(self, name: str) -> int:
        teacher = self.recipe.teacher
        return teacher.seed if name == "pretrained" and teacher and teacher.seed is not None else self.recipe.seed

    def teacher(self) -> Source:
        """The teacher, ready to teach: as given, or fine-tuned on the task first. Shared between runs."""
        settings = self.recipe.teacher
        start = self.pretrained()
        assert settings is not None
        if settings.finetune is None:
            if start.model.fresh_head:
                raise RecipeError(
                    f"teacher.model: {settings.model} has no trained head for {self.data.task.name}. Give a checkpoint "
                    "that was fine-tuned for it, or add `teacher: {finetune: {epochs: 3}}` to fine-tune it here first."
                )
            return start
        if "teacher" not in self._encoded:
            model = self.fit(
                "teacher",
                copy_of(start.model),
                Objective(hard=hard_labels(self.data.task.kind)),
                settings=settings.finetune,
                seed=settings.seed,
                shared=True,
            )
            self._encoded["teacher"] = Source(model, digest(model.net))
        return self._encoded["teacher"]

    def student(self) -> Model:
        """The student before training: a checkpoint, some of the teacher's layers, or a fresh architecture."""
        settings = self.recipe.student
        if settings.model is not None:
            return copy_of(self._source("student", settings.model, None, False).model)
        if settings.config is not None:
            sizes = settings.config.model_dump(exclude_none=True)
            return fresh(self.pretrained().model, sizes, seed=self.recipe.seed)
        start = self.pretrained() if settings.init == "pretrained" else self.teacher()
        return keep_layers(start.model, settings.keep, num_layers=settings.num_layers)

    # -- durable steps -------------------------------------------------------------------------------------------------

    def fit(
        self,
        name: str,
        model: Model,
        objective: Objective,
        *,
        teacher: Source | None = None,
        settings: TrainSettings | None = None,
        about: dict[str, Any] | None = None,
        seed: int | None = None,
        shared: bool = False,
    ) -> Model:
        """Train a model in a durable step and return it with its best weights.

        Args:
            name: of the step; also what its randomness derives from.
            objective: what it learns. Terms that need a teacher get the signals of `teacher`, from disk if possible.
            about: the settings the objective was made from: part of the step's key.
            seed: of the order of rows and of dropout; the recipe's by default.
            shared: keep the step where other runs find it (for steps that do not depend on the method).
        """
        settings = settings or self.recipe.train
        seed = self.recipe.seed if seed is None else seed
        own_length = self.recipe.student.max_length if name not in ("teacher",) else None
        data = self.encoded(model, self.data.train, max_length=own_length)
        held_out = self.encoded(model, self.data.select, max_length=own_length)
        key = {
            "kind": "fit",
            "version": VERSIONS["fit"],
            "name": name,
            "model": digest(model.net),
            "objective": describe(objective),
            "about": about or {},
            "teacher": teacher.digest if teacher else None,
            "train": [content_digest(part) for part in data],
            "select": [content_digest(held_out[0]), self.data.task.select],
            "settings": settings.model_dump(mode="json", exclude=_NOT_RESULT),
            "precision": resolve_precision(settings.precision, self.device),
            "device": self.device.type,
            "ranks": accelerator().num_processes,
            "seed": seed,
        }
        if self._replay is not None and self._replay.name == name:
            return self._repeat(self._replay, model, objective, teacher, settings, data, held_out, seed)
        folder, finished = self._open(name, key, shared=shared)
        if not finished:
            wait = 24 * 3600 if shared else 0
            with disk.lock(folder, wait_seconds=wait) if accelerator().is_main_process else _unlocked():
                if not main_says(self._is_finished(folder)):
                    self._train(name, folder, model, objective, teacher, settings, data, held_out, seed)
        record = disk.read_json(folder / "done.json")
        self.seconds[name] = record["seconds"]
        return self._load_step(name, folder)

    def _train(
        self,
        name: str,
        folder: Path,
        model: Model,
        objective: Objective,
        teacher: Source | None,
        settings: TrainSettings,
        data: list[Encoded],
        held_out: list[Encoded],
        seed: int,
    ) -> None:
        outcome = fit(
            self._fit(name, folder, model, objective, teacher, settings, data, held_out, seed), self.stop
        )
        if accelerator().is_main_process:
            self._finish(folder, model, outcome)
        accelerator().wait_for_everyone()

    def _fit(
        self,
        name: str,
        folder: Path,
        model: Model,
        objective: Objective,
        teacher: Source | None,
        settings: TrainSettings,
        data: list[Encoded],
        held_out: list[Encoded],
        seed: int,
    ) -> Fit:
        teachers = None
        if teacher is not None and objective.needs_teacher:
            self._same_masks(teacher, data)
            teachers = [self.signals(teacher, objective.needs_teacher, part) for part in range(len(data))]
        return Fit(
            folder=folder,
            name=name,
            model=model,
            data=data,
            objective=objective,
            settings=settings,
            seed=seed,
            teachers=teachers,
            score=lambda: self._select_scores(model, held_out, objective, teacher, settings),
            select=self.data.task.select,
            trackers=self.trackers,
        )

    def _same_masks(self, teacher: Source, data: list[Encoded]) -> None:
        """On plain text both must see the same words, hidden in the same places."""
        if self.data.task.kind != "text":
            return
        theirs = self.encoded(teacher.model, self.data.train)
        if [content_digest(part) for part in theirs] != [content_digest(part) for part in data]:
            raise RecipeError(
                "On plain text the teacher and the student must see the same masked tokens: give both the same tokenizer "
                "and the same longest input (task.max_length, student.max_length, and what the models can take)."
            )

    def _repeat(
        self,
        replay: Replay,
        model: Model,
        objective: Objective,
        teacher: Source | None,
        settings: TrainSettings,
        data: list[Encoded],
        held_out: list[Encoded],
        seed: int,
    ) -> Model:
        """Train the end of a finished step again, in a scratch folder, and compare the fingerprints of the weights."""
        recorded = {
            row["step"]: row["weights"]
            for row in map(json.loads, (replay.folder / "metrics.jsonl").read_text().splitlines())
            if "weights" in row
        }
        taken = disk.read_json(replay.folder / "done.json")["steps"]
        start = newest_before(replay.folder, taken - replay.steps)
        scratch = self.folder / "replay"
        fit(self._fit(replay.name, scratch, model, objective, teacher, settings, data, held_out, seed), self.stop, start=start)
        begun = 0 if start is None else disk.read_json(start / "state.json")["step"]
        rows = map(json.loads, (scratch / "metrics.jsonl").read_text().splitlines())
        seen = [row for row in rows if "weights" in row]
        for row in seen:
            if row["weights"] != recorded.get(row["step"]):
                raise VerifyError(
                    f"Repeating {replay.name} from step {begun} gives other weights at step {row['step']}. Either the run was "
                    "changed, or this machine, its number of threads or its library versions differ from run.json."
                )
        replay.repeated = taken - begun
        return model

    def _finish(self, folder: Path, model: Model, outcome: FitResult) -> None:
        """Commit the trained model; only then is the step done. Checkpoints before the last go."""
        self._in_label_units(model, lambda: save_model(model, folder / "model", card=""))
        disk.write_json(folder / "done.json", dataclasses.asdict(outcome))
        disk.remove(folder / "best")

    def _in_label_units(self, model: Model, save: Callable[[], Any]) -> None:
        if self.data.task.kind != "regression":
            save()
            return
        to_label_units(model.net, *self.scale)
        save()
        to_standard_units(model.net, *self.scale)

    def _load_step(self, name: str, folder: Path) -> Model:
        wrong = disk.problems(folder / "model")
        if wrong:
            raise VerifyError(f"The finished step {name} is damaged: {wrong[0]}. Delete {folder} and repeat the command.")
        model = load_model(str(folder / "model"), task=self.data.task)
        if self.data.task.kind == "regression":
            to_standard_units(model.net, *self.scale)
        model.net.to(self.device)
        return model

    def _select_scores(
        self,
        model: Model,
        held_out: list[Encoded],
        objective: Objective,
        teacher: Source | None,
        settings: TrainSettings,
    ) -> dict[str, float]:
        """Selection metrics of the current weights. Plain text has no labels: the objective itself, held out."""
        if self.data.task.kind == "text":
            says = None if teacher is None else self.signals(teacher, objective.needs_teacher, 0, split="select")
            return {"loss": held_out_loss(model, held_out[0], objective, says, settings)}
        predictions = predict(
            model,
            self.data.select,
            held_out[0],
            precision=resolve_precision(settings.precision, self.device),
            scale=self.scale,
        )
        return compute(self.data.task, predictions)

    def signals(self, teacher: Source, needs: Needs, part: int = 0, *, split: str = "train") -> Teacher:
        """What the teacher says about the training (or selection) rows: from disk, or live above the disk budget."""
        settings, train = self.recipe.cache, self.recipe.train
        examples = self.data.train if split == "train" else self.data.select
        encoded = self.encoded(teacher.model, examples)[part]
        precision = resolve_precision(train.precision, self.device)
        teacher.model.net.to(self.device).eval().requires_grad_(False)
        live = LiveTeacher(teacher.model, encoded, needs, precision, self._count)
        if settings.mode != "auto":
            return live
        cache = SignalCache(
            home() / "signals", model=teacher.model, digest=teacher.digest, encoded=encoded, precision=precision
        )
        needed = cache.bytes_needed(needs)
        if needed > settings.budget_gb * 1e9:
            say(
                f"The teacher's outputs would take {needed / 1e9:.1f} GB, more than cache.budget_gb allows "
                f"({settings.budget_gb:g}): the teacher is run in every epoch instead."
            )
            return live
        interrupted = None
        if accelerator().is_main_process:
            try:
                with disk.lock(cache.folder, wait_seconds=24 * 3600):
                    cache.fill(needs, self._count, self.stop)
            except Interrupted as error:
                interrupted = error
        if any_process(interrupted is not None):
            raise interrupted or self.stop.interruption("the teacher's outputs so far are saved.")
        return CachedTeacher(cache, needs)

    def _count(self, examples: int) -> None:
        self.teacher_examples += examples

    def predictions(self, name: str, source: Source, *, is_teacher: bool = False) -> dict[str, Predictions]:
        """What a finished model predicts on each test set, in fp32; durable, and shared for a teacher."""
        found = {}
        for test, examples in self.data.tests.items():
            own_length = None if is_teacher else self.recipe.student.max_length
            encoded = self.encoded(source.model, examples, max_length=own_length)[0]
            about = {
                "kind": "predict",
                "version": VERSIONS["predict"],
                "model": source.digest,
                "examples": content_digest(encoded),
                "scale": list(self.scale),
                "device": self.device.type,
            }
            step = f"predict-{name}-{_safe(test)}"
            folder, finished = self._open(step, about, shared=is_teacher)
            if not finished and accelerator().is_main_process:
                source.model.net.to(self.device)
                if is_teacher:
                    self._count(len(examples))
                made = predict(source.model, examples, encoded, scale=self.scale)
                _write_predictions(folder, made)
            accelerator().wait_for_everyone()
            found[test] = _read_predictions(folder, examples, self.data.task.kind)
        return found

    def keep(self, name: str, about: dict[str, Any], make: Callable[[], Any]) -> Any:
        """A choice or a measurement, made once: a resumed run cannot decide otherwise. JSON in, JSON out."""
        folder, finished = self._open(name, {"kind": "keep", "version": VERSIONS["keep"], **about}, shared=False)
        if not finished:
            if accelerator().is_main_process:
                disk.write_json(folder / "done.json", {"value": make()})
            accelerator().wait_for_everyone()
        return disk.read_json(folder / "done.json")["value"]

    # -- keys ----------------------------------------------------------------------------------------------------------

    def _open(self, name: str, about: dict[str, Any], *, shared: bool) -> tuple[Path, bool]:
        """The folder of a step, and whether it is finished. Checks that the name is not taken by another key."""
        about = json.loads(json.dumps(about))
        key = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()
        own = self.folder / "steps" / _safe(name)
        mark = own / "step.json"
        main = accelerator().is_main_process
        if main and not mark.exists():
            disk.write_json(mark, {"name": name, "key": key, "shared": shared, "about": about})
        accelerator().wait_for_everyone()
        before = disk.read_json(mark)
        if before["key"] != key:
            raise RecipeError(
                f"{own} holds this step with other settings: {difference(before['about'], about)}. "
                "Use another --out, or delete that folder to do the step again."
            )
        folder = home() / "steps" / key if shared else own
        if shared and main and not (folder / "step.json").exists():
            disk.write_json(folder / "step.json", {"name": name, "key": key, "about": about})
        return folder, main_says(self._is_finished(folder))

    @staticmethod
    def _is_finished(folder: Path) -> bool:
        return (folder / "done.json").exists()


def newest_before(folder: Path, step: int) -> Path | None:
    """The newest intact checkpoint at or before a step; None means from the beginning."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if path.is_dir() and int(path.name.removeprefix("step-")) <= step and not disk.problems(path):
            return path
    return None


def step_folder(run: Path, name: str) -> Path:
    """Where the content of a run's step is: in the run, or in the shared store."""
    own = run / "steps" / _safe(name)
    mark = disk.read_json(own / "step.json")
    return home() / "steps" / mark["key"] if mark["shared"] else own


def difference(before: Any, now: Any, path: str = "") -> str:
    """The first few places where two settings differ, in words.

    >>> difference({"a": {"lr": 1}, "b": 2}, {"a": {"lr": 3}, "b": 2})
    'a.lr was 1, is 3'
    """
    found: list[str] = []

    def walk(old: Any, new: Any, where: str) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in sorted({*old, *new}):
                walk(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
        elif old != new:
            found.append(f"{where} was {_short(old)}, is {_short(new)}")

    walk(before, now, path)
    more = f", and {len(found) - 4} more" if len(found) > 4 else ""
    return ", ".join(found[:4]) + more


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def describe(objective: Objective) -> dict[str, Any]:
    """An objective as part of a step's key: its terms, their weights and what they are means over."""
    return {name: [repr(term.weight), term.unit] for name, term in objective.terms.items()}


def copy_of(model: Model) -> Model:
    """The same model with weights of its own, so that training one leaves the other alone."""
    import copy

    return dataclasses.replace(model, net=copy.deepcopy(model.net))


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of what a tokenizer does: two with the same digest cut every text alike."""
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call asked for is kept in there too, and is no property of the tokenizer.
    parts["truncation"] = parts["padding"] = None
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _safe(name: str) -> str:
    """A step or test name as a folder name that cannot leave its parent."""
    cleaned = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    return cleaned or "step"


def _write_predictions(folder: Path, made: Predictions) -> None:
    from safetensors.numpy import save

    if isinstance(made.scores, list):
        sizes = np.array([len(row) for row in made.scores], np.int64)
        arrays = {"scores": np.concatenate(made.scores) if len(sizes) else np.empty(0, np.int64), "sizes": sizes}
    else:
        arrays = {"scores": np.ascontiguousarray(made.scores)}
        if made.gold is not None and made.gold.ndim == 1:
            arrays["gold"] = np.ascontiguousarray(made.gold)
    disk.write_bytes(folder / "predictions.safetensors", save(arrays))
    disk.write_json(folder / "done.json", {"rows": len(made)})


def _read_predictions(folder: Path, examples: Sequence[Example], kind: str) -> Predictions:
    from safetensors.numpy import load_file

    arrays = load_file(folder / "predictions.safetensors")
    ids = [example.id for example in examples]
    groups = [example.group or example.id for example in examples] if any(e.group for e in examples) else None
    gold = [example.label for example in examples]
    if kind == "tokens":
        rows = np.split(arrays["scores"], np.cumsum(arrays["sizes"])[:-1]) if len(ids) else []
        return Predictions(ids, list(rows), [np.asarray(tags, np.int64) for tags in gold], groups)
    if kind == "text":
        return Predictions(ids, arrays["scores"], arrays["gold"], groups)
    dtype = np.float64 if kind == "regression" else np.int64
    return Predictions(ids, arrays["scores"], np.asarray(gold, dtype), groups)


class _unlocked:
    def __enter__(self) -> None: ...

    def __exit__(self, *details: object) -> None: ...


def threads() -> int:
    """Processor threads torch computes with: part of what makes two runs the same."""
    return torch.get_num_threads()
