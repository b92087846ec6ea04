"""The settings of each distillation method, one file each, discriminated by `method.name`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from understudy.recipe.methods.automm import AutoMM
from understudy.recipe.methods.finetune import FineTune

Method = Annotated[AutoMM | FineTune, Field(discriminator="name")]
METHODS: dict[str, type[AutoMM | FineTune]] = {"automm": AutoMM, "finetune": FineTune}
