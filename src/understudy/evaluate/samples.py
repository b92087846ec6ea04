"""What language models write, side by side: the same beginnings, always the likeliest token, by stock `generate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from understudy.data.types import Example
from understudy.models.model import Model

NEW_TOKENS = 48


@torch.inference_mode()
def samples(models: Mapping[str, Model], examples: Sequence[Example], *, max_length: int) -> list[dict[str, str]]:
    """For each example its prompt and, by the models' names, how they go on.

    Args:
        max_length: of prompt and continuation together, in tokens; a longer prompt loses its left side.
    """
    found = []
    for example in examples:
        row = {}
        for name, model in models.items():
            tokenizer, net = model.tokenizer, model.net.eval()
            text, begins = model.kind.prompt(example.text or "", example.pair, tokenizer)
            row.setdefault("prompt", text)
            ids = tokenizer(text, add_special_tokens=begins, return_tensors="pt")["input_ids"]
            ids = ids[:, -max(1, max_length - NEW_TOKENS) :].to(net.device)
            made = net.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
                pad_token_id=tokenizer.eos_token_id or 0,
            )  # fmt: skip
            row[name] = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        found.append(row)
    return found
