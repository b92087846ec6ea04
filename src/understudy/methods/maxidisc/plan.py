"""MaxiDisc's schedule: every way from the teacher to the student, what they cost together, and what cannot work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.base.errors import RecipeError
from understudy.data.types import TaskData
from understudy.methods.maxidisc.settings import MaxiDisc
from understudy.recipe.method import Facts, Stage
from understudy.recipe.settings import Recipe
from understudy.recipe.staged import GRID, Waypoint, scale_of, target_of

Way = tuple[Waypoint | None, ...]  # None: a student that is not a part of the teacher


def ways(cfg: MaxiDisc, target: Waypoint | None, depth: int) -> list[Way]:
    """The ways to the target, the shortest first.

    Args:
        depth: layers of the teacher.

    Raises:
        RecipeError: an assistant that is not larger than what it is to teach, or no assistant at all.
    """
    if cfg.path is not None:
        stages = [Waypoint.parse(text) for text in cfg.path]
        return [_checked([*stages, target] if not stages or stages[-1] != target else stages, depth)]
    direct: list[Way] = [(target,)] if cfg.direct else []
    if cfg.assistants != "auto":
        return [*direct, *(_checked([Waypoint.parse(text), target], depth) for text in cfg.assistants)]
    if target is None:
        raise RecipeError("This student is not a part of its teacher, so its assistants must be named: give method.assistants.")
    if target.sparsity is not None:
        sparsity = target.sparsity
        among = [Waypoint(sparsity=s) for s in GRID if 0.5 <= s < sparsity]
    else:
        among = [Waypoint(layers=layers) for layers in range(depth - 1, target.layers or depth, -1)]
    if not among and not direct:
        raise RecipeError(f"No assistant lies between the teacher and {target.label}; give method.assistants.")
    return [*direct, *((one, target) for one in among)]


def _checked(stages: Sequence[Waypoint | None], depth: int) -> Way:
    scales = [scale_of(stage, depth) for stage in stages if stage is not None]
    if any(stage is not None and (stage.layers or 0) > depth for stage in stages):
        raise RecipeError(f"method: the way {name_of(tuple(stages))} has more layers than the teacher, which has {depth}.")
    if scales != sorted(set(scales), reverse=True):
        raise RecipeError(
            f"method: the way {name_of(tuple(stages))} must lead from larger to smaller students; a stage is at most as "
            "large as the one before."
        )
    return tuple(stages)


def name_of(way: Way) -> str:
    """The stages in order: 80S-90S. As a step's name it holds no more than the way up to here, so ways can share it."""
    return "-".join("student" if stage is None else stage.label for stage in way)


def step_name(way: Way, seed: int, usual: int) -> str:
    return name_of(way) if seed == usual else f"{name_of(way)}-seed{seed}"


def require(cfg: MaxiDisc, recipe: Recipe, data: TaskData | None, teacher: Any, student: Any) -> None:
    """The ways."""
    if data is not None:
        ways(cfg, target_of(recipe.student), teacher.layers)


def stages(cfg: MaxiDisc, recipe: Recipe, facts: Facts) -> list[Stage]:
    """Every training of every way; what ways share is paid for once."""
    seeds = cfg.seeds or (recipe.seed,)
    found = {
        step_name(way[:number], seed, recipe.seed): facts.share if way[number - 1] is None
        else scale_of(way[number - 1], facts.layers)
        for way in ways(cfg, target_of(recipe.student), facts.layers) for seed in seeds for number in range(1, len(way) + 1)
    }  # fmt: skip
    return [Stage(name, "train.epochs", recipe.train.epochs, 1.0, share) for name, share in found.items()]


def arm(own: dict[str, Any], base: Any) -> tuple[dict[str, Any], list[str]]:
    """Assistants of the published sparsities, as far as they lie between the teacher and the student."""
    student, sparsity = base.pruned_student()
    if "path" in own or "assistants" in own:
        return {**student, "method": own}, []
    names = [f"{100 * s:g}S" for s in GRID if min(0.5, sparsity / 2) <= s < sparsity]
    return {**student, "method": {**own, **({"assistants": names} if names else {"path": []})}}, []


def affordable(
    cfg: MaxiDisc, own: Mapping[str, Any], recipe: Recipe, facts: Facts, kind: str, total: float
) -> tuple[dict[str, Any], list[str]]:
    """As many assistants, evenly spread, as leave every training two epochs; one is the least, with or without the way
    straight from the teacher."""
    among = cfg.assistants
    if kind == "seconds" or "assistants" in own or isinstance(among, str):
        return {}, []
    some, direct = among, cfg.direct
    for number in (*range(len(among), 0, -1), 0):
        some, direct = spread(among, max(1, number)), cfg.direct and number > 0
        smaller = cfg.model_copy(update={"assistants": some, "direct": direct})
        price = sum(stage.cost(kind) for stage in stages(smaller, recipe, facts))
        if price * (2 if number > 1 else 1) <= total * (1 + 1e-9):
            break
    changes = {"method.assistants": list(some), "method.direct": direct}
    note = f"{len(some)} of {len(among)} assistants are tried: more would leave each training less than two epochs."
    return changes, [note] if len(some) < len(among) else []


def spread(names: Sequence[str], number: int) -> tuple[str, ...]:
    """So many of the names, evenly spread.

    >>> spread(["30S", "40S", "50S", "60S"], 2)
    ('30S', '50S')
    """
    return tuple(names[round((place + 0.5) * len(names) / number - 0.5)] for place in range(number))


def student_step(cfg: MaxiDisc, recipe: Recipe, kept: Mapping[str, Any]) -> str:
    """The last stage of the way that was chosen, with the seed that was."""
    if "trials" in kept:
        chosen = kept["trials"]["chosen"]
        return chosen["way"] if chosen["seed"] == recipe.seed else f"{chosen['way']}-seed{chosen['seed']}"
    return kept["cost"]["stages"][-1]["stage"]
