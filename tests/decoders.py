"""Tiny random decoders of every family, and a byte-level tokenizer for them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "vocab_size": 264,
    "pad_token_id": None,
    "bos_token_id": 256,
    "eos_token_id": 257,
}
_OWN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "gemma2": {"sliding_window": 4, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 1.5},
    "gemma3_text": {"sliding_window": 4, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"] * 2},
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def config_of(family: str, **changes: Any) -> Any:
    own = {"head_dim": 8, **_OWN.get(family, {}), **changes}
    if "layer_types" in own:
        own["layer_types"] = own["layer_types"][: own.get("num_hidden_layers", 3)]
    return AutoConfig.for_model(family, **{**_SIZES, **own})


def decoder(family: str, auto: Any = AutoModelForCausalLM, *, seed: int = 0, **changes: Any) -> Any:
    """A model in eval mode whose every parameter is random."""
    torch.manual_seed(seed)
    net = auto.from_config(config_of(family, **changes)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def tokenizer(*, bos: bool = True, template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Bytes, and four special tokens; without `bos` no text is begun by one."""
    alphabet = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", additional_special_tokens=["<|im_start|>", "<|im_end|>"]
    )
    if bos:
        begun = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 256)])
        made.backend_tokenizer.post_processor = begun
    made.chat_template = template
    return made


def save(folder: Path, family: str = "llama", auto: Any = AutoModelForCausalLM, **changes: Any) -> Path:
    """A checkpoint of such a model with such a tokenizer."""
    net = decoder(family, auto, **changes)
    if net.can_generate():
        net.generation_config.eos_token_id = [257, 259]  # the end of a text and that of a turn
    net.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def recipe(folder: Path, *, kind: str = "lm", family: str = "llama", **changes: Any) -> dict[str, Any]:
    """A run of seconds on a few dozen short documents (or prompts, or conversations), some longer than a window."""
    words = ["stone", "river", "old", "fox", "runs", "the", "a", "never", "home", "night"]
    draw = random.Random(0)
    texts = [" ".join(draw.choice(words) for _ in range(draw.randrange(3, 9))) for _ in range(60)]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(_row(kind, text)) for text in texts), encoding="utf-8")
    return {
        "task": {"name": "custom", "kind": kind, "files": {"train": str(path)}, "max_length": 24},
        "teacher": {"model": str(save(folder / "teacher", family))},
        "student": {"keep": [0, 2]},
        "method": "kd",
        "train": {"batch_tokens": 256, "tokens": 2048, "lr": 3e-3, "precision": "fp32", "checkpoint_steps": 3},
        "evaluate": {"bootstrap": 20, "latency": {"repeats": 3, "length": 16}},
        **changes,
    }


def _row(kind: str, text: str) -> dict[str, Any]:
    first, _, rest = text.partition(" ")
    turns = [{"role": "user", "content": first}, {"role": "assistant", "content": rest}]
    return {"lm": {"text": text}, "sft": {"prompt": first, "completion": rest}, "chat": {"messages": turns}}[kind]
