"""Where the parts of a model are: one row per family, and nothing else in the package names a family's attributes.

Adding a family is adding one `Anatomy` to `FAMILIES` and one row to the tables in `tests/tiny_models.py`: names of parts, and
for its heads the few expressions that transformers hides in its own forwards. How a model is run is not told here: it runs
itself (signals.py).

Shapes: B examples, L padded length, T packed tokens, D width, H heads, d head width, C outputs. `net` is always a
transformers model with a head (or a bare backbone, where no head is asked for). `(...)` stands for any leading shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from understudy.base.errors import RecipeError

# torch types every attribute of a module as `Tensor | Module`; a row reads attributes of many stock classes by name,
# so the modules are `Any` here and the tests check the rows against real models.
Net = Any
Layer = Any

PREFIX = "understudy-"
"""Before the family in `config.model_type` of a student that no stock class can hold (see structure.py)."""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One family. The fields are what differs, with BERT's as defaults; the methods are what all share.

    Layers are 0-based modules here; hidden state 0 is what the first layer reads, i the output of layer i - 1.
    """

    family: str
    """`config.model_type`."""
    pool: Callable[[Net, Tensor], Tensor]
    """(net, hidden (B, >=1, D)) -> input of the sequence head's last Linear (B, D), pooler and dropout included."""
    fill: Callable[[Net, Tensor], Tensor]
    """(masked language model, hidden (..., D)) -> logits over the vocabulary (..., V)."""
    tag_input: Callable[[Net, Tensor], Tensor] = lambda net, hidden: net.dropout(hidden)
    """(net, hidden (..., D)) -> input of the token head's last Linear (..., D), dropout included."""
    causal: bool = False
    """A decoder: a token sees itself and what stands before it, so the last token of a sequence is what sums it up."""
    packs: bool = True
    """Takes transformers' attention interface, so that it runs on packed rows; else it is padded."""
    pre_norm: bool = False
    """Norms come before attention and FFN (ModernBERT) instead of after the residual sum."""
    gate: Callable[[Layer], tuple[nn.Linear, ...]] = lambda layer: ()
    """layer -> the projection that gates `up`, where it is one of its own (decoders)."""
    gated: bool = False
    """`up` produces FFN input and gate side by side, twice the FFN width (ModernBERT's GLU)."""
    token_types: bool = True
    """The embeddings module accepts token type ids."""
    offset_positions: bool = False
    """Positions start behind the padding index (RoBERTa), not at zero."""
    stack: Callable[[Net], nn.ModuleList] = attrgetter("encoder.layer")
    """backbone -> the list of layers as it is stored (ALBERT: the list of layer groups)."""
    qkv: Callable[[Layer], tuple[nn.Linear, ...]] = attrgetter(
        "attention.self.query", "attention.self.key", "attention.self.value"
    )
    """layer -> (query, key, value) projections, or one fused projection; `heads` splits their outputs. Of several calls
    in one forward the first is the content: DeBERTa sends its relative positions through the same modules later."""
    out: Callable[[Layer], nn.Linear] = attrgetter("attention.output.dense")
    """layer -> the projection of the attention's output back to the width."""
    up: Callable[[Layer], nn.Linear] = attrgetter("intermediate.dense")
    down: Callable[[Layer], nn.Linear] = attrgetter("output.dense")
    attention: Callable[[Layer], Net] = attrgetter("attention.self")
    """layer -> the module that splits projections into heads and knows how many there are and how wide."""
    head_width: Callable[[Net], int] = attrgetter("attention_head_size")
    """`attention` module -> width d of one head."""
    split_by_head: Callable[[Layer], tuple[nn.Linear, ...]] = lambda layer: ()
    """layer -> projections that belong to heads besides query, key and value: DeBERTa's relative positions, the one that
    goes with the keys first."""
    norms: Callable[[Layer], tuple[nn.Module, nn.Module]] = attrgetter("attention.output.LayerNorm", "output.LayerNorm")
    """layer -> (norm of the attention block, norm of the FFN block)."""
    written: Callable[[Layer], tuple[nn.Module, nn.Module]] = attrgetter("attention.output.dropout", "output.dropout")
    """layer -> (module whose output the attention block adds to the residual sum, the same for the FFN), dropout included."""
    attention_dropout: Callable[[Layer], float] = attrgetter("attention.self.dropout.p")
    """layer -> probability of dropping an attention weight in training; `dropout` knows the mode."""
    finish: Callable[[Layer, Tensor, Tensor], Tensor] | None = lambda layer, context, residual: (
        layer.feed_forward_chunk(layer.attention.output(context, residual))
    )
    """(layer, attention context (..., H·d), residual input rows (..., D)) -> output rows (..., D), exactly as the stock layer
    continues after attention: with it the last layer can be run for first tokens alone. None: it is run whole."""

    def backbone(self, net: Net) -> Net:
        """The model without its head; a bare backbone is its own."""
        return net.base_model

    def embeddings(self, net: Net) -> nn.Module:
        """The embeddings module: words, positions, types, norm, dropout; of a decoder the words alone."""
        return self.backbone(net).embed_tokens if self.causal else self.backbone(net).embeddings

    def layers(self, net: Net) -> list[Layer]:
        """The layers in the order they are applied. A layer that is applied several times is listed as often: the same
        module in ALBERT, a view that shares its parts in a student with a schedule (`structure.Structure`)."""
        backbone = self.backbone(net)
        stored: list[Layer] = list(self.stack(backbone))
        if self.family != "albert":
            return stored
        config = backbone.config
        per_group = config.num_hidden_layers / config.num_hidden_groups
        return [inner for i in range(config.num_hidden_layers) for inner in stored[int(i / per_group)].albert_layers]

    def uses_token_types(self, net: Net) -> bool:
        """Whether token type ids change the result (RoBERTa accepts them, but knows one type only)."""
        return self.token_types and net.config.type_vocab_size > 1

    def position_start(self, net: Net) -> int:
        """The position id of the first token of a sequence."""
        return net.config.pad_token_id + 1 if self.offset_positions else 0

    def max_tokens(self, net: Net) -> int:
        """The longest sequence the position embeddings were built for, special tokens included."""
        return net.config.max_position_embeddings - self.position_start(net)

    def dropout(self, layer: Layer) -> float:
        """The probability with which this layer drops attention weights now: 0 in eval mode."""
        return self.attention_dropout(layer) if layer.training else 0.0

    def width(self, net: Net) -> int:
        return net.config.hidden_size

    def num_layers(self, net: Net) -> int:
        return len(self.layers(net))

    def num_heads(self, net: Net) -> int:
        """Heads of an unpruned layer."""
        return net.config.num_attention_heads

    def num_neurons(self, net: Net) -> int:
        """FFN width of an unpruned layer."""
        return getattr(net.config, "hidden_dim" if self.family == "distilbert" else "intermediate_size")

    def head_dim(self, net: Net) -> int:
        """Width d of one head, as the attention itself knows it: DeBERTa may set it apart from D / H."""
        return self.head_width(self.attention(self.layers(net)[0]))

    def softcap(self, net: Net) -> float | None:
        """c where the head on the vocabulary gives c·tanh(z/c) in place of z (Gemma 2)."""
        return getattr(net.config, "final_logit_softcapping", None)

    def heads(self, outputs: Sequence[Tensor], head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of the `qkv` modules (..., H*d), or of one fused module (..., 3*H*d) -> q, k, v of (..., H, d).

        H is what the outputs hold: a pruned layer has fewer heads than the others, perhaps none; with grouped queries k and v
        have fewer than q.

        Rotary positions are applied later: q and k of ModernBERT and of decoders are content only, as in the other families.
        """
        parts = outputs if len(outputs) == 3 else outputs[0].chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (part.shape[-1] // head_dim, head_dim)) for part in parts)
        return q, k, v

    def final_linear(self, net: Net) -> nn.Linear:
        """The last Linear of the head: what turns a feature into logits."""
        if net.get_output_embeddings() is not None:
            return net.get_output_embeddings()
        head = getattr(net, "score" if self.causal else "classifier", None)
        head = getattr(net, "qa_outputs", None) if head is None else head
        if head is None:
            raise RecipeError(f"{type(net).__name__} has no head that gives logits; load it for a task.")
        return getattr(head, "out_proj", head)

    def pools_mean(self, net: Net) -> bool:
        """The sequence head reads the mean over tokens instead of the first token."""
        return getattr(net.config, "classifier_pooling", "cls") == "mean"


# -- the heads that need more than an expression, and how layers go on after attention -------------------------------


def _pool_roberta(net: Net, hidden: Tensor) -> Tensor:
    head = net.classifier
    return head.dropout(torch.tanh(head.dense(head.dropout(hidden[:, 0]))))


def _pool_electra(net: Net, hidden: Tensor) -> Tensor:
    head = net.classifier
    return head.dropout(head.activation(head.dense(head.dropout(hidden[:, 0]))))


def _finish_distilbert(layer: Layer, context: Tensor, residual: Tensor) -> Tensor:
    attended = layer.sa_layer_norm(layer.attention.out_lin(context) + residual)
    return layer.output_layer_norm(layer.ffn.ff_chunk(attended) + attended)


def _fill_distilbert(net: Net, hidden: Tensor) -> Tensor:
    return net.vocab_projector(net.vocab_layer_norm(net.activation(net.vocab_transform(hidden))))


def _finish_albert(layer: Layer, context: Tensor, residual: Tensor) -> Tensor:
    attention = layer.attention
    attended = attention.LayerNorm(residual + attention.output_dropout(attention.dense(context)))
    return layer.full_layer_layer_norm(layer.ff_chunk(attended) + attended)


def _fill_decoder(net: Net, hidden: Tensor) -> Tensor:
    logits, cap = net.lm_head(hidden), LLAMA.softcap(net)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _fill_deberta(net: Net, hidden: Tensor) -> Tensor:
    return net.cls(hidden) if net.legacy else net.lm_predictions(hidden, net.deberta.embeddings.word_embeddings)


# -- the rows ----------------------------------------------------------------------------------------------------------

BERT = Anatomy(
    family="bert",
    pool=lambda net, hidden: net.dropout(net.bert.pooler(hidden)),
    fill=lambda net, hidden: net.cls(hidden),
)
ROBERTA = Anatomy(
    family="roberta",
    pool=_pool_roberta,
    fill=lambda net, hidden: net.lm_head(hidden),
    offset_positions=True,
)
XLM_ROBERTA = replace(ROBERTA, family="xlm-roberta")
ELECTRA = Anatomy(
    family="electra",
    pool=_pool_electra,
    fill=lambda net, hidden: net.generator_lm_head(net.generator_predictions(hidden)),
)
DISTILBERT = Anatomy(
    family="distilbert",
    pool=lambda net, hidden: net.dropout(torch.relu(net.pre_classifier(hidden[:, 0]))),
    fill=_fill_distilbert,
    token_types=False,
    stack=attrgetter("transformer.layer"),
    qkv=attrgetter("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    out=attrgetter("attention.out_lin"),
    up=attrgetter("ffn.lin1"),
    down=attrgetter("ffn.lin2"),
    attention=attrgetter("attention"),
    norms=attrgetter("sa_layer_norm", "output_layer_norm"),
    written=attrgetter("attention.out_lin", "ffn.dropout"),
    attention_dropout=attrgetter("attention.dropout.p"),
    finish=_finish_distilbert,
)
ALBERT = Anatomy(
    family="albert",
    pool=lambda net, hidden: net.dropout(net.albert.pooler_activation(net.albert.pooler(hidden[:, 0]))),
    fill=lambda net, hidden: net.predictions(hidden),
    stack=attrgetter("encoder.albert_layer_groups"),
    qkv=attrgetter("attention.query", "attention.key", "attention.value"),
    out=attrgetter("attention.dense"),
    up=attrgetter("ffn"),
    down=attrgetter("ffn_output"),
    attention=attrgetter("attention"),
    norms=attrgetter("attention.LayerNorm", "full_layer_layer_norm"),
    written=attrgetter("attention.output_dropout", "ffn_output"),
    attention_dropout=attrgetter("attention.attention_dropout.p"),
    finish=_finish_albert,
)
DEBERTA_V2 = Anatomy(
    family="deberta-v2",
    pool=lambda net, hidden: net.dropout(net.pooler(hidden)),
    fill=_fill_deberta,
    packs=False,
    qkv=attrgetter("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
    split_by_head=lambda layer: tuple(
        getattr(layer.attention.self, name)
        for name in ("pos_key_proj", "pos_query_proj")
        if hasattr(layer.attention.self, name)
    ),
    finish=None,
)
MODERNBERT = Anatomy(
    family="modernbert",
    pool=lambda net, hidden: net.drop(net.head(hidden[:, 0])),
    fill=lambda net, hidden: net.decoder(net.head(hidden)),
    tag_input=lambda net, hidden: net.drop(net.head(hidden)),
    pre_norm=True,
    gated=True,
    token_types=False,
    stack=attrgetter("layers"),
    qkv=lambda layer: (layer.attn.Wqkv,),
    out=attrgetter("attn.Wo"),
    up=attrgetter("mlp.Wi"),
    down=attrgetter("mlp.Wo"),
    attention=attrgetter("attn"),
    head_width=attrgetter("head_dim"),
    norms=attrgetter("attn_norm", "mlp_norm"),
    written=attrgetter("attn.out_drop", "mlp.Wo"),
    attention_dropout=attrgetter("attn.attention_dropout"),
    finish=None,
)
LLAMA = Anatomy(
    family="llama",
    pool=lambda net, hidden: hidden[:, 0],
    fill=_fill_decoder,
    causal=True,
    pre_norm=True,
    token_types=False,
    stack=attrgetter("layers"),
    qkv=attrgetter("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out=attrgetter("self_attn.o_proj"),
    up=attrgetter("mlp.up_proj"),
    gate=lambda layer: (layer.mlp.gate_proj,),
    down=attrgetter("mlp.down_proj"),
    attention=attrgetter("self_attn"),
    head_width=attrgetter("head_dim"),
    norms=attrgetter("input_layernorm", "post_attention_layernorm"),
    written=attrgetter("self_attn.o_proj", "mlp.down_proj"),
    attention_dropout=attrgetter("self_attn.attention_dropout"),
    finish=None,
)
GEMMA2 = replace(
    LLAMA,
    family="gemma2",
    norms=attrgetter("input_layernorm", "pre_feedforward_layernorm"),
    written=attrgetter("post_attention_layernorm", "post_feedforward_layernorm"),
)
_DECODERS = (*(replace(LLAMA, family=name) for name in ("llama", "mistral", "qwen2", "qwen3")), GEMMA2,
             replace(GEMMA2, family="gemma3_text"))  # fmt: skip
FAMILIES = {
    row.family: row
    for row in (BERT, ROBERTA, XLM_ROBERTA, ELECTRA, DISTILBERT, ALBERT, DEBERTA_V2, MODERNBERT, *_DECODERS)
}


def anatomy(net: Net) -> Anatomy:
    """The row of a model's family; a RecipeError that lists the families where there is none."""
    return anatomy_of(net.config.model_type)


def sides(student: Net, teacher: Net) -> dict[str, Any]:
    """Widths and depths of the two models of a distillation, as every objective asks for them."""
    ours, theirs = anatomy(student), anatomy(teacher)
    return {
        "student_width": ours.width(student),
        "teacher_width": theirs.width(teacher),
        "student_layers": ours.num_layers(student),
        "teacher_layers": theirs.num_layers(teacher),
    }


def anatomy_of(model_type: str) -> Anatomy:
    """The row of `config.model_type`; a student with a structure of its own (`understudy-bert`) has its family's."""
    model_type = model_type.removeprefix(PREFIX)
    if model_type not in FAMILIES:
        raise RecipeError(
            f"Models of type '{model_type}' are not supported. Choose a checkpoint of one of: {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]
