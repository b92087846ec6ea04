"""Every setting there is, in one frozen tree. The descriptions below are the recipe reference of the documentation.

A recipe says what is learned (`task`), from whom (`teacher`), by whom (`student`), how (`method`), for how long
(`train`) and how the result is proved (`evaluate`). Relative paths start at the folder the command is run in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from understudy.base import yaml
from understudy.recipe.adapter import Adapter
from understudy.recipe.method import Method, MethodSettings, methods
from understudy.recipe.objective import ObjectiveSettings, kind_of, objective_section, of_outputs, with_objective
from understudy.recipe.prune import BudgetSettings, PruneSettings
from understudy.recipe.types import (
    Count,
    Flag,
    KeptLayers,
    KindName,
    LayerUses,
    Name,
    Names,
    NonNegative,
    Positive,
    PositiveCount,
    PositiveSchedule,
    Schedule,
    Settings,
    Share,
    ShareKind,
    Text,
)

__all__ = [
    "AnswerSettings", "BudgetSettings", "CacheSettings", "ColumnSettings", "EvaluateSettings", "FileSettings", "LatencySettings",
    "PositiveSchedule", "PruneSettings", "Recipe", "Schedule", "ServerSettings", "Settings",
    "StudentConfig", "StudentSettings", "TaskSettings", "TeacherSettings", "TrainSettings",
    "VocabularySettings",
]  # fmt: skip

GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli")
DEMO = ("intent", "entities", "urgency", "paraphrase")
TASK_NAMES = (
    *(f"glue/{name}" for name in GLUE), "pawsx", "xnli", "conll2003", "wikineural",
    *(f"demo/{name}" for name in DEMO), "custom",
)  # fmt: skip
TRACKERS = Literal["tensorboard", "trackio", "wandb", "mlflow"]


class FileSettings(Settings):
    """The files of your own data: csv, tsv, json, jsonl, parquet (each also as .gz, .bz2, .xz), a folder written by
    `datasets.save_to_disk`, CoNLL columns, or plain text (kind `text`). Several files, or a pattern such as `part*.csv`, are
    read as one."""

    train: Text | Names = Field(description="the rows to learn from")
    dev: Text | Names | None = Field(
        default=None, description="the rows to choose the best checkpoint by (else a part of train)"
    )
    test: Text | Names | dict[Name, Text | Names] | None = Field(
        default=None, description="the rows to report on: one file, or a name and a file for each of several test sets"
    )


class ColumnSettings(Settings):
    """Which column of your own files holds what. Columns not named here are ignored, and said to be."""

    text: Name | None = Field(default=None, description="the text (first text of a pair)")
    pair: Name | None = Field(default=None, description="the second text of a pair")
    label: Name | Names | None = Field(
        default=None,
        description="the label; for kind multilabel also a list of columns that hold 0 or 1, one per label",
    )
    id: Name | None = Field(default=None, description="a name of the row, used in messages and predictions")
    group: Name | None = Field(
        default=None,
        description="rows with the same value here (such as translations) never fall on both sides of a split; where each row "
        "holds one word (kind tokens): the sentence it belongs to, said on each row or on its first",
    )
    words: Name | None = Field(default=None, description="the words of a sentence, for kind tokens")
    tags: Name | None = Field(
        default=None, description="the tags of these words (of entities: BIO, IOB1, IOBES or BILOU; or others, such as parts of "
        "speech), for kind tokens"
    )  # fmt: skip


class WindowSettings(Settings):
    """Texts longer than the longest input, read in windows of `max_length` tokens, with the same in training, scoring and
    answering. For one label, several labels, or a number per text."""

    stride: PositiveCount = Field(default=64, description="tokens from the beginning of one window to that of the next")
    pool: Literal["mean", "max", "attention"] = Field(
        default="mean", description="how the outputs of a text follow from those of its windows: their mean, the largest of "
        "each, or weighted by their own softmax over the windows (classes and labels)"
    )  # fmt: skip
    most: PositiveCount = Field(default=32, description="windows of one text at most; what is longer is cut, and said to be")


class TaskSettings(Settings):
    """What is learned: a public task by its name, or your own files."""

    name: Text = Field(
        description="glue/{cola,sst2,mrpc,qqp,stsb,mnli,qnli,rte,wnli}, pawsx, xnli, conll2003, wikineural, "
        "demo/{intent,entities,urgency,paraphrase}, or custom for your own files; custom/NAME gives them a name "
        "in reports and cards"
    )
    path: Text | None = Field(
        default=None,
        description="folder with the official files of the task; without it they come from the Hugging Face Hub",
    )
    languages: Names | None = Field(
        default=None, description="languages to report on (pawsx, xnli, wikineural); else all"
    )
    train_languages: Names | None = Field(default=None, description="languages to learn from; by default `languages`")
    max_length: Annotated[int, Field(strict=True, ge=8)] = Field(
        default=128, description="longest input, in sub-word tokens"
    )
    windows: WindowSettings | None = Field(
        default=None, description="read texts that are longer than that in overlapping windows instead of cutting them"
    )
    max_train_examples: PositiveCount | None = Field(
        default=None, description="learn from this many rows only, drawn by the seed"
    )
    extra: Names | None = Field(
        default=None, description="files with further rows of the task's texts, without labels or with labels that are not "
        "looked at: the teacher answers them, and students learn from its answers; relative to the folder the command is run in"
    )  # fmt: skip
    selection: Literal["auto", "dev"] | Annotated[float, Field(strict=True, gt=0, lt=1)] = Field(
        default="auto",
        description="the rows that choose the best checkpoint: dev, a fraction of train, or auto (dev where it is not "
        "what is reported, else a fraction of train); never the reported rows",
    )
    split_seed: Count | None = Field(
        default=None, description="the seed of hold-outs, subsets and masks; null = the recipe's. Give it one value to compare "
        "several seeds on the same rows"
    )  # fmt: skip
    select: Text | None = Field(
        default=None, description="the metric that chooses the best checkpoint; else the task's own"
    )
    kind: KindName | None = Field(
        default=None, description="what a row of your own files is (custom only): a class, a number, several labels, a tag for "
        "each word, or text without a label; for language models documents (lm), prompts with answers (sft), conversations (chat)"
    )  # fmt: skip
    files: FileSettings | None = Field(default=None, description="your own files (custom only)")
    columns: ColumnSettings = Field(default=ColumnSettings(), description="the columns of your own files (custom only)")
    labels: Names | None = Field(
        default=None, description="the label names in order; by default those found in train, sorted"
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None, description="the character between columns; by default a comma in .csv and a tab in .tsv files"
    )
    encoding: Text = Field(default="utf-8", description="character encoding of your own files")
    label_map: dict[Name, Name] | None = Field(
        default=None, description="what the labels (or tags) in your files are called in the task, as in {1: bad, 5: good}; "
        "those not named stay as they are"
    )  # fmt: skip
    class_weights: Literal["balanced"] | dict[Name, NonNegative] | None = Field(
        default=None, description="how much a row of each class counts where labels are learnt from, by teacher, baseline and "
        "student: balanced (all classes count alike, however rare), or by label, as in {spam: 5}, 1 for the others; of several "
        "labels: how much a row that has the label counts against one that has not"
    )  # fmt: skip
    label_separator: Text = Field(
        default="|", description="what separates several labels in one cell (kind multilabel)"
    )
    scores: Literal["logits", "probabilities"] = Field(
        default="logits", description="what a column `scores` of lists holds: a teacher's outputs, or what a sigmoid made of "
        "them (kinds embedding and ranking)"
    )  # fmt: skip
    mask_probability: Annotated[float, Field(strict=True, gt=0, lt=1)] = Field(
        default=0.15, description="share of the tokens to mask (kind text)"
    )
    mask_variants: PositiveCount = Field(
        default=4, description="how many different maskings of each text are used in turn, one per epoch (kind text)"
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TASK_NAMES and not name.startswith("custom/"):
            from understudy.base.suggest import did_you_mean

            raise ValueError(f"unknown task '{name}'.{did_you_mean(name, TASK_NAMES)} See `understudy methods`.")
        return name

    @property
    def own(self) -> bool:
        """Whether the files are one's own rather than those of a public task."""
        return self.name == "custom" or self.name.startswith("custom/")

    @model_validator(mode="after")
    def _own_files(self) -> Self:
        if self.own:
            if self.kind is None or self.files is None:
                raise ValueError("a custom task needs `kind` (such as classification) and `files: {train: …}`.")
        elif self.kind is not None or self.files is not None or self.columns != ColumnSettings():
            raise ValueError(
                f"`kind`, `files` and `columns` are for `name: custom`; {self.name} knows its own "
                "(give the folder of its files as `path`)."
            )
        elif self.path is not None and self.name.startswith("demo/"):
            raise ValueError(f"{self.name} is built in; remove `path`.")
        return self


class TrainSettings(Settings):
    """How long and how a model is trained. The baseline without a teacher gets exactly the same."""

    epochs: PositiveCount = Field(default=3, description="passes over the training rows")
    batch_size: PositiveCount = Field(
        default=32, description="rows per optimiser step, over all devices; memory does not limit it (see max_tokens)"
    )
    batch_tokens: PositiveCount | None = Field(
        default=None, description="tokens per optimiser step, over all devices, in place of `batch_size`"
    )
    tokens: PositiveCount | None = Field(
        default=None, description="learn from so many tokens in all, in place of `epochs`; with `batch_tokens`"
    )
    lr: Positive = Field(default=5e-5, description="highest learning rate (AdamW)")
    weight_decay: NonNegative = Field(
        default=0.01, description="AdamW's decoupled weight decay (not on biases and norms)"
    )
    warmup: Share = Field(default=0.1, description="share of the optimiser steps in which the learning rate rises")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="learning rate after the warm-up"
    )
    layer_lr_decay: Annotated[float, Field(strict=True, gt=0, le=1)] = Field(
        default=1.0, description="learning rate of each layer relative to the one above it; 1 = all equal"
    )
    max_grad_norm: Positive | None = Field(
        default=1.0, description="gradients with a larger norm are scaled down to it; null = never"
    )
    clip: Literal["global", "tensor"] = Field(
        default="global", description="what `max_grad_norm` is the norm of: all gradients together, or each tensor's"
    )
    optimizer: Literal["adamw", "bertadam"] = Field(
        default="adamw", description="bertadam = the Adam of 2018, for comparisons: without bias correction, eps 1e-6"
    )
    shuffle: Flag = Field(default=True, description="a new order of rows in each epoch; false = always as in the file")
    planned_epochs: PositiveCount | None = Field(
        default=None, description="epochs the learning rate is planned for, of which `epochs` are run; null = `epochs`"
    )
    dropout: Share | None = Field(default=None, description="dropout while training; null = the model's own")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="arithmetic of the forward pass; auto = bf16 where the processor or GPU has it, else fp32",
    )
    max_tokens: PositiveCount = Field(
        default=8192,
        description="tokens that are computed at once (a micro-batch); changes memory and speed, not the result",
    )
    grouping: Literal["none", "length"] = Field(
        default="none",
        description="length = rows of similar length share an optimiser step (faster, another order of rows)",
    )
    evaluations_per_epoch: PositiveCount = Field(default=1, description="how often the selection rows are scored")
    patience: PositiveCount | None = Field(
        default=None, description="stop after this many evaluations without a better score; null = never"
    )
    time_limit: Positive | None = Field(
        default=None,
        description="stop training each model after this many seconds; makes the result depend on the machine",
    )
    checkpoint_seconds: NonNegative = Field(default=300.0, description="seconds between checkpoints")
    checkpoint_steps: PositiveCount | None = Field(default=None, description="a checkpoint every so many steps as well")
    nonfinite: Literal["stop", "skip"] = Field(
        default="stop",
        description="on a NaN or infinite loss or gradient: stop (exit code 5), or skip the step and record it",
    )
    compile: Flag = Field(
        default=False, description="the student's layers by torch.compile; not with determinism: exact"
    )
    checkpoint_activations: Flag = Field(
        default=False,
        description="keep only what each layer reads and compute the rest again in the backward pass: less memory, about a "
        "third more time, the same numbers",
    )
    only: Literal["auto", "all", "adapter", "head"] = Field(
        default="auto",
        description="what is trained: all of the model; an adapter and the task's head, with the rest frozen; the head alone; "
        "auto = what the method trains (mkd: adapter, else all)",
    )
    adapter: Adapter | None = Field(
        default=None, description="with `only: adapter`: which, as in pfeiffer[reduction_factor=8], houlsby, parallel, "
        "lora[r=8], ia3; null = pfeiffer"
    )  # fmt: skip
    evaluate_at: tuple[Count, ...] = Field(
        default=(), description="score the selection rows after so many optimiser steps as well; 0 = before the first"
    )

    @model_validator(mode="after")
    def _planned_at_least(self) -> Self:
        if self.planned_epochs is not None and self.planned_epochs < self.epochs:
            raise ValueError(
                f"`planned_epochs: {self.planned_epochs}` is less than `epochs: {self.epochs}`: the learning rate would be 0 "
                "before the end. Plan at least as many as are run."
            )
        if self.tokens is not None and self.batch_tokens is None:
            raise ValueError("`tokens` counts what `batch_tokens` takes; say how many each step takes: `batch_tokens: 8192`.")
        if self.batch_tokens is not None and self.grouping != "none":
            raise ValueError(f"`grouping: {self.grouping}` puts rows into batches of `batch_size`; drop it, or `batch_tokens`.")
        if not self.shuffle and self.grouping != "none":
            raise ValueError(f"`shuffle: false` keeps the order of the file, `grouping: {self.grouping}` changes it; drop one.")
        return self

    @property
    def open_ended(self) -> bool:
        """Whether more epochs leave the learning rate of those that were run as it was: the schedule does not look at the end,
        or its end is planned for later."""
        return (self.schedule == "constant" and self.warmup == 0) or (self.planned_epochs or 0) > self.epochs

    def trains(self, method: Method) -> str:
        """What is trained: `all`, `adapter` or `head`; with `only: auto` what the method says."""
        return method.trains if self.only == "auto" else self.only


class FinetuneSettings(TrainSettings):
    """How a teacher is fine-tuned: as any model, or with a learning rate that is chosen first."""

    lr: Positive | Literal["auto"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default=5e-5, description="highest learning rate (AdamW); `auto` tries three that suit the teacher's size for a while, "
        "and takes the one that is best on the selection rows"
    )  # fmt: skip


class AnswerSettings(Settings):
    """What a teacher said, in columns of your own files: a model behind an API, an ensemble, people. Give one of
    `probabilities`, `logits` and `label`. Rows without an answer are not learned from. Without `task.columns.label` the answers
    are the labels too, and scores tell how often the student agrees with them."""

    probabilities: Name | Names | dict[Name, Name] | None = Field(
        default=None, description="the probability of each label: a column for each label, as in {yes: p_yes, no: p_no}; or one "
        'column that holds them all, as {"yes": 0.9, "no": 0.1} or as a list in the order of task.labels; or several such columns'
    )  # fmt: skip
    logits: Name | Names | dict[Name, Name] | None = Field(
        default=None, description="the same before the softmax (or sigmoid), as a model gives them"
    )
    label: Name | Names | None = Field(
        default=None, description="the answer itself: a label, several labels (multilabel) or a number (regression); several "
        "columns are several teachers, whose votes or numbers are averaged"
    )  # fmt: skip
    confidence: Name | Names | None = Field(
        default=None, description="with `label`: the probability of that answer; the other labels share the rest"
    )
    weights: tuple[Positive, ...] | None = Field(
        default=None, description="how much each of several columns counts; null = all alike"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        given = [name for name in ("probabilities", "logits", "label") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of `probabilities`, `logits` and `label`, not {' and '.join(given) or 'none'}.")
        if self.confidence is not None and self.label is None:
            raise ValueError("`confidence` is the probability of `label`; `probabilities` hold it already.")
        return self


class ServerSettings(Settings):
    """A teacher behind an API that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, or a hosted one. It is asked about
    each row once, and its answers are kept. Classes are a multiple choice whose letters' probabilities are read; several labels
    and numbers are read from its text."""

    url: Annotated[str, Field(pattern=r"^https?://")] = Field(description="address up to `/v1`, as in http://localhost:8000/v1")
    model: Text = Field(description="what the server calls the model")
    prompt: Text | None = Field(
        default=None, description="what is asked, with {text}, {pair} and {options} (the labels, lettered) in it; null = a plain "
        "question for the kind of task"
    )  # fmt: skip
    system: Text | None = Field(default=None, description="the system message; null = none")
    descriptions: dict[Name, Text] | None = Field(
        default=None, description="what the labels mean, in words: shown in place of their names"
    )
    answer: Literal["probabilities", "text"] = Field(
        default="probabilities", description="text = learn from the answer alone, where a server gives no log-probabilities"
    )
    calibrate: Flag = Field(
        default=False, description="divide the probabilities by those of a row without content (Zhao et al. 2021), which takes "
        "out a liking for some letters"
    )  # fmt: skip
    key: Name = Field(default="OPENAI_API_KEY", description="the environment variable that holds the key, if one is needed")
    extra: dict[Name, Any] | None = Field(
        default=None, description="further keys of each request, as in {seed: 1}; null takes one away"
    )
    concurrency: PositiveCount = Field(default=8, description="requests at the same time")
    timeout: Positive = Field(default=60.0, description="seconds to wait for an answer")
    retries: Count = Field(default=6, description="further tries where the server is overloaded or out of reach")
    max_requests: PositiveCount | None = Field(default=None, description="requests in all, those of earlier runs included")
    max_tokens: PositiveCount | None = Field(default=None, description="tokens in all, as the server counts them")

    @field_validator("prompt")
    @classmethod
    def _shows_the_text(cls, prompt: str | None) -> str | None:
        if prompt is not None and "{text}" not in prompt:
            raise ValueError("`prompt` must show the row: put {text} where its text belongs.")
        return prompt


class TeacherSettings(Settings):
    """From whom is learned: a checkpoint of the Hub or a folder, used as it is or fine-tuned on the task first; or what any
    teacher said, in columns of your own files."""

    model: Text = Field(
        default="", description="name on the Hugging Face Hub, a folder, or package:NAME/FOLDER"
    )
    columns: AnswerSettings | None = Field(default=None, description="the teacher's answers, in place of a model")
    server: ServerSettings | None = Field(default=None, description="a server that is asked, in place of a model")
    revision: Text | None = Field(default=None, description="branch, tag or commit on the Hub")
    trust_remote_code: Flag = Field(
        default=False, description="run Python code the model brings along; only if you trust it"
    )
    finetune: FinetuneSettings | None = Field(
        default=None, description="fine-tune the teacher first, with any keys of `train` (the others are taken from there); "
        "`lr: auto` tries three rates that suit its size and takes the best on the selection rows; null = the model is "
        "already trained for this task"
    )  # fmt: skip
    seed: Count | None = Field(
        default=None, description="the seed of its fine-tuning; null = the recipe's. Give it one value to let students of "
        "several seeds learn from one teacher"
    )  # fmt: skip
    ensemble: PositiveCount = Field(
        default=1, description="fine-tune so many teachers, each with a seed of its own, and learn from the mean of their "
        "outputs; layers and features are those of the first"
    )  # fmt: skip
    languages: Names | None = Field(
        default=None, description="languages the teacher is fine-tuned on; by default the task's"
    )

    @model_validator(mode="after")
    def _model_or_columns(self) -> Self:
        if sum(map(bool, (self.model, self.columns, self.server))) != 1:
            raise ValueError(
                "give the teacher's checkpoint as `model`, what it said as `columns`, or who is asked as `server`; one of them."
            )
        if self.ensemble > 1 and self.finetune is None:
            raise ValueError(f"`ensemble: {self.ensemble}` is how many are fine-tuned; add `finetune`, or drop it.")
        others = sorted(self.model_fields_set - {"columns", "model", "server", "ensemble"})
        if not self.model and any(getattr(self, name) for name in others):
            raise ValueError(f"`{others[0]}` is about a teacher's checkpoint, and here only its answers are known; drop one.")
        return self


class StudentConfig(Settings):
    """A fresh, untrained student of the teacher's family. Any further key of its Hugging Face config may be given."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, bool | int | float | str | None]

    hidden_size: PositiveCount | None = Field(default=None, description="width")
    num_hidden_layers: PositiveCount | None = Field(default=None, description="layers")
    num_attention_heads: PositiveCount | None = Field(default=None, description="attention heads")
    intermediate_size: PositiveCount | None = Field(default=None, description="width inside the feed-forward blocks")


class VocabularySettings(Settings):
    """Which tokens a student keeps; what is left out is spelled in smaller pieces. Without further keys: those that occur in
    the rows to learn from and to select on."""

    number: PositiveCount | None = Field(
        default=None, description="so many tokens at most, the most frequent; null = all that occur"
    )
    texts: Names | None = Field(
        default=None, description="files with further texts whose tokens count: a text on each line, or a table"
    )
    column: Name | None = Field(default=None, description="the column of a table with the text; by default the one called text")
    languages: Names | None = Field(
        default=None, description="tokens of the task's rows in these languages count too (pawsx, xnli, wikineural)"
    )
    scripts: Names | None = Field(
        default=None, description="all tokens whose letters are of these scripts stay, as LATIN, CYRILLIC, GREEK, ARABIC, "
        "HANGUL, CJK (first words of their letters' Unicode names)"
    )  # fmt: skip


def _short_vocabulary(value: Any) -> Any:
    if value == "used":
        return {}
    return {"number": value} if isinstance(value, int) and not isinstance(value, bool) else value


Vocabulary = Annotated[
    VocabularySettings, BeforeValidator(_short_vocabulary, json_schema_input_type=VocabularySettings | Literal["used"] | int)
]


class StudentSettings(Settings):
    """Who learns. Exactly one of: a checkpoint (`model`), layers of the teacher (`keep`, `num_layers`), a fresh
    architecture (`config`), or the fine-tuned teacher pruned (`sparsity`), perhaps of layers too (`num_layers`)."""

    model: Text | None = Field(
        default=None, description="a smaller checkpoint: Hub name, folder, or package:NAME/FOLDER"
    )
    init: Literal["pretrained", "teacher"] = Field(
        default="pretrained", description="take the kept layers from the checkpoint `teacher.model`, or from the fine-tuned "
        "teacher; with `config`: teacher = the fine-tuned teacher cut to these sizes, by importance"
    )  # fmt: skip
    keep: KeptLayers = Field(
        default="group_first",
        description="which layers to keep: first or last in a row, group_first or group_last of each of num_layers equal groups, "
        "spread evenly from the first to the last, best (the cut that agrees most with the whole model, of all or of a beam of "
        "them), or numbers from 0, as in [0, 2, 4]",
    )
    num_layers: PositiveCount | None = Field(default=None, description="how many layers to keep")
    config: StudentConfig | None = Field(
        default=None, description="a fresh architecture; or, with `init: teacher`, a stock shape that the teacher is cut to"
    )
    searched: Flag = Field(default=False, description="the method finds it (kdnas and auto, which set this by themselves)")
    sparsity: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = Field(
        default=None,
        description="the share of heads and of FFN neurons that is cut from the fine-tuned teacher, or from its kept layers",
    )
    prune: PruneSettings = Field(default=PruneSettings(), description="which of them are cut")
    share: Literal["auto", "none"] | ShareKind | LayerUses = Field(
        default="auto",
        description="use layers again, queries and keys exchanged (sps, cyclic, top, mirrored; unchanged with _no_shuffle), or a "
        "list of [layer, exchanged]; twice the depth and time at the same size. auto = what the method asks for: sps for "
        "peakd, else none",
    )
    own_norms: Flag = Field(default=False, description="layers that are used again have norms of their own each time")
    vocabulary: Vocabulary | None = Field(
        default=None, description="keep a part of the tokens, and of the embeddings: `used` (what the rows to learn from and to "
        "select on hold), a number of tokens, or both with further texts, languages and scripts; null = all"
    )  # fmt: skip
    embedding_rank: PositiveCount | None = Field(
        default=None, description="word embeddings as a product of two thin matrices of this rank, which start as the nearest "
        "ones and are trained; a stock export folds them into one table; null = one table"
    )  # fmt: skip
    adapter: Text | None = Field(
        default=None, description="with `train.only: adapter`: the folder of an adapter to go on from, instead of a fresh one; "
        "`understudy transfer` writes such"
    )  # fmt: skip
    max_length: Annotated[int, Field(strict=True, ge=8)] | None = Field(
        default=None, description="longest input of the student, in its own tokens; by default the task's"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        cut = self.config is not None and self.init == "teacher"
        keeps = self.num_layers is not None or ((self.keep != "group_first" or self.init != "pretrained") and not cut)
        kept = "num_layers" if self.keep == "group_first" else "keep"
        kinds = (("model", self.model), (kept, keeps), ("config", self.config), ("searched", self.searched))
        given = [name for name, there in kinds if there]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(f'`{name}`' for name in given)} exclude each other: give a checkpoint (`model`), or "
                "layers of the teacher (`keep`, `num_layers`), or a fresh architecture (`config`)."
            )
        self._check_pruning()
        if not given and not self.prunes:
            raise ValueError(
                "name the student: `model: NAME`, `num_layers: 3`, `keep: [0, 2, 4]`, `sparsity: 0.9` or `config: {…}`."
            )
        if cut and not isinstance(self.keep, str):
            raise ValueError("`config` says how many layers there are; name them by a rule, as in `keep: best`.")
        if isinstance(self.keep, str):
            if keeps and self.num_layers is None and not self.prunes:
                raise ValueError(f"`keep: {self.keep}` needs `num_layers`, the number of layers to keep.")
        elif list(self.keep) != sorted(set(self.keep)):
            raise ValueError(f"`keep: {list(self.keep)}` must list each layer once, in rising order.")
        elif self.num_layers not in (None, len(self.keep)):
            raise ValueError(f"`keep` lists {len(self.keep)} layers, `num_layers` says {self.num_layers}; drop one.")
        return self

    def _check_pruning(self) -> None:
        if self.prunes and not self.keeps_layers:
            other = next(name for name in ("model", "config", "searched") if getattr(self, name))
            raise ValueError(
                f"`{other}` and pruning exclude each other: importance is known of the fine-tuned teacher. Drop one, or give the "
                "checkpoint as `teacher.model`."
            )
        if self.sparsity is not None and self.prune.budget is not None:
            raise ValueError("`sparsity` and `prune.budget` both say how much to cut; drop one.")
        if not self.prunes and self.prune != PruneSettings():
            raise ValueError("`prune` says how to cut; say how much: `sparsity: 0.9`, or `budget: {parameters: 10000000}` in it.")

    @property
    def prunes(self) -> bool:
        """Whether heads and neurons are cut."""
        return self.sparsity is not None or self.prune.budget is not None

    @property
    def keeps_layers(self) -> bool:
        """Whether the student is made of some of the teacher's layers."""
        return self.model is None and self.config is None and not self.searched


class LatencySettings(Settings):
    """How speed is measured: median of `repeats` forward passes after warming up."""

    batch_size: PositiveCount = Field(default=1, description="rows at once")
    length: PositiveCount = Field(default=128, description="tokens per row")
    threads: PositiveCount | None = Field(default=None, description="processor threads; null = as the run itself")
    repeats: Annotated[int, Field(strict=True, ge=3)] = Field(default=20, description="measured passes")


class EvaluateSettings(Settings):
    """How the student is proved: against its teacher, and against the same student trained without a teacher."""

    baseline: Flag = Field(default=True, description="train the same student without a teacher, on the same budget")
    bootstrap: Count = Field(
        default=1000, description="resamples of the test rows behind the intervals; 0 = no intervals"
    )
    latency: LatencySettings = Field(default=LatencySettings(), description="the measurement of speed")
    examples: Count = Field(default=20, description="rows in the report on which teacher and student disagree")
    samples: Count = Field(
        default=3, description="test rows that all models continue, side by side in the report (language models)"
    )
    thresholds: Literal["half", "select"] = Field(
        default="half", description="from which probability on a label applies (kind multilabel): one half, or what has the best "
        "F1 on the selection rows, label by label; it becomes part of the weights, so that one half stays right for everybody"
    )  # fmt: skip


class CacheSettings(Settings):
    """Where the teacher's outputs are kept, so that it is run once and not in every epoch."""

    mode: Literal["auto", "off", "live"] = Field(
        default="auto",
        description="auto = on disk if it fits the budget, else run the teacher live; live or off = always live",
    )
    budget_gb: NonNegative = Field(default=10.0, description="disk space for one teacher's outputs, in GB")
    dtype: Literal["fp32", "fp16"] = Field(
        default="fp32",
        description="numbers on disk; fp16 takes half the space and is off by at most one part in 2048",
    )
    vocabulary: Literal["auto", "hidden", "top"] = Field(
        default="auto",
        description="what is kept of a language model's outputs: hidden = the input of its head, exact for every loss; top = the "
        "most likely ids and some drawn from all others, about 100 bytes a token, for temperature 1; auto = hidden if it fits "
        "the budget, else top if that does, else the teacher is run live",
    )
    top_k: PositiveCount = Field(default=16, description="ids that are kept exactly")
    draws: Count = Field(
        default=8,
        description="ids drawn from the others, so that the forward KL's gradient is right on average; 0 = the others are one "
        "class, as for every other divergence",
    )


if TYPE_CHECKING:
    _AnyMethod = MethodSettings
    _Objective = ObjectiveSettings
else:
    _Objective = objective_section()
    _AnyMethod = Annotated[Union[tuple(one.Settings for one in methods().values())], Field(discriminator="name")]  # noqa: UP007


class Recipe(Settings):
    """A complete run: everything that decides the result, and nothing else."""

    seed: Count = Field(default=0, description="the one seed from which every random choice is derived")
    determinism: Literal["exact", "fast"] = Field(
        default="exact",
        description="exact = the same command gives the same bits; fast = allow faster kernels that may not",
    )
    task: TaskSettings = Field(description="what is learned")
    teacher: TeacherSettings | None = Field(default=None, description="from whom")
    student: StudentSettings = Field(description="by whom; left out with kdnas and auto, which find it")
    method: _AnyMethod = Field(description="how; `understudy methods` lists them")
    objective: _Objective = Field(default=_Objective(), description="what is learned from whom; left out = the method's own")
    train: TrainSettings = Field(default=TrainSettings(), description="for how long")
    evaluate: EvaluateSettings = Field(default=EvaluateSettings(), description="how it is proved")
    cache: CacheSettings = Field(default=CacheSettings(), description="the store of the teacher's outputs")
    track: tuple[TRACKERS, ...] = Field(
        default=(), description="send curves to tensorboard, trackio, wandb or mlflow too"
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        return complete(data)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.teacher is None and (self.how.needs_teacher or self.student.model is None):
            why = f"method {self.method.name}" if self.how.needs_teacher else "a student without its own checkpoint"
            raise ValueError(f"{why} needs a teacher: add `teacher: {{model: …}}`.")
        if self.teacher is not None and not self.teacher.model:
            self._check_answers()
        if self.student.searched != self.how.finds_student:
            raise ValueError(
                f"method {self.method.name} finds the student by itself; remove `student` (`student.max_length` may stay)."
                if not self.student.searched
                else "`student.searched` is for methods kdnas and auto; name the student, as in `student: {num_layers: 3}`."
            )
        if self.student.own_norms and self.share == "none":
            raise ValueError("`student.own_norms` is for layers that are used again; add `student: {share: sps}`, or drop it.")
        if self.teacher is not None and self.teacher.ensemble > 1 and self.evaluate.thresholds == "select":
            raise ValueError("`evaluate.thresholds: select` moves the boundaries of one model; drop it, or `teacher.ensemble`.")
        if self.teacher is not None and self.teacher.ensemble > 1 and self.task.kind in ("lm", "sft", "chat"):
            raise ValueError("a language model has one teacher: the mean of several is not kept; drop `teacher.ensemble`.")
        self._check_adapters()
        if self.determinism == "exact":
            fits = [self.train, self.teacher.finetune if self.teacher else None]
            if any(fit and fit.compile for fit in fits):
                raise ValueError("`compile` cannot promise the same bits; set `determinism: fast` with it.")
        return self

    def _check_answers(self) -> None:
        assert self.teacher is not None
        if self.teacher.columns is not None and not self.task.own:
            raise ValueError("`teacher.columns` are columns of your own files; make the task `name: custom`.")
        if not self.how.learns_from_answers:
            able = ", ".join(name for name, method in methods().items() if method.learns_from_answers and method.needs_teacher)
            raise ValueError(
                f"method {self.method.name} needs the teacher itself, and only its answers are known; use method {able}."
            )
        if self.student.model is None:
            raise ValueError(
                "only the teacher's answers are known, so no student can be cut out of it: name one, as in "
                "`student: {model: NAME}`."
            )

    def _check_adapters(self) -> None:
        only = self.train.trains(self.how)
        for key, there in (("train.adapter", self.train.adapter), ("student.adapter", self.student.adapter)):
            if there is not None and only != "adapter" and self.how.trains == "all":  # else the method says why
                raise ValueError(f"`{key}` is for `train.only: adapter`, and here it is `{only}`; add that, or drop it.")
        if self.student.adapter is None:
            return
        if self.train.adapter is not None:
            raise ValueError("`student.adapter` has settings of its own in its folder; drop `train.adapter`.")
        if self.student.searched or self.student.prunes:
            raise ValueError("`student.adapter` is for a model that is there already, not for one that is searched or pruned.")

    @property
    def how(self) -> Method:
        """The method that `method.name` names; `method` itself is its settings."""
        return methods()[self.method.name]

    @property
    def split_seed(self) -> int:
        """The seed of hold-outs, subsets and masks: which rows a model may see."""
        return self.seed if self.task.split_seed is None else self.task.split_seed

    @property
    def share(self) -> str | tuple[tuple[int, bool], ...]:
        """How the student's layers are shared, `auto` replaced by what the method asks for: `none`, a kind, or a schedule."""
        wanted = self.student.share
        return self.how.share if wanted == "auto" else wanted


_SHORT_FORMS = {"task": "name", "method": "name", "teacher": "model", "student": "model"}


def complete(data: Any) -> Any:
    """Write out the short forms (`method: automm`) and give `teacher.finetune` the keys of `train` it leaves out.

    Anything malformed is left as it is, for validation to complain about.
    """
    if not isinstance(data, dict):
        return data
    data = {key: {_SHORT_FORMS[key]: value} if key in _SHORT_FORMS and isinstance(value, str) else value
            for key, value in data.items()}  # fmt: skip
    if isinstance(data.get("track"), str):
        data["track"] = [data["track"]]
    section = data.get("method")
    if isinstance(section, dict) and (method := methods().get(str(section.get("name")))) is not None:
        data = _searched_student(method, method.complete(data))
        if section.get("parity") is True:
            data = _filled(data, method.parity)
        own = method.objective(section, kind_of(data.get("task")))
        told = isinstance(data.get("teacher"), dict) and not data["teacher"].get("model")
        data = with_objective(data, of_outputs(own) if told else own, method.objective_keys)
    teacher, train = data.get("teacher"), data.get("train")
    if isinstance(teacher, dict) and isinstance(train, dict) and isinstance(teacher.get("finetune"), dict):
        known = {key: value for key, value in train.items() if key in TrainSettings.model_fields}
        if "epochs" in teacher["finetune"]:
            known.pop("planned_epochs", None)  # they belong together
        data["teacher"] = {**teacher, "finetune": {**known, **teacher["finetune"]}}
    return data


def moved_keys(data: dict[str, Any]) -> dict[yaml.Path, yaml.Path]:
    """Where settings of `objective` were written that `method` sets: path in the complete recipe -> path as it was written."""
    section = data.get("method")
    if not isinstance(section, dict) or (method := methods().get(str(section.get("name")))) is None:
        return {}
    written = [(key, target) for key, sets in method.objective_keys.items() if key in section for target in sets.targets]
    return {("objective", *target.split(".")): ("method", key) for key, target in written}


def _searched_student(method: Method, data: dict[str, Any]) -> dict[str, Any]:
    """The student of a method that finds it marked as such, unless the recipe names one."""
    student = data.get("student") or {}
    stays = {"max_length", "searched", "vocabulary", "embedding_rank"}
    if not method.finds_student or not isinstance(student, dict) or set(student) - stays:
        return data
    return {**data, "student": {**student, "searched": True}}


def _filled(given: Any, defaults: Mapping[str, Any]) -> Any:
    """The given sections over the defaults, key by key."""
    if not isinstance(given, dict):
        return given
    return {**defaults, **given} | {
        key: _filled(given[key], value) for key, value in defaults.items() if isinstance(value, Mapping) and key in given
    }
