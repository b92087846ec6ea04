"""The objective: sums over parts equal the whole, needs, schedules, checkpoints, and what it refuses."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import objective_of, settings_of

from understudy import losses
from understudy.base.errors import DataError, DivergedError, RecipeError
from understudy.base.schedule import Ramp
from understudy.kinds import kind as kind_named
from understudy.models.needs import Needs, Signals
from understudy.objective import Counts, Objective, projection
from understudy.objective import terms as learn
from understudy.objective.pair import Pair, Side
from understudy.objective.vocabulary import build as build_objective
from understudy.recipe.objective import terms
from understudy.recipe.settings import PositiveSchedule, Schedule

C, D_S, D_T, LAYERS_S, LAYERS_T = 3, 4, 6, 2, 4
EVERY_SEPARABLE = {
    "softmax_regression_weight": 0.1, "logit_kl_weight": 0.5, "logit_mse_weight": 0.2, "hidden_weight": 0.3,
    "relation_weight": 0.7, "relation_heads": 2, "patient_weight": 0.4,
}  # fmt: skip


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(kind="classification", *, seed=0, **method):
    return objective_of(
        {"name": "automm", "hidden_weight": 0.0, **method}, kind=kind, num_labels=1 if kind == "regression" else C,
        student_width=D_S, teacher_width=D_T, student_layers=LAYERS_S, teacher_layers=LAYERS_T, heads=(2, 3),
        teacher_head=(randn(1, 1 if kind == "regression" else C, D_T), None), seed=seed,
    ).double()  # fmt: skip


def labels_for(kind, sizes):
    total = sum(sizes)
    if kind == "regression":
        return randn(9, len(sizes))
    if kind == "multilabel":
        return (randn(9, len(sizes), C) > 0).double()
    if kind in ("tokens", "text"):
        labels = torch.arange(total) % C
        labels[torch.arange(total) % 3 == 1] = -100
        return labels
    return torch.arange(len(sizes)) % C


def signals(needs: Needs, sizes, kind, labels, *, width, heads, seed):
    """Random signals of the shapes that models/signals.py gives."""
    num, total = len(sizes), sum(sizes)
    rows = {"tokens": total, "text": int((labels != -100).sum())}.get(kind, num)
    per_token = kind == "tokens" and needs.feature == "head_input"
    return Signals(
        sizes=list(sizes),
        logits=randn(seed, rows, 1 if kind == "regression" else C),
        feature=randn(seed + 1, total if per_token else num, width) if needs.feature else None,
        hidden={i: randn(seed + 10 + i, total, width) for i in needs.hidden},
        cls={i: randn(seed + 30 + i, num, width) for i in needs.cls},
        qkv={i: tuple(randn(seed + 50 + i + j, total, heads, width // heads) for j in range(3)) for i in needs.qkv},
    )


def split(batch: Signals, labels, kind, examples):
    """The signals and labels of some examples, packed anew."""
    starts = [sum(batch.sizes[:i]) for i in range(len(batch.sizes))]
    tokens = [t for e in examples for t in range(starts[e], starts[e] + batch.sizes[e])]
    position = {t: i for i, t in enumerate(torch.nonzero(labels != -100).flatten().tolist())} if kind == "text" else {}
    logit_rows = {"tokens": tokens, "text": [position[t] for t in tokens if t in position]}.get(kind, list(examples))
    feature_rows = None
    if batch.feature is not None:
        feature_rows = tokens if len(batch.feature) == sum(batch.sizes) != len(batch.sizes) else list(examples)
    part = Signals(
        sizes=[batch.sizes[e] for e in examples],
        logits=batch.logits[logit_rows],
        feature=None if feature_rows is None else batch.feature[feature_rows],
        hidden={i: x[tokens] for i, x in batch.hidden.items()},
        cls={i: x[list(examples)] for i, x in batch.cls.items()},
        qkv={i: tuple(x[tokens] for x in parts) for i, parts in batch.qkv.items()},
    )
    return part, labels[tokens if kind in ("tokens", "text") else list(examples)]


def world(objective, kind, sizes, *, seed=100):
    labels = labels_for(kind, sizes)
    student = signals(objective.needs_student, sizes, kind, labels, width=D_S, heads=2, seed=seed)
    teacher = signals(objective.needs_teacher, sizes, kind, labels, width=D_T, heads=3, seed=seed + 500)
    valid = int((labels != -100).sum()) if kind in ("tokens", "text") else len(sizes)
    return student, teacher, labels, Counts(examples=len(sizes), tokens=sum(sizes), labels=valid)


def method_for(kind):
    method = dict(EVERY_SEPARABLE)
    if kind == "regression":
        del method["logit_kl_weight"]
    if kind == "text":
        del method["softmax_regression_weight"]
    return method


@pytest.mark.parametrize(
    "kind",
    ["classification", "tokens", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("regression", "multilabel", "text"))],
)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(2, 5), min_size=2, max_size=6), st.data())
def test_parts_add_up_to_the_whole(kind, sizes, data):
    """Values, total and gradients of all separable terms, for any division into micro-batches."""
    objective = build(kind, **method_for(kind))
    assert objective.separable
    student, teacher, labels, counts = world(objective, kind, sizes)
    leaves = [student.logits, student.feature, *student.hidden.values(), *student.cls.values()]
    leaves = [x.requires_grad_() for x in leaves if x is not None] + list(objective.parameters())

    total, values = objective.compute(student, teacher, labels, progress=0.3, counts=counts)
    whole = torch.autograd.grad(total, leaves)

    of_example = [data.draw(st.integers(0, 2)) for _ in sizes]
    sums, summed, gradients = 0.0, dict.fromkeys(values, 0.0), [torch.zeros_like(x) for x in leaves]
    for part in {*of_example}:
        examples = [e for e, owner in enumerate(of_example) if owner == part]
        s, y = split(student, labels, kind, examples)
        t, _ = split(teacher, labels, kind, examples)
        part_total, part_values = objective.compute(s, t, y, progress=0.3, counts=counts)
        sums += part_total.item()
        summed = {name: summed[name] + value.item() for name, value in part_values.items()}
        for all_of, more in zip(
            gradients, torch.autograd.grad(part_total, leaves, materialize_grads=True), strict=True
        ):
            all_of += more
    assert sums == pytest.approx(total.item(), rel=1e-11)
    assert summed == pytest.approx({name: value.item() for name, value in values.items()}, rel=1e-11, abs=1e-13)
    for ours, expected in zip(gradients, whole, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-13)


def test_pairwise_terms_refuse_to_be_split():
    objective = build(rkd_distance_loss_weight=1.0)
    assert not objective.separable and objective.units["rkd_distance"] == "batch"
    student, teacher, labels, counts = world(objective, "classification", [2, 3, 4, 2])
    objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    s, y = split(student, labels, "classification", [0, 1])
    t, _ = split(teacher, labels, "classification", [0, 1])
    with pytest.raises(RecipeError, match=r"'rkd_distance'.*sees 2 of 4.*max_tokens"):
        objective.compute(s, t, y, progress=0.0, counts=counts)


def test_needs_are_those_of_the_terms_that_count():
    assert build().needs_student == build().needs_teacher == Needs(logits=True, feature="head_input")
    plain = build(output_feature_loss_weight=0.0)
    assert plain.needs_teacher == Needs(logits=True)
    labels_only = Objective(hard=learn.hard_labels("classification"), soft=0.0 * learn.soft_labels("classification"))
    assert not labels_only.needs_teacher and list(labels_only.units) == ["hard"]
    layers = build(hidden_weight=1.0, patient_weight=1.0, relation_weight=1.0, relation_layer=3, feature="mean")
    assert layers.needs_student == Needs(logits=True, feature="mean", hidden=(1, 2), cls=(1,), qkv=(2,))
    assert layers.needs_teacher == Needs(logits=True, feature="mean", hidden=(1, 4), cls=(2,), qkv=(3,))
    from_zero = build(output_feature_loss_weight=Schedule(start=0.0, end=1.0))
    assert from_zero.needs_teacher.feature == "head_input"


def test_weights_and_temperature_follow_their_schedules():
    objective = build(
        hard_label_weight=Schedule(start=0.0, end=0.5, until=0.5), temperature=PositiveSchedule(start=8.0, end=2.0),
        output_feature_loss_weight=Schedule(start=1.0, end=0.0, shape="cosine"), scale_by_t2=False,
    )  # fmt: skip
    student, teacher, labels, counts = world(objective, "classification", [2, 3, 4])
    expected_weights = {
        0.0: {"hard": 0.0, "soft": 1.0, "output_feature": 1.0},
        0.5: {"hard": 0.5, "soft": 1.0, "output_feature": 0.5},
        1.0: {"hard": 0.5, "soft": 1.0, "output_feature": 0.0},
    }
    for progress, weights in expected_weights.items():
        assert objective.weights(progress) == pytest.approx(weights)
        total, values = objective.compute(student, teacher, labels, progress=progress, counts=counts)
        assert set(values) == {name for name, weight in weights.items() if weight > 0}  # no work at weight 0
        assert total.item() == pytest.approx(sum(weights[name] * values[name].item() for name in values))
        constant = build(temperature=8.0 - 6.0 * progress, scale_by_t2=False)
        _, at_that_time = constant.compute(student, teacher, labels, progress=0.0, counts=counts)
        assert values["soft"].item() == pytest.approx(at_that_time["soft"].item())


def test_where_every_schedule_is_zero_the_loss_is_zero_and_trains_nothing():
    objective = Objective(hard=Ramp(0.0, 1.0) * learn.hard_labels("classification")).double()
    logits = randn(1, 2, C).requires_grad_()
    total, values = objective.compute(
        Signals([1, 1], logits=logits), None, torch.tensor([0, 1]), progress=0.0, counts=Counts(2, 2, 2)
    )
    total.backward()
    assert total.item() == 0 and not values and logits.grad.abs().sum() == 0


def test_projections_depend_on_seed_and_name_only():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = build(**EVERY_SEPARABLE).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())  # initialising does not move anyone else's randomness
    torch.manual_seed(6)
    again, other = build(**EVERY_SEPARABLE).state_dict(), build(**EVERY_SEPARABLE, seed=1).state_dict()
    assert one.keys() == again.keys() and all(torch.equal(one[name], again[name]) for name in one)
    fewer = build(hidden_weight=1.0).state_dict()
    assert torch.equal(fewer["projections.hidden_1_1.weight"], one["projections.hidden_1_1.weight"])
    assert not torch.equal(one["projections.hidden_1_1.weight"], one["projections.hidden_2_4.weight"])
    assert not torch.equal(one["projections.adaptor.weight"], other["projections.adaptor.weight"])


def test_a_checkpoint_restores_projections_and_counts():
    objective = build(**EVERY_SEPARABLE, rkd_angle_loss_weight=1.0)
    student, teacher, labels, counts = world(objective, "classification", [2, 3])
    with pytest.warns(UserWarning, match="rkd_angle"):
        objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    fresh = build(**EVERY_SEPARABLE, rkd_angle_loss_weight=1.0, seed=9)
    fresh.load_state_dict(objective.state_dict())
    assert fresh.notes() == objective.notes() and len(fresh.notes()) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the resumed run has said it before
        total, _ = fresh.compute(student, teacher, labels, progress=0.0, counts=counts)
    expected, _ = objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    assert total.item() == expected.item()


def test_a_copy_shares_nothing():
    objective = build(softmax_regression_weight=0.1)
    twin = copy.deepcopy(objective)
    student, teacher, labels, counts = world(objective, "classification", [2, 3, 4])
    with torch.no_grad():
        twin.projections["adaptor"].weight.zero_()
    one, _ = objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    other, _ = twin.compute(student, teacher, labels, progress=0.0, counts=counts)
    assert one.item() != other.item()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_broken_term_is_named(bad):
    objective = build()
    student, teacher, labels, counts = world(objective, "classification", [2, 3])
    teacher.feature[0, 0] = bad
    with pytest.raises(DivergedError) as error:
        objective.compute(student, teacher, labels, progress=0.25, counts=counts)
    message = str(error.value)
    assert "'output_feature' is" in message and "'soft'" not in message and "'hard'" not in message
    assert "25.0%" in message and "come out of the teacher" in message and "student" not in message
    assert error.value.exit_code == 5


def test_missing_labels_are_an_error_of_the_hard_term_only():
    objective = build()
    student, teacher, _, counts = world(objective, "classification", [2, 3])
    with pytest.raises(DataError, match="'hard'"):
        objective.compute(student, teacher, None, progress=0.0, counts=counts)
    label_free = build(hard_label_weight=0.0)
    total, _ = label_free.compute(student, teacher, None, progress=0.0, counts=counts)
    assert torch.isfinite(total)


def test_unlabelled_token_data_learns_from_every_token():
    objective = build("tokens", hard_label_weight=0.0, output_feature_loss_weight=0.0)
    student, teacher, _, _ = world(objective, "tokens", [2, 3])
    counts = Counts(examples=2, tokens=5, labels=5)
    _, values = objective.compute(student, teacher, None, progress=0.0, counts=counts)
    p = torch.softmax(teacher.logits / 5, 1)
    assert values["soft"].item() == pytest.approx(
        25 * -(p * torch.log_softmax(student.logits / 5, 1)).sum(1).mean().item()
    )


def test_token_terms_need_one_tokenizer():
    for method in ({"hidden_weight": 1.0}, {"relation_weight": 1.0, "relation_heads": 2}):
        objective = build(**method)
        student, _, labels, counts = world(objective, "classification", [2, 3])
        other = signals(objective.needs_teacher, [3, 2], "classification", labels, width=D_T, heads=3, seed=5)
        with pytest.raises(RecipeError, match="same tokenizer"):
            objective.compute(student, other, labels, progress=0.0, counts=counts)


def test_two_tokenizers_on_token_tasks_meet_word_by_word():
    """A teacher with other tokens hands over its rows of the labelled words; too few of them is an error."""
    objective = build("tokens")
    student, teacher, labels, counts = world(objective, "tokens", [2, 3, 4])
    expected, _ = objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    kept = labels != -100
    by_word = Signals([9, 9, 9], logits=teacher.logits[kept], feature=teacher.feature[kept])
    total, _ = objective.compute(student, by_word, labels, progress=0.0, counts=counts)
    assert total.item() == expected.item()
    cut = Signals([9, 9, 9], logits=teacher.logits[kept][:-1], feature=teacher.feature[kept][:-1])
    with pytest.raises(RecipeError, match="max_length"):
        objective.compute(student, cut, labels, progress=0.0, counts=counts)


def test_held_out_rows_are_scored_in_parts_without_the_pairwise_terms():
    objective = build(rkd_angle_loss_weight=1.0, softmax_regression_weight=0.1)
    part = objective.separable_part()
    assert part.separable and set(part.units) == set(objective.units) - {"rkd_angle"}
    assert part.projections["adaptor"] is objective.projections["adaptor"]
    student, teacher, labels, counts = world(objective, "classification", [2, 3, 4])
    _, values = objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    _, of_part = part.compute(student, teacher, labels, progress=0.0, counts=counts)
    assert {name: values[name].item() for name in of_part} == {name: value.item() for name, value in of_part.items()}


def test_two_tokenizers_serve_terms_by_example():
    objective = build(patient_weight=1.0)
    student, _, labels, counts = world(objective, "classification", [2, 3])
    other = signals(objective.needs_teacher, [7, 4], "classification", labels, width=D_T, heads=3, seed=5)
    total, _ = objective.compute(student, other, labels, progress=0.0, counts=counts)
    assert torch.isfinite(total)


@pytest.mark.parametrize(
    ("kind", "method", "words"),
    [
        (
            "classification",
            {"hard_label_weight": 0.0, "soft_label_weight": 0.0, "output_feature_loss_weight": 0.0},
            "nothing to learn",
        ),
        ("classification", {"relation_weight": 1.0, "relation_layer": 5}, "relations: layer is 5"),
        ("classification", {"relation_weight": 1.0, "relation_heads": 4}, "relations: heads 4"),
        ("classification", {"hidden_weight": 1.0, "hidden_mapping": (1, 9)}, "counted from 1 to 4"),
        ("classification", {"adaptor": "identity"}, "adaptor"),
        ("tokens", {"rkd_angle_loss_weight": 1.0}, "feature"),
        ("tokens", {"softmax_regression_weight": 1.0, "feature": "mean"}, "head_input"),
        ("text", {"softmax_regression_weight": 1.0}, "head_input"),
    ],
)
def test_combinations_that_make_no_sense(kind, method, words):
    with pytest.raises(RecipeError, match=words):
        build(kind, **method)


def test_relation_heads_default_to_as_many_of_the_teachers_as_divide_both_widths():
    objective, two = build(relation_weight=1.0), build(relation_weight=1.0, relation_heads=2)
    student, teacher, labels, counts = world(objective, "classification", [2, 3])  # 3 heads, widths 4 and 6
    _, values = objective.compute(student, teacher, labels, progress=0.0, counts=counts)
    _, expected = two.compute(student, teacher, labels, progress=0.0, counts=counts)
    assert values["relations"].item() == expected["relations"].item()


def test_terms_are_weighed_by_multiplication():
    term = learn.hard_labels("classification")
    assert (2 * (0.5 * term)).weight == 1.0
    assert (Ramp(1.0, 0.0) * (0.5 * term)).weight == Ramp(0.5, 0.0)
    with pytest.raises(TypeError, match="one ramp"):
        Ramp(1.0, 0.0) * (Ramp(0.0, 1.0) * term)
    with pytest.raises(RecipeError, match="below 0"):
        Objective(hard=-1.0 * term)


def test_one_name_is_one_module():
    def feature(seed):
        adaptor = projection("adaptor", "linear", student_width=D_S, teacher_width=D_T, seed=seed)
        return learn.output_feature("classification", adaptor=adaptor)

    with pytest.raises(ValueError, match="adaptor"):
        Objective(one=feature(0), two=feature(1))


@pytest.mark.parametrize(("kind", "parts"), [("identity", 0), ("linear", 2), ("linear_norm", 4), ("mlp", 4)])
def test_kinds_of_projection(kind, parts):
    width = D_T if kind == "identity" else D_S
    name, module = projection("adaptor", kind, student_width=width, teacher_width=D_T, seed=0)
    assert name == "adaptor" and len(list(module.parameters())) == parts
    assert module(torch.zeros(2, width)).shape == (2, D_T)
    with pytest.raises(RecipeError, match="Did you mean 'linear'"):
        projection("adaptor", "linaer", student_width=D_S, teacher_width=D_T, seed=0)


def test_half_precision_signals_lose_nothing_in_the_loss():
    objective = build().float()
    student, teacher, labels, counts = world(objective, "classification", [2, 3, 4])
    half = Signals(student.sizes, logits=student.logits.bfloat16(), feature=student.feature.bfloat16())
    wide = Signals(student.sizes, logits=half.logits.float(), feature=half.feature.float())
    cast = Signals(teacher.sizes, logits=teacher.logits.float(), feature=teacher.feature.float())
    one, _ = objective.compute(half, cast, labels, progress=0.0, counts=counts)
    other, _ = objective.compute(wide, cast, labels, progress=0.0, counts=counts)
    assert one.dtype == torch.float32 and one.item() == other.item()


SIZES = {"student_width": D_S, "teacher_width": D_T, "student_layers": LAYERS_S, "teacher_layers": LAYERS_T, "num_labels": C}


def test_what_the_models_lack_is_refused_or_left_out_with_a_note():
    bare = Pair(kind_named("text"), Side(4, 2, outputs=False), Side(6, 4, outputs=True), same_tokens=True)
    asked = settings_of({"name": "automm"}, {"hard": 1, "hidden": 1}).terms()
    with pytest.raises(RecipeError, match="objective.hard: it compares outputs, and the student has no head"):
        build_objective(asked, bare)
    own = settings_of({"name": "automm"}, kind="text").terms()
    built, notes = build_objective(own, bare)
    assert set(built.terms) == {"output_feature", "hidden"}
    assert [note.split(":")[0] for note in notes] == ["objective.hard is left out", "objective.soft is left out"]
    with pytest.raises(RecipeError, match="hidden: it compares token with token"):
        objective_of({"name": "automm"}, {"hidden": 1}, same_tokens=False, **SIZES)
    assert "hidden" not in objective_of({"name": "automm"}, same_tokens=False, **SIZES).terms
    alone = Pair(kind_named("classification"), Side(4, 2), None, num_labels=C)
    for term in ("soft", "hidden", "rkd_angle", "relations", "logit_kl"):
        with pytest.raises(RecipeError, match=f"objective.{term}: it asks a teacher, and here nobody teaches"):
            build_objective(settings_of({"name": "finetune"}, {term: 1}).terms(), alone)
    assert set(build_objective(settings_of({"name": "finetune"}).terms(), alone)[0].terms) == {"hard"}


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "tokens", "text"])
@pytest.mark.parametrize("method", ["automm", "finetune", "minidisc", "maxidisc", "mkd", "peakd", "kdnas"])
def test_the_own_objective_of_every_method_fits_every_kind(method, kind):
    objective = objective_of({"name": method}, kind=kind, variances=lambda layers: {i: torch.ones(D_T) for i in layers}, **SIZES)
    assert objective.terms


@pytest.mark.parametrize("method", ["automm", "minidisc", "peakd"])
def test_every_term_goes_with_every_schedule(method):
    of_texts = {"vectors", "similarities", "contrastive", "lists"}  # about embedding models and rerankers (tests/unit/kinds)
    given = dict.fromkeys(terms().keys() - of_texts, 1.0) | {"patient": {"mapping": "top"}}
    objective = objective_of(
        {"name": method}, given, teacher_head=(randn(1, C, D_T), None), **SIZES,
        variances=lambda layers: {i: torch.ones(D_T) for i in layers},
    )  # fmt: skip
    assert set(objective.terms) == set(given)


def test_relations_of_pruned_layers_divide_what_is_left():
    teacher = Side(12, 2, lambda: [(3, 12), (3, 12)])
    pruned = Side(12, 2, lambda: [(3, 12), (2, 8)])  # one of three heads of the last layer is gone
    asked = settings_of({"name": "automm"}, {"relations": 1}).terms()
    objective, _ = build_objective(asked, Pair(kind_named("classification"), pruned, teacher, same_tokens=True))
    qkv = [tuple(randn(seed + i, 5, heads, 4) for i in range(3)) for seed, heads in ((0, 2), (9, 3))]
    student, theirs = (Signals([2, 3], qkv={2: one}) for one in qkv)
    _, values = objective.double().compute(student, theirs, None, progress=0.0, counts=Counts(2, 5, 2))
    parts = [losses.relations(s, t, [2, 3], heads=2) for s, t in zip(*qkv, strict=True)]  # divide 8 and 12, 3 do not
    assert values["relations"].item() == pytest.approx((sum(parts) / 3).item())
    empty = Side(12, 2, lambda: [(3, 12), (0, 0)])
    with pytest.raises(RecipeError, match="objective.relations: pruning has left no attention head.*min_heads"):
        build_objective(asked, Pair(kind_named("classification"), empty, teacher, same_tokens=True))
