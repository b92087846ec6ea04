"""The settings of `method: {name: mkd}`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy.recipe.method import MethodSettings
from understudy.recipe.transfer import TransferSettings
from understudy.recipe.types import Positive, Text


class MKD(TransferSettings, MethodSettings):
    """An adapter trained on the teacher, moved to the student, and trained further there (mKD)."""

    name: Literal["mkd"] = Field(default="mkd", description="this method")
    adapter: Text | None = Field(
        default=None, description="the folder of an adapter that was trained on `teacher.model` already (peft or AdapterHub "
        "layout); null = train one here, as `teacher.finetune` says"
    )  # fmt: skip
    teacher_lr: Positive | None = Field(
        default=None, description="learning rate of the teacher's adapter, which stands and needs a higher one than a whole "
        "model; null = that of `teacher.finetune`"
    )  # fmt: skip
