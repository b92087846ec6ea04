"""The settings of each distillation method, one file each, discriminated by `method.name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from understudy.recipe.methods.automm import AutoMM
from understudy.recipe.methods.finetune import FineTune
from understudy.recipe.methods.maxidisc import MaxiDisc
from understudy.recipe.methods.minidisc import MiniDisc
from understudy.recipe.methods.peakd import PeaKD

Method = Annotated[AutoMM | FineTune | MaxiDisc | MiniDisc | PeaKD, Field(discriminator="name")]
METHODS: dict[str, type[AutoMM | FineTune | MaxiDisc | MiniDisc | PeaKD]] = {
    "automm": AutoMM, "finetune": FineTune, "maxidisc": MaxiDisc, "minidisc": MiniDisc, "peakd": PeaKD,
}  # fmt: skip
