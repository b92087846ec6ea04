"""Prompts and their answers: the answer and its end are predicted, the prompt is read."""

from __future__ import annotations

from typing import Any

from understudy.kinds.lm import Causal, Passage


class Sft(Causal):
    layouts = ("pair",)

    def passages(self, text: str, pair: str | None, tokenizer: Any) -> list[Passage]:
        whole = text + (pair or "")
        return [Passage(whole, [(len(text), len(whole))], header=0)]

    def prompt(self, text: str, pair: str | None, tokenizer: Any) -> tuple[str, bool]:
        return text, True


KIND = Sft("sft")
