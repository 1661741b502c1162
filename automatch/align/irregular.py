"""Admit first and last blocks that are like the others of a chain but not equal to them.

A residual network's stage starts with a block that has a projection; a decoder's first layer may lack a norm.
"""

from __future__ import annotations

from math import prod

from automatch.align.likeness import kinds, similarity
from automatch.align.use_graph import Chain, UseGraph

ALIKE = (0.8, 0.7)
"""How like the others a first or last block must be; which of the two serves better depends on the other side."""


def extended(graph: UseGraph, chain: Chain, chains: list[Chain], alike: float) -> Chain:
    """A chain with a first and a last block that are like the others but not equal, where there are such."""
    taken = {index for other in chains if other is not chain for index in range(other.cuts[0], other.cuts[-1])}
    model = chain.block(chain.sample)
    left = _best_window(graph, _left_of(graph, chain, model, taken), model, alike)
    if left is not None:
        numbers = frozenset({0, *(number + 1 for number in chain.irregular)})
        chain = Chain((left.start, *chain.cuts), numbers)
    right = _best_window(graph, _right_of(graph, chain, model, taken), model, alike)
    if right is not None:
        chain = Chain((*chain.cuts, right.stop), chain.irregular | {chain.depth})
    return chain


def _left_of(graph: UseGraph, chain: Chain, model: range, taken: set[int]) -> list[range]:
    stop = chain.cuts[0]
    last = graph.landmarks[model.stop - 1]
    if stop == 0 or (graph.landmarks[stop - 1].shape, graph.landmarks[stop - 1].kind) != (last.shape, last.kind):
        return []
    windows = []
    for start in range(stop - 2, max(-1, stop - 2 * len(model)), -1):
        if start in taken or graph.landmarks[start].kind == "input":
            break
        if _is_narrow(graph, start, stop):
            windows.append(range(start, stop))
    return windows


def _right_of(graph: UseGraph, chain: Chain, model: range, taken: set[int]) -> list[range]:
    start = chain.cuts[-1]
    streams = [i for i in model if graph.last_reader(i) >= model.stop]
    sizes = {prod(graph.landmarks[i].shape) for i in (*streams, model.stop - 1)}  # images and tokens alike
    windows = []
    for stop in range(start + 2, min(len(graph.landmarks), start + 2 * len(model)) + 1):
        last = graph.landmarks[stop - 1]
        if last.index in taken or last.kind in ("output", "input"):
            break
        if prod(last.shape) in sizes and _is_narrow(graph, stop, start):
            windows.append(range(start, stop))
    return windows


def _is_narrow(graph: UseGraph, q: int, reference: int) -> bool:
    """Whether no more values cross a cut than cross one that is known to lie between blocks."""
    return graph.live[q] <= max(1, graph.live[reference])


def _best_window(graph: UseGraph, windows: list[range], model: range, least: float) -> range | None:
    scored = [(similarity(kinds(graph, window), kinds(graph, model)), window) for window in windows]
    best = max(scored, key=lambda pair: pair[0], default=(0.0, range(0)))
    return best[1] if best[0] > least else None
