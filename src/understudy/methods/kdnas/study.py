"""The durable study: an Optuna database that any number of workers share, in which no point is lost or tried twice.

Optuna's database keeps trials, values and heartbeats, and `optuna-dashboard` opens it as it is. Three things are added:

* **Claims.** Before a point is trained its number is inserted into a table of ours whose primary key is the point: of
  several workers one succeeds, on SQLite and PostgreSQL alike. The others answer from the record, or propose again.
* **Rescue.** A trial whose worker is gone (nobody holds its lock on this machine, or two heartbeats were missed) is failed
  and queued again with the same point. A kill between two such writes leaves something the next rescue finishes. A worker
  that was only asleep, as on a closed laptop, finds its trial taken away and goes on with the next.
* **Failures are rows.** A candidate that raises or takes too long is recorded with its error; the study goes on.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from understudy.base import disk
from understudy.base.errors import Interrupted, RecipeError, ResourceError, UnderstudyError
from understudy.base.lock import InUse, lock
from understudy.base.progress import progress, say
from understudy.methods.kdnas.engines import RETRY_OF, Engine, suggested
from understudy.methods.kdnas.space import DIMENSIONS

NAME = "understudy"
WORKER, ERROR, DUPLICATE_OF, SURPLUS, KEY = "worker", "error", "duplicate_of", "surplus", "key"
MAX_TRIES = 3
"""A point whose worker died this often is recorded as failed: it may be what kills them."""
_CLAIMS = "understudy_claims"
_POLL_SECONDS = 0.2

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Outcome:
    """What a candidate came to: its value (more is better) and whatever else is worth recording, as JSON."""

    value: float
    facts: dict[str, Any] = field(default_factory=dict)


class StoppedEarly(Exception):
    """Raised by `Report` when a candidate is too poor to go on with."""


class Report:
    """How a candidate reports its value so far, and learns whether to continue."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __call__(self, value: float, epoch: int) -> None:
        """Raises StoppedEarly when others were better at this epoch."""
        self._trial.report(value, epoch)
        if self._trial.should_prune():
            raise StoppedEarly


Evaluate = Callable[[int, Report], Outcome]


class _Recorded(Exception):
    """The trial is failed in Optuna's words; what happened is in its attributes."""


class Study:
    """One search: where its database is, who proposes, and how many points are tried.

    Args:
        folder: of the search's step; workers leave their locks here, and SQLite its file.
        engine: proposes points of its space.
        trials: how many distinct points are tried, failures included.
        storage: a database URL; None is a SQLite file in `folder`.
        key: of everything that decides what a point is worth; a database that holds a search of this name with another
            key is refused.
        heartbeat: seconds between signs of life.
        halving: h, to go on after 1, h, h² … epochs with one candidate in h only.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        *,
        trials: int,
        storage: str | None = None,
        name: str = NAME,
        key: str | None = None,
        heartbeat: int = 10,
        halving: int | None = None,
    ) -> None:
        self.folder, self.engine, self.space, self.trials, self.name = folder, engine, engine.space, trials, name
        self.worker = f"{socket.gethostname()}-{os.getpid()}"
        disk.make_dir(folder)
        local = storage is None
        url = f"sqlite:///{(folder / 'study.db').absolute()}" if storage is None else storage
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.storage = optuna.storages.RDBStorage(
                    url,
                    heartbeat_interval=heartbeat,
                    grace_period=2 * heartbeat,
                    # SQLite lets one writer in at a time: the others wait for it rather than fail.
                    engine_kwargs={"connect_args": {"timeout": 120}} if local else {"pool_pre_ping": True},
                )
            except Exception as error:  # every database driver raises errors of its own
                raise ResourceError(
                    f"method.storage: the database does not answer ({str(error).splitlines()[0]}). Is its address right, "
                    "does it run, and is its Python driver installed?"
                ) from error
            if local:
                _write_ahead(self.storage.engine)
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=name,
                sampler=engine,
                pruner=NopPruner() if halving is None else SuccessiveHalvingPruner(min_resource=1, reduction_factor=halving),
                direction="maximize",
                load_if_exists=True,
            )
        if self.study.user_attrs.get(KEY, key) != key:
            self.close()
            raise RecipeError(
                f"The database holds another search named '{name}', with different settings, teacher or data. Use another "
                "--out, or delete that study first."
            )
        self.study.set_user_attr(KEY, key)
        self.grace = 2 * heartbeat
        self._claims = _Claims(self.storage.engine, name)
        self._current: int | None = None
        """The trial under way here."""
        self._first_seen: dict[int, float] = {}
        """Trial without a point -> when it was first seen, by a clock of this process: others' may go wrong."""

    # -- working -------------------------------------------------------------------------------------------------------

    def work(self, evaluate: Evaluate, after: Callable[[], None] | None = None) -> None:
        """Try points until as many as planned are done, alone or beside other workers.

        Args:
            evaluate: value of a point; exceptions other than Interrupted become rows.
            after: called after each trial of this worker.
        """
        budget = min(self.trials, len(self.space))
        with self._alive(), progress(budget, "candidates", done=self.done()) as bar:
            shown = self.done()
            while True:
                left = self.rescue()
                done, running, waiting = self.done(), self._running() + left, self._waiting()
                exhausted = not self.engine.repeats and self._claims.count() >= len(self.space)
                if not waiting and (exhausted or done + running >= self.trials):
                    if not running:
                        return
                    time.sleep(_POLL_SECONDS)  # another worker's last candidates: they may come back
                    continue
                self._next(evaluate)
                bar.advance(max(0, self.done() - shown))
                shown = self.done()
                if after is not None:
                    after()

    def _next(self, evaluate: Evaluate) -> None:
        """One trial, whatever happens to it."""
        self._current = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.study.optimize(lambda trial: self._try(trial, evaluate), n_trials=1, catch=(_Recorded,))
        except (ValueError, RuntimeError):  # what Optuna raises where a trial is over already, and elsewhere
            frozen = None if self._current is None else self._frozen(self._current)
            if frozen is None or not frozen.state.is_finished():
                raise
            say(f"No heartbeat was seen for {self.grace} s, so trial {frozen.number} was given to others; going on.")

    def _try(self, trial: Trial, evaluate: Evaluate) -> float:
        self._current = trial.number
        trial.set_user_attr(WORKER, self.worker)
        point = suggested(trial, self.space)
        trial.set_user_attr("point", point)
        owner = self._claim(point, trial)
        if owner != trial.number:
            return self._answer(trial, owner)
        if self._claims.earlier(trial.number) >= self.trials:  # several workers proposed the last one at once
            trial.set_user_attr(SURPLUS, True)
            self._claims.release(point, trial.number)
            raise _Recorded
        try:
            if trial.user_attrs.get("tries", 1) > MAX_TRIES:
                raise ResourceError(f"its worker died {MAX_TRIES} times, perhaps for lack of memory.")
            outcome = evaluate(point, Report(trial))
        except StoppedEarly:
            raise optuna.TrialPruned from None
        except (Interrupted, UpdateFinishedTrialError):
            raise  # Optuna fails the trial; without a verdict of ours it is queued again on the next start
        except Exception as error:
            text = f"{type(error).__name__}: {error}" if not isinstance(error, UnderstudyError) else str(error)
            say(f"Candidate {self.space[point]} failed: {text}")
            trial.set_user_attr(ERROR, text[:2000])
            raise _Recorded from error
        for name, fact in outcome.facts.items():
            trial.set_user_attr(name, fact)
        return outcome.value

    def _claim(self, point: int, trial: Trial) -> int:
        """The number of the trial that a point belongs to; this one's where it was free or its owner is gone."""
        owner = self._claims.take(point, trial.number)
        if owner != trial.number:
            before = self._frozen(owner)
            if before is not None and self._lost(before) and self._claims.take_over(point, owner, trial.number):
                return trial.number
            owner = self._claims.owner(point)
        return owner

    def _answer(self, trial: Trial, owner: int) -> float:
        """A point that another worker has claimed: its recorded value, or none yet."""
        trial.set_user_attr(DUPLICATE_OF, owner)
        before = self._frozen(owner)
        if before is not None and before.state == TrialState.COMPLETE and before.value is not None:
            return before.value
        raise _Recorded

    # -- rescue --------------------------------------------------------------------------------------------------------

    def rescue(self) -> int:
        """Fail the trials of workers that are gone, and queue again what has no verdict. Any worker may, at any time.

        Returns how many of these were left to workers that still live.
        """
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.RUNNING and self._is_gone(trial):
                try:
                    # Optuna has no public way to fail the trial of another process.
                    self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
                except (RuntimeError, optuna.exceptions.OptunaError):  # it ended, or another worker was faster
                    continue
        if any(trial.state == TrialState.RUNNING for trial in trials):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optuna.storages.fail_stale_trials(self.study)
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        left = 0
        for trial in trials:
            if not self._lost(trial) or trial.number in retried:
                continue
            if self._will_see_to_it(trial):
                left += 1
                continue
            tries = trial.user_attrs.get("tries", 1)
            attributes = {RETRY_OF: trial.number, "tries": tries + 1, "point": trial.user_attrs.get("point")}
            self.study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs=attributes,
                    system_attrs=trial.system_attrs,
                )
            )
        return left

    def _is_gone(self, trial: FrozenTrial) -> bool:
        """Whether a running trial's worker on this machine has died, or died before it claimed a point."""
        worker = trial.user_attrs.get(WORKER)
        if worker == self.worker:
            return False
        if worker is not None and self._is_here(worker):
            return not self._lives(worker)
        if worker is not None and "point" in trial.user_attrs:
            return False  # on another machine: its heartbeats tell
        now = time.monotonic()
        return now - self._first_seen.setdefault(trial.number, now) > self.grace

    def _will_see_to_it(self, trial: FrozenTrial) -> bool:
        """Whether the worker of a lost trial is still busy with it: its signs of life failed, on this machine, not itself."""
        worker = trial.user_attrs.get(WORKER)
        return worker not in (None, self.worker) and self._is_here(worker) and self._lives(worker)

    @staticmethod
    def _is_here(worker: str) -> bool:
        return worker.startswith(f"{socket.gethostname()}-")

    def _lives(self, worker: str) -> bool:
        try:
            with lock(self.folder / "workers" / worker):
                return False
        except InUse:
            return True

    @staticmethod
    def _lost(trial: FrozenTrial) -> bool:
        """Failed without a verdict: its worker was killed or interrupted."""
        verdict = {ERROR, DUPLICATE_OF, SURPLUS} & set(trial.user_attrs)
        return trial.state == TrialState.FAIL and len(trial.params) == len(DIMENSIONS) and not verdict

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Hold this worker's lock, by which others on this machine know that it is alive."""
        with ExitStack() as stack:
            stack.enter_context(lock(self.folder / "workers" / self.worker))
            yield

    # -- reading -------------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """One row per point that was tried, in the order of proposals; plain JSON.

        Keys: trial, point, the dimensions, state (complete, stopped, failed), value, reports {epoch: value}, error,
        seconds, finished (the order in which they ended), and the evaluation's facts.
        """
        found = []
        ended = sorted(
            (t for t in self.study.get_trials(deepcopy=False) if self._is_row(t)),
            key=lambda t: (t.datetime_complete, t.number),
        )
        for place, trial in enumerate(ended):
            own = {WORKER, ERROR, RETRY_OF, "tries", "point"}
            facts = {name: value for name, value in trial.user_attrs.items() if name not in own}
            began, stopped = trial.datetime_start, trial.datetime_complete
            found.append({
                "trial": trial.number,
                "point": trial.user_attrs["point"],
                **{name: trial.params[name] for name in DIMENSIONS},
                "state": {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped"}.get(trial.state, "failed"),
                "value": trial.value if trial.state == TrialState.COMPLETE else None,
                "reports": {str(epoch): value for epoch, value in sorted(trial.intermediate_values.items())},
                "error": trial.user_attrs.get(ERROR),
                "seconds": (stopped - began).total_seconds() if began and stopped else None,
                "finished": place,
                **facts,
            })  # fmt: skip
        return sorted(found, key=lambda row: row["trial"])

    @staticmethod
    def _is_row(trial: FrozenTrial) -> bool:
        """A point's own trial with a verdict, rather than a duplicate, a retry's forerunner or one under way."""
        if DUPLICATE_OF in trial.user_attrs or "point" not in trial.user_attrs:
            return False
        return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs

    def done(self) -> int:
        """How many trials have a verdict. Under parity a repeated point counts: it costs a slot there."""
        trials = self.study.get_trials(deepcopy=False)
        repeats = sum(DUPLICATE_OF in t.user_attrs and t.state == TrialState.COMPLETE for t in trials)
        return sum(self._is_row(t) for t in trials) + (repeats if self.engine.repeats else 0)

    def _running(self) -> int:
        """Running trials that may still become a row."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return sum(DUPLICATE_OF not in trial.user_attrs for trial in trials)

    def _waiting(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _frozen(self, number: int) -> FrozenTrial | None:
        return next((t for t in self.study.get_trials(deepcopy=False) if t.number == number), None)

    def importance(self) -> dict[str, float]:
        """The share of each dimension in the variance of the value (fANOVA); empty where too little is known."""
        complete = [row for row in self.rows() if row["state"] == "complete"]
        if len(complete) < 4 or len({row["value"] for row in complete}) < 2:
            return {}
        varied = [name for name in DIMENSIONS if len({row[name] for row in complete}) > 1]
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(self.study, evaluator=evaluator, params=varied)
        return {name: float(share) for name, share in found.items()}

    def close(self) -> None:
        """Close the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def _write_ahead(engine: Any) -> None:
    """Use a write-ahead log: it survives every kill, and does not wait for the disk at each of a trial's many commits. Only
    a power cut may take the last trials back, and they are then tried again."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    engine.dispose()


class _Claims:
    """Who has a point: a table with the point as its key, so that the database decides between two workers."""

    def __init__(self, engine: Any, study: str) -> None:
        import sqlalchemy as sql
        from sqlalchemy import exc

        self.engine, self.study, self.sql, self.taken = engine, study, sql, exc.IntegrityError
        self.table = sql.Table(
            _CLAIMS,
            sql.MetaData(),
            sql.Column("study", sql.String(255), primary_key=True),
            sql.Column("point", sql.Integer, primary_key=True, autoincrement=False),
            sql.Column("trial", sql.Integer, nullable=False),
        )
        try:
            self.table.create(engine, checkfirst=True)
        except exc.DBAPIError:  # another worker makes it at this moment
            if not sql.inspect(engine).has_table(_CLAIMS):
                raise

    def _here(self, point: int) -> Any:
        return (self.table.c.study == self.study) & (self.table.c.point == point)

    def take(self, point: int, trial: int) -> int:
        """Claim a free point; returns the trial it belongs to now."""
        try:
            with self.engine.begin() as connection:
                connection.execute(self.table.insert().values(study=self.study, point=point, trial=trial))
            return trial
        except self.taken:
            return self.owner(point)

    def take_over(self, point: int, before: int, trial: int) -> bool:
        """Claim a point whose trial was lost; False if another worker was faster."""
        with self.engine.begin() as connection:
            changed = connection.execute(
                self.table.update().where(self._here(point) & (self.table.c.trial == before)).values(trial=trial)
            )
            return changed.rowcount == 1

    def release(self, point: int, trial: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.delete().where(self._here(point) & (self.table.c.trial == trial)))

    def owner(self, point: int) -> int:
        """The trial a point belongs to; -1 if it is unclaimed."""
        with self.engine.connect() as connection:
            found = connection.execute(self.sql.select(self.table.c.trial).where(self._here(point))).scalar()
            return -1 if found is None else int(found)

    def count(self) -> int:
        """How many points are claimed."""
        return self._count(self.table.c.study == self.study)

    def earlier(self, trial: int) -> int:
        """How many points belong to trials with a lower number."""
        return self._count((self.table.c.study == self.study) & (self.table.c.trial < trial))

    def _count(self, which: Any) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(self.sql.select(self.sql.func.count()).where(which)).scalar_one())


def database(url: str | None) -> str | None:
    """A database URL in the form SQLAlchemy wants: `postgresql://` means the driver that is installed."""
    if url is None or not url.startswith("postgresql://"):
        return url
    from importlib.util import find_spec

    for driver in ("psycopg", "psycopg2"):
        if find_spec(driver) is not None:
            return url.replace("postgresql://", f"postgresql+{driver}://", 1)
    raise RecipeError("method.storage: PostgreSQL needs a driver; pip install 'understudy-lm[search]'.")
