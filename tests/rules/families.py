"""Families of models in two layouts each, of any size."""
# mypy: disable-error-code="no-any-return,no-untyped-call"
# (torch types the result of calling a module as Any, and leaves some tensor methods untyped)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixtures import layouts_decoder
from fixtures.building import Inputs, tokens, with_weights
from fixtures.decoder import Llama, LlamaConfig
from fixtures.twins_dense import FusedDecoder
from fixtures.twins_experts import Mixtral, MoEConfig, StackedMoE

IDS = tokens(2, 7, vocabulary=23)


@dataclass(frozen=True, slots=True)
class Dims:
    """Sizes of a model; each layout takes those that it has."""

    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int = 0
    experts: int = 0
    vocabulary: int = 29
    positions: int = 19


@dataclass(frozen=True, slots=True)
class Family:
    """Two layouts of one function.

    Attributes:
        name: What tests call it.
        source: Builds the model that has the weights.
        target: Builds the model that needs them.
        small: The sizes that rules are learned at.
        large: Others that they must hold for.
        source_inputs: Arguments of the source.
        target_inputs: Arguments of the target.
    """

    name: str
    source: Callable[[Dims], nn.Module]
    target: Callable[[Dims], nn.Module]
    small: Dims
    large: Dims
    source_inputs: Inputs = field(default=((IDS,), {}))
    target_inputs: Inputs = field(default=((IDS,), {}))


# One decoder in four layouts


def _decoder(block: Any) -> Callable[[Dims], nn.Module]:
    def build(dims: Dims) -> nn.Module:
        sizes = layouts_decoder.Sizes(dims.vocabulary, dims.width, dims.heads, dims.hidden, dims.layers)
        return with_weights(lambda: layouts_decoder.Decoder(block, sizes), seed=1)

    return build


DECODERS = {
    "apart": _decoder(layouts_decoder.Apart),
    "joined": _decoder(layouts_decoder.Joined),
    "by_head": _decoder(layouts_decoder.ByHead),
    "transposed": _decoder(layouts_decoder.Transposed),
}

# Decoders with grouped heads, dense and with experts


def _config(dims: Dims) -> LlamaConfig:
    return LlamaConfig(dims.vocabulary, dims.width, dims.hidden, dims.heads, dims.kv_heads, dims.layers, 1e4, 1e-6)


def llama(dims: Dims) -> nn.Module:
    """Projections apart; rotary positions in halves."""
    model = with_weights(lambda: Llama(_config(dims)), seed=1)
    model.model.inv_freq = Llama(_config(dims)).model.inv_freq
    return model


def fused(dims: Dims) -> nn.Module:
    """One projection, grouped by key-value head; rotary positions in pairs."""
    return with_weights(lambda: FusedDecoder(_config(dims)), seed=2)


def mixtral(dims: Dims) -> nn.Module:
    """A module for each expert."""
    return with_weights(lambda: Mixtral(MoEConfig(_config(dims), dims.experts)), seed=1)


def stacked(dims: Dims) -> nn.Module:
    """All experts of a layer in two tensors."""
    return with_weights(lambda: StackedMoE(MoEConfig(_config(dims), dims.experts)), seed=2)


# Models of transformers, and the same written down plainly


def _transformers(name: str, config: str, dims: Dims, **further: Any) -> nn.Module:
    import transformers

    shared = {"attn_implementation": "eager", "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    made = getattr(transformers, config)(vocab_size=dims.vocabulary, **shared, **further)
    model: nn.Module = with_weights(lambda: getattr(transformers, name)(made), seed=1)
    tables = getattr(transformers, name)(made).named_buffers()  # rotary tables as they are meant to be
    for key, table in tables:
        model.get_buffer(key).copy_(table)
    return model


def _grouped(dims: Dims) -> dict[str, Any]:
    return {
        "hidden_size": dims.width,
        "intermediate_size": dims.hidden,
        "num_hidden_layers": dims.layers,
        "num_attention_heads": dims.heads,
        "num_key_value_heads": dims.kv_heads,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 61,
        "tie_word_embeddings": False,
    }


def hf_llama(dims: Dims) -> nn.Module:
    """Llama of transformers."""
    return _transformers("LlamaForCausalLM", "LlamaConfig", dims, **_grouped(dims))


def hf_phi3(dims: Dims) -> nn.Module:
    """Phi 3 of transformers: queries, keys and values in one projection, gate and value in another."""
    further = _grouped(dims) | {"original_max_position_embeddings": 61}
    return _transformers("Phi3ForCausalLM", "Phi3Config", dims, **further)


def hf_gpt2(dims: Dims) -> nn.Module:
    """GPT-2 of transformers: matrices with their inputs first."""
    sizes = {"n_embd": dims.width, "n_layer": dims.layers, "n_head": dims.heads, "n_inner": dims.hidden}
    further = {"n_positions": dims.positions, "tie_word_embeddings": False, "activation_function": "gelu"}
    return _transformers("GPT2LMHeadModel", "GPT2Config", dims, **sizes, **further)


def hf_bert(dims: Dims) -> nn.Module:
    """The encoder of BERT without its pooling."""
    sizes = {
        "hidden_size": dims.width,
        "intermediate_size": dims.hidden,
        "num_hidden_layers": dims.layers,
        "num_attention_heads": dims.heads,
        "max_position_embeddings": dims.positions,
    }
    return _transformers("BertModel", "BertConfig", dims, **sizes)


class PlainBlock(nn.Module):
    """A pre-norm block of linear layers."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.heads = dims.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(dims.width), nn.LayerNorm(dims.width)
        self.q, self.k, self.v, self.o = (nn.Linear(dims.width, dims.width) for _ in range(4))
        self.up, self.down = nn.Linear(dims.width, dims.hidden), nn.Linear(dims.hidden, dims.width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_1(x)
        q, k, v = (f(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class PlainGPT(nn.Module):
    """A decoder with learned positions."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(dims.vocabulary, dims.width), nn.Embedding(dims.positions, dims.width)
        self.blocks = nn.ModuleList(PlainBlock(dims) for _ in range(dims.layers))
        self.norm, self.head = nn.LayerNorm(dims.width), nn.Linear(dims.width, dims.vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class PlainEncoder(nn.Module):
    """The encoder of BERT around `nn.TransformerEncoder`."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(dims.vocabulary, dims.width), nn.Embedding(dims.positions, dims.width)
        self.kinds, self.norm = nn.Embedding(2, dims.width), nn.LayerNorm(dims.width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            dims.width, dims.heads, dims.hidden, activation="gelu", batch_first=True, layer_norm_eps=1e-12
        )
        self.encoder = nn.TransformerEncoder(layer, dims.layers, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]] + self.kinds.weight[0]
        return self.encoder(self.norm(x))


def plain_gpt(dims: Dims) -> nn.Module:
    """GPT-2 of linear layers."""
    return with_weights(lambda: PlainGPT(dims), seed=2)


def plain_encoder(dims: Dims) -> nn.Module:
    """BERT around `nn.TransformerEncoder`."""
    return with_weights(lambda: PlainEncoder(dims), seed=2)


SMALL = Dims(width=30, hidden=22, layers=2, heads=5)
LARGE = Dims(width=56, hidden=33, layers=12, heads=7)
SMALL_GROUPED = Dims(width=210, hidden=34, layers=2, heads=21, kv_heads=7)
LARGE_GROUPED = Dims(width=192, hidden=72, layers=9, heads=12, kv_heads=6)
SMALL_EXPERTS = Dims(width=60, hidden=34, layers=2, heads=10, kv_heads=5, experts=7)
LARGE_EXPERTS = Dims(width=96, hidden=40, layers=4, heads=12, kv_heads=6, experts=11)
UNCACHED = cast(Inputs, ((IDS,), {"use_cache": False}))

FAMILIES: tuple[Family, ...] = (
    *(
        Family(f"{ours}-{theirs}", DECODERS[ours], DECODERS[theirs], SMALL, LARGE)
        for ours, theirs in permutations(DECODERS, 2)
    ),
    Family("llama-fused", llama, fused, SMALL_GROUPED, LARGE_GROUPED),
    Family("fused-llama", fused, llama, SMALL_GROUPED, LARGE_GROUPED),
    Family("mixtral-stacked", mixtral, stacked, SMALL_EXPERTS, LARGE_EXPERTS),
    Family("stacked-mixtral", stacked, mixtral, SMALL_EXPERTS, LARGE_EXPERTS),
    Family("hf_llama-fused", hf_llama, fused, SMALL_GROUPED, LARGE_GROUPED, UNCACHED),
    Family("fused-hf_llama", fused, hf_llama, SMALL_GROUPED, LARGE_GROUPED, target_inputs=UNCACHED),
    Family("hf_phi3-llama", hf_phi3, llama, SMALL_GROUPED, LARGE_GROUPED, UNCACHED),
    Family("llama-hf_phi3", llama, hf_phi3, SMALL_GROUPED, LARGE_GROUPED, target_inputs=UNCACHED),
    Family("hf_gpt2-plain", hf_gpt2, plain_gpt, SMALL, LARGE, UNCACHED),
    Family("hf_bert-plain", hf_bert, plain_encoder, SMALL, LARGE),
)
"""22 families."""


def output(model: nn.Module, inputs: Inputs) -> Tensor:
    """The first tensor that a model gives for its inputs, in float64."""
    args, kwargs = inputs
    with torch.no_grad():
        found = model.double()(*args, **kwargs)
    return found if isinstance(found, Tensor) else found[0]
