"""The settings of `method: {name: mkd}`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy.recipe.method import MethodSettings
from understudy.recipe.transfer import TransferSettings
from understudy.recipe.types import Positive, Temperature, Text, Weight


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
    soft_label_weight: Weight = Field(
        default=0.0, description="weight of the adapted teacher's softened outputs beside the labels; the original has none"
    )
    temperature: Temperature = Field(default=2.0, description="softens both logits where soft_label_weight is above 0")
