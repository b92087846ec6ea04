"""A smaller vocabulary: the tokens that are used, and what is needed to spell everything else.

For texts made of kept tokens the trimmed model is the whole model: the same tokens, the same embeddings, and, since nothing
else changes, the same outputs. Three rules, one for each way of cutting words:

    WordPiece   the longest piece that fits is taken. One that was the longest of all is the longest of fewer.
    BPE         the merge of lowest rank goes first. A kept token keeps every piece it is merged from, and their merges
                keep their order, so the same merges are made in the same order.
    Unigram     the cheapest segmentation is taken. Scores stay as they are; the cheapest of all is the cheapest of fewer.

Special tokens, single characters, bytes, and tokens with a character that has no token of its own always stay, so that what
is left out is spelled in smaller pieces and never becomes unknown.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from understudy.base import seeds
from understudy.base.errors import RecipeError
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.models.restructure import lower_rank
from understudy.models.structure import structure_of

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def kept_tokens(
    tokenizer: Any, counts: Mapping[int, int], *, number: int | None = None, scripts: Collection[str] = (), below: int = 0
) -> list[int]:
    """The ids to keep, rising: what can never go, and of the tokens that occur all, or the most frequent.

    Args:
        tokenizer: a fast tokenizer of transformers.
        counts: id -> how often it occurs.
        number: tokens that may be kept in all; None: all that occur.
        scripts: first words of Unicode names (LATIN, CYRILLIC, HANGUL, …): tokens whose letters are all of these stay too.
        below: ids under this one stay: where positions are counted from the id of the padding.

    Raises:
        RecipeError: a tokenizer that knows whole words only, or more tokens that cannot go than `number`.
    """
    vocabulary = _Vocabulary(_content(tokenizer))
    kept = {token for token in vocabulary.ids.values() if token < below} | vocabulary.fixed(tokenizer)
    wanted = {name.upper() for name in scripts}
    for piece, token in vocabulary.ids.items() if wanted else ():
        letters = {unicodedata.name(letter, "").partition(" ")[0] for letter in vocabulary.text(piece) if letter.isalpha()}
        if letters and letters <= wanted:
            kept |= vocabulary.family(token)
    if number is not None and len(kept) > number:
        raise RecipeError(
            f"student.vocabulary: {number:,} tokens are too few: special tokens, single characters"
            f"{' and the scripts asked for' if scripts else ''} alone are {len(kept):,}, and they stay."
        )
    for token in sorted((token for token, count in counts.items() if count), key=lambda token: (-counts[token], token)):
        family = vocabulary.family(token)
        if number is None or len(kept | family) <= number:
            kept |= family
    return sorted(kept)


def trim(model: Model, kept: Sequence[int]) -> Model:
    """A copy with these tokens alone, numbered anew in their order; the same model where that is all of them.

    Embeddings, heads on the vocabulary (tied or not) and their biases lose the other rows; the ids that a configuration
    names (padding, beginning, end, …) follow. What the tokenizer writes, config.json and weights are those of a stock model.

    Raises:
        RecipeError: a token that is left out is one the tokenizer cannot do without.
    """
    config = copy.deepcopy(model.net.config)
    if len(kept) == len(model.tokenizer) == config.vocab_size:
        return model
    place = {old: new for new, old in enumerate(kept)}
    for settings in (config, generation := copy.deepcopy(getattr(model.net, "generation_config", None))):
        _renumber(settings, place)
    config.vocab_size = len(kept)
    with seeds.torch_seed(0, "trim"):  # drawing initial weights must not move the caller's generator
        net = type(model.net)(config)
    net.to(dtype=model.net.dtype, device=model.net.device)
    if generation is not None:
        net.generation_config = generation
    before, state = model.net.state_dict(), net.state_dict()
    rows = torch.tensor(list(kept), device=model.net.device)
    # The two differ in the size of the vocabulary alone, so what has another shape is counted in tokens.
    net.load_state_dict({name: before[name] if before[name].shape == one.shape else before[name][rows]
                         for name, one in state.items()})  # fmt: skip
    note = f"student: {len(kept):,} of {len(model.tokenizer):,} tokens of '{model.source}' were kept."
    return dataclasses.replace(
        model, net=net.train(model.net.training), tokenizer=trimmed_tokenizer(model.tokenizer, kept), notes=(*model.notes, note)
    )


def with_rank(model: Model, rank: int) -> Model:
    """A copy whose word embeddings are the nearest of that rank, as two thin matrices that are trained from there; the same
    model where they are already. A stock form folds them into one table again (`understudy export`)."""
    structure = structure_of(model.net)
    if structure is not None and structure.embedding_rank == rank:
        return model
    net = copy.deepcopy(model.net)
    lower_rank(net, rank)
    note = f"student: the word embeddings of '{model.source}' are of rank {rank}."
    return dataclasses.replace(model, net=net, notes=(*model.notes, note))


def trimmed_tokenizer(tokenizer: Any, kept: Sequence[int]) -> Any:
    """A copy of a fast tokenizer that knows these tokens alone, numbered anew in their order."""
    from tokenizers import Tokenizer

    content = _content(tokenizer)
    place = {old: new for new, old in enumerate(kept)}
    core = content["model"]
    _Vocabulary(content).require(place)
    if isinstance(core["vocab"], dict):
        core["vocab"] = {piece: place[token] for piece, token in core["vocab"].items() if token in place}
    else:
        core["vocab"] = [core["vocab"][token] for token in kept if token < len(core["vocab"])]
    if "merges" in core:
        known = core["vocab"]
        core["merges"] = [pair for pair in core["merges"] if all(p in known for p in (*pair, _joined(core, *pair)))]
    if core.get("unk_id") is not None:
        core["unk_id"] = place[core["unk_id"]]
    content["added_tokens"] = [{**token, "id": place[token["id"]]} for token in content["added_tokens"]]
    _renumber_processor(content["post_processor"], place)
    made = copy.deepcopy(tokenizer)
    made._tokenizer = Tokenizer.from_str(json.dumps(content))
    for name in ("_vocab", "_merges"):  # what classes of transformers remember of the vocabulary they were made from
        if hasattr(made, name):
            setattr(made, name, core["vocab"] if name == "_vocab" else core.get("merges"))
    return made


class _Vocabulary:
    """The tokens of tokenizer.json, and what belongs together among them."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.core = core = content["model"]
        self.kind = core["type"]
        if self.kind not in ("WordPiece", "BPE", "Unigram"):
            raise RecipeError(
                f"The vocabulary of a {self.kind} tokenizer cannot be trimmed: it knows whole words, and what is left out would "
                "be unknown. WordPiece, BPE and Unigram tokenizers can."
            )
        listed = core["vocab"]
        self.scores = None if isinstance(listed, dict) else [score for _, score in listed]
        self.ids: dict[str, int] = dict(listed) if isinstance(listed, dict) else {piece: i for i, (piece, _) in enumerate(listed)}
        self.added = {token["id"] for token in content["added_tokens"]}
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(core.get("merges", ()))}
        self.prefix = core.get("continuing_subword_prefix") or ""
        self.suffix = core.get("end_of_word_suffix") or ""
        self._families: dict[str, frozenset[int]] = {}

    def text(self, piece: str) -> str:
        """A piece without the mark of its place in the word."""
        return piece.removeprefix(self.prefix).removesuffix(self.suffix)

    def fixed(self, tokenizer: Any) -> set[int]:
        """Special and added tokens, single characters, bytes, and pieces with a character that has no token of its own."""
        kept = self.added | set(tokenizer.all_special_ids)
        kept |= {self.ids[name] for name in (self.core.get("unk_token"),) if name in self.ids}
        if self.core.get("unk_id") is not None:
            kept.add(self.core["unk_id"])
        if self.scores:  # an unknown character costs a little more than the least likely piece
            kept.add(min(range(len(self.scores)), key=self.scores.__getitem__))
        for piece, token in self.ids.items():
            if len(self.text(piece)) == 1 or _BYTE.fullmatch(piece) or any(part not in self.ids for part in self._spelled(piece)):
                kept.add(token)
        return kept

    def _spelled(self, piece: str) -> list[str]:
        """A piece in single characters, each with the mark of its place."""
        letters = [self.prefix + letter for letter in self.text(piece)]
        if letters and self.prefix and not piece.startswith(self.prefix):
            letters[0] = letters[0].removeprefix(self.prefix)
        if letters and self.suffix and piece.endswith(self.suffix):
            letters[-1] += self.suffix
        return letters

    def family(self, token: int) -> frozenset[int]:
        """A token and all that it is merged from."""
        if self.kind != "BPE" or token in self.added:
            return frozenset({token})
        if not self._families:
            self._pieces = {number: piece for piece, number in self.ids.items()}
        piece = self._pieces[token]
        if piece not in self._families:
            self._families[piece] = frozenset({token, *(self.ids[part] for part in self._merged(piece))})
        return self._families[piece]

    def _merged(self, piece: str) -> set[str]:
        """Every piece that appears while this one is put together: within its borders a longer word is merged as it is."""
        parts, seen = self._spelled(piece), set[str]()
        while len(parts) > 1:
            rank, at = min((self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(pairwise(parts)))
            if rank == len(self.ranks):
                break
            parts[at : at + 2] = [_joined(self.core, *parts[at : at + 2])]
            seen.add(parts[at])
        return seen

    def require(self, place: Mapping[int, int]) -> None:
        """Raise RecipeError where an added token, or the unknown one, is left out."""
        needed = {*self.added, *([self.core["unk_id"]] if self.core.get("unk_id") is not None else [])}
        if missing := sorted(needed - set(place)):
            raise RecipeError(f"Tokens {missing[:5]} are special, and a tokenizer cannot do without them; keep them.")


def _joined(core: Mapping[str, Any], left: str, right: str) -> str:
    return left + right.removeprefix(core.get("continuing_subword_prefix") or "")


def _content(tokenizer: Any) -> dict[str, Any]:
    """tokenizer.json as data, merges as pairs, without what the last call wanted cut or padded."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["truncation"] = content["padding"] = None
    if "merges" in (core := content["model"]):
        core["merges"] = [pair.split(" ") if isinstance(pair, str) else pair for pair in core["merges"]]
    return content


def _renumber_processor(step: Any, place: Mapping[int, int]) -> None:
    """The ids that a post-processor puts around a text."""
    if step is None:
        return
    for part in step.get("processors", ()):
        _renumber_processor(part, place)
    if isinstance(step.get("special_tokens"), dict):  # TemplateProcessing
        for special in step["special_tokens"].values():
            special["ids"] = [place[token] for token in special["ids"]]
    for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if name in step:
            step[name] = [step[name][0], place[step[name][1]]]


def _renumber(settings: Any, place: Mapping[int, int]) -> None:
    """Every `…_token_id` of a configuration, in place; ids that no token of the tokenizer has are dropped."""
    for name, value in list(vars(settings).items()) if settings is not None else ():
        if name.endswith("_token_id") and value is not None:
            many = isinstance(value, (list, tuple))
            found = [place[token] for token in (value if many else [value]) if token in place]
            setattr(settings, name, (found if many else found[0]) if found else None)


def counted(encodings: Sequence[Any]) -> dict[int, int]:
    """id -> how often it occurs in encoded rows (`data.encode.Encoded`)."""
    counts: dict[int, int] = {}
    for encoded in encodings:
        tokens, numbers = torch.from_numpy(encoded.input_ids).unique(return_counts=True)
        for token, number in zip(tokens.tolist(), numbers.tolist(), strict=True):
            counts[token] = counts.get(token, 0) + number
    return counts


def needed_below(model: Model) -> int:
    """`below` of `kept_tokens`: families that count positions from the id of the padding keep what lies under it."""
    return model.net.config.pad_token_id + 1 if anatomy(model.net).offset_positions else 0


def parts(net: Any) -> dict[str, int]:
    """Parameters of the embeddings, the layers and the head (pooler and head on the vocabulary), each counted once."""
    row = anatomy(net)
    counted_once: set[int] = set()

    def count(modules: Sequence[Any]) -> int:
        found = {id(p): p.numel() for module in modules for p in module.parameters()}
        new = {key: number for key, number in found.items() if key not in counted_once}
        counted_once.update(new)
        return sum(new.values())

    counters: dict[str, Callable[[], Sequence[Any]]] = {
        "embeddings": lambda: [row.embeddings(net)], "layers": lambda: row.layers(net), "head": lambda: [net],
    }  # fmt: skip
    return {name: count(modules()) for name, modules in counters.items()}
