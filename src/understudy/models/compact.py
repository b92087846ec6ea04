"""Classes for networks with a structure: the stock class, which makes itself follow `config.understudy` when it is built.

`understudy-bert` is BERT in every other respect. The classes are made on demand from the stock ones. `register` makes them
known to transformers' Auto classes, so that `AutoModel….from_pretrained` reads a compact folder, weights of narrow and
shared layers included. A stock class refuses such a folder: narrow tensors have the wrong shapes, and where layers are
shared a sentence stands in place of their number.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from understudy.base.errors import DataError
from understudy.models.anatomy import FAMILIES, PREFIX, Net, anatomy, anatomy_of
from understudy.models.lowrank import lower_embeddings
from understudy.models.narrow import narrow
from understudy.models.structure import Structure, structure_of
from understudy.models.virtual import repeat

EXTRAS = {"understudy_adapters": ("understudy.adapters.inject", "restore")}
"""Keys of a configuration, and who builds what they ask for into a network: rooms above this one, called by name."""


def register() -> None:
    """Let transformers' Auto classes read networks with a structure (`understudy-bert` and its relatives).

    `load_model` does this by itself; call it before `AutoConfig` or `AutoModel….from_pretrained`. Imports transformers;
    calling it again changes nothing.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    for family in FAMILIES:
        AutoConfig.register(PREFIX + family, config_class_of(CONFIG_MAPPING[family]), exist_ok=True)


@cache
def _register_models(stock: Any) -> None:
    """Tell the Auto classes of the models of one configuration class: bare, masked, sequence and token heads."""
    import transformers as hf

    for auto in (
        hf.AutoModel,
        hf.AutoModelForMaskedLM,
        hf.AutoModelForSequenceClassification,
        hf.AutoModelForTokenClassification,
    ):
        auto.register(config_class_of(stock), model_class_of(auto._model_mapping[stock]), exist_ok=True)


def become(net: Net, structure: Structure) -> None:
    """Change a network's class and configuration to those of a structure, in place; not its modules."""
    net.config.understudy = structure.to_json()
    if not net.config.model_type.startswith(PREFIX):
        model_class = model_class_of(type(net))
        object.__setattr__(net.config, "__class__", model_class.config_class)
        vars(net.config).pop("model_type", None)  # what a config.json said: the class says it now
        net.__class__ = model_class
        _introduce(model_class, net)
    if structure.schedule is not None:
        _set_depth(net.config, structure)


def become_stock(net: Net) -> None:
    """Undo `become` for a network whose structure leaves everything as it was."""
    object.__setattr__(net.config, "__class__", type(net.config).__mro__[1])
    net.__class__ = stock_class_of(type(net))
    del net.config.understudy


def follow(net: Net, structure: Structure) -> None:
    """Change the modules of a network with stock modules as `structure` says; its configuration says so already."""
    row = anatomy(net)
    stored: Any = row.stack(row.backbone(net))
    layers = [inner for group in stored for inner in group.albert_layers] if row.family == "albert" else list(stored)
    if structure.embedding_rank is not None:
        lower_embeddings(net, structure.embedding_rank)
    narrow(row, net, layers, wanted=structure, before=Structure())
    if structure.schedule is not None:
        repeat(net, structure)


def _introduce(model_class: Any, net: Net) -> None:
    """transformers notes what a class can record when an instance is built; this instance changed its class instead."""
    from transformers.utils import output_capturing

    output_capturing._CAN_RECORD_REGISTRY[net] = model_class._can_record_outputs  # pyright: ignore[reportPrivateUsage]


def read_structure(content: Any) -> Structure | None:
    """The structure in a configuration's key `understudy`."""
    return None if content is None else Structure.from_json(content, where="config.json: understudy")


@cache
def config_class_of(stock: Any) -> Any:
    """The configuration class of a family's structured networks."""

    def __init__(self: Any, **settings: Any) -> None:
        structure = read_structure(settings.get("understudy"))
        if structure is not None and structure.schedule is not None:
            settings[depth_name(stock.model_type)] = len(structure.schedule)  # on disk it is a sentence
        stock.__init__(self, **settings)
        if structure is not None:
            _register_models(stock)  # only now: it imports the family's models

    def to_json_string(self: Any, use_diff: bool = True) -> str:
        content = json.loads(stock.to_json_string(self, use_diff=use_diff))
        structure = read_structure(getattr(self, "understudy", None))
        if structure is not None and structure.schedule is not None:
            uses = f"{len(structure.schedule)} uses of {structure.num_physical} layers"
            content[depth_name(stock.model_type)] = f"{uses}; call understudy.register() before loading"
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    body = {
        "__init__": __init__,
        "__module__": __name__,
        "__doc__": f"{stock.__name__} with a structure.",
        "model_type": PREFIX + stock.model_type,
        "to_json_string": to_json_string,
    }
    return type(f"Understudy{stock.__name__}", (stock,), body)


@cache
def model_class_of(stock: Any) -> Any:
    """The class of a stock class's networks with a structure."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        structure = read_structure(getattr(config, "understudy", None))
        if structure is None:
            raise DataError(f"config.json: a model of type {config.model_type} needs the key `understudy`.")
        with _physical_depth(config, structure):
            stock.__init__(self, config, *args, **kwargs)
        follow(self, structure)
        for key, (module, function) in EXTRAS.items():
            if getattr(config, key, None):
                getattr(import_module(module), function)(self)

    body = {
        "__init__": __init__,
        "__module__": __name__,
        "__doc__": f"{stock.__name__} with a structure.",
        "config_class": config_class_of(stock.config_class),
    }
    return type(f"Understudy{stock.__name__}", (stock,), body)


def stock_class_of(model_class: Any) -> Any:
    """The stock class of a network with a structure; any other class is its own."""
    return model_class.__mro__[1] if model_class.__module__ == __name__ else model_class


def depth_name(family: str) -> str:
    """What a family's configuration calls the number of layers on disk."""
    return "n_layers" if family == "distilbert" else "num_hidden_layers"


def _set_depth(config: Any, structure: Structure) -> None:
    """The configuration of the virtual layers: as many, and each of its physical layer's type."""
    assert structure.schedule is not None
    config.num_hidden_layers = len(structure.schedule)
    if getattr(config, "layer_types", None):
        physical = config.layer_types
        config.layer_types = [physical[layer] for layer, _ in structure.schedule]
    if anatomy_of(config.model_type).family == "albert":  # one group for each use
        config.num_hidden_groups = len(structure.schedule)


@contextmanager
def _physical_depth(config: Any, structure: Structure) -> Iterator[None]:
    """Meanwhile the configuration is that of the physical layers."""
    if structure.schedule is None:
        yield
        return
    config.num_hidden_layers = structure.num_physical
    if getattr(config, "layer_types", None):
        virtual = config.layer_types
        config.layer_types = [virtual[use] for use in structure.first_uses()]
    if anatomy_of(config.model_type).family == "albert":
        config.num_hidden_groups = structure.num_physical
    try:
        yield
    finally:
        _set_depth(config, structure)


def stock_config(net: Net) -> Any:
    """A copy of a network's configuration as its stock class wants it: as many layers as there are virtual ones."""
    config = copy.deepcopy(net.config)
    if structure_of(net) is not None:
        object.__setattr__(config, "__class__", type(config).__mro__[1])
        del config.understudy
    return config
