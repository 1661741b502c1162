"""What in a block depends on the block before it: the stream, against what comes from the side.

Attention whose query depends on the stream and whose key does not is cross-attention; a product with one dependent
operand is a modulation.
"""

from __future__ import annotations

from dataclasses import dataclass

from automatch.align.use_graph import Chain, UseGraph


@dataclass(frozen=True, slots=True)
class Streams:
    """Stream dependence in all chains of one side.

    Attributes:
        entries: For every chain and block, the landmarks outside the block that carry the stream into it.
        dependent: Landmarks inside blocks that depend on their block's stream.
    """

    entries: dict[tuple[int, int], frozenset[int]]
    dependent: frozenset[int]

    def is_stream(self, place: tuple[int, int] | None, index: int) -> bool:
        """Whether a value is the stream, or made from it, as seen from a block."""
        return index in self.dependent or (place is not None and index in self.entries[place])


def streams(graph: UseGraph) -> Streams:
    """Find the stream of every chain."""
    entries: dict[tuple[int, int], frozenset[int]] = {}
    dependent: set[int] = set()
    for number, chain in enumerate(graph.chains):
        for block in range(chain.depth):
            entry = _entry(graph, chain, block)
            entries[number, block] = entry
            dependent |= _dependents(graph, chain.block(block), entry)
    return Streams(entries, frozenset(dependent))


def _dependents(graph: UseGraph, block: range, entry: frozenset[int]) -> set[int]:
    found: set[int] = set()
    for index in block:
        if any(edge.source in entry or edge.source in found for edge in graph.landmarks[index].ins):
            found.add(index)
    return found


def _entry(graph: UseGraph, chain: Chain, block: int) -> frozenset[int]:
    if block > 0:
        before = chain.block(block - 1)
        return frozenset(
            edge.source for i in chain.block(block) for edge in graph.landmarks[i].ins if edge.source in before
        )
    return _first_entry(graph, chain)


def _first_entry(graph: UseGraph, chain: Chain) -> frozenset[int]:
    """What the first block reads in the places where the second block reads the first."""
    first = chain.block(0)
    outside = [(i, edge.source) for i in first for edge in graph.landmarks[i].ins if edge.source not in first]
    if chain.depth > 1 and len(chain.block(1)) == len(first):
        shift = chain.cuts[1] - chain.cuts[0]
        later = {
            (i - shift, place)
            for i in chain.block(1)
            for place, edge in enumerate(graph.landmarks[i].ins)
            if edge.source in first
        }
        entry = {
            edge.source
            for i in first
            for place, edge in enumerate(graph.landmarks[i].ins)
            if (i, place) in later and edge.source not in first
        }
        if entry:
            return frozenset(entry)
    made = [source for _, source in outside if graph.landmarks[source].kind != "input"]
    candidates = made or [source for _, source in outside]
    return frozenset(_main(graph, first, candidates))


def _main(graph: UseGraph, block: range, candidates: list[int]) -> set[int]:
    """The value that a block adds to: of the shape of its result, read first; else the latest made."""
    shape = graph.landmarks[block.stop - 1].shape
    alike = [source for source in candidates if graph.landmarks[source].shape == shape]
    return {alike[0]} if alike else set(candidates[-1:])
