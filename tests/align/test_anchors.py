from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from automatch.align.anchors import AnchorFinder, Anchors, likeness
from automatch.align.candidates import distances
from automatch.align.chains import with_chains
from automatch.align.slots import slots
from automatch.align.stream import streams
from automatch.align.use_graph import UseGraph
from automatch.core.landmarks import Landmark, LandmarkGraph
from tests.support import (
    EncoderDecoder,
    Forward,
    Net,
    Stack,
    TwoStreams,
    attend,
    landmarks_of,
    linears,
    lowered,
    weight,
)

Y = weight(2, 3, 8)


class Walk:
    """Anchors of the landmarks of a model, by the weight at work in them."""

    def __init__(self, landmarks: LandmarkGraph) -> None:
        self.graph = with_chains(UseGraph(landmarks))
        names = {mark.index: f"input {mark.index}" for mark in self.graph.landmarks if mark.kind == "input"}
        found = streams(self.graph, distances(self.graph, names).inputs)
        chains = {number: f"chain {number}" for number in range(len(self.graph.chains))}
        self.finder = AnchorFinder(self.graph, found, chains)

    def forward(self, key: str, slot: int = 0) -> Anchors:
        return self.finder.forward(slots(self.graph, self.mark(key))[slot])

    def backward(self, key: str) -> Anchors:
        return self.finder.backward(slots(self.graph, self.mark(key))[0])

    def mark(self, key: str) -> Landmark:
        """The first landmark that uses a weight."""
        return next(mark for mark in self.graph.landmarks if any(use.weight == key for use in mark.uses))


def nearest(anchors: Anchors) -> set[str]:
    """The anchors of most weight."""
    return {label for label, weight in anchors.items() if weight == max(anchors.values())}


@pytest.fixture(scope="module")
def stack() -> Walk:
    return Walk(lowered(Stack, 4, False))


def test_projections_of_attention_differ_by_the_operand_they_feed(stack: Walk) -> None:
    forward = {role: stack.forward(f"blocks.1.att.{role}.weight") for role in "qkvo"}
    assert nearest(forward["q"]) == {"attention.query"}
    assert nearest(forward["k"]) == {"attention.key"}
    assert nearest(forward["v"]) == {"attention.value"}
    assert not any(label.startswith("attention") for label in forward["o"])


def test_projections_of_attention_come_from_the_stream_through_the_norm(stack: Walk) -> None:
    backward = [stack.backward(f"blocks.1.att.{role}.weight") for role in "qkv"]
    assert [nearest(anchors) for anchors in backward] == [{"stream"}] * 3
    assert nearest(stack.backward("blocks.1.att.o.weight")) == {"attention"}
    assert nearest(stack.backward("blocks.1.down.weight")) == {"activation"}


def test_nearer_anchors_weigh_more(stack: Walk) -> None:
    up = stack.forward("blocks.1.up.weight")
    assert up["activation"] > up["contraction"] > 0


def test_the_same_place_in_another_block_has_the_same_anchors(stack: Walk) -> None:
    for name in ("n1", "att.q", "att.o", "n3", "up", "down"):
        first, second = (f"blocks.{number}.{name}.weight" for number in (1, 2))
        assert stack.forward(first) == stack.forward(second)
        assert stack.backward(first) == stack.backward(second)


def test_what_lies_outside_is_told_by_the_chain_it_feeds_or_follows(stack: Walk) -> None:
    assert nearest(stack.forward("stem.weight")) == {"chain 0.stream"}
    assert nearest(stack.backward("stem.weight")) == {"input"}
    assert "chain 0.stream" in stack.backward("head.weight")
    assert nearest(stack.forward("head.weight")) == {"output"}


def test_a_chain_may_be_entered_from_the_side() -> None:
    walk = Walk(lowered(EncoderDecoder, 2, 2, False))
    assert nearest(walk.forward("norm.weight")) == {"chain 1.side"}
    assert nearest(walk.forward("words.weight")) == {"chain 0.stream"}
    assert nearest(walk.backward("dec.0.cross.k.weight")) == {"outside"}
    assert "stream" in walk.backward("dec.0.cross.q.weight")


def test_lanes_of_a_stream_are_told_apart() -> None:
    walk = Walk(lowered(TwoStreams, 3))
    assert nearest(walk.backward("blocks.1.aq.weight")) == {"stream input 0"}
    assert nearest(walk.backward("blocks.1.bq.weight")) == {"stream input 1"}


def test_the_slots_of_a_fused_product_have_anchors_of_their_own() -> None:
    walk = Walk(landmarks_of(Net(lambda m, x: attend(*m.p(x).chunk(3, -1)), p=nn.Linear(8, 24)), Y))
    assert [nearest(walk.forward("p.weight", slot)) for slot in range(3)] == [
        {"attention.query"},
        {"attention.key"},
        {"attention.value"},
    ]


@pytest.mark.parametrize(
    "between",
    [
        lambda m, x: x,
        lambda m, x: m.norm(x),
        lambda m, x: torch.cat([m.table, x], 1)[:, 1:],
        lambda m, x: torch.cat([m.table, m.norm(x)], 1),
    ],
    ids=["nothing", "a norm", "a token taken away", "a norm and a token"],
)
def test_what_one_side_may_lack_is_walked_through(between: Forward) -> None:
    model = Net(
        lambda m, x: attend(between(m, m.q(x)), m.k(x), m.v(x)),
        **linears("qkv"),
        norm=nn.RMSNorm(8),
        table=weight(2, 1, 8),
    )
    assert nearest(Walk(landmarks_of(model, Y)).forward("q.weight")) == {"attention.query"}


def test_a_gate_and_what_it_gates_differ() -> None:
    walk = Walk(landmarks_of(Net(lambda m, x: m.d(F.silu(m.g(x)) * m.u(x)), **linears("gud")), Y))
    assert nearest(walk.forward("g.weight")) == {"activation"}
    assert "activation" not in walk.forward("u.weight")


anchors = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.25, 0.5, 1.0]))


@given(anchors, anchors)
def test_likeness_is_a_symmetric_share(first: Anchors, second: Anchors) -> None:
    assert likeness(first, second) == likeness(second, first)
    assert 0.0 <= likeness(first, second) <= 1.0
    assert (likeness(first, second) == 1.0) == (first == second)
    assert likeness(first, first) == 1.0


def test_likeness_is_the_common_weight_over_the_joint_weight() -> None:
    assert likeness({"a": 1.0, "b": 0.5}, {"a": 0.5, "c": 0.5}) == 0.25
    assert likeness({"a": 1.0}, {"b": 1.0}) == 0.0
    assert likeness({"a": 1.0}, {}) == 0.0
