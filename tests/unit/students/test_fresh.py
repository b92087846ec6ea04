"""Students of a size of their own: legal sizes are built, illegal ones explained, and the seed decides the weights."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer

from understudy.base.errors import RecipeError
from understudy.models.anatomy import anatomy
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.save import save_model
from understudy.students import fresh

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def teacher(family: str = "bert") -> Model:
    return Model(
        tiny_net(family, num_labels=3), tiny_tokenizer(), ("yes", "no", "maybe"), "classification", "a teacher", None
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_model_of_every_family_runs_and_survives_saving(family: str, tmp_path):
    small = fresh(teacher(family), SMALL, seed=0)
    row = anatomy(small.net)
    assert (row.num_layers(small.net), row.width(small.net), row.num_heads(small.net)) == (2, 16, 2)
    assert row.up(row.layers(small.net)[0]).out_features == 24 * (2 if row.gated else 1)
    logits = small.net(tiny_ids()).logits
    assert logits.shape == (2, 3) and torch.isfinite(logits).all()
    save_model(small, tmp_path / "student")
    assert torch.equal(load_model(str(tmp_path / "student")).net(tiny_ids()).logits, logits)


def test_the_seed_and_nothing_else_decides_the_weights():
    torch.manual_seed(1)
    one = digest(fresh(teacher(), SMALL, seed=0).net)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    whole = teacher()
    state = torch.random.get_rng_state()
    assert digest(fresh(whole, SMALL, seed=0).net) == one
    assert torch.equal(torch.random.get_rng_state(), state) and not torch.equal(state, before)
    assert digest(fresh(whole, SMALL, seed=1).net) != one


def test_unnamed_sizes_and_the_teacher_stay():
    whole = teacher()
    before = digest(whole.net)
    small = fresh(whole, {"num_hidden_layers": 1, "hidden_size": None, "hidden_act": "relu"}, seed=0)
    assert small.net.config.hidden_size == 32 and small.net.config.hidden_act == "relu"
    assert small.net.config.id2label == whole.net.config.id2label
    assert digest(whole.net) == before and whole.net.config.num_hidden_layers == 3


@pytest.mark.parametrize(
    "family, sizes, message",
    [
        ("bert", {"hiden_size": 16}, "Did you mean 'hidden_size'"),
        ("bert", {"vocab_size": 16}, "'vocab_size' cannot be set"),
        ("bert", {"auto_map": "x"}, "cannot be set"),
        ("bert", {"num_labels": 16}, "cannot be set"),
        ("bert", {"hidden_size": 30}, "not a multiple of num_attention_heads 4; 3 heads would fit"),
        ("bert", {"num_hidden_layers": 0}, "1 or more"),
        ("bert", {"num_hidden_layers": True}, "whole number"),
        ("bert", {"hidden_size": 32.5}, "whole number"),
        ("bert", {"hidden_act": "no such thing"}, "cannot be built"),
        ("roberta", {"max_position_embeddings": 3}, "must exceed 3"),
        ("modernbert", {"hidden_size": 12}, "even head width, not 3"),
    ],
)
def test_impossible_sizes_are_explained(family: str, sizes: dict, message: str):
    with pytest.raises(RecipeError, match=message):
        fresh(teacher(family), sizes, seed=0)


def test_modernbert_goes_on_in_the_teachers_rhythm():
    whole = teacher("modernbert")
    deep = fresh(whole, {"num_hidden_layers": 5}, seed=0)
    a, b, c = whole.net.config.layer_types
    assert deep.net.config.layer_types == [a, b, c, a, b]
