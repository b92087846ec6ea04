"""Tiny random decoders of every family, and a byte-level tokenizer for them."""

from __future__ import annotations

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
    "vocab_size": 260,
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
