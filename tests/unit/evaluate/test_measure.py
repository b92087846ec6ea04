"""Costs against what can be counted by hand; the latency protocol with a clock of its own."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from understudy.base.errors import DataError, RecipeError
from understudy.evaluate import measure

SMALL = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SMALL, max_position_embeddings=32, num_labels=3))


def test_parameters_counted_by_hand(bert):
    layer = 4 * (16 * 16 + 16) + 2 * 16 * 32 + 32 + 16 + 2 * 2 * 16
    tables = 60 * 16 + 32 * 16 + 2 * 16
    rest = 2 * 16 + 2 * layer + 16 * 16 + 16 + 3 * 16 + 3
    assert measure.num_parameters(bert) == tables + rest
    assert measure.num_parameters_nonembedding(bert) == rest


def test_a_tied_output_layer_is_counted_once_and_as_an_embedding():
    net = BertForMaskedLM(BertConfig(**SMALL, max_position_embeddings=32))
    assert net.cls.predictions.decoder.weight is net.get_input_embeddings().weight
    tables = 60 * 16 + 32 * 16 + 2 * 16
    assert measure.num_parameters(net) - measure.num_parameters_nonembedding(net) == tables


def test_size_on_disk_is_the_size_in_memory_but_for_headers(bert, tmp_path):
    bert.save_pretrained(tmp_path)
    on_disk, in_memory = measure.size_mb(tmp_path), measure.size_mb(bert)
    assert in_memory == pytest.approx(measure.num_parameters(bert) * 4 / 1e6, abs=1e-9)
    assert 0 < on_disk - in_memory < 0.02


def test_a_folder_without_weights_has_no_size(tmp_path):
    with pytest.raises(DataError, match="no .safetensors"):
        measure.size_mb(tmp_path)


def test_flops_counted_by_hand(bert):
    batch, length, wide, inner = 3, 8, 16, 32
    layer = length * (4 * wide * wide + 2 * wide * inner) + 2 * length * length * wide
    expected = 2 * batch * (2 * layer + wide * wide + wide * 3)
    assert measure.flops(bert, batch_size=batch, length=length) == expected


def test_flops_of_other_families(bert):
    roberta = RobertaForSequenceClassification(
        RobertaConfig(**SMALL, max_position_embeddings=34, pad_token_id=1, num_labels=3)
    )
    config = DebertaV2Config(**SMALL, max_position_embeddings=32, relative_attention=True, pos_att_type=["c2p", "p2c"])
    same, more = (measure.flops(net, length=8) for net in (roberta, DebertaV2ForSequenceClassification(config)))
    assert same == measure.flops(bert, length=8)
    assert more > same, "attention to relative positions is work too"


def test_inputs_hold_no_padding_and_fit_the_model(bert):
    ids = measure.inputs_for(bert, batch_size=2, length=32)["input_ids"]
    assert ids.shape == (2, 32) and not (ids == bert.config.pad_token_id).any() and ids.max() < 60
    with pytest.raises(RecipeError, match=r"latency.length is 33.*only 32 positions"):
        measure.inputs_for(bert, batch_size=1, length=33)


def test_latency_takes_turns_warms_up_and_puts_threads_back():
    now, order = [0.0], []
    threads_before, seen = torch.get_num_threads(), set()

    def call(name: str, seconds: float):
        def run():
            order.append(name)
            seen.add(torch.get_num_threads())
            now[0] += seconds * (100 if len(order) <= 2 * measure.WARM_UP else 1)

        return run

    found = measure.latency(
        {"teacher": call("teacher", 0.004), "student": call("student", 0.001)},
        batch_size=1, length=16, repeats=6, threads=1, clock=lambda: now[0],
    )  # fmt: skip
    assert found["teacher"]["median"] == pytest.approx(4) and found["student"]["median"] == pytest.approx(1)
    assert found["student"]["iqr"] == pytest.approx(0, abs=1e-9)
    assert [set(order[turn : turn + 2]) for turn in range(0, len(order), 2)] == [{"teacher", "student"}] * 9
    assert order[0] != order[2]
    assert seen == {1} and torch.get_num_threads() == threads_before
    assert found["student"] | {"median": 0, "iqr": 0} == {
        "median": 0, "iqr": 0, "threads": 1, "device": "cpu", "batch_size": 1, "length": 16, "repeats": 6, "warm_up": 3,
    }  # fmt: skip


def test_threads_are_put_back_after_a_failure():
    before = torch.get_num_threads()

    def broken():
        raise ValueError("out of order")

    with pytest.raises(ValueError, match="out of order"):
        measure.latency({"teacher": broken}, batch_size=1, length=1, threads=before + 1)
    assert torch.get_num_threads() == before


def test_costs_have_the_shape_of_result_json(bert):
    from understudy.evaluate.result import ModelResult

    found = measure.costs({"student": bert}, names={"student": "toy"}, length=8, repeats=2)
    ModelResult.model_validate({"metrics": {}, **found["student"]})


def test_nothing_private_in_machine_and_versions(monkeypatch, tmp_path):
    import socket

    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setenv("HOME", str(tmp_path))
    said = str(measure.machine()) + str(measure.versions())
    assert "hf_canary" not in said and str(tmp_path) not in said and socket.gethostname() not in said
    assert "/" not in said.replace("CPU @", "")
    assert measure.versions()["torch"] == torch.__version__
