"""What does not go together is refused with a reason, before anything is trained; two tokenizers where they can be."""

from __future__ import annotations

from typing import Any

import checkpoints
import fits
import numpy as np
import pytest
import tiny_models
import torch
import toys
import trainers
import transformers

from understudy import kinds
from understudy.base.errors import DataError, RecipeError
from understudy.data.encode import encode
from understudy.interop import DistilTrainer
from understudy.interop.pack import pack
from understudy.models.model import Model
from understudy.objective import Objective, projection
from understudy.objective import terms as learn


def logits_only(kind: str = "classification") -> Objective:
    return Objective(hard=learn.hard_labels(kind), soft=learn.soft_labels(kind))


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha does not work"),
        ({"torch_compile": True}, "torch_compile does not work"),
        ({"gradient_checkpointing": True}, "layers of bert a second time"),
    ],
)
def test_settings_under_which_the_loss_would_be_wrong(args, sentence, tmp_path):
    with pytest.raises(RecipeError, match=sentence):
        trainers.trainer(tmp_path, args=args)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"compute_loss_func": lambda *_: 0}, "make it a Term"),
        ({"model_init": lambda: None}, "a trainer for each model"),
        ({"teacher": None}, "No teacher was given.*soft, hidden"),
        ({"model": torch.nn.Linear(2, 2)}, "not Linear"),
        ({"teacher": trainers.teacher(num_hidden_layers=2)}, "layer 3 of the teacher, which has 2"),
    ],
)
def test_parts_that_do_not_fit(changes, sentence, tmp_path):
    with pytest.raises(RecipeError, match=sentence):
        trainers.trainer(tmp_path, **changes)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("tokens", "needs a model ForTokenClassification"),
        ("text", "needs a model ForMaskedLM"),
        ("regression", "needs one output, and the model has 2"),
        ("tags", "no kind of task 'tags'"),
    ],
)
def test_the_kind_is_that_of_the_model(kind, sentence, tmp_path):
    with pytest.raises(RecipeError, match=sentence):
        DistilTrainer(fits.model().net, trainers.arguments(tmp_path), objective=logits_only(), kind=kind)


def test_pairwise_terms_cannot_be_accumulated(tmp_path):
    with pytest.raises(RecipeError, match="gradient_accumulation_steps is 2, but rkd compares the rows"):
        trainers.trainer(tmp_path, objective=trainers.objective(pairwise=True), args={"gradient_accumulation_steps": 2})


def test_the_teacher_is_not_the_student(tmp_path):
    net = fits.model().net
    with pytest.raises(RecipeError, match="the same network"):
        trainers.trainer(tmp_path, model=net, teacher=net, objective=logits_only())


def test_outputs_must_mean_the_same(tmp_path):
    student, teacher = fits.model().net, trainers.teacher()
    student.config.id2label, teacher.config.id2label = {0: "glad", 1: "sad"}, {0: "sad", 1: "glad"}
    with pytest.raises(DataError, match="sad, glad and the student's glad, sad"):
        trainers.trainer(tmp_path, model=student, teacher=teacher)
    three = transformers.BertForSequenceClassification(toys.config(labels=3))
    with pytest.raises(DataError, match="3 outputs and the student 2"):
        trainers.trainer(tmp_path, teacher=three, objective=logits_only())


def test_an_optimizer_must_train_the_projections(tmp_path):
    net = fits.model().net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    trainer = trainers.trainer(tmp_path, model=net, optimizers=(optimizer, None))
    with pytest.raises(RecipeError, match=r"does not train the objective's projections"):
        trainer.train()
    objective = trainers.objective()
    optimizer = torch.optim.SGD([*net.parameters(), *objective.parameters()], lr=0.01)
    trainers.trainer(tmp_path, model=net, objective=objective, optimizers=(optimizer, None)).train()


def test_a_checkpoint_without_projections_is_not_gone_on_from(tmp_path):
    trainer = trainers.trainer(tmp_path, args={"save_strategy": "epoch", "save_only_model": True})
    trainer.train()
    with pytest.raises(DataError, match="has no objective.safetensors.*save_only_model"):
        trainers.trainer(tmp_path / "next").train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"input_ids": torch.ones(1, 2), "attention_mask": torch.zeros(1, 2)}, "Row 0 of a batch has no tokens"),
        ({"input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2, 2)}, "only one number per token"),
        ({"inputs_embeds": torch.ones(1, 2, 3)}, "it has inputs_embeds"),
        ({"input_ids": torch.ones(1, 2), "labels": torch.ones(1, 2)}, "one per row"),
    ],
)
def test_batches_that_are_none(inputs, sentence):
    with pytest.raises(DataError, match=sentence):
        pack(inputs, kinds.kind("classification"))


# -- two tokenizers ----------------------------------------------------------------------------------------------------


def letter_teacher(kind: str) -> Model:
    """A teacher that reads letters."""
    tokenizer = checkpoints.letters()
    config = tiny_models.tiny_config("bert", vocab_size=len(tokenizer), max_position_embeddings=200, num_labels=2)
    net = {"tokens": transformers.BertForTokenClassification}.get(kind, transformers.BertForSequenceClassification)(config)
    return Model(net.eval(), tokenizer, fits.task(kind).labels, kind, "toy", None)


def rows_for_both(kind: str, teacher: Model) -> list[dict[str, Any]]:
    """The same texts in both cuts."""
    theirs = encode(fits.examples(16, kind=kind), teacher.tokenizer, fits.task(kind), max_length=150)
    both = zip(trainers.rows_of(fits.encoded(16, kind=kind)), trainers.rows_of(theirs), strict=True)
    return [{**ours, **{f"teacher_{name}": value for name, value in other.items()}} for ours, other in both]


@pytest.mark.parametrize("kind", ["classification", "tokens"])
def test_a_teacher_with_a_tokenizer_of_its_own(kind, tmp_path):
    """Its gradients are those of our loop's way: signals from its own tokens, words aligned by their labels."""
    teacher = letter_teacher(kind)
    adaptor = projection("adaptor", "auto", student_width=32, teacher_width=32, seed=0)
    objective = Objective(soft=learn.soft_labels(kind), feature=learn.output_feature(kind, adaptor=adaptor))
    rows = rows_for_both(kind, teacher)
    names = {} if kind == "classification" else dict(enumerate(fits.task(kind).labels))
    teacher.net.config.id2label = names or teacher.net.config.id2label
    trainer = trainers.trainer(tmp_path, kind, train_dataset=rows, eval_dataset=rows, objective=objective, teacher=teacher)
    batch = trainer.data_collator(rows[:4])
    assert batch["teacher_input_ids"].shape[1] > batch["input_ids"].shape[1]
    seen = trainer.teacher.signals(batch, pack(batch, kinds.kind(kind)))
    expected = teacher.net(input_ids=batch["teacher_input_ids"], attention_mask=batch["teacher_attention_mask"]).logits
    if kind == "tokens":
        expected = expected[batch["teacher_labels"] != -100]
    torch.testing.assert_close(seen.logits, expected, rtol=1e-4, atol=1e-5)
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_it_must_be_given_its_own_tokens(tmp_path):
    trainer = trainers.trainer(tmp_path, teacher=letter_teacher("classification"), objective=logits_only())
    with pytest.raises(DataError, match="different tokenizers. Give the rows teacher_input_ids"):
        trainer.train()


@pytest.mark.parametrize("known", [True, False])
def test_token_by_token_needs_one_tokenizer(known, tmp_path):
    """Known by its tokenizer, or suspected by the size of its vocabulary."""
    teacher = letter_teacher("classification")
    objective = Objective(hidden=learn.hidden_states(((1, 1),), student_width=32, teacher_width=32, seed=0))
    with pytest.raises(RecipeError, match="tokenizers?. But hidden compares token with token"):
        trainers.trainer(tmp_path, teacher=teacher if known else teacher.net, objective=objective)


def test_the_names_are_fetched_when_they_are_used():
    import understudy

    assert understudy.interop.DistilTrainer is DistilTrainer
