"""The loop: short, exact, interruptible.

One optimiser step is: seed, take the rows of this step, run them in micro-batches under a token budget, check that all
numbers are finite, clip, update. What a step does depends on (seed, step) alone, so a run that was killed and continued
ends with the same bits as one that was not. Sums are divided by counts over the whole step, so micro-batches, padding
and ranks do not change the loss.
"""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.base import disk, seeds
from understudy.base.errors import DivergedError, ResourceError
from understudy.base.progress import progress, say
from understudy.cache import autocast
from understudy.data.batches import Order, micro_batches
from understudy.data.encode import Encoded, collate
from understudy.models.dropout import quicken
from understudy.models.lighten import Light
from understudy.train import checkpoint
from understudy.train.devices import accelerator, any_process, resolve_precision
from understudy.train.embeddings import RowGradients
from understudy.train.guard import StopSignals, is_out_of_memory
from understudy.train.learner import Learner, count_step, set_dropout
from understudy.train.optim import clip_gradients, learning_rate, make_optimizer, set_learning_rate
from understudy.train.record import MAX_STEPS, Record
from understudy.train.select import Selection
from understudy.train.task import Fit, FitResult, State

__all__ = ["Fit", "FitResult", "fit"]


def fit(task: Fit, stop: StopSignals, *, until_step: int | None = None, start: Path | None = None) -> FitResult:
    """Train until the planned steps are done, patience or time runs out, or a signal arrives.

    Args:
        stop: the process's signal handler; when it has received one, a checkpoint is committed and Interrupted raised.
        until_step: stop there, for replaying a part of a run.
        start: restore this checkpoint instead of the newest, for replaying.

    Raises:
        DivergedError: a loss or gradient was not finite; weights are those before that step.
        ResourceError: memory does not suffice for a single row, or for a batch that must not be split.
        Interrupted: after a signal.
    """
    loop = _Loop(task, stop)
    loop.resume(start)
    return loop.run(until_step)


class _Loop:
    def __init__(self, task: Fit, stop: StopSignals) -> None:
        self.task, self.stop, self.settings = task, stop, task.settings
        self.acc = accelerator()
        self.device = self.acc.device
        self.precision = resolve_precision(self.settings.precision, self.device)
        net = task.model.net
        net.to(self.device)
        task.objective.to(self.device)
        if self.settings.dropout is not None:
            set_dropout(net, self.settings.dropout)
        if not self.settings.compile:  # a compiled layer draws its own random numbers
            quicken(net)
        self.net = net
        alone = self.device.type == "cpu" and self.acc.num_processes == 1  # data parallelism adds dense gradients only
        self.embeddings = RowGradients(net if alone else nn.Module())
        self.optimizer = make_optimizer(net, task.objective, self.settings)
        self.light = Light(
            net,
            compile=self.settings.compile,
            checkpoint=self.settings.checkpoint_activations,
            read=task.objective.needs_student.qkv,
        )
        self.module = Learner(net, task.objective, task.model.kind)
        self.learner = self.acc.prepare(self.module) if self.acc.num_processes > 1 else self.module
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.lengths = np.asarray(task.data[0].lengths)
        self.order = Order(task.data[0].tokens, self.settings, task.seed)
        self.steps_per_epoch, self.planned = self.order.steps_per_epoch, self.order.planned
        self.log_every = max(1, math.ceil(self.planned / MAX_STEPS))
        self.evaluate_every = math.ceil(self.steps_per_epoch / self.settings.evaluations_per_epoch)
        self.state = State(max_tokens=self.settings.max_tokens)
        self.main = self.acc.is_main_process
        self.record = Record(task.folder, task.name, task.trackers, writes=self.main)
        self.selection = Selection(task, self.record)

    # -- starting and saving -------------------------------------------------------------------------------------------

    def resume(self, start: Path | None) -> None:
        task = self.task
        if self.main:
            disk.make_dir(task.folder)
        if start is not None:
            checkpoint.restore(start, net=self.net, objective=task.objective, optimizer=self.optimizer)
            saved = checkpoint.read_state(start)
        else:
            saved = checkpoint.load_checkpoint(
                task.folder, net=self.net, objective=task.objective, optimizer=self.optimizer
            )
        if saved is not None:
            if "scaler" in saved:
                self.scaler.load_state_dict(saved.pop("scaler"))
            self.state = State(**saved)
            self.selection.best.load(self.state.best_step)
        self.record.cut(self.state.metrics_bytes)

    def save(self) -> None:
        self.state.metrics_bytes = self.record.size
        state = dict(self.state.__dict__)
        if self.scaler.is_enabled():
            state["scaler"] = self.scaler.state_dict()
        if self.main:
            self.selection.best.save()
            checkpoint.save_checkpoint(
                self.task.folder,
                self.state.step,
                net=self.net,
                objective=self.task.objective,
                optimizer=self.optimizer,
                state=state,
            )
        self.acc.wait_for_everyone()

    # -- the steps -----------------------------------------------------------------------------------------------------

    def run(self, until_step: int | None) -> FitResult:
        settings, state = self.settings, self.state
        # Seconds before an interruption count as well: a time limit is about the whole training.
        began, saved_at = time.monotonic() - state.seconds, time.monotonic()
        self.net.train()
        if state.step == 0 and 0 in settings.evaluate_at and self.task.score is not None:
            self.selection.evaluate(state, 0)
        with self.embeddings.sparse(), progress(self.planned, self.task.name, done=state.step) as bar:
            while state.step < (self.planned if until_step is None else min(until_step, self.planned)):
                epoch, examples = self.order.batch(state.step)
                loss = self._step(epoch, self.task.data[0].rows_of(examples))
                state.step += 1
                if self._time_to_evaluate():
                    self.selection.evaluate(state, epoch)
                if loss is not None:  # after evaluating: the last line of a training tells the last score
                    best = "" if state.best_value is None else f", best {self.task.select} {state.best_value:.4f}"
                    bar.note(f"loss {loss:.4g}{best}")
                bar.advance()
                state.seconds = time.monotonic() - began
                if any_process(self.stop.received is not None):
                    self.save()
                    raise self.stop.interruption(f"{self.task.name} is saved at step {state.step} of {self.planned}.")
                if settings.patience is not None and state.since_best >= settings.patience:
                    break
                if settings.time_limit is not None and any_process(state.seconds >= settings.time_limit):
                    say(f"{self.task.name}: the time limit is reached at step {state.step} of {self.planned}.")
                    break
                due = settings.checkpoint_steps is not None and state.step % settings.checkpoint_steps == 0
                # The clocks of processes differ, and a checkpoint needs all of them: where one says so, all save.
                if due or any_process(time.monotonic() - saved_at >= settings.checkpoint_seconds):
                    self.save()
                    saved_at = time.monotonic()
        if until_step is None:
            if self.task.keep_end:
                self.save()
            self.selection.finish(state, state.step // self.steps_per_epoch)
        return FitResult(
            steps=state.step,
            planned=self.planned,
            seconds=state.seconds,
            best_step=state.best_step,
            best_metrics=state.best_metrics,
            skipped_steps=state.skipped_steps,
            views=state.views,
        )

    def _step(self, epoch: int, rows: np.ndarray) -> float | None:
        """One optimiser step, repeated in smaller pieces when memory runs out. Returns the loss, None if skipped."""
        while True:
            try:
                return self._attempt(epoch, rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._split_further(rows)

    def _split_further(self, rows: np.ndarray) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.task.objective.separable:
            raise ResourceError(
                "Memory does not suffice for this batch, and it cannot be computed in parts, because "
                f"{', '.join(n for n, t in self.task.objective.terms.items() if not t.separable)} compares its rows with "
                "each other. Lower train.batch_size or "
                "task.max_length."
            )
        longest = int(self.lengths[rows].max())
        if self.state.max_tokens <= longest:
            raise ResourceError("Memory does not suffice for a single row. Lower task.max_length or use a smaller model.")
        self.state.max_tokens = max(longest, min(self.state.max_tokens, int(self.lengths[rows].sum())) // 2)
        say(f"Out of memory: continuing with at most {self.state.max_tokens} tokens at once; the result stays the same.")

    def _attempt(self, epoch: int, rows: np.ndarray) -> float | None:
        task, state = self.task, self.state
        which = epoch % len(task.data)
        data, teacher = task.data[which], None if task.teachers is None else task.teachers[which]
        made = state.step / max(1, self.planned)
        # The same for every model of a run: baseline and student see the same rows in the same order.
        seeds.seed_step(task.seed, "step", state.step, self.acc.process_index)
        counts = count_step(data, rows)
        mine = rows[self.acc.process_index :: self.acc.num_processes]
        idle = len(mine) == 0  # fewer rows than processes
        mine = rows[:1] if idle else mine
        if task.objective.separable:
            parts = micro_batches(mine, self.lengths, max_tokens=state.max_tokens)
        else:
            parts = [mine]
        self.optimizer.zero_grad(set_to_none=True)
        active = [name for name, weight in task.objective.weights(made).items() if weight > 0]
        views = [None] if task.views is None else list(task.views.names(state.step))
        sums = {("term", name): torch.zeros((), device=self.device) for name in active}
        sums |= {("view", view): torch.zeros((), device=self.device) for view in views if view is not None}
        total = torch.zeros((), device=self.device)
        for number, part in enumerate(parts, start=1):
            batch = collate(data, part).to(self.device)
            seen = None if teacher is None else teacher.signals(part).map(lambda tensor: tensor.to(self.device))
            for view in views:
                synced = view is None and number == len(parts)
                # Data parallelism averages over ranks; our loss is already a sum over all of them.
                share = self.acc.num_processes if view is None else 1 / len(views)
                with nullcontext() if synced else self.acc.no_sync(self.learner), self._as(view), self.light.on():
                    with autocast(self.device, self.precision):
                        loss, terms = self.learner(batch, seen, made, counts, idle)
                    self.scaler.scale(loss * share).backward()
                total += loss.detach() / len(views)
                for name, value in terms.items():
                    sums["term", name] += value.detach() / len(views)
                if view is not None:
                    sums["view", view] += loss.detach()
        self.embeddings.fill()
        if task.views is not None:
            self._add_gradients_over_ranks()
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = clip_gradients(parameters, self.settings)
        total, sums = self._over_ranks(total, sums)
        # One look at the device for all numbers of a step: each would wait until its queue is empty.
        values = torch.stack([total, norm.to(total.device), *sums.values()]).tolist()
        loss_value, norm_value = values[0], values[1]
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            self.scaler.update()  # expected while fp16 looks for its scale: the next step uses a smaller one
            what, self.module.diverged = self.module.diverged, None
            if not math.isfinite(loss_value):
                self._not_finite(what or "The loss is NaN or infinite.", data, rows)
            elif self.scaler.is_enabled():
                state.skipped_steps += 1
            else:
                self._not_finite(f"The gradient is NaN or infinite (norm {norm_value}).", data, rows)
            return None
        # Set before each step rather than by a scheduler, which would be one more state to save and to restore.
        set_learning_rate(self.optimizer, learning_rate(state.step, self.order.course, self.settings))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if state.step % self.log_every == 0:
            self._log(epoch, loss_value, norm_value, dict(zip(sums, values[2:], strict=True)), made)
        return loss_value

    def _as(self, view: str | None) -> AbstractContextManager[Any]:
        """The model as one of its views; None is the model itself."""
        return nullcontext() if view is None or self.task.views is None else self.task.views.use(view)

    def _add_gradients_over_ranks(self) -> None:
        """Data parallelism waits for every parameter, and a view need not reach all: gradients of views are added here."""
        for group in self.optimizer.param_groups if self.acc.num_processes > 1 else ():
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = torch.as_tensor(self.acc.reduce(parameter.grad, reduction="sum"))

    def _over_ranks(self, total: Tensor, sums: dict[Any, Tensor]) -> tuple[Tensor, dict[Any, Tensor]]:
        if self.acc.num_processes == 1:
            return total, sums
        summed = self.acc.reduce(torch.stack([total, *sums.values()]), reduction="sum")
        return summed[0], dict(zip(sums, summed[1:], strict=True))

    def _not_finite(self, what: str, data: Encoded, rows: np.ndarray) -> None:
        """NaN or infinity was found before the weights changed: stop, or skip this step and count it."""
        self.optimizer.zero_grad(set_to_none=True)
        state = self.state
        ids = ", ".join(data.ids[i] for i in rows[:8]) + (", …" if len(rows) > 8 else "")
        sentence = f"{self.task.name}, step {state.step} (rows {ids}): {what}"
        if self.settings.nonfinite == "skip":
            state.skipped_steps += 1
            if state.skipped_steps > max(10, self.planned // 20):
                raise DivergedError(f"{sentence} {state.skipped_steps} steps were skipped already; that is too many.")
            say(f"{sentence} This step is skipped.")
            return
        path, _ = disk.latest_valid(self.task.folder, checkpoint.PREFIX)
        last = f"the last checkpoint is {path.name}" if path else "there is no checkpoint yet"
        raise DivergedError(
            f"{sentence} The weights were not changed; {last}. With train.nonfinite=skip such steps are left out."
        )

    def _time_to_evaluate(self) -> bool:
        """After a step; the last one need not end an epoch, where `train.tokens` says how many there are."""
        if self.task.score is None:
            return False
        step = self.state.step
        number = (step - 1) % self.steps_per_epoch + 1
        at_step = step in self.settings.evaluate_at or step == self.planned
        return at_step or number % self.evaluate_every == 0 or number == self.steps_per_epoch

    # -- logging -------------------------------------------------------------------------------------------------------

    def _log(self, epoch: int, loss: float, norm: float, sums: dict[tuple[str, str], float], made: float) -> None:
        weights = self.task.objective.weights(made)
        shown = {
            name: {"value": value, "weight": weights[name], "share": weights[name] * value / loss if loss else 0.0}
            for (kind, name), value in sums.items()
            if kind == "term"
        }
        views = {name: value for (kind, name), value in sums.items() if kind == "view"}
        lr = learning_rate(self.state.step, self.order.course, self.settings)
        self.record.add(
            {"step": self.state.step, "epoch": epoch, "loss": loss, "lr": lr, "grad_norm": norm, "terms": shown}
            | ({"view_loss": views} if views else {})
        )
