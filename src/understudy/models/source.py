"""From a reference to a folder that is safe to read: everything that can be refused is refused before a byte of weights
is opened.

A reference is a folder, `package:NAME/FOLDER` (a folder inside an installed package), or a name on the Hugging Face
Hub. Weights are safetensors only; no pickle is opened here. Files that point out of their folder, configurations that
name code, and indexes that name paths are refused (promises R10 and R11 in docs/reliability.md).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.base.errors import DataError, RecipeError, SafetyError
from understudy.base.suggest import shown
from understudy.models.hub import fetch, hub_reachable

__all__ = ["CheckedFolder", "hub_reachable", "read_json", "resolve"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")
MOST_LAYERS = 1000
_MAX_JSON = 64_000_000
_ATTENTION = {None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"}


@dataclass(frozen=True)
class CheckedFolder:
    """A checked folder. `weights` are its safetensors files; `revision` is a commit or a digest of those files."""

    ref: str
    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    revision: str


def resolve(
    ref: str, *, key: str = "model", revision: str | None = None, trust_remote_code: bool = False, weights: bool = True
) -> CheckedFolder:
    """Find and check the folder behind a reference.

    Args:
        ref: folder, `package:NAME/FOLDER`, or Hub name.
        key: the recipe key the reference stands under, for messages.
        revision: branch, tag or commit on the Hub; refused for folders, which have none.
        trust_remote_code: accept configurations that name code (`auto_map`).
        weights: False where only the tokenizer is wanted.

    Raises:
        RecipeError: nothing is there, or it is not a model. DataError: damaged files, or the Hub cannot be reached.
        SafetyError: pickles, code, or paths that leave the folder.
    """
    try:
        return _resolve(ref, key=key, revision=revision, trust_remote_code=trust_remote_code, weights=weights)
    except PermissionError as error:
        raise DataError(f"{key}: {error.filename or ref} cannot be read ({error.strerror}).") from None


def is_local(ref: str, *, key: str = "model") -> bool:
    """Whether a reference is a folder here; RecipeError for a name that no file system takes."""
    if not ref or "\0" in ref:
        raise RecipeError(f"{key}: '{ref!r}' names no model; give a folder, package:NAME/FOLDER or a Hub name.")
    try:
        return Path(ref).expanduser().is_dir()
    except PermissionError as error:
        raise DataError(f"{key}: {error.filename or ref} cannot be read ({error.strerror}).") from None
    except (OSError, RuntimeError) as error:  # too long; the home of nobody
        raise RecipeError(f"{key}: '{shown(ref)}' is not a usable path ({getattr(error, 'strerror', None) or error}).") from None


def _resolve(ref: str, *, key: str, revision: str | None, trust_remote_code: bool, weights: bool) -> CheckedFolder:
    commit = None
    folder = _find(ref, key=key, revision=revision)
    if folder is None:
        folder, commit = fetch(
            ref,
            key=key,
            revision=revision,
            judge=lambda partly: _check_configuration(partly, ref, trust_remote_code=trust_remote_code),
            weights=weights,
            code=trust_remote_code,
        )
    config = _check_configuration(folder, ref, trust_remote_code=trust_remote_code)
    files = _weight_files(folder, ref) if weights else ()
    return CheckedFolder(ref, folder, config, files, commit or _digest_files(files))


def _find(ref: str, *, key: str, revision: str | None) -> Path | None:
    """The local folder of a reference, or None when it must be a name on the Hub."""
    here = is_local(ref, key=key)
    if ref.startswith("package:"):
        return _in_package(ref, key=key)
    path = Path(ref).expanduser()
    if here:
        if revision is not None:
            raise RecipeError(f"{key}: '{ref}' is a folder, and folders have no revision; remove {key}'s `revision`.")
        return path
    if path.is_file():
        if path.suffix in PICKLES:
            raise SafetyError(_no_pickles(path.parent, str(path.parent), path.name))
        raise RecipeError(f"{key}: '{ref}' is a file; name the folder that holds config.json and {SINGLE}.")
    if ref.startswith((".", "/", "~")) or "\\" in ref or ref.count("/") > 1:
        raise RecipeError(f"{key}: there is no folder '{ref}'. Check the path; a Hub name looks like owner/name.")
    return None


def _in_package(ref: str, *, key: str) -> Path:
    name, _, inside = ref.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(f"{key}: '{ref}' needs the package '{name}', which is not installed; install it with pip.")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    folder = (root / inside).resolve()
    if not folder.is_relative_to(root):
        raise SafetyError(f"{key}: '{ref}' leaves the package '{name}'; name a folder inside it.")
    if not folder.is_dir():
        raise RecipeError(f"{key}: the package '{name}' has no folder '{inside}'.")
    return folder


def _check_configuration(folder: Path, ref: str, *, trust_remote_code: bool) -> dict[str, Any]:
    """config.json, after it and the tokenizer's configuration have been searched for code and other traps."""
    _check_links(folder)
    if not (folder / "config.json").is_file():
        raise RecipeError(f"'{ref}' is not a model folder: it has no config.json (look for the folder that has one).")
    if (folder / "adapter_config.json").exists():
        raise RecipeError(
            f"'{ref}' holds an adapter_config.json: an adapter is not a whole model. Merge it into its base model "
            "(peft: `merge_and_unload()`, then `save_pretrained`) and use that folder."
        )
    config = read_json(folder / "config.json")
    require_layers(config, f"'{ref}': config.json")
    if "quantization_config" in config:
        raise RecipeError(f"'{ref}' is quantized; distillation needs the full-precision checkpoint it was made from.")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            content = config if name == "config.json" else read_json(folder / name)
            _check_settings(content, f"{ref}: {name}", trust_remote_code=trust_remote_code)
    return config


def require_layers(config: Mapping[str, Any], where: str) -> None:
    """Refuse depths that no encoder has, before anybody builds a layer of them."""
    for name in ("num_hidden_layers", "n_layers", "num_layers"):
        number = config.get(name)
        if isinstance(number, int) and number > MOST_LAYERS:
            raise RecipeError(f"{where}: {name} is {number:,}; no encoder has more than {MOST_LAYERS:,} layers.")


def _check_settings(value: Any, where: str, *, trust_remote_code: bool) -> None:
    """Refuse settings that make transformers run or fetch code, however deep they are nested."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        if not isinstance(item, dict):
            continue
        for key, inner in item.items():
            pending.append(inner)
            if key == "_attn_implementation_internal" or ("attn_implementation" in key and not _plain(inner)):
                raise SafetyError(
                    f"{where} sets '{key}', which can make transformers fetch and run code (CVE-2026-4372). Remove "
                    "that line if you trust the rest of the model."
                )
            code = key in ("auto_map", "custom_pipelines") or (key == "trust_remote_code" and inner)
            if code and inner and not trust_remote_code:
                raise SafetyError(
                    f"{where} has '{key}': the model brings its own code, which is not run. Use a model of a stock "
                    "architecture, or set trust_remote_code: true after reading that code."
                )


def _plain(value: Any) -> bool:
    return isinstance(value, str | None) and value in _ATTENTION


def _weight_files(folder: Path, ref: str) -> tuple[Path, ...]:
    """The safetensors files of a folder, the index's entries judged as untrusted text."""
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    if (folder / INDEX).is_file():
        weight_map = read_json(folder / INDEX).get("weight_map")
        names = weight_map.values() if isinstance(weight_map, dict) else ()
        if not names or not all(isinstance(name, str) for name in names):
            raise DataError(f"'{ref}': {INDEX} has no weight map; download the model again.")
        for name in sorted(set(names)):
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\.safetensors", name):
                raise SafetyError(
                    f"'{ref}': {INDEX} names {name!r}, which is not a plain .safetensors file beside it; "
                    "weights are not read from anywhere else."
                )
            if not (folder / name).is_file():
                raise DataError(f"'{ref}': {INDEX} names {name}, which is missing; download the model again.")
        return tuple(folder / name for name in sorted(set(names)))
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise SafetyError(_no_pickles(folder, ref, pickles[0]))
    raise SafetyError(f"'{ref}' has no {SINGLE}. " + _convert(folder, ref))


def _no_pickles(folder: Path, ref: str, name: str) -> str:
    return (
        f"'{ref}' has its weights in {name}, a format that can run code when opened, so it is not opened. "
        + _convert(folder, ref)
    )


def _convert(folder: Path, ref: str) -> str:
    """How to make safetensors of a pickle: with the class the model was saved from, or a head would be lost or made up."""
    saved = read_json(folder / "config.json").get("architectures") if (folder / "config.json").is_file() else None
    name = str(saved[0]) if isinstance(saved, list) and saved else ""
    name = name if re.fullmatch(r"[A-Z][A-Za-z0-9]{1,80}", name) else "AutoModel"  # it becomes part of a command
    return (
        'If you trust it, convert it once with the class it was trained as: python -c "from transformers import '
        f"{name} as M; M.from_pretrained('{ref}').save_pretrained('converted')\", copy the "
        "tokenizer's files beside it, and use that folder."
    )


def _check_links(folder: Path) -> None:
    """No file of the folder may really lie outside it. The Hub's own cache links snapshots to its blobs, and may."""
    roots = [folder.resolve()]
    if folder.parent.name == "snapshots":
        roots.append(folder.parents[1].resolve() / "blobs")
    for path in folder.iterdir():
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise SafetyError(
                f"{path} is a link out of its folder; it is not followed. Put a copy of the file in its place."
            )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from an untrusted file: bounded in size and depth."""
    if path.stat().st_size > _MAX_JSON:
        raise DataError(f"{path} is larger than {_MAX_JSON // 1_000_000} MB; that is not a configuration.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON ({type(error).__name__}); download the model again.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object; download the model again.")
    return content


def _digest_files(files: tuple[Path, ...]) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    for path in files:
        with path.open("rb") as stream:
            hasher.update(f"{path.name}\n".encode())
            while block := stream.read(1 << 22):
                hasher.update(block)
    return hasher.hexdigest()
