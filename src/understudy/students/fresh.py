"""A student with an architecture of its own: the teacher's family and tokenizer, other sizes, new weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.base.suggest import did_you_mean
from understudy.models.anatomy import anatomy
from understudy.models.compact import stock_class_of, stock_config
from understudy.models.model import Model

# Sizes under the names that every family's configuration answers to; where it does not, its own name.
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
OWN_NAMES = {"distilbert": {"intermediate_size": "hidden_dim", "hidden_act": "activation"}}
# What the teacher's tokenizer and the task decide, and what would name code.
_FIXED = re.compile(r"_.*|.*_token_id|.*label.*|vocab_size|model_type|architectures|auto_map|problem_type|dtype|tie_.*")


def fresh(teacher: Model, sizes: Mapping[str, Any], *, seed: int) -> Model:
    """A randomly initialised model of the teacher's family with some sizes changed.

    Whatever is not named stays as in the teacher: vocabulary, tokenizer, labels, head, dropout. The weights depend on
    `seed` and the sizes alone.

    Args:
        teacher: gives family, tokenizer and labels; not changed.
        sizes: `SIZES` and any other setting of the family's configuration; None leaves the teacher's value.
        seed: of the initialisation.

    Raises:
        RecipeError: an unknown size, or sizes that cannot be built, with the rule they break.
    """
    row = anatomy(teacher.net)
    sizes = {name: value for name, value in sizes.items() if value is not None}
    config = resized(teacher, sizes)
    try:
        with seeds.torch_seed(seed, "fresh", *sorted(sizes.items())):
            net = stock_class_of(type(teacher.net))(config)
    except (ValueError, TypeError, KeyError) as error:
        raise RecipeError(f"student.config: a {row.family} of these sizes cannot be built: {error}") from None
    return Model(
        net=net.to(dtype=teacher.net.dtype).eval(),
        tokenizer=copy.deepcopy(teacher.tokenizer),
        labels=teacher.labels,
        kind=teacher.kind,
        source=f"a fresh {row.family}",
        revision=None,
        notes=(f"student: a fresh {row.family} with {', '.join(f'{k} {v}' for k, v in sorted(sizes.items()))}.",),
        fresh_head=True,
    )


def resized(teacher: Model, sizes: Mapping[str, Any]) -> Any:
    """The teacher's configuration with other sizes, that of a stock network. Raises RecipeError as `fresh` does."""
    row = anatomy(teacher.net)
    config = stock_config(teacher.net)
    own_names = OWN_NAMES.get(row.family, {})
    allowed = [
        *SIZES,
        *(name for name in sorted(config.to_dict()) if not _FIXED.fullmatch(name) and name not in SIZES),
        *own_names,
        *(("num_key_value_heads", "head_dim") if row.causal else ()),
    ]
    for name, value in sizes.items():
        if name not in allowed:
            raise RecipeError(
                f"student.config: '{name}' cannot be set for a {row.family}; sizes are {', '.join(SIZES)}."
                f"{did_you_mean(name, allowed)}"
            )
        if name in SIZES and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise RecipeError(f"student.config.{name} is {value!r}; it must be a whole number, 1 or more.")
        setattr(config, own_names.get(name, name), value)
    if row.causal:
        _check_decoder(config, sizes, row.family)
    else:
        _check(config, row.position_start(teacher.net), row.family)
    _follow(config, sizes)
    return config


def _check(config: Any, position_start: int, family: str) -> None:
    """The rules whose violation torch would report as a shape error deep inside, or not at all."""
    width, heads = config.hidden_size, config.num_attention_heads
    if width % heads:
        nearest = min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: (abs(n - heads), n))
        raise RecipeError(
            f"student.config: hidden_size {width} is not a multiple of num_attention_heads {heads}; "
            f"{nearest} heads would fit."
        )
    if family == "modernbert" and (width // heads) % 2:
        raise RecipeError(
            f"student.config: rotary positions need an even head width, not {width // heads}; change the heads."
        )
    if config.max_position_embeddings <= position_start + 2:
        raise RecipeError(
            f"student.config.max_position_embeddings is {config.max_position_embeddings}; it must exceed "
            f"{position_start + 2} to hold a single token between its special tokens."
        )


_DIVISORS = ("llama", "gemma2", "gemma3_text")
"""Decoders whose configuration refuses a width that is no multiple of the number of heads, though heads may be of any width."""


def require_decoder(family: str, *, width: int, heads: int, groups: int) -> None:
    """The rules of a stock decoder whose heads of queries share heads of keys and values. Raises RecipeError."""
    if heads % groups:
        raise RecipeError(
            f"student.config: {heads} heads cannot share {groups} heads of keys and values alike; make num_attention_heads a "
            "multiple of num_key_value_heads."
        )
    if family in _DIVISORS and width % heads:
        more = " The same network of mistral type may have any number." if family == "llama" else ""
        raise RecipeError(
            f"student.config: the stock {family} refuses {heads} heads with hidden_size {width}, no multiple of them.{more}"
        )


def _check_decoder(config: Any, sizes: Mapping[str, Any], family: str) -> None:
    """Heads whose width is not given have that of the model divided by their number."""
    width, heads = config.hidden_size, config.num_attention_heads
    require_decoder(family, width=width, heads=heads, groups=config.num_key_value_heads)
    if "head_dim" not in sizes and {"hidden_size", "num_attention_heads"} & set(sizes):
        config.head_dim = max(2, width // heads)
    if getattr(config, "head_dim", None) is not None and config.head_dim % 2:
        raise RecipeError(f"student.config: rotary positions need an even head_dim, not {config.head_dim}.")


def _follow(config: Any, sizes: Mapping[str, Any]) -> None:
    """Settings that repeat a size follow it."""
    if hasattr(config, "pooler_hidden_size"):  # DeBERTa
        config.pooler_hidden_size = config.hidden_size
    if getattr(config, "layer_types", None):  # ModernBERT: the teacher's pattern of local and global layers continues
        rhythm = config.layer_types
        config.layer_types = [rhythm[i % len(rhythm)] for i in range(config.num_hidden_layers)]
