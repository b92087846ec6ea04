"""A model as a Hugging Face folder: anything that reads transformers checkpoints reads it without this package, but for
students that no stock class can hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from understudy.base import disk
from understudy.models.embedder import write_modules
from understudy.models.handover import write_handover
from understudy.models.load import quiet
from understudy.models.model import Handover, Model
from understudy.models.restructure import FILE, content_of


def save_model(
    model: Model,
    folder: Path | str,
    *,
    card: str = "",
    eval_results: str | None = None,
    handover: Handover | None = None,
) -> Path:
    """Write config.json, model.safetensors, the tokenizer and README.md, and make the folder appear by one rename.

    A network with a structure is written in its compact form, with structure.json: each tensor once, narrow layers narrow.
    The Auto classes read it after `understudy.register()`; stock classes refuse it.

    The same model gives the same bytes: nothing written depends on time, place, or what was done with the tokenizer.

    Args:
        model: its labels become `id2label`, its kind `problem_type`.
        folder: replaced if it exists.
        card: README.md with its YAML front matter (`card.card_text`).
        handover: how inputs were read when it was scored: written to task.json, its length as `model_max_length`.
        eval_results: content of `.eval_results/understudy.yaml`, the Hub's format for benchmark scores.
    """
    folder = Path(folder)
    with disk.commit_dir(folder) as temporary, quiet():
        _save_net(model, temporary)
        if model.kind.pooled:
            write_modules(model.net, temporary, max_length=handover.max_length if handover else None)
        longest = handover.max_length if handover and not model.kind.causal else None  # a window is no limit
        save_tokenizer(model.tokenizer, temporary, max_length=longest)
        if handover:
            write_handover(handover, temporary)
        if card:
            disk.write_text(temporary / "README.md", card)
        if eval_results:
            disk.make_dir(temporary / ".eval_results")
            disk.write_text(temporary / ".eval_results" / "understudy.yaml", eval_results)
    return folder


def _save_net(model: Model, folder: Path) -> None:
    config = model.net.config
    before = (config.id2label, config.label2id, config.problem_type)
    if model.labels:
        config.id2label = dict(enumerate(model.labels))
        config.label2id = {name: i for i, name in config.id2label.items()}
    config.problem_type = model.kind.problem_type
    try:
        # One file whatever the size: a shard index is one more file that could be wrong.
        backbone = {name: one for name, one in model.net.state_dict().items() if not name.startswith("head.modules_.")}
        state = backbone if model.kind.pooled else None
        model.net.save_pretrained(folder, max_shard_size="1TB", state_dict=state)
    finally:
        config.id2label, config.label2id, config.problem_type = before
    _strip(folder / "config.json", ("_name_or_path", "name_or_path", "sentence"))
    if (content := content_of(model.net)) is not None:
        disk.write_json(folder / FILE, content)


def save_tokenizer(tokenizer: Any, folder: Path, *, max_length: int | None = None) -> None:
    """Write a tokenizer's files, the same bytes whatever was done with it before; `max_length` as its `model_max_length`."""
    # Truncation and padding of the last call would otherwise be written into tokenizer.json.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    before = tokenizer.model_max_length
    tokenizer.model_max_length = max_length or before
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.model_max_length = before
    _strip(folder / "tokenizer_config.json", ("name_or_path", "local_files_only", "is_local", "trust_remote_code"))


def _strip(path: Path, names: tuple[str, ...]) -> None:
    """Remove settings that say where the model came from on this machine."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if any(name in content for name in names):
        kept = {name: value for name, value in content.items() if name not in names}
        disk.write_text(path, json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
