"""Hugging Face folders of tiny models of any family, with tokenizers that may differ, and toy data of every kind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import tiny_models
import torch
import toys
import transformers

HEADS = {
    "backbone": transformers.AutoModel,
    "text": transformers.AutoModelForMaskedLM,
    "classification": transformers.AutoModelForSequenceClassification,
    "tokens": transformers.AutoModelForTokenClassification,
}
KINDS = ("classification", "pair", "regression", "multilabel", "tokens", "text")


def save_checkpoint(
    folder: Path, family: str, *, head: str = "backbone", tokenizer: Any = None, seed: int = 0, **sizes: Any
) -> Path:
    """A random model of the family and its tokenizer (the toy world's unless another is given)."""
    tokenizer = tokenizer or toys.tokenizer()
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id",) if family not in ("roberta", "xlm-roberta")}
    config = tiny_models.tiny_config(family, **{"vocab_size": len(tokenizer), **ids, **sizes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        HEADS[head].from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def letters() -> Any:
    """Another tokenizer: every letter a token, so that texts are cut quite differently from the toy world's words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    alphabet = [*toys.SPECIAL, *"abcdefghijklmnopqrstuvwxyz"]
    core = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(alphabet)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", behavior="isolated")]
    )
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=512,
    )  # fmt: skip


def task_settings(folder: Path, kind: str, *, rows: int = 48) -> dict[str, Any]:
    """Write train, dev and test files of a kind of task and return the recipe's `task` section for them."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = {"tokens": "jsonl", "text": "txt"}.get(kind, "csv")
    for seed, (name, count) in enumerate({"train": rows, "dev": 16, "test": 16}.items()):
        _write(folder / f"{name}.{suffix}", kind, toys.sentences(count, seed=seed))
    columns: dict[str, Any] = {
        "classification": {"text": "body", "label": "mood"},
        "pair": {"text": "body", "pair": "other", "label": "mood"},
        "regression": {"text": "body", "label": "degrees"},
        "multilabel": {"text": "body", "label": ["glad", "sad", "long"]},
        "tokens": {"words": "words", "tags": "tags"},
        "text": {},
    }[kind]
    return {
        "name": "custom",
        "kind": "classification" if kind == "pair" else kind,
        "files": {name: str(folder / f"{name}.{suffix}") for name in ("train", "dev", "test")},
        "columns": columns,
        "max_length": 32,
    }


def _write(path: Path, kind: str, sentences: list[tuple[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as handle:
        if kind == "text":
            handle.writelines(f"{text}\n" for text, _ in sentences)
        elif kind == "tokens":
            for text, _ in sentences:
                words = text.split()
                tags = ["B-MOOD" if word in toys.GLAD + toys.SAD else "O" for word in words]
                handle.write(json.dumps({"words": words, "tags": tags}) + "\n")
        else:
            writer = csv.writer(handle)
            writer.writerow(["body", "other", "mood", "degrees", "glad", "sad", "long"])
            for text, mood in sentences:
                words, glad = text.split(), mood == "glad"
                half = len(words) // 2
                body, other = (" ".join(words[:half]), " ".join(words[half:])) if kind == "pair" else (text, "")
                writer.writerow([body, other, mood, 100 + 10 * glad - len(words), int(glad), int(not glad), int(half > 4)])
