"""The settings of `method: {name: kdnas}`: what is searched, how, and how the student found is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from understudy.recipe.method import MethodSettings
from understudy.recipe.types import Flag, NonNegative, Positive, PositiveCount, Settings, Text

STUDY = "study"
"""The folder of the database, beside the steps: workers may still look into it when the search is over."""

Ratio = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Ratios = Annotated[tuple[Ratio, ...], Field(min_length=1)]
Sizes = Annotated[tuple[PositiveCount, ...], Field(min_length=1)]
STUDY = "study"
"""The folder of the database, beside the steps: workers may still look into it when the search is over."""
_NAMES: dict[Any, str] = {True: "main", False: "none"}
_SHARED = {"space": {"preset": "kdnas-paper"}, "engine": "lstm"}
PARITY: dict[str, dict[str, Any]] = {
    "main": _SHARED
    | {
        "episodes": 1, "candidates": 5, "alpha": -0.06, "beta": 0.6**6,
        "controller": {"pool": 150, "epochs": 10, "lr": 1e-4, "epsilon_decay": 0.05},
        "mini_kd": {"proxy": 0.3, "epochs": 5, "lr": 1e-4, "batch_size": 32, "score": "train_last"},
    },
    "refactor": _SHARED
    | {
        "episodes": 15, "candidates": 20, "alpha": -0.07, "beta": 0.6, "reinit": True,
        "controller": {"pool": 100, "epochs": 1, "lr": 1e-4, "epsilon_decay": 0.05},
        "mini_kd": {"proxy": 0.2, "epochs": 4, "lr": 5e-5, "batch_size": 32, "score": "train_mean"},
    },
}  # fmt: skip
"""What the two branches of the released code use, where a recipe says nothing else."""


class SpaceSettings(Settings):
    """Which students may be proposed: ratios of the teacher, or lists, within budgets. Heads must divide the width, and
    nothing may exceed the teacher; `understudy check` says what is left."""

    preset: Literal["teacher", "kdnas-paper"] = Field(
        default="teacher", description="teacher = read off its configuration; kdnas-paper = the original's 1,200"
    )
    depth_ratios: Ratios = Field(
        default=(0.25, 0.33, 0.5, 0.66, 0.75, 1.0), description="of the teacher's number of layers, and of heads"
    )
    hidden_ratios: Ratios = Field(
        default=(0.5, 0.75, 1.0), description="of its width, snapped to multiples of the width of its heads"
    )
    intermediate_ratios: Ratios = Field(
        default=(0.25, 0.33, 0.5, 0.66, 0.75, 1.0), description="of its inner width, snapped in the same way"
    )
    layers: Sizes | None = Field(default=None, description="numbers of layers, in place of ratios and preset")
    heads: Sizes | None = Field(default=None, description="numbers of attention heads, in place of ratios and preset")
    hidden: Sizes | None = Field(default=None, description="widths, in place of ratios and preset")
    intermediate: Sizes | None = Field(default=None, description="inner widths, in place of ratios and preset")
    activations: tuple[Literal["gelu", "gelu_new", "relu", "silu"], ...] | None = Field(
        default=("gelu", "relu", "silu"), description="activations; null = the teacher's own"
    )
    max_parameters: PositiveCount | None = Field(default=None, description="a budget: parameters, embeddings included")
    max_flops: PositiveCount | None = Field(
        default=None, description="a budget: operations for one row of evaluate.latency.length tokens, two per multiply-add"
    )
    max_latency_ms: Positive | None = Field(
        default=None,
        description="a budget: measured median milliseconds by evaluate.latency; slower students are never trained",
    )


class MiniKD(Settings):
    """The short training of each candidate. What is not named here is as in `train`."""

    proxy: Ratio = Field(default=0.3, description="share of the training rows, drawn by the seed, the same for all candidates")
    epochs: PositiveCount = Field(default=5, description="passes over them")
    lr: Positive = Field(default=1e-4, description="learning rate, constant")
    batch_size: PositiveCount = Field(default=32, description="rows per step")
    score: Literal["auto", "held_out", "metric", "train_last", "train_mean"] = Field(
        default="auto",
        description="what 1 - L or the quality is read off: held_out = the loss on the selection rows, metric = the task's "
        "metric there, train_last and train_mean = the training loss of the last epoch or of all (the original's two "
        "readings); auto = metric where there are labels, else held_out",
    )  # fmt: skip
    without: tuple[Text, ...] = Field(default=("relations",), description="terms of `objective` that full KD alone learns")


class ControllerSettings(Settings):
    """The LSTM that predicts rewards (`engine: lstm`)."""

    epsilon_start: Ratio = Field(default=1.0, description="share of random candidates in the first episode")
    epsilon_min: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        default=0.05, description="the least share of random candidates"
    )
    epsilon_decay: Literal["auto"] | NonNegative = Field(
        default="auto", description="taken off per episode; auto = the least share is reached in the last episode (parity: 0.05)"
    )
    pool: PositiveCount = Field(default=150, description="candidates scored in each episode, of which the best are tried")
    epochs: PositiveCount = Field(default=10, description="passes over all episodes so far, after each episode")
    lr: Positive = Field(default=1e-3, description="learning rate of RMSprop (parity: 1e-4)")


class KDNAS(MethodSettings):
    """Search for a student's architecture by short distillations, then distil the best one thoroughly: hidden states
    of the last and of evenly spread teacher layers, through a learnable projection (KD-NAS)."""

    name: Literal["kdnas"] = Field(default="kdnas", description="this method")
    parity: Annotated[Literal["none", "main", "refactor"], BeforeValidator(lambda value: _NAMES.get(value, value))] = Field(
        default="none",
        description="reproduce the released code, branch main (also `true`) or refactor; the method's page lists what changes",
    )
    space: SpaceSettings = Field(default=SpaceSettings(), description="the architectures")
    engine: Literal["lstm", "tpe", "evolution", "random"] = Field(
        default="lstm", description="who proposes candidates: LSTM controller, TPE, NSGA-II, or chance"
    )
    episodes: PositiveCount = Field(default=15, description="rounds of the search (M)")
    candidates: PositiveCount = Field(default=8, description="candidates per round (N); M times N are tried in all")
    controller: ControllerSettings = Field(default=ControllerSettings(), description="the LSTM controller")
    halving: Annotated[int, Field(strict=True, ge=2)] | None = Field(
        default=None, description="stop poor candidates early: after 1, h, h squared … epochs only one in h goes on; null = never"
    )
    trial_timeout: Positive | None = Field(default=None, description="seconds after which a candidate counts as failed")
    storage: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="database for workers on several machines, as in postgresql://host/name (the password goes into PGPASSWORD "
        "or ~/.pgpass); null = a file in the run",
    )
    heartbeat: PositiveCount = Field(default=10, description="seconds between a worker's heartbeats; two missed = dead")
    alpha: Annotated[float, Field(strict=True, le=0, allow_inf_nan=False)] = Field(
        default=-0.06, description="exponent of the relative latency in the reward; 0 = only the loss counts"
    )
    beta: Positive = Field(default=0.6, description="scale of the reward; changes no ranking (a budget is space.max_latency_ms)")
    mini_kd: MiniKD = Field(default=MiniKD(), description="the short training of each candidate")
    init: Literal["random", "teacher"] = Field(
        default="random", description="students start from random weights, or from the teacher's: layers copied, widths cut"
    )
    top_k: PositiveCount = Field(default=1, description="how many of the best candidates get full KD (`train`)")
    reinit: Flag = Field(
        default=False, description="full KD starts anew, rather than from the weights and the projection of mini-KD"
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, data: Any) -> Any:
        """Under parity, whatever is not given is as in that branch."""
        if not isinstance(data, dict):
            return data
        given = data.get("parity", "none")
        branch = next((name for value, name in _NAMES.items() if value is given), str(given))
        return _filled(data, PARITY.get(branch, {}))

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.top_k > self.trials:
            raise ValueError(f"`top_k: {self.top_k}` is more than all {self.trials} candidates (`episodes` times `candidates`).")
        return self

    @model_validator(mode="after")
    def _database(self) -> Self:
        if self.storage is not None:
            if "://" not in self.storage:
                raise ValueError(f"`storage: {self.storage}` is not a database address such as postgresql://host/name.")
            user = self.storage.split("://", 1)[1].split("/", 1)[0].rpartition("@")[0]
            if ":" in user:
                raise ValueError("a password in `storage` would be written into the run; put it into PGPASSWORD or ~/.pgpass.")
        return self

    @property
    def trials(self) -> int:
        """How many candidates are tried."""
        return self.episodes * self.candidates


def _filled(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The given settings over the defaults, section by section."""
    merged = {**defaults, **given}
    for name, value in defaults.items():
        if isinstance(value, dict) and isinstance(given.get(name), dict):
            merged[name] = _filled(given[name], value)
    return merged
