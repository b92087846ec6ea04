"""Students made of their teacher's layers: the right layers, the same numbers, nothing shared."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, tiny_ids, tiny_net, tiny_tokenizer

from understudy.base.errors import RecipeError
from understudy.mapping import RULES
from understudy.models.anatomy import anatomy
from understudy.models.load import load_model
from understudy.models.model import Model, digest
from understudy.models.save import save_model
from understudy.students import chosen_layers, keep_layers

CUTTABLE = [family for family in FAMILIES if family != "albert"]


def teacher(family: str = "bert", *, layers: int = 4, kind: str = "classification", **changes) -> Model:
    sizes = {"n_layers" if family == "distilbert" else "num_hidden_layers": layers}
    net = tiny_net(family, kind, num_labels=3, **sizes, **changes)
    return Model(net, tiny_tokenizer(), ("yes", "no", "maybe"), kind, "a teacher", "abc")


@pytest.mark.parametrize(
    "keep, n, of, layers",
    [
        ("first", 3, 6, (0, 1, 2)),
        ("last", 3, 6, (3, 4, 5)),
        ("group_first", 3, 6, (0, 2, 4)),
        ("group_last", 3, 6, (1, 3, 5)),
        ("group_first", 6, 12, (0, 2, 4, 6, 8, 10)),
        ("group_last", 4, 6, (0, 2, 3, 5)),
        ("group_first", 5, 5, (0, 1, 2, 3, 4)),
        ("group_last", 5, 5, (0, 1, 2, 3, 4)),
        ("group_first", 1, 4, (0,)),
        ("group_last", 1, 4, (3,)),
        ([0, 3], None, 4, (0, 3)),
        ((1, 2), 2, 4, (1, 2)),
    ],
)
def test_chosen_layers(keep, n, of, layers):
    assert chosen_layers(keep, n, of) == layers


@pytest.mark.parametrize("keep", RULES)
@pytest.mark.parametrize("n, of", [(n, of) for of in range(1, 13) for n in range(1, of + 1)])
def test_any_choice_is_rising_and_of_the_right_number(keep: str, n: int, of: int):
    layers = chosen_layers(keep, n, of)
    assert len(layers) == n and list(layers) == sorted(set(layers))
    assert layers[0] >= 0 and layers[-1] < of


@pytest.mark.parametrize(
    "keep, n, message",
    [
        ("spraed", 2, "Did you mean 'spread'"),
        ("first", None, "needs student.num_layers"),
        ("first", 5, "the teacher has 4"),
        ("group_last", 0, "choose 1 to 4"),
        ([0, 4], None, "between 0 and 3"),
        ([2, 1], None, "rising order"),
        ([1, 1], None, "once each"),
        ([-1, 1], None, "between 0 and 3"),
        ([], None, "must name layers"),
        ([0, 1], 3, "names 2 layers"),
    ],
)
def test_impossible_choices_are_refused(keep, n, message: str):
    with pytest.raises(RecipeError, match=message):
        chosen_layers(keep, n, 4)


@pytest.mark.parametrize("family", CUTTABLE)
@torch.no_grad()
def test_first_layers_give_the_teachers_own_hidden_state(family: str):
    """The output of two kept layers is the teacher's hidden state 2, in every family."""
    whole = teacher(family)
    small = keep_layers(whole, "first", num_layers=2)
    ids = tiny_ids()
    row = anatomy(small.net)
    assert row.num_layers(small.net) == 2 and small.net.config.num_hidden_layers == 2
    seen = {}
    for name, net in (("small", small.net), ("whole", whole.net)):
        layer = anatomy(net).layers(net)[1]
        handle = layer.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out}))
        net(ids)
        handle.remove()
    one, other = (x[0] if isinstance(x, tuple) else x for x in (seen["small"], seen["whole"]))
    torch.testing.assert_close(one, other, atol=0, rtol=0)


@pytest.mark.parametrize("family", CUTTABLE)
@pytest.mark.parametrize("kind", ["classification", "tokens", "text"])
@torch.no_grad()
def test_keeping_all_layers_changes_nothing(family: str, kind: str):
    whole = teacher(family, kind=kind)
    copy = keep_layers(whole, [0, 1, 2, 3])
    ids = tiny_ids()
    torch.testing.assert_close(copy.net(ids).logits, whole.net(ids).logits, atol=0, rtol=0)
    assert digest(copy.net) == digest(whole.net)


@pytest.mark.parametrize("family", CUTTABLE)
def test_each_kept_layer_is_a_copy_of_its_teacher(family: str):
    whole = teacher(family)
    before = digest(whole.net)
    small = keep_layers(whole, [1, 3])
    mine, theirs = anatomy(small.net).layers(small.net), anatomy(whole.net).layers(whole.net)
    for j, i in enumerate((1, 3)):
        weights = theirs[i].state_dict()
        for name, tensor in mine[j].state_dict().items():
            assert torch.equal(tensor, weights[name]), (j, name)
    assert torch.equal(
        anatomy(small.net).final_linear(small.net).weight, anatomy(whole.net).final_linear(whole.net).weight
    )
    with torch.no_grad():
        for parameter in small.net.parameters():
            parameter.zero_()
    assert digest(whole.net) == before


def test_labels_and_history_are_kept():
    small = keep_layers(teacher(), [0, 2])
    assert (small.labels, small.kind, small.revision) == (("yes", "no", "maybe"), "classification", "abc")
    assert small.source == "a teacher, layers 0, 2"
    assert small.notes == ("student: made of layers 0, 2 of 'a teacher'.",)
    assert not small.net.training


def test_a_bare_backbone_and_a_fresh_head_stay_what_they_are():
    bare = Model(tiny_net("bert", "backbone"), tiny_tokenizer(), (), "text", "a backbone", None)
    small = keep_layers(bare, [0, 2])
    assert type(small.net) is type(bare.net) and anatomy(small.net).num_layers(small.net) == 2
    untrained = teacher()
    untrained.fresh_head = True
    assert keep_layers(untrained, [0]).fresh_head and not keep_layers(teacher(), [0]).fresh_head


def test_modernbert_layers_keep_their_reach_and_say_what_is_left_out(tmp_path):
    whole = teacher("modernbert")
    reach = whole.net.config.layer_types
    assert len(set(reach)) == 2
    small = keep_layers(whole, [1, 2])
    assert small.net.config.layer_types == [reach[1], reach[2]]
    assert "attn_norm" in small.notes[-1]
    save_model(small, tmp_path / "student")
    back = load_model(str(tmp_path / "student"))
    ids = tiny_ids(2, 20)
    assert torch.equal(back.net(ids).logits, small.net(ids).logits)


def test_nothing_random_is_drawn():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    whole = teacher()
    torch.manual_seed(5)
    keep_layers(whole, [0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_precision_is_kept():
    whole = teacher()
    whole.net.to(torch.bfloat16)
    assert {p.dtype for p in keep_layers(whole, [0]).net.parameters()} == {torch.bfloat16}


def test_albert_is_refused_with_the_reason():
    with pytest.raises(RecipeError, match="one shared layer"):
        keep_layers(teacher("albert"), "first", num_layers=2)
