"""The one door by which weights and tokenizers enter: no other file calls `from_pretrained`.

`source.resolve` finds the folder and refuses what is unsafe; here the network is built from the stock class of its
family, the weights are put in from safetensors we opened ourselves, and whatever did not fit is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from understudy import kinds
from understudy.base import seeds
from understudy.base.errors import DataError, RecipeError
from understudy.kinds import Kind
from understudy.models import embedder
from understudy.models.anatomy import anatomy_of
from understudy.models.compact import model_class_of, register, stock_class_of
from understudy.models.handover import read_handover
from understudy.models.heads import TaskLabels, fits, names_of, set_outputs, settle, unnamed
from understudy.models.model import Model
from understudy.models.restructure import check_file
from understudy.models.source import CheckedFolder, hub_reachable, is_local, read_json, resolve
from understudy.recipe.settings import Recipe

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = ("float32", "bfloat16", "float16")
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def load_model(
    ref: str,
    *,
    task: TaskLabels | None = None,
    key: str = "model",
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: str = "float32",
    seed: int = 0,
    fresh_head: bool = False,
    replace_head: bool = False,
    among: bool = False,
) -> Model:
    """Load a model and its tokenizer for a task.

    A checkpoint with a head for this kind of task keeps it, its outputs put into the order of the task's labels; any
    other gets a fresh head whose weights depend on `seed` alone. For text the head on the vocabulary is kept where the
    checkpoint has one, else the bare backbone is returned.

    Args:
        ref: folder, `package:NAME/FOLDER`, or Hub name.
        task: kind and labels; None takes both from the checkpoint.
        key: recipe key of the reference (`teacher.model`), for messages.
        revision: branch, tag or commit on the Hub.
        trust_remote_code: run code the model brings (`auto_map`).
        dtype: of all weights in memory, whatever they are on disk.
        seed: of a fresh head.
        fresh_head: throw the checkpoint's head away even where it would fit.
        among: keep the task's outputs of a head that knows more labels, which is an error else.
        replace_head: throw it away where it was trained for other labels, which is an error else.

    Raises:
        RecipeError, DataError, SafetyError: see `source.resolve` and `heads.align`; DataError also for missing or
        misshapen weights.
    """
    import torch

    if dtype not in DTYPES:
        raise RecipeError(f"{key}: dtype '{dtype}' is not one of {', '.join(DTYPES)}.")
    source = resolve(ref, key=key, revision=revision, trust_remote_code=trust_remote_code)
    anatomy_of(str(source.config.get("model_type", "")))  # families without a row are refused here
    config = _read_config(source, trust_remote_code=trust_remote_code)
    check_file(source.folder, config, ref)
    handover = read_handover(source.folder)
    if task is not None:
        kind = kinds.kind(task.kind)
    else:  # a student of ours says it; of another checkpoint its configuration tells
        said = handover.task.get("kind") if handover else None
        pooled = (source.folder / embedder.MODULES).is_file()
        kind = kinds.kind(said) if isinstance(said, str) else kinds.of_checkpoint(config, pooled=pooled)
    own_head = kind.pooled or (kind.has_head(config) and not fresh_head)
    other = ""
    if replace_head and own_head and task is not None and not kind.on_vocabulary and not fits(config, task):
        own_head, other = False, ", ".join(names_of(config)[:20])
    if not own_head and not kind.on_vocabulary:
        if task is None:
            raise RecipeError(f"{key}: '{ref}' has no head for a task; fine-tune it first (teacher.finetune).")
        set_outputs(config, kind, task.labels)

    weights, assumed = _read_weights(source), list[str]()
    if kind.pooled:
        told = source.folder / "tokenizer_config.json"
        longest = read_json(told).get("model_max_length") if told.is_file() else None
        layout, assumed = embedder.layout_in(source.folder, ref, source.config, longest)
        config.sentence = layout.to_json()
        weights |= embedder.head_weights(source.folder, layout)
    if not own_head:  # another task's classifier may happen to have the right shape
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(("classifier.", "score."))}
    with quiet(), seeds.torch_seed(seed, "head"):
        try:
            if trust_remote_code and "auto_map" in source.config:
                net, report = _from_custom_code(source, config, kind, weights, getattr(torch, dtype))
            else:
                net, report = _class_for(config, kind, own_head=own_head).from_pretrained(
                    None, config=config, state_dict=weights, dtype=getattr(torch, dtype), output_loading_info=True
                )
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{key}: the weights of '{ref}' do not fit its config.json: {_first_line(error)}."
            ) from None
    notes = [f"{key}: {one}" for one in assumed] + _judge(report, net, source, key, own_head=own_head, kind=kind)
    if other:
        notes[0] = f"{key}: the head of '{ref}' is for other labels ({other}); a fresh one takes its place."
    nameless = own_head and task is not None and kind.named and unnamed(net.config)
    labels, decided = settle(net, task, kind=kind, source=ref, key=key, own_head=own_head, among=among)
    tokenizer = _open_tokenizer(
        source, key=key, words=kind.by_word, trust_remote_code=trust_remote_code, pads=not kind.causal
    )
    if kind.causal and (source.folder / "generation_config.json").is_file():  # the tokens that stop it
        from transformers import GenerationConfig

        net.generation_config = GenerationConfig.from_pretrained(source.folder)
    causal = anatomy_of(net.config.model_type).causal
    if causal and not kind.causal and net.config.pad_token_id is None:  # by it the stock class finds the last token of a row
        net.config.pad_token_id = tokenizer.pad_token_id
    if kind.pooled and layout.max_length is not None:
        tokenizer.model_max_length = layout.max_length
    if len(tokenizer) > net.config.vocab_size:
        raise DataError(
            f"{key}: the tokenizer of '{ref}' knows {len(tokenizer):,} tokens, but the model has embeddings for "
            f"{net.config.vocab_size:,}. The folder mixes files of two models; download it again."
        )
    return Model(net.eval(), tokenizer, labels, kind, ref, source.revision, (*notes, *decided),
                 fresh_head=not own_head, by_position=nameless, handover=handover)  # fmt: skip


def labels_of(ref: str, *, key: str = "model") -> tuple[str, ...]:
    """The names of a checkpoint's outputs, from its configuration alone; () for regression and plain text."""
    config = _read_config(resolve(ref, key=key, weights=False), trust_remote_code=False)
    return tuple(names_of(config)) if kinds.of_checkpoint(config).named else ()


def reader_of(recipe: Recipe, *, words: bool) -> tuple[Any, int, int | None] | None:
    """How the student of a recipe will read: its tokenizer, its longest input, and what it could take (None: not known).

    None where the model is not at hand.
    """
    given = recipe.teacher
    if recipe.student.model is not None:
        key, ref, revision, trust = "student.model", recipe.student.model, None, False
    elif given is not None:
        key, ref, revision, trust = "teacher.model", given.model, given.revision, given.trust_remote_code
    else:
        return None
    if not (is_local(ref, key=key) or ref.startswith("package:") or hub_reachable()):
        return None
    source = resolve(ref, key=key, revision=revision, trust_remote_code=trust, weights=False)
    most = source.config.get("max_position_embeddings")
    tokenizer = _open_tokenizer(source, key=key, words=words, trust_remote_code=trust)
    length = recipe.student.max_length or recipe.task.max_length
    return tokenizer, length, most if isinstance(most, int) else None


def _read_config(source: CheckedFolder, *, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    register()
    try:
        with quiet():
            return AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:  # each configuration class raises errors of its own
        raise DataError(f"'{source.ref}': config.json is not usable: {_first_line(error)}.") from None


def _read_weights(source: CheckedFolder) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for path in source.weights:
        try:
            weights.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path} is damaged ({_first_line(error)}); download the model again.") from None
    return weights


def _class_for(config: Any, kind: Kind, *, own_head: bool) -> Any:
    """The stock class with this kind's head; a head on the vocabulary cannot be made anew, so without it the bare encoder."""
    import transformers as hf

    auto = hf.AutoModel if kind.on_vocabulary and not own_head else getattr(hf, kind.auto)
    found = auto._model_mapping[type(config)]
    if not kind.pooled:
        return found
    plain = embedder.embedder_class(stock_class_of(found))
    return plain if found is stock_class_of(found) else model_class_of(plain)


def _from_custom_code(source: CheckedFolder, config: Any, kind: Kind, weights: dict[str, Tensor], dtype: Any) -> Any:
    """Only when asked for: the classes the model brings along, looked up by transformers in the folder."""
    import transformers as hf

    name = kind.auto
    model_class = getattr(hf, name)
    if name in config.auto_map:
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        model_class = get_class_from_dynamic_module(config.auto_map[name], str(source.folder), local_files_only=True)
    else:
        model_class = _class_for(config, kind, own_head=True)
    return model_class.from_pretrained(None, config=config, state_dict=weights, dtype=dtype, output_loading_info=True)


def _judge(report: dict[str, Any], net: Any, source: CheckedFolder, key: str, *, own_head: bool, kind: Kind) -> list[str]:
    """Notes about weights that were missing or left over; DataError where the encoder itself is incomplete."""
    prefix = f"{net.base_model_prefix}."
    missing = sorted(report["missing_keys"])
    bare = net.base_model is net
    inside = [name for name in missing if (bare or name.startswith(prefix)) and "pooler" not in name]
    head = [name for name in missing if name not in inside]
    if inside or (own_head and any("pooler" not in name for name in head)):
        lost = inside or head
        raise DataError(
            f"{key}: '{source.ref}' lacks weights its architecture needs: {_some(lost)}. The checkpoint "
            "is incomplete or its config.json belongs to another model."
        )
    notes = []
    if not own_head and not kind.on_vocabulary:
        notes.append(f"{key}: '{source.ref}' has no head for this task; a fresh one was made ({_some(head)}).")
    elif head:
        notes.append(f"{key}: '{source.ref}' came without {_some(head)}; fresh weights were made.")
    if kind.on_vocabulary and not own_head:
        notes.append(
            f"{key}: '{source.ref}' has no head on the vocabulary; only hidden states and relations can be learnt."
        )
    left = sorted(report["unexpected_keys"])
    if left and getattr(net.config, "understudy", None) is not None:
        raise DataError(
            f"{key}: '{source.ref}' holds weights that its structure has no place for: {_some(left)}. The structure in its "
            "config.json is not the one it was saved with."
        )
    if left:
        notes.append(f"{key}: {len(left)} weights of '{source.ref}' were not used ({_some(left)}).")
    return notes


def _open_tokenizer(
    source: CheckedFolder, *, key: str, words: bool, trust_remote_code: bool, pads: bool = True
) -> Any:
    """The tokenizer of a model, always the fast one, because offsets and word numbers are needed.

    Args:
        words: its inputs will be lists of words. A byte-level tokenizer (RoBERTa, ModernBERT) is then told to put a
            space before each word, as inside a sentence; without it every word would look like the start of a text.
        pads: it needs a token to fill rows up with. Language models that have none are left without.
    """
    from transformers import AutoTokenizer

    help_text = "Copy tokenizer.json and tokenizer_config.json of the model it was made from into the folder."
    if not any((source.folder / name).is_file() for name in VOCABULARIES):  # transformers would make an empty one up
        raise DataError(f"{key}: '{source.ref}' has no tokenizer. {help_text}")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                source.folder, trust_remote_code=trust_remote_code, local_files_only=True
            )
    except Exception as error:  # missing vocabulary, damaged tokenizer.json, unknown class: all mean the same here
        raise DataError(f"{key}: '{source.ref}' has no usable tokenizer ({_first_line(error)}). {help_text}") from None
    if not tokenizer.is_fast:
        raise DataError(
            f"{key}: the tokenizer of '{source.ref}' has no fast version; add a tokenizer.json to the folder."
        )
    if pads and tokenizer.pad_token is None:
        # Masked positions are never looked at, so any token the vocabulary already has will do.
        spare = tokenizer.sep_token or tokenizer.eos_token or tokenizer.unk_token
        if spare is None:
            raise DataError(f"{key}: the tokenizer of '{source.ref}' has no padding token nor one to take its place.")
        tokenizer.pad_token = spare
    if words:
        _space_before_words(tokenizer)
    return tokenizer


def _space_before_words(tokenizer: Any) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    step: Any = tokenizer.backend_tokenizer.pre_tokenizer
    for part in list(step) if hasattr(step, "__getitem__") else [step]:  # a sequence of steps, or one
        if isinstance(part, ByteLevel):
            part.add_prefix_space = True
            tokenizer.add_prefix_space = True
            tokenizer.init_kwargs["add_prefix_space"] = True


@contextmanager
def quiet() -> Iterator[None]:
    """transformers reports on loading with bars and tables; what matters is in our notes."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")[:200]
