"""Embedding models: a backbone and the modules of a sentence-transformers folder that turn its states into one vector.

    modules.json                       what is applied to a text, in order; the first is the backbone, in the folder itself
    1_Pooling/config.json              token states -> one vector
    2_Dense/config.json, weights       a Linear and an activation
    3_Normalize/                       to length 1
    sentence_bert_config.json          the longest input
    config_sentence_transformers.json  prompts, and how vectors are compared

Folders of sentence-transformers 2 to 6 are read. What is written is the layout of version 2, which they all read, and so do
servers (text-embeddings-inference stops at the layout of 5.4). A module that is not known here is refused by its name.

The network is the stock class of the backbone with the modules as its `head`. What they are is plain data in
`net.config.sentence`, so that copies, digests and new networks of that configuration have it too.

Shapes: B texts, T tokens of all of them, D width of the backbone, V width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from understudy.base import disk
from understudy.base.errors import DataError, RecipeError, SafetyError
from understudy.base.suggest import few
from understudy.models.source import SINGLE, read_json

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
POOLING = {
    "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens", "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}  # fmt: skip
"""Ways of pooling in the order in which several are put one behind the other, and what files of version 2 call them."""
_ALWAYS_WRITTEN = ("cls", "max", "mean", "mean_sqrt_len_tokens")
ACTIVATIONS: dict[str, type[nn.Module]] = {
    f"torch.nn.modules.{'linear' if one is nn.Identity else 'activation'}.{one.__name__}": one
    for one in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_BACKBONES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_LENGTHS = tuple(f"sentence_{name}_config.json" for name in _BACKBONES)
ROLES = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""The role of a text -> the names its prompt may have, the first that is there being taken."""


@dataclass(frozen=True)
class Layout:
    """What is done with the states of a backbone, and how it is to be used.

    modules: `{"pool": [ways], "include_prompt": bool}`, `{"dense": V, "bias": bool, "activation": name}` and
    `{"normalize": true}` in the order of application, a pooling first.
    """

    modules: tuple[Mapping[str, Any], ...] = ({"pool": ["mean"], "include_prompt": True},)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    max_length: int | None = None
    lower_case: bool = False

    @classmethod
    def of(cls, config: Any) -> Layout:
        """The layout in a network's configuration."""
        said = dict(config.sentence)
        return cls(**{**said, "modules": tuple(said["modules"])})

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "modules": [dict(module) for module in self.modules], "prompts": dict(self.prompts)}

    @property
    def normalised(self) -> bool:
        """Whether vectors have length 1."""
        return "normalize" in self.modules[-1]

    @property
    def pools_prompt(self) -> bool:
        """Whether the tokens of a prompt are pooled with those of the text."""
        return bool(self.modules[0]["include_prompt"])

    def width(self, states: int) -> int:
        """V, for a backbone of width `states`."""
        for module in self.modules:
            states = len(module["pool"]) * states if "pool" in module else module.get("dense", states)
        return states

    def prompt(self, role: str | None) -> str:
        """What stands before a text of this role: that of `encode_query`, `encode_document` and `encode`."""
        names = ROLES[role] if role else (self.default_prompt,)
        return next((self.prompts[name] for name in names if name is not None and name in self.prompts), "")


def layout_in(folder: Path, ref: str, config: Mapping[str, Any], tokenizer_length: Any = None) -> tuple[Layout, list[str]]:
    """What a folder says, and what had to be assumed, in sentences.

    Args:
        config: of the backbone.
        tokenizer_length: `model_max_length` of tokenizer_config.json.

    Raises:
        RecipeError: a module, pooling or activation that is not known here. DataError: files that are not what they should be.
        SafetyError: a path that leaves the folder, or weights in a pickle.
    """
    most = config.get("max_position_embeddings")
    length = next((read_json(folder / name).get("max_seq_length") for name in _LENGTHS if (folder / name).is_file()), None)
    if length is None:  # version 5.4 keeps it with the tokenizer
        numbers = [n for n in (tokenizer_length, most) if isinstance(n, int) and 0 < n < 1_000_000]
        length = min(numbers) if numbers else None
    if not (folder / MODULES).is_file():
        shorter = min(n for n in (512, length) if n)
        as_theirs = "mean pooling without normalising is assumed, as sentence-transformers does"
        return Layout(max_length=shorter), [f"'{ref}' has no {MODULES}: {as_theirs}, and {shorter} tokens."]
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    if settings.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise RecipeError(f"'{ref}' is a {settings['model_type']} of sentence-transformers, not an embedding model.")
    modules = [_module(folder, ref, one) for one in _listed(folder)]
    if not modules or modules[0] != {}:
        raise RecipeError(f"'{ref}': the first module of {MODULES} is not a Transformer; only those are supported.")
    lower = next((bool(read_json(folder / name).get("do_lower_case")) for name in _LENGTHS if (folder / name).is_file()), False)
    if len(modules) < 2 or "pool" not in modules[1] or any("pool" in one for one in modules[2:]):
        raise RecipeError(f"'{ref}': {MODULES} must have one Pooling, behind the Transformer.")
    similarity = settings.get("similarity_fn_name")
    if similarity not in (None, *SIMILARITIES):
        raise RecipeError(f"'{ref}': {SETTINGS} compares vectors by '{similarity}'; known are {', '.join(SIMILARITIES)}.")
    prompts = {str(name): str(text) for name, text in (settings.get("prompts") or {}).items() if text is not None}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise DataError(f"'{ref}': {SETTINGS} names the prompt '{default}', but has {few(list(prompts)) or 'no prompts'}.")
    return Layout(tuple(modules[1:]), prompts, default, similarity, length, lower), []


def _listed(folder: Path) -> list[dict[str, Any]]:
    import json

    try:
        listed = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        return sorted(listed, key=lambda one: one["idx"])
    except (ValueError, TypeError, KeyError, RecursionError):
        what = "is not a list of modules with `idx`, `path` and `type`"
        raise DataError(f"{folder / MODULES} {what}; download the model again.") from None


def _module(folder: Path, ref: str, listed: Mapping[str, Any]) -> dict[str, Any]:
    """One module as `Layout.modules` has it; {} for the backbone."""
    kind, path = str(listed.get("type", "")), str(listed.get("path", ""))
    place, name = folder / path, kind.rpartition(".")[2]
    if not place.resolve().is_relative_to(folder.resolve()):
        raise SafetyError(f"'{ref}': {MODULES} names the path '{path}', which leaves the folder.")
    if not kind.startswith("sentence_transformers.") or name not in ("Transformer", "Pooling", "Dense", "Normalize"):
        raise RecipeError(
            f"'{ref}' has a module {kind or 'without a type'}, which is not supported; known are Transformer, Pooling, Dense and "
            "Normalize of sentence-transformers."
        )
    if name == "Normalize":
        return {"normalize": True}
    if name == "Transformer":
        if path not in ("", "."):
            raise RecipeError(f"'{ref}': its Transformer lies in '{path}'; only those in the folder itself are read.")
        return {}
    if not (place / "config.json").is_file():
        raise DataError(f"'{ref}': {path}/config.json is missing; download the model again.")
    said = read_json(place / "config.json")
    return _pooling(said, ref) if name == "Pooling" else _dense(said, place, ref)


def _pooling(said: Mapping[str, Any], ref: str) -> dict[str, Any]:
    ways = said.get("pooling_mode", [way for way, key in POOLING.items() if said.get(key)] or ["mean"])
    ways = [ways] if isinstance(ways, str) else list(ways)
    if unknown := [way for way in ways if way not in POOLING]:
        raise RecipeError(f"'{ref}' pools by {', '.join(map(str, unknown))}; known are {', '.join(POOLING)}.")
    return {"pool": ways, "include_prompt": bool(said.get("include_prompt", True))}


def _dense(said: Mapping[str, Any], place: Path, ref: str) -> dict[str, Any]:
    activation = said.get("activation_function")
    if activation not in ACTIVATIONS:
        none = "no activation_function, which sentence-transformers takes for Tanh"
        what = f"the activation {activation}" if activation else none
        raise RecipeError(f"'{ref}': {place.name} has {what}. Write one of these into its config.json: {', '.join(ACTIVATIONS)}.")
    if said.get("use_residual"):
        raise RecipeError(f"'{ref}': {place.name} has a residual connection (use_residual), which is not supported.")
    names = (said.get("module_input_name") or "sentence_embedding", said.get("module_output_name") or "sentence_embedding")
    if set(names) != {"sentence_embedding"}:
        raise RecipeError(f"'{ref}': {place.name} is applied to {names[0]}; only those on the sentence's vector are supported.")
    if not (place / SINGLE).is_file():
        raise SafetyError(f"'{ref}': {place.name} has no {SINGLE}; other formats can run code when opened, and are not.")
    return {"dense": int(said["out_features"]), "bias": bool(said.get("bias", True)), "activation": activation}


def head_weights(folder: Path, layout: Layout) -> dict[str, Tensor]:
    """The weights of the modules, by their names in the network."""
    from safetensors.torch import load_file

    if not (folder / MODULES).is_file():
        return {}
    found = {}
    for number, listed in enumerate(_listed(folder)[1:]):
        if "dense" in layout.modules[number]:
            for name, tensor in load_file(folder / listed["path"] / SINGLE).items():
                found[f"head.modules_.{number}.{name}"] = tensor
    return found


# -- the network -------------------------------------------------------------------------------------------------------


class Pooling(nn.Module):
    """Token states, packed, -> one vector for each text, in fp32."""

    def __init__(self, ways: Sequence[str]) -> None:
        super().__init__()
        self.ways = tuple(ways)

    def forward(self, states: Tensor, sizes: Sequence[int], left_out: Sequence[int]) -> Tensor:
        """(T, D) -> (B, ways · D). `left_out`: tokens at the beginning of each text that are not pooled."""
        states = states if states.dtype == torch.float64 else states.float()
        parts = []
        for part, skip in zip(states.split(list(sizes)), left_out, strict=True):
            kept = part[skip:] if skip < len(part) else part
            parts.append(torch.cat([_pooled(kept, way, skip) for way in self.ways]))
        return torch.stack(parts) if parts else states.new_zeros(0, len(self.ways) * states.shape[-1])


def _pooled(states: Tensor, way: str, before: int) -> Tensor:
    """One text's states (L, D) -> (D,). `before`: tokens of it that are left out, whose positions still count."""
    if way == "cls":
        return states[0]
    if way == "lasttoken":
        return states[-1]
    if way == "max":
        return states.max(dim=0).values
    if way == "mean":
        return states.mean(dim=0)
    if way == "mean_sqrt_len_tokens":
        return states.sum(dim=0) / len(states) ** 0.5
    weights = torch.arange(before + 1, before + 1 + len(states), device=states.device, dtype=states.dtype)
    return weights @ states / weights.sum()


class Dense(nn.Module):
    """As in sentence-transformers, whose names its weights have."""

    def __init__(self, width: int, out: int, *, bias: bool, activation: str) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out, bias=bias)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, vectors: Tensor) -> Tensor:
        return self.activation(self.linear(vectors))


class Normalize(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)


class Head(nn.Module):
    """The modules behind a backbone."""

    def __init__(self, layout: Layout, states: int) -> None:
        super().__init__()
        made: list[nn.Module] = []
        width = states
        for module in layout.modules:
            if "pool" in module:
                made.append(Pooling(module["pool"]))
                width *= len(module["pool"])
            elif "dense" in module:
                made.append(Dense(width, module["dense"], bias=module["bias"], activation=module["activation"]))
                width = module["dense"]
            else:
                made.append(Normalize())
        self.modules_ = nn.ModuleList(made)
        self.width = width
        self.first_only = made[0].ways == ("cls",) and bool(layout.modules[0]["include_prompt"])  # type: ignore[attr-defined]
        """Whether it reads nothing but the first token."""

    def forward(self, states: Tensor, sizes: Sequence[int], left_out: Sequence[int] | None = None) -> Tensor:
        """(T, D) -> (B, V), in fp32."""
        pooling, *others = self.modules_
        vectors = pooling(states, sizes, left_out or [0] * len(sizes))
        with torch.autocast(vectors.device.type, enabled=False):
            for module in others:
                vectors = module(vectors.to(next((p.dtype for p in module.parameters()), vectors.dtype)))
        return vectors if vectors.dtype == torch.float64 else vectors.float()


@cache
def embedder_class(stock: Any) -> Any:
    """A stock class of bare backbones with the modules of `config.sentence` behind it. Its own forward is unchanged."""

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        stock.__init__(self, config, *args, **kwargs)
        self.head = Head(Layout.of(config), config.hidden_size)

    body = {"__init__": __init__, "__module__": __name__, "__doc__": f"{stock.__name__} that gives vectors."}
    return type(stock.__name__, (stock,), body)


def prompts_of(net: Any) -> Layout | None:
    """The layout of an embedding model; None for any other network."""
    return Layout.of(net.config) if getattr(net.config, "sentence", None) else None


# -- writing -----------------------------------------------------------------------------------------------------------


def write_modules(net: Any, folder: Path, *, max_length: int | None) -> None:
    """Write everything beside the backbone, in the layout of sentence-transformers 2."""
    from safetensors.torch import save

    layout = Layout.of(net.config)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    width = net.config.hidden_size
    for number, (module, made) in enumerate(zip(layout.modules, net.head.modules_, strict=True), start=1):
        name = "Pooling" if "pool" in module else "Dense" if "dense" in module else "Normalize"
        path = f"{number}_{name}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"})
        content: dict[str, Any] = {}
        if "pool" in module:
            content = {"word_embedding_dimension": width}
            content |= {key: way in module["pool"] for way, key in POOLING.items() if way in (*_ALWAYS_WRITTEN, *module["pool"])}
            content |= {} if module["include_prompt"] else {"include_prompt": False}
            if [way for way in POOLING if way in module["pool"]] != list(module["pool"]):  # only version 5.4 can say an order
                content = {"embedding_dimension": width, "pooling_mode": list(module["pool"])}
                content["include_prompt"] = module["include_prompt"]
            width *= len(module["pool"])
        elif "dense" in module:
            content = {
                "in_features": width, "out_features": module["dense"], "bias": module["bias"],
                "activation_function": module["activation"],
            }  # fmt: skip
            width = module["dense"]
            tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in made.state_dict().items()}
            disk.write_bytes(folder / path / SINGLE, save(tensors, metadata={"format": "pt"}))
        disk.write_json(folder / path / "config.json", content)
    disk.write_json(folder / MODULES, listed)
    length = max_length or layout.max_length or net.config.max_position_embeddings
    disk.write_json(folder / _LENGTHS[0], {"max_seq_length": length, "do_lower_case": layout.lower_case})
    settings: dict[str, Any] = {"__version__": {"sentence_transformers": _oldest(layout)}}
    if layout.prompts:
        settings |= {"prompts": dict(layout.prompts), "default_prompt_name": layout.default_prompt}
    if layout.similarity:
        settings["similarity_fn_name"] = layout.similarity
    disk.write_json(folder / SETTINGS, settings)


def _oldest(layout: Layout) -> str:
    """The first version of sentence-transformers that reads such a folder."""
    if any("pool" in one and [way for way in POOLING if way in one["pool"]] != list(one["pool"]) for one in layout.modules):
        return "5.4.0"
    if any("dense" in one for one in layout.modules):
        return "3.1.0"
    return "3.0.0" if layout.similarity else "2.4.0" if layout.prompts else "2.2.2"
