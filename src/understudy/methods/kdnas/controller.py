"""The LSTM controller of the original: it predicts the reward of a candidate, and the best predictions are tried.

Not reinforcement learning: a regression. A candidate is the concatenated embeddings of its choices; the LSTM reads the
best of the previous episode, the best so far and the candidate, and a Linear reads the reward off its last state.

Deviates: the original forgets every episode but the last; ours is trained on all of them (a replay buffer), each with
the two bests it was judged beside, in small batches instead of one by one, at ten times the learning rate. `parity`
brings the original's back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from understudy.base.seeds import permutation, torch_seed

EMBEDDING = 32
HIDDEN = 32
BATCH = 8

Codes = tuple[int, ...]


class Controller(nn.Module):
    """(previous best, best so far, candidate), as places of choices, -> predicted reward.

    Args:
        places: number of choices of each dimension.
        seed: of the initial weights.
    """

    def __init__(self, places: Sequence[int], *, seed: int) -> None:
        super().__init__()
        with torch_seed(seed, "controller"):
            self.embeddings = nn.ModuleList(nn.Embedding(number, EMBEDDING) for number in places)
            self.lstm = nn.LSTM(EMBEDDING * len(places), HIDDEN, batch_first=True)
            self.read = nn.Linear(HIDDEN, 1)

    def forward(self, codes_B3D: Tensor) -> Tensor:
        """int64 (B, 3, dimensions) -> rewards (B,)."""
        embedded = [table(codes_B3D[..., i]) for i, table in enumerate(self.embeddings)]
        states, _ = self.lstm(torch.cat(embedded, dim=-1))
        return self.read(states[:, -1]).squeeze(-1)


@dataclass(frozen=True)
class Tried:
    """A candidate that was tried: what it was judged beside, itself, and what it was worth."""

    previous_best: Codes
    best: Codes
    candidate: Codes
    reward: float

    @property
    def sequence(self) -> tuple[Codes, Codes, Codes]:
        return self.previous_best, self.best, self.candidate


class Regression:
    """The controller with its optimiser: learns from what was tried, and scores what was not."""

    def __init__(self, places: Sequence[int], *, lr: float, seed: int, batch: int = BATCH) -> None:
        self.controller = Controller(places, seed=seed)
        self.optimizer = torch.optim.RMSprop(self.controller.parameters(), lr=lr)
        self.seed, self.batch = seed, batch

    def learn(self, seen: Sequence[Tried], *, epochs: int, episode: int) -> float:
        """Passes over `seen` in an order of its own for each; returns the mean squared error of the last pass."""
        sequences = torch.tensor([one.sequence for one in seen])
        rewards = torch.tensor([one.reward for one in seen])
        loss = torch.zeros(())
        for epoch in range(epochs):
            order = torch.from_numpy(permutation(len(seen), self.seed, "controller order", episode, epoch))
            total = torch.zeros(())
            for rows in order.split(self.batch):
                loss = (self.controller(sequences[rows]) - rewards[rows]).square().mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total += loss.detach() * len(rows)
            loss = total / len(seen)
        return float(loss)

    @torch.no_grad()
    def score(self, previous_best: Codes, best: Codes, candidates: Sequence[Codes]) -> list[float]:
        """The predicted reward of each candidate."""
        return self.controller(torch.tensor([(previous_best, best, one) for one in candidates])).tolist()


def random_slots(
    candidates: int, episodes: int, *, start: float = 1.0, least: float = 0.05, decay: float | None = 0.05, parity: bool = False
) -> list[int]:
    """How many of an episode's candidates are drawn at random: ⌊ε · candidates⌋, with ε falling to its least value.

    Args:
        decay: taken off ε after each episode; None reaches `least` in the last one.
        parity: ε by repeated subtraction of floats, as in the released code, where rounding costs a candidate here and
            there.

    >>> random_slots(5, 15), random_slots(5, 15, parity=True)
    ([5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1], [5, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1])
    """
    if decay is None:
        decay = (start - least) / (episodes - 1) if episodes > 1 else 0.0
    if parity:
        found, epsilon = [], start
        for _ in range(episodes):
            found.append(int(epsilon * candidates))
            epsilon = max(least, epsilon - decay)
        return found
    first, floor, step = (Fraction(value).limit_denominator(10**6) for value in (start, least, decay))
    return [int(max(floor, first - episode * step) * candidates) for episode in range(episodes)]
