from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automatch.align.anchors import AnchorFinder
from automatch.align.candidates import Candidate, candidates, distances, is_unsplit
from automatch.align.chains import with_chains
from automatch.align.stream import streams
from automatch.align.use_graph import UseGraph
from automatch.core.landmarks import LandmarkGraph
from tests.support import EncoderDecoder, Net, Stack, TwoStreams, attend, landmarks_of, lowered, weight


def found_in(landmarks: LandmarkGraph, chain: int | None = None, split: bool = True) -> dict[str, list[Candidate]]:
    """Candidates of a chain's middle block, or of what lies outside, by the first weight at work in them."""
    graph = with_chains(UseGraph(landmarks))
    names = {mark.index: f"input {mark.index}" for mark in graph.landmarks if mark.kind == "input"}
    apart = distances(graph, names)
    finder = AnchorFinder(graph, streams(graph, apart.inputs), {n: f"chain {n}" for n in range(len(graph.chains))})
    outside = [mark.index for mark in graph.outside()]
    region = outside if chain is None else list(graph.chains[chain].block(1))
    by_weight: dict[str, list[Candidate]] = {}
    for candidate in candidates(finder, region, apart if chain is None else None, {}, split):
        uses = graph.landmarks[candidate.slot.landmark].uses
        by_weight.setdefault(uses[0].weight if uses else "", []).append(candidate)
    return by_weight


def test_parts_of_cross_attention_are_told_from_parts_of_self_attention() -> None:
    found = found_in(lowered(EncoderDecoder, 2, 3, False), 1)
    crossed = {key.removeprefix("dec.1.").removesuffix(".weight"): each[0].crossed for key, each in found.items()}
    assert {crossed[f"att.{role}"] for role in "qkvo"} == {frozenset({False})}
    assert {crossed[f"cross.{role}"] for role in "qkvo"} == {frozenset({True})}
    assert crossed["n1"] == {False}
    assert crossed["n2"] == {True}
    assert crossed["up"] == crossed["down"] == frozenset()


def test_what_comes_from_the_side_does_not_depend_on_the_stream() -> None:
    found = found_in(lowered(EncoderDecoder, 2, 3, False), 1)
    sideways = {key for key, each in found.items() if not each[0].dependent}
    assert sideways == {"dec.1.cross.k.weight", "dec.1.cross.v.weight"}


def test_candidates_of_two_streams_know_their_lane() -> None:
    found = found_in(lowered(TwoStreams, 3), 0)
    assert {found[f"blocks.1.{name}.weight"][0].lanes for name in ("aq", "an1", "aup", "an2")} == {
        frozenset({"input 0"})
    }
    assert {found[f"blocks.1.{name}.weight"][0].lanes for name in ("bq", "bn1", "bup", "bn2")} == {
        frozenset({"input 1"})
    }


def test_outside_blocks_the_way_to_inputs_and_outputs_is_counted() -> None:
    found = found_in(lowered(Stack, 3, False))
    reach = {key: each[0].reach for key, each in found.items()}
    assert reach == {"stem.weight": (1, 2), "norm.weight": (1, 1), "head.weight": (2, 1)}
    assert {each[0].inputs for each in found.values()} == {frozenset({"input 0"})}


def test_inside_blocks_there_is_no_way_to_count() -> None:
    found = found_in(lowered(Stack, 3, False), 0)
    assert {(each[0].reach, each[0].inputs) for each in found.values()} == {(None, frozenset())}


@pytest.mark.parametrize("split", [True, False])
def test_a_fused_product_is_one_candidate_per_slot_or_one_that_is_unsplit(split: bool) -> None:
    model = Net(lambda m, x: attend(*m.p(x).chunk(3, -1)), p=nn.Linear(8, 24))
    parts = found_in(landmarks_of(model, weight(2, 3, 8)), split=split)["p.weight"]
    assert [part.widths for part in parts] == ([(8, 8)] * 3 if split else [(24, 8)])
    assert [is_unsplit(part) for part in parts] == ([False] * 3 if split else [True])


def test_only_equal_kinds_share_a_gate() -> None:
    def compute(m: Net, ids: Tensor) -> Tensor:
        x = torch.cat([m.cls.expand(2, -1, -1), m.e(ids)], 1) + m.pos
        out: Tensor = m.n(m.l(x)) * m.scale
        return out

    parts = {"e": nn.Embedding(10, 8), "l": nn.Linear(8, 8), "n": nn.LayerNorm(8, bias=False)}
    model = Net(compute, **parts, cls=weight(1, 1, 8), pos=weight(1, 4, 8), scale=weight(8))
    found = found_in(landmarks_of(model, torch.tensor([[1, 2, 3], [4, 5, 6]])))
    gates = {key: each[0].kind for key, each in found.items()}
    assert gates["e.weight"] == gates["pos"] == "embedding"
    assert gates["cls"] == "token"
    assert (gates["l.weight"], gates["n.weight"], gates["scale"]) == ("contraction", "norm", "mul with a weight")
