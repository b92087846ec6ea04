"""Which candidate is tried next: four engines behind one interface, all of them Optuna samplers.

Each proposes legal points only, never one that was proposed before, and its proposal is a function of the seed, the
number of earlier proposals and what they were worth; no generator lives on. So a search that was killed and resumed
proposes what the uninterrupted one would have. What an engine of Optuna suggests is moved to the nearest legal point
before Optuna records it.

Reading `study.get_trials()` as an engine does: a trial with a value is worth that; one that was stopped early is worth
its last report; one that failed is not learned from; the retry of a killed worker's trial is not a new proposal.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from understudy.base.seeds import derive, numpy_rng
from understudy.methods.kdnas.controller import Codes, Regression, Tried, random_slots
from understudy.methods.kdnas.settings import ControllerSettings
from understudy.methods.kdnas.space import DIMENSIONS, Architecture, Space

ENGINES = ("lstm", "tpe", "evolution", "random")
RETRY_OF = "retry_of"
"""User attribute of a trial that repeats one whose worker died."""
STARTUP = 10
"""Random proposals before TPE models anything (Optuna's default)."""


@dataclass(frozen=True)
class Proposal:
    """One earlier proposal: its place in the order of proposals, the point, and what it is worth (None: not known)."""

    ordinal: int
    point: int
    worth: float | None


def proposals(trials: Sequence[FrozenTrial], space: Space, *, before: int) -> list[Proposal]:
    """All proposals recorded in trials with a lower number, in order; a retry counts for the trial it repeats."""
    found: dict[int, Proposal] = {}
    root: dict[int, int] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.number >= before or len(trial.params) < len(DIMENSIONS):
            continue
        point = space.number(Architecture(**trial.params))
        first = root.get(trial.user_attrs.get(RETRY_OF, -1), trial.number)
        root[trial.number] = first
        worth = _worth(trial)
        if first not in found:
            found[first] = Proposal(len(found), point, worth)
        elif worth is not None:
            found[first] = Proposal(found[first].ordinal, point, worth)
    return list(found.values())


def _worth(trial: FrozenTrial) -> float | None:
    if trial.state == TrialState.COMPLETE:
        return trial.value
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        return trial.intermediate_values[max(trial.intermediate_values)]
    return None


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The dimensions as Optuna knows them: sizes are whole numbers on a grid that holds all choices, so that engines know
    their order; activations have none."""
    found: dict[str, BaseDistribution] = {}
    for name in DIMENSIONS[:-1]:
        values = space.choices[name]
        grid = math.gcd(*(value - values[0] for value in values)) or 1
        found[name] = IntDistribution(values[0], values[-1], step=grid)
    return found | {"activation": CategoricalDistribution(space.choices["activation"])}


def suggested(trial: optuna.Trial, space: Space) -> int:
    """The point of a trial, as its engine proposed it, recorded in the study."""
    values: dict[str, Any] = {}
    for name, distribution in distributions(space).items():
        if isinstance(distribution, IntDistribution):
            values[name] = trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
        else:
            values[name] = trial.suggest_categorical(name, space.choices[name])
    return space.number(Architecture(**values))


class Engine(BaseSampler):
    """A sampler of legal points.

    Args:
        seed: every proposal derives from it and from how many there were before.
        repeats: may propose a point again (the original does; it is answered from the record and costs a slot).
    """

    def __init__(self, space: Space, *, seed: int, repeats: bool = False) -> None:
        self.space, self.seed, self.repeats = space, seed, repeats
        self.distributions = distributions(space)

    @abstractmethod
    def propose(self, study: optuna.Study, trial: FrozenTrial, earlier: list[Proposal]) -> int:
        """The number of the point to try next."""

    def taken(self, earlier: list[Proposal]) -> set[int]:
        """Points that are not to be proposed again."""
        return set() if self.repeats else {proposal.point for proposal in earlier}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        earlier = proposals(study.get_trials(deepcopy=False), self.space, before=trial.number)
        return self.space.values(self.propose(study, trial, earlier))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise ValueError(f"{param_name} is not a dimension of this search")


class RandomEngine(Engine):
    """Points drawn without replacement: what every other engine has to beat."""

    def propose(self, study: optuna.Study, trial: FrozenTrial, earlier: list[Proposal]) -> int:
        return self.space.draw(self.seed, "random", len(earlier), without=self.taken(earlier))


class _Snapped(Engine):
    """An engine of Optuna, made anew for each proposal; what it suggests is moved to the nearest legal point."""

    @abstractmethod
    def inner(self, seed: int) -> BaseSampler:
        """The engine of Optuna, made anew."""

    def propose(self, study: optuna.Study, trial: FrozenTrial, earlier: list[Proposal]) -> int:
        ordinal = len(earlier)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Made anew each time: a sampler that lived on would remember what a continued search has not seen.
            sampler = self.inner(derive(self.seed, "engine", ordinal) % 2**31)
            sampler.before_trial(study, trial)
            open_dimensions = {name: one for name, one in self.distributions.items() if not one.single()}
            values = sampler.sample_relative(study, trial, open_dimensions)
        if not values:  # it has not seen enough yet
            return self.space.draw(self.seed, "random", ordinal, without=self.taken(earlier))
        for name in DIMENSIONS:
            if name not in values:  # only one choice, or a mutation of NSGA-II, which leaves it to chance
                choices = self.space.choices[name]
                values[name] = choices[int(numpy_rng(self.seed, "mutation", ordinal, name).integers(len(choices)))]
        return self.space.nearest(values, self.seed, "snap", ordinal, without=self.taken(earlier))


class TPEEngine(_Snapped):
    """Optuna's tree-structured Parzen estimator, all dimensions modelled together."""

    def inner(self, seed: int) -> BaseSampler:
        return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)


class EvolutionEngine(_Snapped):
    """Optuna's NSGA-II: parents of one generation are crossed and mutated into the next."""

    def __init__(self, space: Space, *, seed: int, population: int = 8, repeats: bool = False) -> None:
        super().__init__(space, seed=seed, repeats=repeats)
        self.population = max(2, population)

    def inner(self, seed: int) -> BaseSampler:
        return NSGAIISampler(population_size=self.population, seed=seed)


class LSTMEngine(Engine):
    """The original's controller: in each episode some candidates are the best predicted of a random pool, the others
    random, fewer of these from episode to episode.

    Within an episode the predicted ones come first. The controller has learned from the episodes before; it is trained
    again from its first weights on whenever it is not in memory, which gives the same weights.
    """

    def __init__(
        self, space: Space, *, seed: int, episodes: int, candidates: int, settings: ControllerSettings, parity: bool = False
    ) -> None:
        super().__init__(space, seed=seed, repeats=parity)
        self.candidates, self.settings, self.parity = candidates, settings, parity
        self.random_slots = random_slots(
            candidates, episodes, start=settings.epsilon_start, least=settings.epsilon_min,
            decay=None if settings.epsilon_decay == "auto" else settings.epsilon_decay, parity=parity,
        )  # fmt: skip
        self._trained: tuple[list[list[Tried]], Regression] | None = None
        self.losses: list[float] = []
        """The controller's error after each episode it learned from."""

    def propose(self, study: optuna.Study, trial: FrozenTrial, earlier: list[Proposal]) -> int:
        ordinal = len(earlier)
        episode, slot = divmod(ordinal, self.candidates)
        slots = self.random_slots[min(episode, len(self.random_slots) - 1)]
        if slot < self.candidates - slots:
            for point in self._ranked(episode, earlier)[slot:]:
                if point not in self.taken(earlier):
                    return point
        return self.space.draw(self.seed, "random", ordinal, without=self.taken(earlier))

    def _ranked(self, episode: int, earlier: list[Proposal]) -> list[int]:
        """The episode's pool, the best prediction first."""
        before = [proposal for proposal in earlier if proposal.ordinal < episode * self.candidates]
        known = [[p for p in before if p.ordinal // self.candidates == e] for e in range(episode)]
        taken = set() if self.repeats else {proposal.point for proposal in before}
        pool = self._pool(episode, taken)
        history, previous_best, best = self._episodes(known)
        scores = self._regression(history).score(previous_best, best, [self.space.codes(point) for point in pool])
        return [point for _, point in sorted(zip(scores, pool, strict=True), key=lambda pair: (-pair[0], pair[1]))]

    def _pool(self, episode: int, taken: set[int]) -> list[int]:
        draw = numpy_rng(self.seed, "pool", episode)
        if self.repeats:  # drawn with replacement, as in the original
            return draw.integers(len(self.space), size=self.settings.pool).tolist()
        free = [point for point in range(len(self.space)) if point not in taken] or list(range(len(self.space)))
        return draw.permutation(free)[: self.settings.pool].tolist()

    def _episodes(self, known: list[list[Proposal]]) -> tuple[list[list[Tried]], Codes, Codes]:
        """What was tried in each episode with the bests it is learned beside, and the bests to judge the next one by."""
        start = self.space.codes(self.space.draw(self.seed, "first best"))
        previous_best, best, most = start, start, float("-inf")
        history = []
        for rows in known:
            # A point over the latency budget has a value below 0, a measure of excess; as a reward it is worth nothing.
            worth = [(max(p.worth, 0.0), self.space.codes(p.point)) for p in rows if p.worth is not None]
            if not worth:
                continue
            top = max(worth, key=lambda pair: pair[0])
            previous_best = top[1]
            if top[0] > most:
                most, best = top
            # The bests that the episode itself has brought about, as in the original.
            history.append([Tried(previous_best, best, codes, value) for value, codes in worth])
        return history, previous_best, best

    def _regression(self, history: list[list[Tried]]) -> Regression:
        """The controller after these episodes, continued from the one in memory where that has seen the first of them."""
        learned, regression = self._trained or ([], None)
        if regression is None or learned != history[: len(learned)]:
            places = [len(self.space.choices[name]) for name in DIMENSIONS]
            regression = Regression(places, lr=self.settings.lr, seed=self.seed, **({"batch": 1} if self.parity else {}))
            learned, self.losses = [], []
        for episode in range(len(learned), len(history)):
            seen = history[episode] if self.parity else [one for rows in history[: episode + 1] for one in rows]
            self.losses.append(regression.learn(seen, epochs=self.settings.epochs, episode=episode))
        self._trained = (history, regression)
        return regression


def make_engine(
    name: str,
    space: Space,
    *,
    seed: int,
    episodes: int = 15,
    candidates: int = 8,
    controller: ControllerSettings | None = None,
    parity: bool = False,
) -> Engine:
    """The engine of a name in `ENGINES`, as an Optuna sampler.

    Args:
        episodes, candidates: the schedule of the LSTM controller; candidates is also NSGA-II's population.
        parity: the LSTM controller as released: repeats, one sample at a time, without memory of earlier episodes.
    """
    if name == "lstm":
        return LSTMEngine(
            space, seed=seed, episodes=episodes, candidates=candidates, settings=controller or ControllerSettings(),
            parity=parity,
        )  # fmt: skip
    if name == "evolution":
        return EvolutionEngine(space, seed=seed, population=candidates)
    return {"tpe": TPEEngine, "random": RandomEngine}[name](space, seed=seed)
