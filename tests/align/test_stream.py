from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.align.candidates import distances
from automatch.align.chains import with_chains
from automatch.align.stream import Streams, streams
from automatch.align.use_graph import UseGraph
from automatch.core.landmarks import LandmarkGraph
from tests.support import EncoderDecoder, Net, Stack, TwoStreams, attention, landmarks_of, lowered, weight


def followed(landmarks: LandmarkGraph) -> tuple[UseGraph, Streams]:
    graph = with_chains(UseGraph(landmarks))
    names = {mark.index: f"input {mark.index}" for mark in graph.landmarks if mark.kind == "input"}
    return graph, streams(graph, distances(graph, names).inputs)


def weights_of(graph: UseGraph, indices: frozenset[int]) -> set[str]:
    return {use.weight for index in indices for use in graph.landmarks[index].uses}


@pytest.mark.parametrize("post", [False, True], ids=["pre-norm", "post-norm"])
def test_the_stream_enters_each_block_as_what_the_block_before_made_last(post: bool) -> None:
    graph, found = followed(lowered(Stack, 3, post))
    (chain,) = graph.chains
    entries = [list(found.entries[0, number]) for number in range(3)]
    assert entries == [[cut - 1] for cut in chain.cuts[:-1]]
    assert all(index in found.dependent for index in range(chain.cuts[0], chain.cuts[-1]))


def test_what_lies_outside_the_blocks_is_not_dependent() -> None:
    graph, found = followed(lowered(Stack, 3, False))
    assert found.dependent.isdisjoint(mark.index for mark in graph.outside())
    assert found.is_stream((0, 0), graph.chains[0].cuts[0] - 1)
    assert not found.is_stream((0, 1), graph.chains[0].cuts[0] - 1)
    assert not found.is_stream(None, 0)


def test_keys_and_values_of_cross_attention_do_not_depend_on_the_stream() -> None:
    graph, found = followed(lowered(EncoderDecoder, 2, 2, False))
    decoder = graph.chains[1]
    inside = frozenset(range(decoder.cuts[0], decoder.cuts[-1]))
    sideways = {f"dec.{i}.cross.{role}.{kind}" for i in range(2) for role in "kv" for kind in ("weight", "bias")}
    assert weights_of(graph, inside - found.dependent) == sideways


def test_a_modulation_from_the_side_does_not_depend_on_the_stream() -> None:
    def block(m: Net, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = m.mod(F.silu(c))[:, None].chunk(2, -1)
        out: Tensor = x + m.att(m.norm(x) * (1 + scale) + shift)
        return out

    def one() -> Net:
        norm = nn.LayerNorm(8, elementwise_affine=False)
        return Net(block, mod=nn.Linear(8, 16), norm=norm, att=attention())

    model = Net(lambda m, x, c: m.c(m.b(m.a(x, c), c), c), a=one(), b=one(), c=one())
    graph, found = followed(landmarks_of(model, weight(2, 3, 8), weight(2, 8)))
    (chain,) = graph.chains
    for number, name in enumerate("abc"):
        block_of = frozenset(chain.block(number))
        assert weights_of(graph, block_of - found.dependent) == {f"{name}.mod.weight", f"{name}.mod.bias"}


def test_a_single_lane_has_no_name() -> None:
    graph, found = followed(lowered(Stack, 3, False))
    entry = graph.chains[0].cuts[1] - 1
    assert found.names == {0: {}}
    assert found.lane((0, 1), entry) == ""
    assert found.lanes == {}


def test_two_lanes_are_named_by_the_inputs_that_feed_them() -> None:
    _, found = followed(lowered(TwoStreams, 3))
    assert sorted(found.names[0].values()) == ["input 0", "input 1"]
    for number in range(3):
        lanes = {found.lane((0, number), index) for index in found.entries[0, number]}
        assert lanes == {"input 0", "input 1"}


def test_two_lanes_mix_in_joint_attention_and_part_again_behind_the_sums() -> None:
    graph, found = followed(lowered(TwoStreams, 3))
    lanes = {
        use.weight.removeprefix("blocks.1."): found.lanes[index]
        for index in graph.chains[0].block(1)
        for use in graph.landmarks[index].uses
    }
    both = frozenset({"input 0", "input 1"})
    for name in ("n1", "q", "k", "v", "n2", "up", "down"):
        assert lanes[f"a{name}.weight"] == {"input 0"}
        assert lanes[f"b{name}.weight"] == {"input 1"}
    assert lanes["ao.weight"] == lanes["bo.weight"] == both


def test_without_chains_there_are_no_streams() -> None:
    _, found = followed(lowered(Stack, 1, False))
    assert (found.entries, found.dependent) == ({}, frozenset())
