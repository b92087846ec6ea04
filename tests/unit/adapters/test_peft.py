"""peft is the truth about LoRA, (IA)^3 and their folders."""

from __future__ import annotations

import copy
import json

import pytest
import tiny_models
import torch
from adapted import IDS, settings_of, shake, stock

from understudy.adapters import extract, inject, put
from understudy.adapters.files import read_adapter, write_adapter
from understudy.base.errors import DataError, RecipeError

peft = pytest.importorskip("peft")
LORA = [
    "lora[r=3, alpha=5, rslora=true]", "lora[r=2, targets=[query, key, down, up, out]]", "lora[r=2, layers=[1], targets=[down]]",
]  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "deberta-v2", "electra"])
def test_folders_go_both_ways_with_the_same_logits(family, tmp_path):
    for number, text in enumerate([*LORA, "ia3", "ia3[targets=[key], feedforward=[out, down]]"]):
        head = "tokens" if number % 2 else "classification"
        base = tiny_models.tiny_net(family, head)
        net = copy.deepcopy(base)
        inject(net, settings_of(text))
        shake(net)
        net.classifier.load_state_dict({key: value + 0.1 for key, value in net.classifier.state_dict().items()})
        wanted = stock(net)
        write_adapter(tmp_path / f"{number}", extract(net, head=True), net, base="tiny")
        theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / f"{number}")
        assert (theirs(input_ids=IDS).logits - wanted).abs().max() < 1e-6
        theirs.save_pretrained(tmp_path / f"{number}-theirs")
        back = copy.deepcopy(base)
        put(back, read_adapter(tmp_path / f"{number}-theirs", back))
        assert torch.equal(stock(back), wanted)


def test_what_peft_can_and_we_cannot_is_refused(tmp_path):
    base = tiny_models.tiny_net("bert")
    for number, (changes, error) in enumerate((
        ({"use_dora": True}, "use_dora: True"), ({"bias": "all"}, "bias: 'all'"), ({"peft_type": "VERA"}, "type VERA"),
        ({"alpha_pattern": {"query": 3}}, "alpha_pattern"),
    )):  # fmt: skip
        folder = tmp_path / str(number)
        net = copy.deepcopy(base)
        inject(net, settings_of("lora"))
        write_adapter(folder, extract(net), net)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(RecipeError, match=error):
            read_adapter(folder, base)
    with pytest.raises(DataError, match="has no place|belongs to"):
        read_adapter(_of_another_family(tmp_path), base)
    net = copy.deepcopy(base)
    inject(net, settings_of("pfeiffer"))
    with pytest.raises(RecipeError, match="peft has no bottleneck"):
        write_adapter(tmp_path / "x", extract(net), net, layout="peft")


def _of_another_family(tmp_path):
    net = tiny_models.tiny_net("distilbert")
    inject(net, settings_of("lora"))
    return write_adapter(tmp_path / "distilbert", extract(net), net)
