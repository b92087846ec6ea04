"""Adapters as folders, in the two layouts people have: peft's (LoRA, (IA)^3) and AdapterHub's (bottlenecks, LoRA).

What is written is safetensors. AdapterHub's older files are pickles; they are read by torch's weights-only reader, which
builds tensors and plain containers and runs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from understudy import kinds
from understudy.adapters import hub_files, peft_files
from understudy.adapters.inject import NAME, Adapter
from understudy.base import disk
from understudy.base.errors import DataError, RecipeError
from understudy.kinds import Kind
from understudy.models.anatomy import Net
from understudy.recipe.adapter import AdapterSettings, BottleneckAdapter

CONFIG = "adapter_config.json"
LAYOUTS = ("auto", "peft", "adapterhub")
WEIGHTS = {
    "peft": ("adapter_model.safetensors", "adapter_model.bin"),
    "adapterhub": ("adapter.safetensors", "pytorch_adapter.bin"),
}
REPORT = "transfer.json"
HEADS = ("model_head.safetensors", "pytorch_model_head.bin")
_LAST = ("classifier.weight", "classifier.out_proj.weight")


def read_adapter(folder: Path | str, net: Net) -> Adapter:
    """The adapter in a folder of either layout, with the head that lies beside it.

    Args:
        net: a model of the family it was made for, of any size: it knows where the names of modules lead.

    Raises:
        DataError: not an adapter's folder, damaged, or its tensors do not belong together.
        RecipeError: a kind of adapter that is not supported.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise DataError(f"{folder} is not the folder of an adapter: it has no {CONFIG}.")
    config = disk.read_json(folder / CONFIG)
    layout = "peft" if "peft_type" in config else "adapterhub"
    tensors = _tensors(folder, WEIGHTS[layout])
    if tensors is None:
        raise DataError(f"{folder} has no adapter weights: neither {' nor '.join(WEIGHTS[layout])} is there.")
    where = str(folder)
    if layout == "peft":
        return peft_files.parse(config, tensors, net, where)
    return hub_files.parse(config, tensors, _tensors(folder, HEADS) or {}, net, where)


def write_adapter(
    folder: Path | str, adapter: Adapter, net: Net, *, layout: str = "auto", name: str = NAME, base: str = "",
    report: dict[str, Any] | None = None,
) -> Path:
    """Write an adapter that fits `net`; the folder appears by one rename, replaced if it exists.

    Args:
        layout: peft, adapterhub, or auto: peft for what peft has, adapterhub for bottlenecks.
        name: AdapterHub's name of the adapter.
        base: the model it belongs to, for people and for loaders that fetch it.
        report: how it came to be, written beside it as transfer.json.
    """
    layout = layout_of(adapter.config, layout)
    folder = Path(folder)
    with disk.commit_dir(folder) as temporary:
        if layout == "peft":
            config, tensors = peft_files.render(adapter, net, base=base)
            _write(temporary, config, {WEIGHTS["peft"][0]: tensors})
        else:
            config, tensors = hub_files.render(adapter, net, name=name, base=base)
            _write(temporary, config, {WEIGHTS["adapterhub"][0]: tensors})
            if adapter.head:
                _write(temporary, hub_files.head_config(net), {HEADS[0]: adapter.head}, config_name="head_config.json")
        if report is not None:
            disk.write_json(temporary / REPORT, report)
    return folder


def layout_of(config: AdapterSettings, layout: str) -> str:
    """The layout such an adapter is written in."""
    if layout not in LAYOUTS:
        raise RecipeError(f"There is no layout '{layout}'; there are {', '.join(LAYOUTS)}.")
    if layout == "auto":
        return "adapterhub" if isinstance(config, BottleneckAdapter) else "peft"
    return layout


def require_layout(config: AdapterSettings, net: Net, layout: str) -> None:
    """Raise RecipeError where no folder of this layout can hold such an adapter, before there is one to write."""
    empty = Adapter(config, {})
    if layout_of(config, layout) == "peft":
        peft_files.render(empty, net, base="")
    else:
        hub_files.render(empty, net, name=NAME, base="")


def head_task(folder: Path | str) -> tuple[Kind, tuple[str, ...]] | None:
    """(kind of task, labels) of the head beside an adapter, as its files tell; None where there is none."""
    folder = Path(folder)
    if (folder / "head_config.json").is_file():
        about = disk.read_json(folder / "head_config.json")
        named = {int(number): str(name) for name, number in (about.get("label2id") or {}).items()}
        asked = next((one for one in kinds.every() if one.named and str(about.get("model_class")).endswith(one.ending)), None)
        return (asked, tuple(named[number] for number in sorted(named))) if asked and named else None
    config = disk.read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    asked = next((one for one in kinds.every() if one.named and one.peft_type == config.get("task_type")), None)
    tensors = (_tensors(folder, WEIGHTS["peft"]) or {}) if asked and config.get("modules_to_save") else {}
    last = next((tensor for name, tensor in tensors.items() if name.endswith(_LAST)), None)
    return None if asked is None or last is None else (asked, tuple(f"LABEL_{i}" for i in range(len(last))))


def _write(
    folder: Path, config: dict[str, Any], files: dict[str, dict[str, Tensor]], *, config_name: str = CONFIG
) -> None:
    from safetensors.torch import save

    disk.write_json(folder / config_name, config)
    for name, tensors in files.items():
        whole = {key: tensor.contiguous() for key, tensor in tensors.items()}
        disk.write_bytes(folder / name, save(whole, metadata={"format": "pt"}))


def _tensors(folder: Path, names: tuple[str, ...]) -> dict[str, Tensor] | None:
    """The first of these files that is there; None where none is."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in names:
        path = folder / name
        if not path.is_file():
            continue
        try:
            if path.suffix == ".safetensors":
                return load_file(path)
            read = torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
            raise DataError(f"{path} is damaged ({str(error).splitlines()[0][:120]}); fetch the adapter again.") from None
        except Exception as error:  # the weights-only reader met something that is not data
            raise DataError(f"{path} holds more than tensors, so it was not read: {str(error).splitlines()[0][:120]}.") from None
        if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()):
            raise DataError(f"{path} is not a table of tensors; fetch the adapter again.")
        return read
    return None
