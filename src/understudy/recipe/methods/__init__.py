"""The settings of each distillation method, one file each, discriminated by `method.name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from understudy.recipe.methods.auto import Auto
from understudy.recipe.methods.automm import AutoMM
from understudy.recipe.methods.finetune import FineTune
from understudy.recipe.methods.kdnas import KDNAS
from understudy.recipe.methods.maxidisc import MaxiDisc
from understudy.recipe.methods.minidisc import MiniDisc
from understudy.recipe.methods.mkd import MKD
from understudy.recipe.methods.peakd import PeaKD

Method = Annotated[Auto | AutoMM | FineTune | KDNAS | MaxiDisc | MiniDisc | MKD | PeaKD, Field(discriminator="name")]
METHODS: dict[str, type[Auto | AutoMM | FineTune | KDNAS | MaxiDisc | MiniDisc | MKD | PeaKD]] = {
    "auto": Auto, "automm": AutoMM, "finetune": FineTune, "kdnas": KDNAS, "maxidisc": MaxiDisc, "minidisc": MiniDisc, "mkd": MKD,
    "peakd": PeaKD,
}  # fmt: skip
