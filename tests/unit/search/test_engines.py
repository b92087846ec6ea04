"""The engines: legal points only, none twice, the same after a restart, and no worse than chance."""

from __future__ import annotations

import statistics

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from understudy.methods.kdnas.controller import BATCH, Regression, Tried
from understudy.methods.kdnas.engines import ENGINES, RETRY_OF, Proposal, make_engine, proposals, suggested
from understudy.methods.kdnas.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

CHOICES = {
    "layers": (1, 2, 3, 4, 6), "heads": (2, 3, 4, 6), "hidden": (48, 64, 96), "intermediate": (64, 128, 192, 256),
    "activation": ("gelu", "relu"),
}  # fmt: skip


@pytest.fixture(scope="module")
def space() -> Space:
    return Space(CHOICES)


def worth(space: Space, seed: int) -> np.ndarray:
    """A made-up table: each choice adds something, two of them together a little, and there is noise."""
    draw = np.random.default_rng(seed)
    codes = np.array([space.codes(point) for point in range(len(space))])
    size = codes / codes.max(axis=0)
    trend = size @ np.array([0.10, 0.02, 0.08, 0.05, 0.01]) - 0.06 * size[:, 0] * size[:, 2]
    return 0.5 + trend + draw.normal(0, 0.006, len(space))


def asked(study: optuna.Study, space: Space) -> tuple[optuna.trial.Trial, int]:
    trial = study.ask()
    return trial, suggested(trial, space)


def search(name: str, space: Space, table: np.ndarray, *, seed: int, trials: int, restart_every: int | None = None) -> list[int]:
    """The points an engine tries on a table; with restarts it is made anew, its storage kept, every so many trials."""
    storage = optuna.storages.InMemoryStorage()
    study, points = None, []
    for number in range(trials):
        if study is None or (restart_every and number % restart_every == 0):
            engine = make_engine(name, space, seed=seed, episodes=trials // 8, candidates=8)
            study = optuna.create_study(
                storage=storage, study_name="s", sampler=engine, direction="maximize", load_if_exists=True
            )
        trial, point = asked(study, space)
        study.tell(trial, float(table[point]))
        points.append(point)
    return points


@pytest.mark.parametrize("name", ENGINES)
def test_points_are_legal_and_never_repeated_and_a_restart_changes_nothing(name, space):
    table = worth(space, 0)
    points = search(name, space, table, seed=1, trials=32)
    assert len(set(points)) == 32  # each was found in the space
    assert search(name, space, table, seed=1, trials=32, restart_every=5) == points
    assert search(name, space, table, seed=2, trials=12) != points[:12]


@pytest.mark.parametrize("name", ENGINES)
def test_a_killed_trial_that_is_retried_changes_nothing(name, space):
    """As after kill -9: the trial fails, its point is queued again, tried, and the search goes on as if nothing was."""
    table = worth(space, 0)
    engine = make_engine(name, space, seed=1, episodes=4, candidates=8)
    study = optuna.create_study(sampler=engine, direction="maximize")
    points = []
    while len(points) < 32:
        trial, point = asked(study, space)
        if len(points) in (5, 13, 20) and RETRY_OF not in trial.user_attrs:
            study.tell(trial, state=TrialState.FAIL)
            dead = study.trials[trial.number]
            study.add_trial(
                create_trial(
                    state=TrialState.WAITING, params=dead.params, distributions=dead.distributions,
                    user_attrs={RETRY_OF: dead.number}, system_attrs=dead.system_attrs,
                )
            )  # fmt: skip
            continue
        study.tell(trial, float(table[point]))
        points.append(point)
    assert points == search(name, space, table, seed=1, trials=32)
    assert [p.point for p in proposals(study.trials, space, before=10**6)] == points


def test_a_whole_space_is_listed_by_chance_without_repetition(space):
    small = Space({**CHOICES, "layers": (1, 2), "intermediate": (64,), "activation": ("gelu",)})
    points = search("random", small, np.zeros(len(small)), seed=0, trials=len(small))
    assert sorted(points) == list(range(len(small)))


def test_parity_may_propose_a_point_again():
    tiny = Space({name: values[:1] for name, values in CHOICES.items()} | {"layers": (1, 2)})
    engine = make_engine("lstm", tiny, seed=0, episodes=2, candidates=4, parity=True)
    study = optuna.create_study(sampler=engine, direction="maximize")
    points = []
    for _ in range(8):
        trial, point = asked(study, tiny)
        study.tell(trial, 0.5 + point)
        points.append(point)
    assert set(points) <= {0, 1} and len(points) == 8


def test_the_controller_is_asked_and_learns_as_episodes_go_by(space):
    """With ε falling, later episodes are better than the first, which is random."""
    table = worth(space, 3)
    points = search("lstm", space, table, seed=0, trials=48)
    assert np.mean(table[points[-8:]]) > np.mean(table[points[:8]]) + 0.02


def told(points: list[int], table: np.ndarray) -> list[Proposal]:
    return [Proposal(ordinal, point, float(table[point])) for ordinal, point in enumerate(points)]


@pytest.mark.parametrize("parity", [False, True])
def test_the_controller_replays_all_episodes_each_beside_the_bests_it_brought_about(parity, space):
    """The released code learns from the last episode alone, one candidate at a time."""
    table = worth(space, 5)
    engine = make_engine("lstm", space, seed=0, episodes=4, candidates=3, parity=parity)
    points = [40, 7, 100, 3, 90, 12, 55, 61, 20]
    taught: list[list[Tried]] = []

    class Noting(Regression):
        def learn(self, seen, *, epochs, episode):
            taught.append(list(seen))
            assert self.batch == (1 if parity else BATCH)
            return super().learn(seen, epochs=epochs, episode=episode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("understudy.methods.kdnas.engines.Regression", Noting)
        engine._ranked(3, told(points, table))
    expected: list[list[Tried]] = []
    best, most = (), float("-inf")
    for start in (0, 3, 6):
        top = max(points[start : start + 3], key=lambda point: table[point])
        if table[top] > most:
            best, most = space.codes(top), table[top]
        rows = points[start : start + 3]
        expected.append([Tried(space.codes(top), best, space.codes(p), float(table[p])) for p in rows])
    assert taught == (expected if parity else [[one for rows in expected[: episode + 1] for one in rows] for episode in range(3)])


def test_an_episode_takes_the_best_predictions_of_its_pool_and_the_rest_by_chance(space):
    table = worth(space, 6)
    engine = make_engine("lstm", space, seed=4, episodes=4, candidates=4)
    study = optuna.create_study(sampler=engine, direction="maximize")
    points = []
    for _ in range(16):
        trial, point = asked(study, space)
        study.tell(trial, float(table[point]))
        points.append(point)
    slots = engine.random_slots
    assert slots[0] == 4 and slots[-1] == 0 and sorted(slots, reverse=True) == slots
    for episode in range(1, 4):
        before = told(points[: 4 * episode], table)
        pool = engine._pool(episode, set(points[: 4 * episode]))
        history, previous_best, best = engine._episodes([before[i : i + 4] for i in range(0, len(before), 4)])
        scores = engine._regression(history).score(previous_best, best, [space.codes(point) for point in pool])
        ranking = [point for _, point in sorted(zip(scores, pool, strict=True), key=lambda pair: (-pair[0], pair[1]))]
        chosen = 4 - slots[episode]
        assert points[4 * episode : 4 * episode + chosen] == ranking[:chosen]
        assert best == space.codes(max(points[: 4 * episode], key=lambda point: table[point]))


@pytest.mark.parametrize("name", ["evolution", "tpe", pytest.param("lstm", marks=pytest.mark.slow)])
def test_no_engine_is_worse_than_chance(name, space):
    """Median over 20 seeds of the best of 40, on tables of its own for each seed."""
    best: dict[str, list[float]] = {name: [], "random": []}
    for seed in range(20):
        table = worth(space, seed)
        for engine, found in best.items():
            found.append(max(table[search(engine, space, table, seed=seed, trials=40)]) / table.max())
    assert statistics.median(best[name]) >= statistics.median(best["random"])
