"""What in a block depends on the block before it: the stream, against what comes from the side.

Attention whose query depends on the stream and whose key does not is cross-attention; a product with one dependent
operand is a modulation. A stream may have several lanes (image and text tokens that attend jointly); lanes are told
apart by the inputs that feed them at the chain's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automatch.align.use_graph import Chain, UseGraph


@dataclass(frozen=True, slots=True)
class Streams:
    """Stream dependence in all chains of one side.

    Attributes:
        entries: For every chain and block, the landmarks outside the block that carry the stream into it, each with
            its lane.
        dependent: Landmarks inside blocks that depend on their block's stream.
        names: For every chain, what its lanes are called; a single lane has no name.
        lanes: For landmarks inside blocks whose stream has several lanes, the lanes they belong to.
    """

    entries: dict[tuple[int, int], dict[int, int]]
    dependent: frozenset[int]
    names: dict[int, dict[int, str]]
    lanes: dict[int, frozenset[str]]

    def is_stream(self, place: tuple[int, int] | None, index: int) -> bool:
        """Whether a value is the stream, or made from it, as seen from a block."""
        return index in self.dependent or (place is not None and index in self.entries[place])

    def lane(self, place: tuple[int, int], index: int) -> str:
        """The name of the lane on which a value enters a block; empty if it is no entry or the only lane."""
        lane = self.entries[place].get(index)
        return "" if lane is None else self.names[place[0]].get(lane, "")


def streams(graph: UseGraph, inputs: Sequence[frozenset[str]]) -> Streams:
    """Find the stream of every chain.

    Args:
        graph: The side.
        inputs: For every landmark, the names of the inputs that reach it.
    """
    entries: dict[tuple[int, int], dict[int, int]] = {}
    dependent: set[int] = set()
    names: dict[int, dict[int, str]] = {}
    for number, chain in enumerate(graph.chains):
        for block in range(chain.depth):
            entry = _entry(graph, chain, block)
            entries[number, block] = entry
            dependent |= _dependents(graph, chain.block(block), entry)
        names[number] = _lane_names(entries[number, 0], inputs)
    lanes = {
        index: found
        for (number, block), entry in entries.items()
        if names[number]
        for index, found in _lanes_inside(graph, graph.chains[number].block(block), entry, names[number]).items()
    }
    return Streams(entries, frozenset(dependent), names, lanes)


def _lanes_inside(
    graph: UseGraph, block: range, entry: dict[int, int], names: dict[int, str]
) -> dict[int, frozenset[str]]:
    """Lanes flow along operands and mix in joint attention; a sum keeps to the lanes that its operands share."""
    found = {index: frozenset({names.get(lane, "")}) for index, lane in entry.items()}
    for index in block:
        mark = graph.landmarks[index]
        lanes = [found[edge.source] for edge in mark.ins if edge.source in found]
        if not lanes:
            continue
        shared = frozenset[str].intersection(*lanes)
        found[index] = shared if mark.kind == "add" and shared else frozenset[str]().union(*lanes)
    return {index: found[index] for index in block if index in found}


def _dependents(graph: UseGraph, block: range, entry: dict[int, int]) -> set[int]:
    found: set[int] = set()
    for index in block:
        if any(edge.source in entry or edge.source in found for edge in graph.landmarks[index].ins):
            found.add(index)
    return found


def _lane_names(entry: dict[int, int], inputs: Sequence[frozenset[str]]) -> dict[int, str]:
    """Lanes are named by the inputs that only they come from; a single lane, or lanes alike, have no names."""
    if len(entry) < 2:
        return {}
    shared = frozenset.intersection(*(inputs[index] for index in entry))
    return {lane: "+".join(sorted(inputs[index] - shared)) for index, lane in entry.items()}


def _entry(graph: UseGraph, chain: Chain, block: int) -> dict[int, int]:
    """The stream's values and their lanes; a lane is the place in the block that reads it first."""
    if block > 0:
        before = chain.block(block - 1)
        return _lanes(_outer_reads(graph, chain.block(block)), set(before))
    return _first_entry(graph, chain)


def _outer_reads(graph: UseGraph, block: range) -> list[tuple[int, int, int]]:
    """Operands from outside a block: place of the reader, number of the operand, landmark read."""
    return [
        (index - block.start, number, edge.source)
        for index in block
        for number, edge in enumerate(graph.landmarks[index].ins)
        if edge.source not in block
    ]


def _lanes(reads: list[tuple[int, int, int]], among: set[int]) -> dict[int, int]:
    lanes: dict[int, int] = {}
    for place, number, source in reads:
        if source in among:
            lanes.setdefault(source, 8 * place + number)
    return lanes


def _first_entry(graph: UseGraph, chain: Chain) -> dict[int, int]:
    """What the first block reads in the places where the second block reads the first."""
    first = chain.block(0)
    reads = _outer_reads(graph, first)
    if chain.depth > 1 and len(chain.block(1)) == len(first):
        later = _outer_reads(graph, chain.block(1))
        places = {(place, number) for place, number, source in later if source in first}
        at_stream = [read for read in reads if read[:2] in places]
        if at_stream:
            return _lanes(at_stream, {source for *_, source in at_stream})
    made = [read for read in reads if graph.landmarks[read[2]].kind != "input"]
    return _main(graph, first, made or reads)


def _main(graph: UseGraph, block: range, reads: list[tuple[int, int, int]]) -> dict[int, int]:
    """The value that a block adds to: of the shape of its result, read first; else the latest made."""
    shape = graph.landmarks[block.stop - 1].shape
    alike = [source for *_, source in reads if graph.landmarks[source].shape == shape]
    chosen = alike[:1] or [source for *_, source in reads][-1:]
    return _lanes(reads, set(chosen))
