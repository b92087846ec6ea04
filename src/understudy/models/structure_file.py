"""structure.json: what was kept of a model, for people and tools that do not read config.json.

It repeats the structure of config.json, with the sizes before and after. Where both are there they must agree, or the
folder mixes files of two models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.base.errors import DataError
from understudy.models.anatomy import Net, anatomy
from understudy.models.shape import Structure
from understudy.models.source import read_json
from understudy.models.structure import num_units, physical_layers, structure_of

FILE = "structure.json"


def content_of(net: Net) -> dict[str, Any] | None:
    """The content of structure.json; None for a stock network, which needs none.

    `structure` is that of `shape.Structure`, kept units in the numbering of the uncut model; `uncut` says what a layer had
    before, `layers` what each physical layer has; each parameter is counted once however often it is used.
    """
    structure = structure_of(net)
    if structure is None:
        return None
    row = anatomy(net)
    heads, neurons = num_units(net)
    return {
        "family": row.family,
        "structure": structure.to_json(),
        "uncut": {"heads": row.num_heads(net), "neurons": row.num_neurons(net), "head_width": row.head_dim(net)},
        "layers": [{"heads": h, "neurons": n} for h, n in zip(heads, neurons, strict=True)],
        "physical_layers": len(physical_layers(net)),
        "virtual_layers": row.num_layers(net),
        "num_parameters": sum(parameter.numel() for parameter in net.parameters()),
    }


def check_file(folder: Path, config: Any, ref: str) -> None:
    """Raise DataError where a folder's structure.json disagrees with its configuration."""
    path = folder / FILE
    if not path.is_file():
        return
    told = read_json(path)
    if told.get("form") in ("hf", "padded"):  # an export in stock form tells what it was made from
        return
    said = Structure.from_json(told.get("structure") or {}, where=f"{path}: structure")
    content = getattr(config, "understudy", None)
    if Structure.from_json(content or {}, where=f"{ref}: config.json: understudy") != said:
        raise DataError(
            f"'{ref}': {FILE} and config.json describe different structures; the folder mixes files of two models. Save or "
            "download it again."
        )
