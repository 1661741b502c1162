"""Find chains of repeated blocks in a use graph, without names.

Landmarks that carry weights, attention and norms are read as symbols, in execution order. A stretch that repeats is cut
into blocks where the fewest values cross: at the residual stream. First and last blocks that differ a little (a stage's
first block with its projection) are then admitted by similarity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from automatch.align.irregular import ALIKE, extended
from automatch.align.repeats import Repeat, longest_repeat
from automatch.align.use_graph import Chain, UseGraph
from automatch.core.landmarks import Landmark


def with_chains(graph: UseGraph, alike: float = ALIKE[0]) -> UseGraph:
    """A use graph cut into its chains.

    Args:
        graph: The use graph of a model.
        alike: How similar a first or last block must be to the others to count as one of them.
    """
    weighty = [landmark.index for landmark in graph.landmarks if _is_weighty(landmark)]
    chains = sorted(_chains(graph, weighty, 0, len(weighty)), key=lambda chain: chain.cuts)
    for number in range(len(chains)):
        chains[number] = extended(graph, chains[number], chains, alike)
    return graph.cut_into(tuple(chains))


def _is_weighty(landmark: Landmark) -> bool:
    return bool(landmark.uses) or landmark.kind in ("attention", "norm")


def _symbol(graph: UseGraph, index: int) -> Hashable:
    landmark = graph.landmarks[index]
    uses = tuple(sorted((use.role, graph.shapes.get(use.weight, ()), use.view.regions) for use in landmark.uses))
    return (landmark.kind, landmark.shape, _fed(graph, landmark), uses)


def _fed(graph: UseGraph, landmark: Landmark) -> frozenset[str]:
    """What tells apart landmarks of one kind and shape within a block: what they feed."""
    readers = graph.readers(landmark.index)
    if landmark.kind == "norm" and all(reader.kind == "add" for reader, _ in readers):
        return frozenset({"add alone"})  # the last norm of a residual branch
    if landmark.kind not in ("contraction", "norm"):
        return frozenset()
    telling = ("attention", "activation", "norm") if landmark.kind == "contraction" else ("activation",)
    return frozenset(f"{reader.kind}.{edge.role}" for reader, edge in readers if reader.kind in telling)


def _chains(graph: UseGraph, weighty: list[int], low: int, high: int) -> list[Chain]:
    """Chains among `weighty[low:high]`: the longest repeat first, then what lies before and after it."""
    symbols = _symbols(graph, weighty[low:high])
    repeat = longest_repeat(symbols)
    if repeat is None:
        return []
    repeat = Repeat(repeat.start + low, repeat.stop + low, repeat.period)
    chain, first, last = _cut(graph, weighty, repeat)
    chain = _without_unlike_ends(graph, chain)
    found = [chain] if _is_fed_block_by_block(graph, chain) else []
    return [*_chains(graph, weighty, low, first), *found, *_chains(graph, weighty, last, high)]


def _symbols(graph: UseGraph, indices: list[int]) -> list[Hashable]:
    return [_symbol(graph, index) for index in indices]


def _cut(graph: UseGraph, weighty: list[int], repeat: Repeat) -> tuple[Chain, int, int]:
    """Choose the phase and the boundary between blocks; give the chain and the stretch of `weighty` that it covers.

    The best phase lets the fewest values cross between blocks; among equals, it makes most blocks alike inside; then
    first and last blocks that are nearly so count.
    """
    end = next((mark.index for mark in graph.landmarks if mark.kind == "output"), len(graph.landmarks))
    place = [*weighty, end]
    middle = max(1, repeat.times // 2)
    options = []
    for phase in range(min(repeat.slack, repeat.period) + 1):
        at = repeat.start + phase + middle * repeat.period
        low, high = place[at - 1], place[at] if at < len(place) else end
        # the earliest of equal cuts: what prepares a block (a condition that is added) belongs to it
        crossing, before = min((_crossing(graph, q), q - high) for q in range(low + 1, high + 1))
        options.append((crossing, phase, _chain(place, repeat, phase, -before, end)))
    least = min(crossing for crossing, _, _ in options)
    tied = [(phase, chain) for crossing, phase, chain in options if crossing == least]
    phase, chain = max(tied, key=lambda option: (_depth(graph, option[1]), -option[0]))
    first = repeat.start + phase
    return chain, first, first + repeat.times * repeat.period


def _depth(graph: UseGraph, chain: Chain) -> tuple[int, int]:
    """How many blocks of a chain are wired like most of them, and how many nearly alike neighbours it has."""
    inner = _without_unlike_ends(graph, chain)
    return _alike_blocks(graph, inner), extended(graph, inner, [], ALIKE[0]).depth - inner.depth


def _chain(place: list[int], repeat: Repeat, phase: int, before: int, end: int) -> Chain:
    first = repeat.start + phase
    starts = [place[first + j * repeat.period] - before for j in range(repeat.times)]
    middle = max(1, repeat.times // 2)
    stride = starts[middle] - starts[middle - 1]
    stop = min(starts[-1] + stride, place[first + repeat.times * repeat.period], end)
    return Chain((*starts, stop))


def _alike_blocks(graph: UseGraph, chain: Chain) -> int:
    """How many blocks of a chain are wired like most of them."""
    wirings = Counter(_wiring(graph, chain.block(number)) for number in range(chain.depth))
    return max(wirings.values())


def _without_unlike_ends(graph: UseGraph, chain: Chain) -> Chain:
    """A chain without first and last blocks that are wired unlike most; they may come back as irregular blocks."""
    wirings = [_wiring(graph, chain.block(number)) for number in range(chain.depth)]
    usual = Counter(wirings).most_common(1)[0][0]
    alike = [number for number, wiring in enumerate(wirings) if wiring == usual]
    if len(alike) < 2:
        return chain
    return Chain(chain.cuts[alike[0] : alike[-1] + 2])


def _wiring(graph: UseGraph, block: range) -> Hashable:
    """Kinds and inner edges of a block, by place in the block; what comes from outside is not told apart."""
    return tuple(
        (
            graph.landmarks[index].kind,
            tuple(edge.source - block.start if edge.source in block else -1 for edge in graph.landmarks[index].ins),
        )
        for index in block
    )


def _crossing(graph: UseGraph, q: int) -> tuple[int, bool]:
    """How many values cross a cut, and whether the latest of them is no stream: a stream feeds a branch and a sum."""
    crossing = [i for i in range(max(0, q - 64), q) if graph.last_reader(i) >= q and graph.landmarks[i].kind != "input"]
    latest = crossing[-1] if crossing else None
    readers = 0 if latest is None else sum(reader.index >= q for reader, _ in graph.readers(latest))
    return graph.live[q], readers < 2


def _is_fed_block_by_block(graph: UseGraph, chain: Chain) -> bool:
    """Whether every block but the first reads something that the block before it made."""
    if chain.depth < 2 or any(a >= b for a, b in zip(chain.cuts, chain.cuts[1:], strict=False)):
        return False
    return all(_reads(graph, chain.block(j), chain.block(j - 1)) for j in range(1, chain.depth))


def _reads(graph: UseGraph, block: range, before: range) -> bool:
    return any(edge.source in before for index in block for edge in graph.landmarks[index].ins)
