"""Lifting from traced twins: onto models that run, whose outputs must agree, and onto models too large to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from automatch.apply.evaluate import evaluate
from automatch.apply.fill import fill
from automatch.core.expr import Expr, text
from automatch.core.graph import Graph
from automatch.core.mapping import MappingRecord
from automatch.errors import LiftError
from automatch.lift import lift
from automatch.trace import trace
from fixtures import twins
from fixtures.building import Inputs, on_meta, tokens
from fixtures.decoder import Llama, LlamaConfig
from fixtures.twins_dense import FusedDecoder
from tests.lift.conversions import Convert, exact, fused, places, shapes_of, split, stacked, unstacked


@dataclass(frozen=True)
class Pair:
    source: str
    target: str
    convert: Callable[[Any], Convert]
    small: object
    middle: object


PAIRS = [
    Pair("llama", "fused", fused, twins.TWIN, twins.MIDDLE),
    Pair("fused", "llama", split, twins.TWIN, twins.MIDDLE),
    Pair("mixtral", "stacked", stacked, twins.MOE_TWIN, twins.MOE_MIDDLE),
    Pair("stacked", "mixtral", unstacked, twins.MOE_TWIN, twins.MOE_MIDDLE),
]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.source}-{pair.target}")


def model(name: str) -> nn.Module:
    made = getattr(twins, name)()
    assert isinstance(made, nn.Module)
    return made


@cache
def traced(name: str) -> Graph:
    return trace(model(name), getattr(twins, f"{name}_inputs")())


def graphs(pair: Pair, size: str) -> tuple[Graph, Graph]:
    return traced(pair.source + size), traced(pair.target + size)


def small(pair: Pair) -> MappingRecord:
    return exact(pair.convert(pair.small), *graphs(pair, "_twin"))


def expr(record: MappingRecord, target: str) -> Expr:
    found = next(entry.expr for entry in record.entries if entry.target == target)
    assert found is not None
    return found


@each_pair
def test_onto_the_twin_itself_it_is_the_same(pair: Pair) -> None:
    own = graphs(pair, "_twin")
    record = small(pair)
    lifted = lift(record, own, own)
    assert [entry.expr for entry in lifted.entries] == [entry.expr for entry in record.entries]


@each_pair
def test_at_another_size_every_entry_comes_from_where_it_should(pair: Pair) -> None:
    full = graphs(pair, "_middle")
    lifted = lift(small(pair), graphs(pair, "_twin"), full)
    state = places(shapes_of(full[0]))
    expected = pair.convert(pair.middle)(state)
    tensors = {key: torch.from_numpy(value) for key, value in state.items()}
    assert {entry.target for entry in lifted.entries} == set(expected)
    for entry in lifted.entries:
        assert entry.expr is not None
        found = evaluate(entry.expr, tensors.__getitem__).numpy()
        assert np.array_equal(found, expected[entry.target]), entry.target


@each_pair
def test_the_converted_model_computes_the_same(pair: Pair) -> None:
    source, target = (model(f"{name}_middle").double() for name in (pair.source, pair.target))
    lifted = lift(small(pair), graphs(pair, "_twin"), graphs(pair, "_middle"))
    target.load_state_dict(fill(lifted, source.state_dict()))
    ids = tokens(2, 9, vocabulary=150, seed=3)
    with torch.no_grad():
        torch.testing.assert_close(target(ids), source(ids), atol=1e-5, rtol=1e-5)


def test_llama_8b_is_covered_in_every_key() -> None:
    pair = PAIRS[0]
    lifted = lift(small(pair), graphs(pair, "_twin"), graphs(pair, ""))
    assert len(lifted.entries) == 195
    assert not lifted.unused
    assert {entry.status for entry in lifted.entries} == {"structural"}
    assert text(expr(lifted, "h.31.attn.qkv.weight")) == (
        "interleave(rotary_pairs(model.layers.31.self_attn.q_proj.weight, heads=32), "
        "rotary_pairs(model.layers.31.self_attn.k_proj.weight, heads=8), "
        "model.layers.31.self_attn.v_proj.weight, groups=8)"
    )


def test_a_mixture_of_46_billion_is_covered_in_every_key() -> None:
    pair = PAIRS[3]
    lifted = lift(small(pair), graphs(pair, "_twin"), graphs(pair, ""))
    assert len(lifted.entries) == 995
    assert not lifted.unused
    last = "model.layers.31.block_sparse_moe.experts.7.w3.weight"
    assert text(expr(lifted, last)) == "blocks.31.moe.gate_up[7, 14336:28672]"


@pytest.mark.parametrize(("name", "count"), [("llama", 8_030_261_248), ("mixtral", 46_702_792_704)])
def test_the_full_sizes_are_the_published_ones(name: str, count: int) -> None:
    full = model(name)
    assert sum(weight.numel() for weight in full.parameters()) == count
    assert all(weight.is_meta for weight in full.parameters())


@pytest.mark.parametrize(("source", "target"), [("llama", "fused"), ("mixtral", "stacked")])
def test_the_second_implementation_has_as_many_weights(source: str, target: str) -> None:
    assert len({sum(weight.numel() for weight in model(name).parameters()) for name in (source, target)}) == 1


def test_twins_whose_sizes_coincide_are_refused() -> None:
    # 2 query heads a group, and halves: nothing tells which 2 is which
    config = LlamaConfig(vocabulary=20, dim=16, ffn_dim=24, heads=4, kv_heads=2, layers=2)
    larger = LlamaConfig(vocabulary=24, dim=64, ffn_dim=36, heads=8, kv_heads=2, layers=3)
    own, full = (dense(config), dense(larger))
    with pytest.raises(LiftError, match=r"h\.\{0\.\.2\}\.attn\.qkv\.weight: its sizes can be read in several ways"):
        lift(exact(fused(config), *own), own, full)


def test_a_twin_with_one_head_says_nothing_of_many() -> None:
    config = LlamaConfig(vocabulary=20, dim=40, ffn_dim=24, heads=5, kv_heads=1, layers=2)
    own = dense(config)
    with pytest.raises(LiftError, match="sizes of 1 that are larger at full size; build twins where these are 3"):
        lift(exact(fused(config), *own), own, dense(twins.MIDDLE))


def dense(config: LlamaConfig) -> tuple[Graph, Graph]:
    ids: Inputs = ((tokens(1, 9, vocabulary=20).to("meta"),), {})
    return trace(on_meta(lambda: Llama(config)), ids), trace(on_meta(lambda: FusedDecoder(config)), ids)
