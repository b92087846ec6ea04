"""The durable study: failures are rows, duplicates are answered, killed workers lose nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.trial import TrialState

from understudy.base.errors import Interrupted, RecipeError, ResourceError
from understudy.methods.kdnas.engines import ENGINES, make_engine, suggested
from understudy.methods.kdnas.space import Space
from understudy.methods.kdnas.study import MAX_TRIES, Outcome, Study, database

HERE = Path(__file__).parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_workers", HERE / "workers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


workers = load()


def quick(point: int, report) -> Outcome:
    return Outcome(workers.value(point), {"loss": 1 - workers.value(point)})


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_search_proposes_what_the_uninterrupted_one_did(engine, tmp_path):
    whole = workers.study(tmp_path / "whole", 14, engine=engine)
    whole.work(quick)
    expected = [(row["point"], row["value"]) for row in whole.rows()]
    calls = Counter()

    def interrupted(point: int, report) -> Outcome:
        calls[point] += 1
        if sum(calls.values()) in (3, 12):
            raise Interrupted("stop", exit_code=143)
        return quick(point, report)

    for _ in range(3):
        part = workers.study(tmp_path / "part", 14, engine=engine)  # as a new process would
        with contextlib.suppress(Interrupted):
            part.work(interrupted)
        part.close()
    again = workers.study(tmp_path / "part", 14, engine=engine)
    assert [(row["point"], row["value"]) for row in again.rows()] == expected
    assert sum(calls.values()) == 16  # two were begun twice
    again.work(lambda point, report: pytest.fail("a finished search tried something"))


def test_a_failing_candidate_is_one_row_and_the_search_goes_on(tmp_path):
    def fails(point: int, report) -> Outcome:
        if point % 3 == 0:
            raise ValueError("does not fit")
        return quick(point, report)

    study = workers.study(tmp_path, 12)
    study.work(fails)
    rows = study.rows()
    assert len(rows) == 12 == len({row["point"] for row in rows})
    failed = [row for row in rows if row["point"] % 3 == 0]
    said = {(row["state"], row["error"], row["value"]) for row in failed}
    assert said == {("failed", "ValueError: does not fit", None)}
    assert all(row["state"] == "complete" and row["loss"] == 1 - row["value"] for row in rows if row["point"] % 3)


def test_a_repeated_point_is_answered_and_not_tried(tmp_path):
    """The original's controller may repeat itself, which costs a slot; nothing is trained for it."""
    space = Space({**workers.CHOICES, "layers": (1, 2), "heads": (2,), "hidden": (32,), "intermediate": (64,)})
    study = Study(tmp_path, make_engine("lstm", space, seed=0, episodes=4, candidates=5, parity=True), trials=20)
    tried = Counter()

    def count(point: int, report) -> Outcome:
        tried[point] += 1
        return quick(point, report)

    study.work(count)
    assert set(tried.values()) == {1} and len(study.rows()) == len(tried) <= 6
    assert study.done() == 20
    answered = [t for t in study.study.trials if "duplicate_of" in t.user_attrs]
    assert len(answered) == 20 - len(tried)
    assert all(t.value == study.study.trials[t.user_attrs["duplicate_of"]].value for t in answered)


def test_a_space_smaller_than_the_plan_is_searched_to_its_end(tmp_path):
    space = Space({**workers.CHOICES, "layers": (1,), "hidden": (32,)})
    study = Study(tmp_path, make_engine("tpe", space, seed=0), trials=200)
    study.work(quick)
    assert sorted(row["point"] for row in study.rows()) == list(range(len(space)))


def test_poor_candidates_are_stopped_early(tmp_path):
    seen = Counter()

    def by_epoch(point: int, report) -> Outcome:
        for epoch in (1, 3, 9):
            seen[epoch] += 1
            report(workers.value(point), epoch)
        return quick(point, report)

    study = workers.study(tmp_path, 40, halving=3)
    study.work(by_epoch)
    rows = study.rows()
    stopped = [row for row in rows if row["state"] == "stopped"]
    assert len(rows) == 40 and seen[1] == 40 > 3 * seen[3] / 2 and seen[3] > seen[9]
    assert stopped and all(row["value"] is None and row["reports"] for row in stopped)
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: row["value"])
    assert best["value"] == max(workers.value(row["point"]) for row in rows)


def test_the_database_is_plain_optuna(tmp_path):
    study = workers.study(tmp_path, 8, engine="tpe")
    study.work(quick)
    plain = optuna.load_study(study_name="understudy", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert plain.best_value == max(row["value"] for row in study.rows())
    assert set(plain.best_params) == set(workers.CHOICES)
    share = study.importance()
    assert share == {} or sum(share.values()) == pytest.approx(1)


def test_an_unreachable_database_is_named(tmp_path):
    with pytest.raises(ResourceError, match=r"method\.storage"):
        workers.study(tmp_path, 2, storage="postgresql+psycopg://localhost:1/nothing")


def test_a_trial_that_was_taken_away_from_a_sleeping_worker_is_done_once(tmp_path):
    """As when a laptop is closed: another worker sees no sign of life, but this one wakes up and goes on."""
    study = workers.study(tmp_path, 8)
    tried = Counter()

    def sleeps(point: int, report) -> Outcome:
        tried[point] += 1
        if tried.total() == 3:
            running = next(t for t in study.study.trials if t.state == TrialState.RUNNING)
            study.storage.set_trial_state_values(running._trial_id, TrialState.FAIL)
            other = workers.study(tmp_path, 8)
            other.worker += "0"  # another process of this machine: the sleeping one's lock says that it lives
            assert other.rescue() == 1 and not other._waiting()
            other.close()
        return quick(point, report)

    study.work(sleeps)
    rows = study.rows()
    assert [row["state"] for row in rows] == ["complete"] * 8 and len({row["point"] for row in rows}) == 8
    assert sorted(tried.values()) == [1] * 7 + [2]


def test_a_worker_killed_on_another_machine_is_told_by_two_missed_heartbeats(tmp_path, monkeypatch):
    """Whatever the clock over there says: the database's own counts."""
    monkeypatch.setattr("socket.gethostname", lambda: "there")
    dead = workers.study(tmp_path / "there", 6, storage=f"sqlite:///{tmp_path / 'shared.db'}")
    with pytest.warns(UserWarning, match="Heartbeat"):
        trial, unborn = dead.study.ask(), dead.study.ask()  # the second one is killed before it could say whose it is
    dead.storage.record_heartbeat(trial._trial_id)
    trial.set_user_attr("worker", dead.worker)
    point = suggested(trial, dead.space)
    trial.set_user_attr("point", point)
    assert dead._claim(point, trial) == trial.number
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    study = workers.study(tmp_path / "here", 6, storage=f"sqlite:///{tmp_path / 'shared.db'}")
    assert study.rescue() == 0 and not study._waiting()  # it may still live
    began = time.monotonic()
    study.work(quick)
    assert 1 < time.monotonic() - began < 30
    rows = study.rows()
    assert len(rows) == 6 == len({row["point"] for row in rows}) and {row["state"] for row in rows} == {"complete"}
    assert point in {row["point"] for row in rows}
    assert {t.state for t in study.study.trials if t.number in (trial.number, unborn.number)} == {TrialState.FAIL}


def test_a_point_that_kills_its_workers_is_given_up(tmp_path):
    study = workers.study(tmp_path, 3)
    tried = Counter()

    def kills(point: int, report) -> Outcome:
        tried[point] += 1
        if point == first:
            raise Interrupted("as if killed", exit_code=137)
        return quick(point, report)

    first = study.engine.space.draw(study.engine.seed, "random", 0)
    for _ in range(MAX_TRIES):
        with pytest.raises(Interrupted):
            study.work(kills)
    study.work(kills)
    assert tried[first] == MAX_TRIES
    assert [(row["state"], "died" in (row["error"] or "")) for row in study.rows()].count(("failed", True)) == 1
    assert len(study.rows()) == 3


def test_a_database_with_another_search_of_the_same_name_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for _ in range(2):
        workers.study(tmp_path / "one", 4, storage=url, name="nas", key="a").close()
    with pytest.raises(RecipeError, match="another search named 'nas'"):
        workers.study(tmp_path / "two", 4, storage=url, name="nas", key="b")
    workers.study(tmp_path / "two", 4, storage=url, name="other", key="b").close()


def test_optuna_dashboard_opens_the_study_as_it_is(tmp_path):
    dashboard = pytest.importorskip("optuna_dashboard")
    study = workers.study(tmp_path, 8)
    study.work(quick)
    app = dashboard.wsgi(optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}"))

    def get(path: str) -> dict:
        said = []
        environ: dict = {}
        setup_testing_defaults(environ)
        body = b"".join(app(environ | {"PATH_INFO": path}, lambda status, *_: said.append(status)))
        assert said == ["200 OK"], (path, body)
        return json.loads(body)

    (summary,) = get("/api/studies")["study_summaries"]
    assert summary["study_name"] == "understudy" and summary["directions"] == ["maximize"]
    trials = get(f"/api/studies/{summary['study_id']}")["trials"]
    shown = {int(t["number"]): [float(value) for value in t["values"]] for t in trials if t["state"] == "Complete"}
    assert shown == {row["trial"]: [pytest.approx(row["value"])] for row in study.rows()}


def launch(place: Path, trials: int, url: str | None) -> subprocess.Popen:
    arguments = [sys.executable, str(HERE / "workers.py"), str(place), str(trials), *([url] if url else [])]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def survive(place: Path, trials: int, *, processes: int, kills: int, url: str | None = None, seed: int = 0) -> None:
    """Workers are killed at random moments and not replaced but for one; every point must be tried to its end once."""
    draw = random.Random(seed)
    alive = [launch(place, trials, url) for _ in range(processes)]
    study = workers.study(place / "search", trials, storage=url)
    for _ in range(kills):
        already = study.done()
        deadline = time.monotonic() + 60
        while study.done() < min(already + 2, trials - 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.08))
        victim = alive.pop(draw.randrange(len(alive)))
        os.kill(victim.pid, signal.SIGKILL)
        victim.communicate()
        if not alive:
            alive.append(launch(place, trials, url))
    for worker in alive:
        _, err = worker.communicate(timeout=200)
        assert worker.returncode == 0, err
    rows = study.rows()
    points = [row["point"] for row in rows]
    assert len(points) == len(set(points)) == trials  # none twice, none lost
    assert all(row["state"] == "complete" and row["value"] == workers.value(row["point"]) for row in rows)
    begun = Counter(int(line) for file in place.glob("started-*.txt") for line in file.read_text().split())
    assert set(begun) == set(points) and sum(begun.values()) <= trials + kills  # only what was killed was begun twice
    states = Counter(trial.state.name for trial in study.study.trials)
    assert not states["RUNNING"] and not states["WAITING"]
    assert study.study.best_value == max(row["value"] for row in rows)
    study.close()


def test_two_of_three_workers_are_killed(tmp_path):
    survive(tmp_path, 24, processes=3, kills=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_three_of_four_workers_are_killed(tmp_path, seed):
    survive(tmp_path, 120, processes=4, kills=3, seed=seed)


@pytest.mark.slow
def test_six_workers_and_many_kills(tmp_path):
    survive(tmp_path, 140, processes=6, kills=8, seed=5)


@pytest.fixture
def postgres():
    """A PostgreSQL server of our own on a socket, started from the system's packages."""
    found = [shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
             for name in ("initdb", "postgres")]  # fmt: skip
    if None in found or importlib.util.find_spec("psycopg") is None:
        pytest.skip("there is no PostgreSQL server here (Debian: postgresql)")
    initdb, server = (Path(one).resolve() for one in found if one)
    data = Path(tempfile.mkdtemp(prefix="understudy-pg-"))  # short, as a socket's path must be, and within the server's reach
    as_user: dict = {}
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(data, "postgres", "postgres")
        as_user = {"user": "postgres", "cwd": "/"}
    subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "tester", "--no-sync"], check=True, capture_output=True, **as_user)
    options = [server, "-D", data, "-k", data, "-c", "listen_addresses=", "-c", "fsync=off"]
    process = subprocess.Popen(options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user)
    url = database(f"postgresql://tester@/postgres?host={data}")
    try:
        deadline = time.monotonic() + 60
        while not list(data.glob(".s.PGSQL.*[0-9]")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        shutil.rmtree(data, ignore_errors=True)


@pytest.mark.slow
def test_workers_meet_in_postgresql_and_survive_kills(tmp_path, postgres):
    survive(tmp_path, 60, processes=4, kills=3, url=postgres)
