"""The settings of each distillation method, one file each, discriminated by `method.name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from understudy.recipe.methods.automm import AutoMM
from understudy.recipe.methods.finetune import FineTune
from understudy.recipe.methods.peakd import PeaKD

Method = Annotated[AutoMM | FineTune | PeaKD, Field(discriminator="name")]
METHODS: dict[str, type[AutoMM | FineTune | PeaKD]] = {"automm": AutoMM, "finetune": FineTune, "peakd": PeaKD}
