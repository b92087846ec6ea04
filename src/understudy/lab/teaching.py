"""What a teacher says about rows: read from disk, filled first where something is missing, or computed when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from understudy.base.errors import Interrupted
from understudy.base.home import home
from understudy.base.lock import DAY, lock
from understudy.base.progress import say
from understudy.cache import CachedTeacher, LiveTeacher, SignalCache, Teacher
from understudy.data.encode import Encoded
from understudy.lab.models import Source
from understudy.models.needs import Needs
from understudy.train.devices import accelerator, any_process, resolve_precision

if TYPE_CHECKING:
    from understudy.lab.lab import Lab


def signals_of(lab: Lab, teacher: Source, needs: Needs, encoded: Encoded) -> Teacher:
    """From disk if `cache.mode` and `cache.budget_gb` allow it, else live."""
    settings = lab.recipe.cache
    precision = resolve_precision(lab.recipe.train.precision, lab.device)
    teacher.model.net.to(lab.device).eval()
    live = LiveTeacher(teacher.model, encoded, needs, precision, lab.count)
    if settings.mode != "auto":
        return live
    cache = SignalCache(
        home() / "signals",
        model=teacher.model,
        digest=teacher.digest,
        encoded=encoded,
        precision=precision,
        dtype=settings.dtype,
    )
    needed = cache.bytes_needed(needs)
    if needed > settings.budget_gb * 1e9:
        said = (
            f"The teacher's outputs would take {needed / 1e9:.1f} GB, more than cache.budget_gb allows "
            f"({settings.budget_gb:g}): the teacher is run in every epoch instead."
        )
        lab.once(("over budget", teacher.digest, needs, len(encoded)), lambda: say(said))  # not for each masking of the rows
        return live
    interrupted = None
    if accelerator().is_main_process:
        try:
            with lock(cache.folder, wait_seconds=DAY):
                cache.fill(needs, lab.count, lab.stop)
        except Interrupted as error:
            interrupted = error
    if any_process(interrupted is not None):
        raise interrupted or lab.stop.interruption("the teacher's outputs so far are saved.")
    return CachedTeacher(cache, needs)
