"""`Kind`, what every kind of task answers, and the table of kinds.

Shapes: N rows, C outputs, T tokens of all rows, R resamples. A *row* is what the loss is a mean over: an example, or a
labelled token. Arrays here are numpy's, except where torch's `Tensor` is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from understudy.base.errors import RecipeError
from understudy.base.plugins import plugins
from understudy.base.suggest import did_you_mean
from understudy.kinds import cells
from understudy.kinds.arithmetic import Statistic
from understudy.recipe.types import KINDS

if TYPE_CHECKING:
    from torch import Tensor

Label = int | float | tuple[Any, ...] | None
"""A class number, a score, 0 or 1 for each label, one tag number for each word, or None where there is none."""


class Kind(str):
    """One kind of task: its name, as a string, and all that follows from it. Attributes and methods below are the defaults, one
    vector of logits for each example; a kind overrides what is different."""

    # --- rows and their labels ---------------------------------------------------------------------------------------

    labelled = True
    """Whether rows come with labels. Without, they are made from the text itself."""
    masked = False
    """Whether its labels are made by hiding tokens of the text."""
    causal = False
    """Whether each token is predicted from those before it: what is scored is said by passages (`kinds/lm.py`), a row may be a
    window of an example (`data/causal.py`), and an objective may read the head's input in place of logits (`Needs.head`)."""
    layouts: tuple[str, ...] = ()
    """What its files hold, as `data/documents.py` reads them: document, pair, conversation."""
    rows: str = "custom"
    """The module of `data/` whose `load` reads its own files."""
    pooled = False
    """Whether the model answers a text with one vector, made by the modules of a sentence-transformers folder
    (models/embedder.py), and rows are judged by such vectors: each text of a row is read by itself."""
    apart: Literal["texts", "pairs"] | None = None
    """What a model reads of a row that has several texts: each by itself, or the first with each of the others; None: the row."""
    spans = False
    """Whether an answer is a part of a text, which a model reads in windows (`data/squad.py`)."""
    by_objective = False
    """Whether weights are chosen by the objective on held-out rows, since these have no labels."""
    own: Mapping[str, Any] | None = None
    """What is learned from a teacher, as in `objective`, where neither the recipe nor the method says; None: the method's own."""
    by_labels = "hard"
    """The term that learns from the labels alone."""
    by_word = False
    """Whether a row is a list of words with a label for each, in place of a text."""
    named = True
    """Whether outputs have names: the task's labels, in order."""

    def names_in(self, cell: Any, *, separator: str, where: str) -> list[str]:
        """The label names in one cell of a table."""
        return [] if cells.is_blank(cell) else [cells.label_name(cell)]

    def parse(self, cell: Any, numbers: Mapping[str, int], *, separator: str, where: str) -> Label:
        """The label that one cell of a table holds.

        Args:
            numbers: label name -> its number.
            separator: between several labels in one cell.
            where: file, line and column, for messages.

        Raises:
            DataError: no label, or none of the task's.
        """
        return cells.class_number(cell, numbers, where=where)

    def unlearnable(self, labels: Sequence[Label], names: Sequence[str]) -> str | None:
        """Why nothing can be learned from these training labels; None where something can."""
        labels = [label for label in labels if label is not None]
        if len(set(labels)) != 1:
            return None
        only = labels[0]
        shown = f"'{names[only]}'" if isinstance(only, int) and names else str(only)
        return f"all {len(labels)} training rows have the label {shown}; at least two are needed."

    def balanced(self, labels: Sequence[Any], outputs: int) -> list[float]:
        """A weight for each class after which all that occur count alike and the mean row as much as before: N / (K n_c) for
        N rows, n_c of them of class c, and K classes that occur.

        Args:
            labels: of the training rows.
        """
        counts = np.bincount(np.concatenate([np.atleast_1d(label) for label in labels]).astype(np.int64), minlength=outputs)
        present = int((counts > 0).sum())
        return [float(counts.sum() / (present * count)) if count else 0.0 for count in counts]

    def absent(self, labels: Sequence[Label], names: Sequence[str]) -> list[str]:
        """The label names that no training row has."""
        return []

    def classes(self, label: Any) -> set[int]:
        """The numbers of the classes that a row's label names."""
        return {int(label)}

    def gold(self, labels: Sequence[Any]) -> Any:
        """The true labels as arrays, which predictions are compared with."""
        return np.asarray(labels, np.int64)

    def targets(self, labels: Sequence[Any], outputs: int) -> np.ndarray | None:
        """The labels as the loss reads them: (N,) or (N, outputs); -100 or NaN in rows that have none. None where labels are
        made later, or by word."""
        return np.array([-100 if label is None else label for label in labels], np.int64)

    def batch_labels(self, labels: Tensor) -> Tensor:
        """Labels of a batch as data collators make them, (N,) or (N, 1) or (N, C), in the form and type of the loss.

        Raises ValueError for another shape.
        """
        flat = labels.reshape(len(labels), -1)
        if flat.shape[1] != 1:
            raise ValueError(f"Labels of kind {self} are one per row; got {tuple(labels.shape)}")
        return flat[:, 0]

    def passages(self, text: str, pair: str | None, tokenizer: Any) -> list[Any]:
        """Of causal kinds: what an example says, as text (`kinds/lm.py`, `Passage`): one passage, or one for each answer where
        they cannot be one.

        Raises:
            ValueError: the example cannot be put into words, and why.
        """
        raise NotImplementedError

    def prompt(self, text: str, pair: str | None, tokenizer: Any) -> tuple[str, bool]:
        """Of causal kinds: what a model is asked to go on from, and whether the token for the beginning of a text still has to
        be put before."""
        raise NotImplementedError

    # --- the head and the loss ---------------------------------------------------------------------------------------

    auto: str = "AutoModelForSequenceClassification"
    """The class of transformers that has the head."""
    problem_type: str | None = None
    """What the configuration of a sequence classifier says about this kind."""
    peft_type: str | None = "SEQ_CLS"
    """What peft calls it."""
    pipeline: str = "text-classification"
    """The Hub's name for what such a model does."""
    pipeline_options: str = ", truncation=True"
    """Further arguments of transformers' `pipeline`, in the code of a model card: to answer as the model was scored."""
    pipeline_row: str = '"My printer is on fire."'
    """A row for that code."""
    library = "transformers"
    """What loads such a model, besides this package."""
    code: tuple[str, ...] = ()
    """Lines for a model card that use it, where that is not a `pipeline` of transformers."""
    per_token = False
    """Whether the model answers for each token rather than for each example."""
    on_vocabulary = False
    """Whether the outputs are the vocabulary. A model without such a head can still teach and learn its hidden states."""
    standardise = False
    """Whether models are trained on labels of mean 0 and deviation 1; they are saved in the labels' own units."""
    distribution: Literal["softmax", "sigmoid"] | None = "softmax"
    """How logits become probabilities: one of C classes, C independent labels, or not at all (numbers)."""
    no_confidence: str | None = None
    """Why a model is not sure of an answer here that is right or wrong; None where it is."""

    @property
    def unit(self) -> Literal["example", "label"]:
        """What the loss is a mean over."""
        return "label" if self.per_token else "example"

    @property
    def ending(self) -> str:
        """What names of classes with this head end with, such as `ForSequenceClassification`."""
        return self.auto.removeprefix("AutoModel")

    def has_head(self, config: Any) -> bool:
        """Whether the class a checkpoint was saved from has a head for this kind."""
        return architecture_of(config).endswith(self.ending)

    def trained(self, config: Any) -> bool:
        """Whether a checkpoint was trained for this kind, as far as its configuration tells. A sequence classifier that does
        not say has one right class or, with a single output, a number, as transformers has it."""
        problem = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
        return self.has_head(config) and self.problem_type in (None, problem)

    def outputs(self, labels: Sequence[str]) -> int:
        """The number of outputs."""
        return len(labels) if self.named else 1

    def loss(self, logits: Tensor, labels: Tensor, *, reduction: Any = "mean") -> Tensor:
        """The loss on the labels, over rows. reduction: mean, sum, or none for one number per row."""
        raise NotImplementedError

    def mean(self, logits: Sequence[Tensor]) -> Tensor:
        """The outputs (R, C) of several models as those of one: the mean of their probabilities, or of their numbers."""
        import math

        import torch
        from torch.nn.functional import logsigmoid

        stacked = torch.stack([one.float() for one in logits])
        if self.distribution == "softmax":
            return stacked.log_softmax(-1).logsumexp(0) - math.log(len(logits))
        if self.distribution == "sigmoid":
            return logsigmoid(stacked).logsumexp(0) - logsigmoid(-stacked).logsumexp(0)
        return stacked.mean(0)

    def confidence(self, logits: np.ndarray) -> np.ndarray:
        """(N, C) -> (N,) in (0, 1]: the probability that the model gives to its own answer."""
        raise NotImplementedError

    # --- from outputs to answers -------------------------------------------------------------------------------------

    def read(self, logits: Tensor, *, labels: Tensor | None, sizes: Sequence[int], words: Sequence[Any]) -> list:
        """What is kept of a batch's logits, one array per example.

        Args:
            logits: fp32, (B, C); (T, C) or (M, C) for kinds per token.
            labels: (T,), where the kind makes labels from the text.
            sizes: tokens of each example.
            words: for each example, by word: its number of words, and the word that each token belongs to (-1: none).
        """
        return list(logits.cpu().numpy())

    def by_example(self, rows: Sequence[np.ndarray], source: np.ndarray, num_bytes: np.ndarray, number: int) -> list[np.ndarray]:
        """Where rows are windows of examples: what `read` kept, put together for each of the `number` examples.

        Args:
            source, num_bytes: as in `data.encode.Encoded`.
        """
        raise NotImplementedError

    def judged(self, examples: Sequence[Any]) -> Sequence[Any]:
        """The rows of a set that are scored; the others are what these are compared with."""
        return examples

    def collect(self, rows: Sequence[np.ndarray], examples: Sequence[Any], taught: Sequence[np.ndarray] | None = None) -> Any:
        """(scores, gold) of the judged rows of a whole set.

        Args:
            rows: what `read` kept.
            examples: the set's rows; gold is None where a label is missing.
            taught: what `read` keeps of the teacher, for kinds that compare with it.
        """
        labels = [example.label for example in examples]
        known = not any(label is None for label in labels)
        return np.stack(rows) if rows else np.empty((0, 1)), self.gold(labels) if known else None

    def completed(self, scores: Any, labels: Sequence[str]) -> Any:
        """Scores with what stands for parts of a row that were cut off."""
        return scores

    def broken(self, scores: Any) -> bool:
        """Whether scores are no finite numbers."""
        return not np.isfinite(np.asarray(scores, dtype=np.float64)).all()

    def decide(self, scores: Any) -> Any:
        """Decisions from scores."""
        raise NotImplementedError

    def same(self, one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        """Where two models' raw outputs (N, C) decide alike, (N,) bool; None where outputs decide nothing."""
        if self.distribution == "sigmoid":
            return ((one > 0) == (other > 0)).all(axis=-1)
        return one.argmax(axis=-1) == other.argmax(axis=-1) if self.distribution else None

    def answer(self, scores: Any, labels: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
        """What `predict` writes about one row, from its scores."""
        raise NotImplementedError

    def in_words(self, decision: Any, labels: Sequence[str], words: Sequence[str]) -> str:
        """One decision, or one truth, for reading."""
        raise NotImplementedError

    def right(self, said: Any, gold: Any) -> np.ndarray:
        """(N,) bool: the rows that are entirely right."""
        return said == gold

    def distance(self, one: Any, other: Any) -> np.ndarray:
        """(N,) how far apart two models' scores are; 0 where they decide alike."""
        raise NotImplementedError

    def one_answer(self, decisions: Any) -> bool:
        """Whether all rows are answered alike: such a model has learnt nothing, whatever its score."""
        return len(decisions) > 1 and bool((decisions == decisions[:1]).all())

    def constant(self, labels: Sequence[Any], outputs: int, sizes: Sequence[int]) -> Any:
        """Scores of a model that has seen the training labels and no text: the reference that costs nothing.

        Args:
            labels: of the training rows.
            sizes: one entry per row to answer; by word, its number of words.
        """
        return None

    def problem(self, ids: Sequence[str], scores: Any, gold: Any, labels: Sequence[str]) -> str | None:
        """How a sentence goes on that begins with the task's name, where scores and rows do not fit; None where they do."""
        return None

    # --- how good the answers are ------------------------------------------------------------------------------------

    metrics: tuple[str, ...] = ()
    """The metrics that can be asked for."""
    beside_teacher: tuple[str, ...] = ()
    """Those among them that compare a model's outputs with the teacher's; reported where both read the same tokens."""
    errors: frozenset[str] = frozenset({"loss"})
    """Those of which less is better."""
    shown: Mapping[str, str] = {}
    """What metrics are called that only this kind has; differences of them are told in points, hundredths."""
    without = "plain fine-tuning"
    """What the baseline is, in sentences."""

    def default_metrics(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The metrics of a task that names none; the first one selects."""
        return self.metrics[:1]

    def statistics(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, Statistic]:
        """Every metric as a function of weights (R, N), one line of weights per resample."""
        raise NotImplementedError

    # --- what pages show ---------------------------------------------------------------------------------------------

    numeric = False
    """Whether an answer is a number: near the truth or far from it, rather than right or wrong."""

    def about(self, metric: str, labels: Sequence[str]) -> str | None:
        """The one label that a metric is about; None where it is about all of them."""
        return None

    def class_counts(self, labels: Sequence[str], scores: Any, gold: Any) -> dict[str, tuple[int, int, int]] | None:
        """label -> (hits, predicted, gold); None where there are no classes."""
        return None

    def confusion(self, labels: Sequence[str], scores: Any, gold: Any) -> np.ndarray | None:
        """(C, C) counts, row = truth, column = prediction; None where a row has not one of C classes."""
        return None

    # --- exports -----------------------------------------------------------------------------------------------------

    onnx_rows = '["My printer is on fire.", "Thanks!"]'
    """Rows for the example code of an ONNX export."""
    onnx_answer = "print(outputs)"
    """The line of that code which turns `outputs` into answers."""

    def __reduce__(self) -> tuple[Any, ...]:
        return kind, (str(self),)  # one object per kind, in copies and other processes too


def architecture_of(config: Any) -> str:
    """The class that a checkpoint was saved from."""
    return str((getattr(config, "architectures", None) or [""])[0])


@cache
def _kinds() -> dict[str, Kind]:
    ours = {name: import_module(f"understudy.kinds.{name}").KIND for name in KINDS}
    return plugins("understudy.kinds", ours, what="kind of task")


def kind(name: str) -> Kind:
    """The kind of this name; a `Kind` is given back as it is.

    Raises:
        RecipeError: no kind is called so.
    """
    if isinstance(name, Kind):
        return name
    known = _kinds()
    if name not in known:
        raise RecipeError(f"There is no kind of task '{name}'.{did_you_mean(name, known)} Kinds: {', '.join(known)}.")
    return known[name]


def every() -> Iterable[Kind]:
    """All kinds: ours in their order, then those that other packages bring."""
    return _kinds().values()


def of_checkpoint(config: Any, *, pooled: bool = False) -> Kind:
    """The kind of task a checkpoint was trained for, as far as its configuration tells; text for a bare encoder.

    `pooled`: its folder says how its states become one vector.
    """
    if pooled and not architecture_of(config).partition("For")[2]:
        return next(one for one in every() if one.pooled)
    return next((one for one in every() if one.trained(config) and not one.pooled), kind("text"))


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better; of all others more."""
    return any(metric in one.errors for one in every())


def sign_of(metric: str) -> float:
    """1 for a metric of which more is better, -1 for one of which less is: times this, the larger value is the better."""
    return -1.0 if lower_is_better(metric) else 1.0
