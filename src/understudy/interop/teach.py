"""What the teacher says about a batch of a Trainer, and which teachers fit a student.

A teacher is a model, run when it is asked, in the student's tokens or in its own; or a store that was filled before
(`cache.CachedTeacher`) and is asked by row number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from understudy.base.errors import DataError, RecipeError
from understudy.cache import Teacher
from understudy.data.encode import IGNORE, Batch
from understudy.interop.pack import ROW, TEACHER, pack
from understudy.kinds import Kind
from understudy.lab.encodings import tokenizer_digest
from understudy.models.anatomy import anatomy
from understudy.models.heads import names_of
from understudy.models.model import Model
from understudy.models.needs import Needs, Signals
from understudy.models.signals import forward
from understudy.objective import Objective


@dataclass
class Live:
    """Runs the teacher on each batch: on `teacher_input_ids` where the batch has them, else on the student's tokens."""

    net: Any
    kind: Kind
    needs: Needs
    foreign: str | None
    """Why the teacher cannot read the student's tokens; None where it can."""

    @torch.no_grad()
    def signals(self, inputs: Mapping[str, Any], batch: Batch) -> Signals:
        """Signals (fp32) of the rows of `batch`, which is `inputs` packed. For tokens in the teacher's own cut, logits and
        the head's input are those of the labelled tokens alone, by which both sides are aligned."""
        own = f"{TEACHER}input_ids" in inputs
        if own:
            batch = pack(inputs, self.kind, prefix=TEACHER)
        elif self.foreign is not None:
            raise DataError(
                f"{self.foreign} Give the rows {TEACHER}input_ids and {TEACHER}attention_mask, the same texts in the "
                f"teacher's tokens{f', and {TEACHER}labels' if self.kind.by_word else ''}."
            )
        signals = forward(self.net.eval(), batch, self.needs, kind=self.kind).map(lambda value: value.float())
        return self._labelled(signals, batch) if own and self.kind.by_word else signals

    def _labelled(self, signals: Signals, batch: Batch) -> Signals:
        if batch.labels is None:
            raise DataError(f"Two tokenizers are aligned word by word: the rows need {TEACHER}labels, as they have labels.")
        asked = batch.labels != IGNORE
        logits, feature = signals.logits, signals.feature
        if feature is not None and self.needs.feature == "head_input":
            feature = feature[asked]
        return replace(signals, logits=None if logits is None else logits[asked], feature=feature)


@dataclass
class Stored:
    """Reads what was computed before, by the number of each row in the encoded examples it was computed for."""

    teacher: Teacher

    def signals(self, inputs: Mapping[str, Any], batch: Batch) -> Signals:
        if ROW not in inputs:
            raise DataError(
                f"A teacher that is read from a store is asked by row: give the dataset a column '{ROW}', the number of each "
                "row in the examples the store was made from."
            )
        device = batch.input_ids.device
        return self.teacher.signals(inputs[ROW].cpu().numpy()).map(lambda value: value.to(device))


def teacher_for(
    student: Any, teacher: Any, objective: Objective, *, kind: Kind, tokenizer: Any, device: torch.device
) -> Live | Stored | None:
    """Who answers for the teacher during training; None for an objective that needs no teacher.

    Args:
        teacher: a `Model`, a network of transformers, anything with `signals(rows)`, or None.
        tokenizer: the student's, if it is known.

    Raises:
        RecipeError: no teacher, or one of another family or tokenizer than a term can use.
        DataError: its outputs do not mean what the student's mean.
    """
    needs = objective.needs_teacher
    if not needs:
        return None
    asking = ", ".join(name for name, term in objective.terms.items() if term.needs_teacher)
    if teacher is None:
        raise RecipeError(f"No teacher was given, but these terms learn from one: {asking}. Pass teacher=….")
    if not isinstance(teacher, Model) and hasattr(teacher, "signals"):
        return Stored(teacher)
    net = teacher.net if isinstance(teacher, Model) else teacher
    if net is student:
        raise RecipeError("Teacher and student are the same network; load the teacher again.")
    foreign = _foreign(student, teacher, net, tokenizer)
    token_by_token = [name for name, term in objective.terms.items() if term.same_tokens]
    if foreign is not None and (token_by_token or kind.on_vocabulary):
        raise RecipeError(
            f"{foreign} But {', '.join(token_by_token) or 'masked text'} compares token with token: use a teacher with the "
            "student's tokenizer, or set the weight of this term to 0."
        )
    _check_depth(net, needs)
    if needs.logits:
        _check_outputs(student, net, kind)
    return Live(net.to(device).eval(), kind, needs, foreign)


def reads_otherwise(teacher: Any, tokenizer: Any) -> bool:
    """Whether both tokenizers are known and cut texts differently."""
    known = isinstance(teacher, Model) and tokenizer is not None and tokenizer.is_fast
    return known and tokenizer_digest(teacher.tokenizer) != tokenizer_digest(tokenizer)


def _foreign(student: Any, teacher: Any, net: Any, tokenizer: Any) -> str | None:
    if reads_otherwise(teacher, tokenizer):
        return "Teacher and student have different tokenizers."
    if not isinstance(teacher, Model) and net.config.vocab_size != student.config.vocab_size:
        sizes = f"{net.config.vocab_size:,} and {student.config.vocab_size:,}"
        return f"Teacher and student have vocabularies of {sizes} tokens, so probably different tokenizers."
    return None


def _check_depth(net: Any, needs: Needs) -> None:
    deepest, there = max((0, *needs.hidden, *needs.cls, *needs.qkv)), anatomy(net).num_layers(net)
    if deepest > there:
        raise RecipeError(f"The objective asks for layer {deepest} of the teacher, which has {there}.")


def _check_outputs(student: Any, net: Any, kind: Kind) -> None:
    """The teacher's outputs must stand in the student's order; generic names (`LABEL_0`, …) are taken by position."""
    if kind.on_vocabulary:
        ours, theirs = student.config.vocab_size, net.config.vocab_size
    else:
        ours, theirs = student.config.num_labels, net.config.num_labels
    if ours != theirs:
        raise DataError(f"The teacher has {theirs} outputs and the student {ours}; they must be for the same labels.")
    if not kind.named:
        return
    names, wanted = names_of(net.config), names_of(student.config)
    unnamed = [f"LABEL_{i}" for i in range(ours)]
    if names != wanted and unnamed not in (names, wanted):
        raise DataError(
            f"The teacher's outputs are {', '.join(names)} and the student's {', '.join(wanted)}. Load the teacher with "
            "understudy.load_model(…, task=…), which puts its outputs into the order of the task's labels."
        )


class TwoTokenizers:
    """A data collator for rows that come in the student's tokens and in the teacher's: `teacher_input_ids`, ….

    Args:
        student, teacher: collators that pad each side, such as `DataCollatorWithPadding(tokenizer)`.
    """

    def __init__(self, student: Callable[[list], Mapping[str, Any]], teacher: Callable[[list], Mapping[str, Any]]) -> None:
        self.student, self.teacher = student, teacher

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = dict(self.student([{k: v for k, v in row.items() if not k.startswith(TEACHER)} for row in features]))
        theirs = [
            {k.removeprefix(TEACHER): v for k, v in row.items() if k.startswith(TEACHER)} for row in features
        ]
        if theirs and theirs[0]:
            batch |= {f"{TEACHER}{name}": value for name, value in self.teacher(theirs).items()}
        return batch


def with_own_tokens(collator: Any, teacher: Model, kind: Kind) -> TwoTokenizers:
    """The collator for a teacher with a tokenizer of its own."""
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

    padding = DataCollatorForTokenClassification if kind.per_token else DataCollatorWithPadding
    return TwoTokenizers(collator, padding(teacher.tokenizer))
