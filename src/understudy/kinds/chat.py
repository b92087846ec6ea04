"""Conversations in a model's own template: the assistant's turns are predicted, each with the token that ends it, but not with
the header before it. The text of an example is JSON: {"messages": [{"role", "content"}, …], "tools": […]}.

Which part of the rendered text is the assistant's is derived by rendering beginnings of the conversation, because stock
templates do not mark it ({% generation %}).
"""

from __future__ import annotations

import json
import re
from typing import Any

from understudy.kinds.lm import Causal, Passage

_EMPTY_THOUGHT = re.compile(r"<think>\s*</think>\s*")


class Chat(Causal):
    layouts = ("conversation", "pair")

    def passages(self, text: str, pair: str | None, tokenizer: Any) -> list[Passage]:
        """One passage; one for each answer where the template writes earlier turns otherwise once others follow (Qwen3 drops
        their thoughts)."""
        if not tokenizer.chat_template:
            raise ValueError("the model's tokenizer has no chat template. Give one to it, or use kind sft.")
        said = json.loads(text)
        messages, tools = said["messages"], said.get("tools")

        def render(number: int, *, asks: bool = False) -> str:
            try:
                return tokenizer.apply_chat_template(
                    messages[:number], tools=tools, tokenize=False, add_generation_prompt=asks
                )
            except Exception as error:  # templates raise errors of their own, in any class
                raise ValueError(f"the chat template refuses it: {str(error).strip() or type(error).__name__}") from None

        special = sorted((token.content for token in tokenizer.added_tokens_decoder.values() if token.special), key=len)
        whole = render(len(messages))
        turns, stable = [], True
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            if not number:
                raise ValueError("the assistant speaks first; templates put an answer behind a question.")
            before, after = render(number, asks=True), render(number + 1)
            if not after.startswith(before):
                raise ValueError(
                    f"the template writes answer {number + 1} otherwise than it asks for it: nobody can tell where it begins."
                )
            stable = stable and whole.startswith(after)
            turns.append((number, before, after))
        passages, spans = [], []
        ended = True
        for number, before, after in turns:
            start = len(before)
            if thought := _EMPTY_THOUGHT.match(after, start):  # what the template writes for an answer without one
                start = thought.end()
            end, ended = _end(after, whole[len(after) :] if stable else "", special)
            if stable:
                spans.append((start, end))
            else:
                header = len(before) - len(render(number))
                passages.append(Passage(after[:end], [(start, end)], begins=False, ends=not ended, header=max(0, header)))
        if not stable:
            return passages
        number, before, _ = turns[0]
        cut = max(spans[-1][1], 0)
        header = max(0, len(before) - len(render(number)))
        return [Passage(whole[:cut], spans, begins=False, ends=not ended, header=header)]

    def prompt(self, text: str, pair: str | None, tokenizer: Any) -> tuple[str, bool]:
        """The conversation up to the assistant's first turn, whose header the template writes."""
        said = json.loads(text)
        first = next(i for i, message in enumerate(said["messages"]) if message["role"] == "assistant")
        asked = tokenizer.apply_chat_template(
            said["messages"][:first], tools=said.get("tools"), tokenize=False, add_generation_prompt=True
        )
        return asked, False


def _end(after: str, rest: str, special: list[str]) -> tuple[int, bool]:
    """Where an answer ends, its terminator included, and whether it has one: at its end, perhaps before white space, or at the
    beginning of what follows, where a template writes it into the next turn's header."""
    bare = after.rstrip()
    if any(bare.endswith(token) for token in special):
        return len(bare), True
    gap = len(rest) - len(rest.lstrip())
    follows = next((token for token in reversed(special) if rest[gap:].startswith(token)), None)
    return (len(after), False) if follows is None else (len(after) + gap + len(follows), True)


KIND = Chat("chat")
