"""What names a step: the digest of everything that went into it, and the folder that follows from it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from understudy.base import disk
from understudy.base.errors import VerifyError
from understudy.base.home import home
from understudy.objective import Objective
from understudy.recipe.settings import TrainSettings

VERSIONS = {"fit": 2, "predict": 1, "keep": 1, "arrays": 1}
"""Raised by hand when a kind of step would give other results than before."""

NOT_RESULT = {"checkpoint_seconds", "checkpoint_steps", "max_tokens"}
"""Training settings that never change the result: they are not part of a step's key."""


_LATER = ("optimizer", "clip", "shuffle", "planned_epochs", "only", "adapter", "evaluate_at")
"""Training settings that came after the first release: at their defaults they are left out of keys, so that steps made
before are still found."""


def settings_key(settings: TrainSettings) -> dict[str, Any]:
    """Training settings as part of a step's key."""
    named = settings.model_dump(mode="json", exclude=NOT_RESULT)
    defaults = TrainSettings().model_dump(mode="json", include=set(_LATER))
    return {name: value for name, value in named.items() if name not in defaults or value != defaults[name]}


def key_of(about: dict[str, Any]) -> str:
    """32 hex digits for a JSON description of a step."""
    return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16).hexdigest()


def safe(name: str) -> str:
    """A step or test name as a folder name that cannot leave its parent."""
    cleaned = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
    return cleaned or "step"


def step_folder(run: Path, name: str) -> Path:
    """Where the content of a run's step is: in the run, or in the shared store."""
    own = run / "steps" / safe(name)
    mark = read_mark(own / "step.json")
    return home() / "steps" / mark["key"] if mark["shared"] else own


def read_mark(path: Path) -> dict[str, Any]:
    """The step.json of a run's step: name, key, shared, about.

    Raises:
        VerifyError: it is not what was written; the key is the digest of the rest.
    """
    mark = disk.read_json(path)
    try:
        intact = key_of(mark["about"]) == mark["key"] and isinstance(mark["shared"], bool)
    except (KeyError, TypeError):
        intact = False
    if not intact:
        raise VerifyError(f"{path} is damaged: it is not what was written. Delete it and repeat the command.")
    return mark


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


_DIGESTS: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()
"""Tokenizer -> its number of tokens, and its digest: a vocabulary takes a tenth of a second to write down."""


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of what a tokenizer does: two with the same digest cut every text alike.

    It is made once for a tokenizer, and anew when tokens were added to it.
    """
    number, digest = _DIGESTS.get(tokenizer, (0, ""))
    if number != len(tokenizer):
        number, digest = len(tokenizer), _digest_of(tokenizer)
        _DIGESTS[tokenizer] = number, digest
    return digest


def _digest_of(tokenizer: Any) -> str:
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call asked for is kept in there too, and is no property of the tokenizer.
    parts["truncation"] = parts["padding"] = None
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
