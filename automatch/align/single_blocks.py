"""Find blocks that stand alone where the other side, or this side elsewhere, repeats their like.

A student of one layer has nothing that repeats, and neither has a short stage of a residual network.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from automatch.align.irregular import ALIKE, extended
from automatch.align.likeness import common_length, kinds, similarity
from automatch.align.use_graph import Chain, UseGraph

_NEAR = 40
_SIMILAR_TO_OWN = 0.75
_SIMILAR_TO_OTHER = 0.7


@dataclass(frozen=True, slots=True)
class _Model:
    """What a block that stands alone may be recognised by: a repeated block of this side or of the other."""

    kinds: tuple[str, ...]
    length: int
    own: bool


def with_single_blocks(graph: UseGraph, other: UseGraph, thorough: bool = False, crossing: int = 1) -> UseGraph:
    """Add chains of one block, with its like neighbours, where such a block repeats elsewhere.

    Args:
        graph: The side to add to.
        other: The other side, whose repeated blocks serve as models.
        thorough: Whether this side's own repeated blocks serve as models too, and however many such blocks there are
            (a residual network's short stages); else no more are added than the other side has chains.
        crossing: How many values may cross the ends of such a block, conditioning aside.
    """
    models = [*_models(other, own=False), *(_models(graph, own=True) if thorough else ())]
    options = [option for model in models for option in _single_blocks(graph, model, crossing)]
    for option in sorted(options, key=lambda option: option.rank, reverse=True):
        if not thorough and len(graph.chains) >= len(other.chains):
            break
        if any(index in graph.places for index in option.window):
            continue
        chain = extended(graph, Chain((option.window.start, option.window.stop)), list(graph.chains), ALIKE[0])
        graph = graph.cut_into(tuple(sorted((*graph.chains, chain), key=lambda c: c.cuts)))
    return graph


def _models(graph: UseGraph, own: bool) -> list[_Model]:
    blocks = [chain.block(chain.sample) for chain in graph.chains]
    return [_Model(kinds(graph, block), len(block), own) for block in blocks]


def _resemblance(stretch: tuple[str, ...], model: _Model) -> float:
    """How like a model a stretch is, above what is needed; the other side's blocks may hold more than this side's.

    Against a block of the other side, what a stretch shares counts twice as much as what it lacks: an F-measure with
    beta = 1/2 of the longest common subsequence (van Rijsbergen, "Information Retrieval", 1979, chapter 7).
    """
    if model.own:
        return similarity(stretch, model.kinds) - _SIMILAR_TO_OWN
    common = common_length(stretch, model.kinds)
    if not common:
        return 0.0
    precision, recall = common / len(stretch), common / len(model.kinds)
    return 1.25 * precision * recall / (0.25 * precision + recall) - _SIMILAR_TO_OTHER


@dataclass(frozen=True, slots=True)
class _Option:
    """A stretch that is like a model block.

    Attributes:
        window: The stretch.
        rank: The higher the better: entered by a stream, more alike, like a longer model (a decoder's block holds what
            looks like an encoder's), crossed by fewer values.
    """

    window: range
    rank: tuple[bool, float, int, int]


def _single_blocks(graph: UseGraph, model: _Model, crossing: int) -> list[_Option]:
    """The stretches outside all chains that are like a model block."""
    outside = {mark.index for mark in graph.outside() if mark.kind not in ("input", "output")}
    background = _background(graph.live)
    ends = [q for q in range(len(graph.landmarks)) if graph.live[q] <= crossing + background[q]]
    options = []
    for start in filter(outside.__contains__, ends):
        stops = ends[bisect_left(ends, start + model.length // 3) : bisect_right(ends, start + 2 * model.length)]
        windows = (range(start, stop) for stop in stops if stop > start)
        options += [_option(graph, model, window) for window in windows if outside.issuperset(window)]
    return [option for option in options if option.rank[1] > 0]


def _option(graph: UseGraph, model: _Model, window: range) -> _Option:
    score = _resemblance(kinds(graph, window), model)
    crossed = graph.live[window.start] + graph.live[window.stop]
    return _Option(window, (_has_stream(graph, window), score, model.length, -crossed))


def _has_stream(graph: UseGraph, window: range) -> bool:
    """Whether something that enters a stretch feeds a branch and a sum in it, as a residual stream does."""
    entering = [edge.source for index in window for edge in graph.landmarks[index].ins if edge.source < window.start]
    return any(count > 1 for count in Counter(entering).values())


def _background(live: Sequence[int]) -> list[int]:
    """How many values cross each cut without being made or used near it: conditioning that many blocks read."""
    near = [live[max(1, q - _NEAR + 1) : q + _NEAR] for q in range(len(live))]
    return [max(0, min(counts, default=1) - 1) for counts in near]
