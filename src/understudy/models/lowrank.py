"""Embeddings of words as a product of two thin matrices: V x r and r x D in place of V x D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from understudy.base.errors import RecipeError
from understudy.models.anatomy import Net, anatomy


class LowRankEmbedding(nn.Module):
    """Looks a token up in a narrow table (V, r) and widens what it finds (r -> D)."""

    def __init__(self, num_embeddings: int, rank: int, width: int, padding_idx: int | None) -> None:
        super().__init__()
        self.rows = nn.Embedding(num_embeddings, rank, padding_idx=padding_idx)
        self.widen = nn.Linear(rank, width, bias=False)

    @property
    def num_embeddings(self) -> int:
        return self.rows.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., D)."""
        return self.widen(self.rows(ids))

    def whole(self) -> Tensor:
        """The table (V, D) that says the same."""
        return self.rows.weight @ self.widen.weight.T


@torch.no_grad()
def lower_embeddings(net: Net, rank: int) -> None:
    """Replace a network's word embeddings by the nearest ones of that rank (a singular value decomposition), in place.

    On the meta device, where a network is built whose weights are read later, only the modules are made.

    Raises:
        RecipeError: a rank that is no less than the width, embeddings narrower than the network already (ALBERT, ELECTRA), or a
            head that shares them.
    """
    row, words = anatomy(net), net.get_input_embeddings()
    if isinstance(words, LowRankEmbedding):
        raise RecipeError("These embeddings are of low rank already; lower those of the model they were made from.")
    number, width = words.weight.shape
    if width != row.width(net):
        raise RecipeError(
            f"student.embedding_rank: this {row.family} has embeddings of a width of its own, {width}; a fresh architecture "
            "sets it (student.config: {embedding_size: …})."
        )
    if not 1 <= rank < width:
        raise RecipeError(f"student.embedding_rank is {rank}; it must be less than the width, {width}, to save anything.")
    if net.get_output_embeddings() is not None:
        raise RecipeError("student.embedding_rank: this model's head shares its embeddings; a model without such a head can.")
    made = LowRankEmbedding(number, rank, width, words.padding_idx).to(words.weight)
    if words.weight.device.type != "meta":
        table = words.weight.double()
        # The principal directions of the rows; the sign of each is fixed by its largest entry.
        directions = torch.linalg.eigh(table.T @ table).eigenvectors.flip(1)[:, :rank]
        directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        made.rows.weight.copy_(table @ directions)
        made.widen.weight.copy_(directions)
    net.set_input_embeddings(made)


def with_whole_embeddings(net: Net) -> dict[str, Tensor]:
    """The weights of a network by name, its embeddings as one table, as its stock class wants them."""
    state = dict(net.state_dict())
    for name, module in net.named_modules():
        if isinstance(module, LowRankEmbedding):
            del state[f"{name}.rows.weight"], state[f"{name}.widen.weight"]
            state[f"{name}.weight"] = module.whole().detach()
    return state
