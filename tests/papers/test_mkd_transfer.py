"""Moving adapters between models: the acceptance tests of the method, on tiny random models (Klimaszewski et al. 2024)."""

from __future__ import annotations

import copy
import re
from time import process_time

import numpy as np
import pytest
import tiny_models
import torch
import toys
from adapted import is_adapters
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.pairwise import cosine_similarity

from understudy.adapters import Adapter, active, extract, inject, put
from understudy.adapters.transfer import plan, transfer
from understudy.adapters.transfer.align import assign, assign_heads
from understudy.adapters.transfer.collect import Sums, recording
from understudy.base.errors import DataError, RecipeError
from understudy.data.types import Example, Task
from understudy.models.anatomy import anatomy
from understudy.models.model import Model
from understudy.recipe.adapter import ADAPTERS, written_out
from understudy.recipe.transfer import TransferSettings

TASK = Task("toy", "classification", labels=("glad", "sad"))
ROWS = [Example(f"row-{i}", text=text) for i, (text, _) in enumerate(toys.sentences(60))]
SHORT = "pfeiffer[reduction_factor=4]"
LORA = "lora[r=3, targets=[query, key, value, out, up, down]]"


def settings_of(text):
    settings = written_out(text)
    return ADAPTERS[settings["kind"]].model_validate(settings)


def model(family="bert", *, seed=0, tokenizer=None, **sizes) -> Model:
    tokenizer = tokenizer or toys.tokenizer()
    ids = {} if family in ("roberta", "xlm-roberta") else {"pad_token_id": 0}
    net = tiny_models.tiny_net(family, seed=seed, vocab_size=len(tokenizer), max_position_embeddings=66, **ids, **sizes)
    return Model(net, tokenizer, TASK.labels, "classification", f"tiny-{family}", None)


def trained(source: Model, text: str, *, seed=1) -> Adapter:
    """An adapter with random weights in every tensor."""
    net = copy.deepcopy(source.net)
    inject(net, settings_of(text))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if is_adapters(name):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return extract(net, head=True)


def moved(teacher: Model, student: Model, adapter: Adapter, **changes):
    how = plan(teacher.net.config, student.net.config, adapter.config, TransferSettings.model_validate(changes))
    return transfer(teacher, student, adapter, how, rows=ROWS, task=TASK, max_length=32)


@torch.no_grad()
def logits(source: Model, adapter: Adapter | None = None):
    net = copy.deepcopy(source.net)
    if adapter is not None:
        put(net, adapter, head=False)
    ids = torch.tensor([[2, 9, 14, 30, 22, 3], [2, 41, 8, 17, 60, 3]])
    return net(input_ids=ids).logits


def permuted(source: Model, order: np.ndarray) -> Model:
    """The same function with the residual stream in another order."""
    net = copy.deepcopy(source.net)
    row, index = anatomy(net), torch.from_numpy(order)
    axes: dict[int, tuple[int, ...]] = {}  # of the stream; parameters that are not here have it wherever the size is the width
    for layer in row.layers(net):
        for linear in (*row.qkv(layer), row.up(layer), *row.split_by_head(layer)):
            axes |= {id(linear.weight): (1,), id(linear.bias): ()}
    for name, parameter in net.named_parameters():
        if re.match(r"(bert\.)?pooler|pre_classifier|classifier|head\.", name):
            axes[id(parameter)] = (1,) if name.endswith(("dense.weight", "pre_classifier.weight")) else ()
    with torch.no_grad():
        for layer in row.layers(net):
            for linear in (row.out(layer), row.down(layer)):
                axes |= {id(linear.weight): (0,), id(linear.bias): (0,)}
        for parameter in net.parameters():
            stream = [axis for axis, size in enumerate(parameter.shape) if size == len(order)]
            for axis in axes.get(id(parameter), stream):
                parameter.copy_(parameter.index_select(axis, index))
    return Model(net, source.tokenizer, source.labels, source.kind, "permuted", None)


def test_a_module_moved_to_its_own_model_is_itself():
    teacher = model()
    for text in (SHORT, "houlsby", "parallel", LORA, "ia3"):
        adapter = trained(teacher, text)
        found = moved(teacher, teacher, adapter)
        assert found.report["align"] == "none"
        assert torch.equal(logits(teacher, found.adapter), logits(teacher, adapter))
        assert not found.adapter.head


@pytest.mark.parametrize("text", [SHORT, "houlsby[ln_before=true, ln_after=true]", "parallel", LORA, "ia3"])
def test_a_permuted_student_gets_an_adapter_with_the_same_logits(text):
    teacher = model()
    student = permuted(teacher, np.random.default_rng(0).permutation(32))
    assert torch.allclose(logits(student), logits(teacher), atol=1e-5)
    adapter = trained(teacher, text)
    wanted = logits(teacher, adapter)
    assert (wanted - logits(teacher)).abs().max() > 0.05
    assert torch.allclose(logits(student, moved(teacher, student, adapter, align="lsa").adapter), wanted, atol=1e-5)
    # What (IA)^3 scales is inside the layers, which kept their order.
    for control in ({"align": "random"}, *([] if text == "ia3" else [{"align": "none"}])):
        assert (logits(student, moved(teacher, student, adapter, **control).adapter) - wanted).abs().max() > 0.01


@pytest.mark.parametrize("family", ["distilbert", "roberta", "xlm-roberta", "electra", "deberta-v2", "modernbert"])
def test_a_permuted_student_of_every_family(family):
    teacher = model(family, **({"embedding_size": 32} if family == "electra" else {}))
    student = permuted(teacher, np.random.default_rng(0).permutation(32))
    assert torch.allclose(logits(student), logits(teacher), atol=1e-5)
    for text in ("pfeiffer[reduction_factor=4, mh_adapter=true]", "parallel",
                 LORA.replace("query, key, value", "qkv") if family == "modernbert" else LORA):  # fmt: skip
        adapter = trained(teacher, text)
        wanted = logits(teacher, adapter)
        assert (wanted - logits(teacher)).abs().max() > 0.05
        assert torch.allclose(logits(student, moved(teacher, student, adapter, align="lsa").adapter), wanted, atol=1e-5)
        assert (logits(student, moved(teacher, student, adapter, align="random").adapter) - wanted).abs().max() > 0.01


def test_one_shared_map_is_wrong_for_lora_as_in_the_released_code():
    teacher = model()
    student = permuted(teacher, np.random.default_rng(0).permutation(32))
    adapter = trained(teacher, "lora[r=3]")
    wanted = logits(teacher, adapter)
    found = logits(student, moved(teacher, student, adapter, align="lsa", maps="shared").adapter)
    assert (found - wanted).abs().max() > 0.01


def test_of_a_wider_teacher_the_right_dimensions_are_kept():
    """Activations of a student with noise between: exactly the dimensions that are not noise are found."""
    draw = np.random.default_rng(0)
    y = draw.normal(size=(3000, 24))
    places = draw.permutation(40)
    x = np.concatenate([y * 3 + draw.normal(size=y.shape) * 0.1, draw.normal(size=(3000, 16))], axis=1)[:, np.argsort(places)]
    sums = Sums()
    for start in range(0, 3000, 700):
        sums.add(torch.from_numpy(y[start : start + 700]), torch.from_numpy(x[start : start + 700]))
    assert assign(sums.correlation()).tolist() == places[:24].tolist()


def widened(source: Model, kept: np.ndarray, heads: np.ndarray, width: int) -> Model:
    """A wider model that computes `source` in the dimensions `kept` of its residual stream (in the rows `heads` of its
    heads), and beside it something of its own in the others. The two meet in nothing but the statistics of LayerNorm."""
    ours, wide = source.net, model(seed=7, hidden_size=width, intermediate_size=80)
    theirs = wide.net
    noise = np.setdiff1d(np.arange(width), kept)
    beside = np.setdiff1d(np.arange(width), heads)
    inner, more = np.arange(48), np.arange(48, 80)
    stretch = (anatomy(theirs).head_dim(theirs) / anatomy(ours).head_dim(ours)) ** 0.5

    def place(target, value, rows, columns, *, factor=1.0):
        """`value` at rows x columns; the other rows read and write the other columns alone."""
        if target.ndim == 1:
            target[torch.from_numpy(rows)] = value * factor
            return
        for one, others in ((rows, False), (np.setdiff1d(np.arange(target.shape[0]), rows), True)):
            closed = columns if others else np.setdiff1d(np.arange(target.shape[1]), columns)
            target[np.ix_(one, closed)] = 0.0
        target[np.ix_(rows, columns)] = value * factor

    with torch.no_grad():
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            getattr(theirs.bert.embeddings, name).weight[:, kept] = getattr(ours.bert.embeddings, name).weight
        for norm, from_norm in (
            (theirs.bert.embeddings.LayerNorm, ours.bert.embeddings.LayerNorm),
            *((one, other) for a, b in zip(theirs.bert.encoder.layer, ours.bert.encoder.layer, strict=True)
              for one, other in zip(anatomy(theirs).norms(a), anatomy(ours).norms(b), strict=True)),
        ):  # fmt: skip
            norm.weight[kept], norm.bias[kept] = from_norm.weight, from_norm.bias
        for a, b in zip(theirs.bert.encoder.layer, ours.bert.encoder.layer, strict=True):
            for role, (one, other) in enumerate(zip(anatomy(theirs).qkv(a), anatomy(ours).qkv(b), strict=True)):
                for what in ("weight", "bias"):
                    place(getattr(one, what), getattr(other, what), heads, kept, factor=stretch if role == 0 else 1.0)
                if role < 2:
                    one.weight[beside] = 0.0  # the noise has no say in who attends to whom
                    one.bias[beside] = 0.0
            for row, rows, columns in (("out", kept, heads), ("up", inner, kept), ("down", kept, inner)):
                one, other = getattr(anatomy(theirs), row)(a), getattr(anatomy(ours), row)(b)
                place(one.weight, other.weight, rows, columns)
                place(one.bias, other.bias, rows, columns)
    assert len(noise) and len(more)
    return wide


def test_a_wider_teacher_with_noise_keeps_the_right_dimensions():
    """Whole models: a teacher made of the student and of as much that is not the student's."""
    student, draw = model(), np.random.default_rng(3)
    kept = draw.permutation(48)[:32]
    heads = np.concatenate([head * 12 + draw.permutation(12)[:8] for head in range(4)])
    teacher = widened(student, kept, heads, 48)
    bottleneck = trained(teacher, "houlsby[reduction_factor=4]")
    found = moved(teacher, student, bottleneck).adapter
    for (layer, place, tensor), value in found.tensors.items():
        theirs = bottleneck.tensors[layer, place, tensor]
        wanted = theirs if tensor == "down.bias" else theirs[:, kept] if tensor == "down.weight" else theirs[kept]
        assert torch.equal(value, wanted), (layer, place, tensor)
    lora = trained(teacher, "lora[r=3]")
    moved_lora = moved(teacher, student, lora).adapter
    for layer in range(3):
        assert torch.equal(moved_lora.tensors[layer, "query", "A"], lora.tensors[layer, "query", "A"][:, kept])
        assert torch.equal(moved_lora.tensors[layer, "value", "B"], lora.tensors[layer, "value", "B"][heads])


def test_the_streamed_correlation_is_the_textbook_one():
    draw = np.random.default_rng(1)
    y, x = draw.normal(size=(500, 7)) + 1e4, draw.normal(size=(500, 11)) * 1e-3
    x[:, 0] += y[:, 2] * 1e-3
    y[:, 3], x[:, 5] = 3.7, 0.1
    sums = Sums()
    for start in range(0, 500, 33):
        sums.add(torch.from_numpy(y[start : start + 33]), torch.from_numpy(x[start : start + 33]))
    found = sums.correlation()
    alive_y, alive_x = [i for i in range(7) if i != 3], [i for i in range(11) if i != 5]
    truth = cosine_similarity((y - y.mean(0)).T[alive_y], (x - x.mean(0)).T[alive_x])
    assert np.abs(found[np.ix_(alive_y, alive_x)] - truth).max() < 1e-6
    assert not found[3].any() and not found[:, 5].any() and np.isfinite(found).all()
    bad = Sums()
    bad.add(torch.tensor([[1.0], [torch.nan]]), torch.tensor([[1.0], [2.0]]))
    with pytest.raises(DataError, match="NaN or infinite"):
        bad.correlation()


def test_heads_go_to_heads():
    draw = np.random.default_rng(2)
    heads, inside = draw.permutation(4)[:3], [draw.permutation(6)[:4] for _ in range(3)]
    wanted = np.concatenate([head * 6 + within for head, within in zip(heads, inside, strict=True)])
    correlation = draw.uniform(0, 0.3, size=(12, 24))
    correlation[np.arange(12), wanted] = 0.9
    correlation[0, (wanted[0] + 7) % 24] = 1.0  # one dimension alone would rather go elsewhere
    assert assign_heads(correlation, 3, 4).tolist() == wanted.tolist()
    fused = draw.uniform(0, 0.3, size=(36, 72))
    three = np.concatenate([wanted + 24 * part for part in range(3)])
    fused[np.arange(36), three] = 0.9
    fused[0, three[12]] = 1.0  # a query would rather be a key
    assert assign_heads(fused, 3, 4, fused=3).tolist() == three.tolist()


@pytest.mark.parametrize("group", [2, 3])
def test_the_average_is_that_of_the_whole_group(group):
    teacher, student = model(num_hidden_layers=2 * group), model(num_hidden_layers=2, seed=5)
    adapter = trained(teacher, SHORT)
    found = moved(teacher, student, adapter, layer_map="avg", align="none").adapter
    for layer in range(2):
        stack = [adapter.tensors[layer * group + i, "ffn", "up.weight"] for i in range(group)]
        assert torch.allclose(found.tensors[layer, "ffn", "up.weight"], sum(stack) / group)


def test_the_released_average_leaves_out_the_last_layer():
    for depth in (2, 4):
        teacher, student = model(num_hidden_layers=depth), model(num_hidden_layers=1, seed=5)
        adapter = trained(teacher, SHORT)
        found = moved(teacher, student, adapter, layer_map="avg", average="released", align="none").adapter
        stack = [adapter.tensors[i, "ffn", "down.weight"] for i in range(depth)]
        assert torch.allclose(found.tensors[0, "ffn", "down.weight"], sum(stack[:-1]) / depth)


def test_the_average_of_lora_is_the_truncated_mean_change():
    teacher, student = model(num_hidden_layers=2), model(num_hidden_layers=1, seed=5)
    adapter = trained(teacher, "lora[r=3]")
    found = moved(teacher, student, adapter, layer_map="avg", align="none").adapter
    change = sum(adapter.tensors[i, "query", "B"] @ adapter.tensors[i, "query", "A"] for i in range(2)) / 2
    u, s, v = np.linalg.svd(change.numpy())
    ours = found.tensors[0, "query", "B"] @ found.tensors[0, "query", "A"]
    assert np.abs(ours.numpy() - (u[:, :3] * s[:3]) @ v[:3]).max() < 1e-5


def test_layer_maps():
    teacher, student = model(num_hidden_layers=4), model(num_hidden_layers=2, seed=5)
    adapter = trained(teacher, SHORT)
    for layer_map, wanted in (("skip", (0, 2)), ("last", (1, 3)), ([3, 3], (3, 3))):
        found = moved(teacher, student, adapter, layer_map=layer_map, align="none").adapter
        for layer, source in enumerate(wanted):
            assert torch.equal(found.tensors[layer, "ffn", "up.bias"], adapter.tensors[source, "ffn", "up.bias"])


def test_what_does_not_fit_is_an_error():
    teacher, student = model(num_hidden_layers=4), model(num_hidden_layers=3, seed=5)
    adapter = trained(teacher, SHORT)
    with pytest.raises(RecipeError, match=r"multiple of the student's.*as in \[0, 1, 2\]"):
        moved(teacher, student, adapter)
    with pytest.raises(RecipeError, match="one teacher layer, from 0 to 3"):
        moved(teacher, student, adapter, layer_map=[0, 2])
    with pytest.raises(RecipeError, match="student is wider"):
        moved(student, model(num_hidden_layers=3, hidden_size=40), adapter)
    with pytest.raises(RecipeError, match="needs equal widths"):
        moved(teacher, model(num_hidden_layers=2, hidden_size=16), adapter, align="none")
    with pytest.raises(RecipeError, match="stands in every layer"):
        moved(teacher, teacher, trained(teacher, "lora[layers=[0, 1]]"))
    with pytest.raises(RecipeError, match="ALBERT applies one layer"):
        plan(model("albert").net.config, student.net.config, adapter.config)
    missing = Adapter(adapter.config, {key: value for key, value in adapter.tensors.items() if key[0] != 2})
    with pytest.raises(RecipeError, match=r"layer 2, ffn, .* is missing"):
        put(copy.deepcopy(teacher.net), missing)
    with pytest.raises(RecipeError, match="has no up.weight for layer 2|incomplete"):
        moved(teacher, model(num_hidden_layers=2, seed=5), missing)
    over = Adapter(adapter.config, {**adapter.tensors, (7, "ffn", "up.bias"): torch.zeros(32)})
    with pytest.raises(RecipeError, match="layer 7, ffn, up.bias has no place"):
        put(copy.deepcopy(teacher.net), over)
    wrong = Adapter(adapter.config.model_copy(update={"reduction_factor": 8.0}), adapter.tensors)
    with pytest.raises(RecipeError, match="8x32, the model wants 4x32"):
        put(copy.deepcopy(teacher.net), wrong)
    untouched = copy.deepcopy(teacher.net)
    before = untouched.state_dict()
    with pytest.raises(RecipeError):
        put(untouched, wrong)
    assert untouched.state_dict().keys() == before.keys()


@pytest.mark.parametrize(("one", "other", "text"), [("bert", "bert", LORA), ("roberta", "distilbert", "lora[r=2]"),
                                                    ("bert", "distilbert", "houlsby")])  # fmt: skip
def test_any_pair_of_families(one, other, text):
    small = {"hidden_size": 16, "num_hidden_layers": 2} if other == "bert" else {"dim": 16, "n_layers": 2}
    teacher, student = model(one, num_hidden_layers=4), model(other, seed=3, **small)
    adapter = trained(teacher, text)
    found = moved(teacher, student, adapter)
    assert found.report["align"] == "lsa" and found.report["matched_tokens"]["share_of_student"] == 1.0
    net = copy.deepcopy(student.net)
    said = put(net, found.adapter)
    assert f"{len(found.adapter.tensors)} tensors" in said[0]
    listed = {(line["layer"], line["place"], line["tensor"]): line for line in found.report["tensors"]}
    assert listed.keys() == found.adapter.tensors.keys()  # every tensor is accounted for
    assert all(line["shape"] == list(found.adapter.tensors[key].shape) for key, line in listed.items())
    assert all(line["from"] == [key[0] * 2] for key, line in listed.items())
    assert (logits(student, found.adapter) - logits(student)).abs().max() > 1e-4


def test_the_bottleneck_keeps_its_size():
    teacher, student = model(hidden_size=48, num_attention_heads=4), model(seed=3)
    found = moved(teacher, student, trained(teacher, "pfeiffer[reduction_factor=5]"))
    assert found.adapter.tensors[0, "ffn", "down.weight"].shape == (9, 32)
    put(copy.deepcopy(student.net), found.adapter)


@torch.no_grad()
def literal(teacher: Model, student: Model, adapter: Adapter, kind: str, *, every: int) -> dict:
    """Sections 2.2 to 2.7 as the released code does them, one sentence and one dimension at a time."""
    recorded = []
    for source in (teacher, student):
        layers = anatomy(source.net).layers(source.net)
        per_layer: list[list] = [[] for _ in layers]
        for example in ROWS[:20]:
            ids = torch.tensor([source.tokenizer(example.text)["input_ids"]])
            caught: dict[int, torch.Tensor] = {}
            handles = []
            for i, layer in enumerate(layers):
                if kind == "pfeiffer":
                    spot = layer.output.dropout
                    handles.append(spot.register_forward_hook(lambda m, a, out, i=i, caught=caught: caught.update({i: out[0]})))
                else:
                    spot = layer.attention.self.query
                    last = layers[-1].attention.self.query

                    def hook(m, a, out, i=i, last=last, caught=caught):
                        caught[i] = a[0][0]
                        return last.forward(a[0])

                    handles.append(spot.register_forward_hook(hook))
            source.net(input_ids=ids)
            for handle in handles:
                handle.remove()
            for i in range(len(layers)):
                per_layer[i].extend(caught[i].double().numpy())
        recorded.append([np.stack(rows) for rows in per_layer])
    found = {}
    for j in range(len(recorded[1])):
        x, y = recorded[0][j * every], recorded[1][j]
        size = y.shape[1]
        correlation = np.corrcoef(y.T, x.T)[:size, size:]
        pi = linear_sum_assignment(-correlation)[1]
        for (layer, place, tensor), value in adapter.tensors.items():
            if layer == j * every:
                axis = {"down.weight": 1, "up.weight": 0, "up.bias": 0, "A": 1, "B": 0}.get(tensor)
                found[j, place, tensor] = value if axis is None else value.index_select(axis, torch.from_numpy(pi))
    return found


@pytest.mark.parametrize("kind", ["pfeiffer", "lora"])
def test_parity_is_the_released_method(kind):
    teacher = model(hidden_size=48, num_hidden_layers=4)
    student = model(num_hidden_layers=2, seed=9)
    adapter = trained(teacher, f"{kind}[reduction_factor=4]" if kind == "pfeiffer" else "lora[r=3]")
    found = moved(teacher, student, adapter, parity=True, topk=20).adapter
    wanted = literal(teacher, student, adapter, kind, every=2)
    assert found.tensors.keys() == wanted.keys()
    assert all(torch.equal(found.tensors[key], wanted[key]) for key in wanted)
    default = moved(teacher, student, adapter, num_samples=20, sample="first").adapter
    assert any(not torch.equal(default.tensors[key], wanted[key]) for key in wanted)


def test_the_head_moves_only_when_asked_and_only_where_it_fits():
    teacher, student = model(num_hidden_layers=2), model(num_hidden_layers=1, seed=4)
    adapter = trained(teacher, SHORT)
    assert moved(teacher, student, adapter).adapter.head == {}
    found = moved(teacher, student, adapter, transfer_head="if_compatible")
    assert found.report["head"] == "the teacher's" and set(found.adapter.head) == {"classifier.weight", "classifier.bias"}
    net = copy.deepcopy(student.net)
    put(net, found.adapter)
    assert torch.equal(net.classifier.weight, teacher.net.classifier.weight)
    aligned = moved(teacher, student, adapter, transfer_head="if_compatible", align="lsa")
    assert not aligned.adapter.head and "another space" in aligned.report["head"]


def test_the_plan_says_what_becomes_of_each_kind_of_tensor():
    teacher, student = model(hidden_size=48), model()
    said = {text: plan(teacher.net.config, student.net.config, settings_of(text)).rules() for text in (SHORT, LORA, "ia3")}
    assert said[SHORT] == [
        "down.weight axis 1 by what the module reads", "down.bias as it is",
        "up.weight axis 0 by what it writes to", "up.bias axis 0 by what it writes to",
    ]  # fmt: skip
    assert said[LORA] == ["A axis 1 by what the module reads", "B axis 0 by what it writes to"]
    assert said["ia3"] == ["key, value: l axis 0 by what it writes to", "down: l axis 0 by what the module reads"]
    assert plan(teacher.net.config, teacher.net.config, settings_of(SHORT)).rules() == []


def test_an_adapter_that_is_in_a_model_rests_while_it_is_compared():
    teacher, student = model(hidden_size=48), model(seed=3)
    adapter = trained(teacher, SHORT)
    wanted = moved(teacher, student, adapter).adapter
    for source in (teacher, student):
        put(source.net, trained(source, "lora[r=3]"), head=False)
    found = moved(teacher, student, adapter).adapter
    assert all(torch.equal(found.tensors[key], wanted.tensors[key]) for key in wanted.tensors)
    assert active(teacher.net) == active(student.net) == "task"
    assert plan(teacher.net.config, teacher.net.config, adapter.config).teacher.family == "bert"


@pytest.mark.slow
def test_the_sums_of_100_000_tokens_take_seconds_and_no_more_memory_than_one():
    sums, draw = Sums(), torch.Generator().manual_seed(0)
    y, x = torch.randn(1000, 768, generator=draw), torch.randn(1000, 1024, generator=draw)
    sums.add(y[:1], x[:1])
    held = sum(value.numel() for value in vars(sums).values() if isinstance(value, torch.Tensor))
    start = process_time()
    for _ in range(100):
        sums.add(y, x)
    assert assign(sums.correlation()).shape == (768,)
    assert process_time() - start < 30  # four on one core
    assert sum(value.numel() for value in vars(sums).values() if isinstance(value, torch.Tensor)) == held


def test_recording_changes_nothing():
    source = model("deberta-v2")
    before = logits(source)
    with recording(source.net, settings_of(LORA)), torch.no_grad():
        during = source.net(input_ids=torch.tensor([[2, 9, 14, 30, 22, 3], [2, 41, 8, 17, 60, 3]])).logits
    assert torch.equal(before, during)
    assert torch.equal(logits(source), before)
