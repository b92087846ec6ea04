"""Gradients of embeddings by rows: the numbers of torch's own dense gradient, whatever came in the step before."""

from __future__ import annotations

import fits
import pytest
import torch
from torch import nn

from understudy.train import embeddings
from understudy.train.embeddings import FEWEST_ROWS, RowGradients


class Net(nn.Module):
    """Words and positions, read by a layer; with `tied` the words are an output layer too."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions = nn.Embedding(FEWEST_ROWS, 8, padding_idx=0), nn.Embedding(16, 8)
        self.tied = tied

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = self.words(ids) + self.positions(torch.arange(ids.shape[1]))
        read = states.tanh()
        return (read @ self.words.weight.T if self.tied else read).square().sum()


@pytest.mark.parametrize("tied", [False, True])
def test_step_by_step_as_dense(tied):
    one, other = Net(tied=tied), Net(tied=tied)
    rows = RowGradients(one)
    assert rows.tables == [one.words]
    for step in range(4):
        ids = torch.randint(0, 300, (2, 6, 9), generator=torch.Generator().manual_seed(step))  # words recur, 0 is padding
        for net in (one, other):
            net.zero_grad()
        with rows.sparse():
            for part in ids:  # micro-batches
                one(part).backward()
        rows.fill()
        for part in ids:
            other(part).backward()
        mine, theirs = one.words.weight.grad, other.words.weight.grad
        assert mine.layout == torch.strided
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4 if tied else 1e-6)
        if not tied:
            unused = torch.ones(FEWEST_ROWS, dtype=torch.bool)
            unused[ids.unique()] = False
            assert (mine[unused] == 0).all() and (mine[0] == 0).all() and mine[ids.unique()[1:]].any(dim=1).all()
        assert torch.equal(one.positions.weight.grad, other.positions.weight.grad)


def test_nothing_is_left_behind():
    net = Net()
    rows = RowGradients(net)
    with pytest.raises(KeyError), rows.sparse():
        assert net.words.sparse and not net.positions.sparse
        raise KeyError
    assert not net.words.sparse
    net.words.requires_grad_(False)
    assert RowGradients(net).tables == []


@pytest.mark.parametrize("kind", ["classification", "text"])
def test_a_fit_ends_with_the_same_weights(kind, tmp_path, monkeypatch):
    made = []
    for fewest in (FEWEST_ROWS, 1):  # the toy's tables are below the one, above the other
        monkeypatch.setattr(embeddings, "FEWEST_ROWS", fewest)
        task = fits.make(tmp_path / str(fewest), kind, train={"epochs": 2, "max_tokens": 60})
        assert (len(RowGradients(task.model.net).tables) > 0) == (fewest == 1)
        fits.run(task)
        assert not any(module.sparse for module in task.model.net.modules() if isinstance(module, nn.Embedding))
        made.append(task.model.net.state_dict())
    for name, tensor in made[0].items():
        torch.testing.assert_close(made[1][name], tensor, rtol=1e-4, atol=1e-5)
