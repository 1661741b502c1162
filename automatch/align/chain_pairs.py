"""Pair the chains of two models: encoder with encoder, decoder with decoder, stage with stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from automatch.align.assignment import assign
from automatch.align.candidates import Distances
from automatch.align.stream import Streams
from automatch.align.use_graph import UseGraph

_COUNTED = ("attention", "contraction", "norm", "activation", "embedding")
_CROSSED = 3
_INPUTS = 3.0
_REFUSAL = 1e2


@dataclass(frozen=True, slots=True)
class _Portrait:
    counts: Counter[str]
    inputs: frozenset[str]
    place: float


def pair_chains(
    source: tuple[UseGraph, Streams, Distances], target: tuple[UseGraph, Streams, Distances]
) -> list[tuple[int, int]]:
    """Numbers of paired chains, by what their blocks hold, which inputs reach them, and their order."""
    ours, theirs = _portraits(*source), _portraits(*target)
    costs = np.array([[_cost(a, b) for b in theirs] for a in ours]).reshape(len(ours), len(theirs))
    return sorted((match.source, match.target) for match in assign(costs, _REFUSAL))


def _portraits(graph: UseGraph, streams: Streams, distances: Distances) -> list[_Portrait]:
    last = max(1, len(graph.chains) - 1)
    portraits = []
    for number, chain in enumerate(graph.chains):
        marks = [graph.landmarks[index] for index in chain.block(chain.sample)]
        counts: Counter[str] = Counter(mark.kind for mark in marks if mark.kind in _COUNTED)
        place = (number, chain.sample)
        crossed = [
            len({streams.is_stream(place, edge.source) for edge in mark.ins}) > 1
            for mark in marks
            if mark.kind == "attention"
        ]
        counts["crossed"] = _CROSSED * sum(crossed)
        portraits.append(_Portrait(counts, distances.inputs[marks[0].index], number / last))
    return portraits


def _cost(a: _Portrait, b: _Portrait) -> float:
    apart = (a.counts - b.counts).total() + (b.counts - a.counts).total()
    return apart + _INPUTS * len(a.inputs ^ b.inputs) + abs(a.place - b.place)
