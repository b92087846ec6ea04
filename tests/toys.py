"""The toy world: a 64-word vocabulary, a two-layer BERT, and a task that both can learn in a second.

A sentence is glad or sad by the words it holds; everything else in it is noise.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GLAD = ["good", "bright", "happy", "calm", "kind", "warm", "fresh", "neat"]
SAD = ["bad", "dim", "angry", "loud", "rude", "cold", "stale", "torn"]
NOISE = (
    "the a this that my your our screen door phone desk lamp chair cup book was is feels looks seems very quite rather "
    "today again once more here there now then with on in at and but so it we they you she"
).split()
WORDS = SPECIAL + GLAD + SAD + NOISE[: 64 - len(SPECIAL) - len(GLAD) - len(SAD)]


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip


def config(*, layers: int = 2, labels: int = 2, **changes: Any) -> Any:
    from transformers import BertConfig

    sizes = {
        "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64, "num_labels": labels,
    }  # fmt: skip
    return BertConfig(**(sizes | changes))


def bert(*, layers: int = 2, labels: int = 2, seed: int = 0, head: str = "BertForSequenceClassification") -> Any:
    """A BERT with random weights that are a function of the seed; `head` is a class name of transformers."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, head)(config(layers=layers, labels=labels)).eval()


def save_checkpoint(folder: Path, *, layers: int = 2, seed: int = 0, head: str = "BertModel") -> Path:
    """Save model and tokenizer in Hugging Face layout and return the folder."""
    bert(layers=layers, seed=seed, head=head).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """`count` pairs of a sentence and its mood, `glad` or `sad`, of differing lengths."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        mood = draw.choice(["glad", "sad"])
        words = draw.choices(NOISE, k=draw.randint(2, 12)) + draw.choices(GLAD if mood == "glad" else SAD, k=2)
        draw.shuffle(words)
        rows.append((" ".join(words), mood))
    return rows


def save_csv(folder: Path, *, rows: int = 200) -> Path:
    """train.csv (`rows` rows), dev.csv and test.csv (a quarter each), with the columns `body` and `mood`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate({"train": rows, "dev": rows // 4, "test": rows // 4}.items()):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["body", "mood"])
            writer.writerows(sentences(count, seed=seed))
    return folder
