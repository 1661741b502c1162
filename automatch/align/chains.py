"""Find chains of repeated blocks in a use graph, without names.

Landmarks that carry weights, attention and norms are read as symbols, in execution order. A stretch that repeats is cut
into blocks where the fewest values cross: at the residual stream. First and last blocks that differ a little (a stage's
first block with its projection) are then admitted by similarity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from math import prod

from automatch.align.repeats import Repeat, longest_repeat
from automatch.align.use_graph import Chain, UseGraph
from automatch.core.landmarks import Landmark

_TELLING = ("contraction", "norm", "attention", "activation", "add", "mul", "embedding")
ALIKE = (0.8, 0.7)
"""How like the others a first or last block must be; which of the two serves better depends on the other side."""
_SIMILAR_TO_OWN = 0.75
_SIMILAR_TO_OTHER = 0.6


def with_chains(graph: UseGraph, alike: float = ALIKE[0]) -> UseGraph:
    """A use graph cut into its chains.

    Args:
        graph: The use graph of a model.
        alike: How similar a first or last block must be to the others to count as one of them.
    """
    weighty = [landmark.index for landmark in graph.landmarks if _is_weighty(landmark)]
    chains = sorted(_chains(graph, weighty, 0, len(weighty)), key=lambda chain: chain.cuts)
    for number in range(len(chains)):
        chains[number] = _extended(graph, chains[number], chains, alike)
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
    return _alike_blocks(graph, inner), _extended(graph, inner, [], ALIKE[0]).depth - inner.depth


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


# Irregular blocks


def _extended(graph: UseGraph, chain: Chain, chains: list[Chain], alike: float) -> Chain:
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
    scored = [(similarity(_kinds(graph, window), _kinds(graph, model)), window) for window in windows]
    best = max(scored, key=lambda pair: pair[0], default=(0.0, range(0)))
    return best[1] if best[0] > least else None


def _kinds(graph: UseGraph, window: range) -> list[str]:
    marks = (graph.landmarks[index] for index in window)
    return [mark.kind for mark in marks if mark.kind in _TELLING]


def similarity(first: list[str], second: list[str]) -> float:
    """How much of two sequences is common to both in order: twice the longest common subsequence over both lengths.

    Example:
        >>> similarity(["norm", "linear", "add"], ["norm", "add"])
        0.8
    """
    if not first or not second:
        return 0.0
    row = [0] * (len(second) + 1)
    for symbol in first:
        previous = 0
        for j, other in enumerate(second):
            previous, row[j + 1] = row[j + 1], previous + 1 if symbol == other else max(row[j + 1], row[j])
    return 2 * row[-1] / (len(first) + len(second))


# Blocks that occur only once on this side


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
    models.sort(key=lambda model: -model.length)  # a decoder's block holds what looks like an encoder's
    while thorough or len(graph.chains) < len(other.chains):
        windows = [_single(graph, model, crossing) for model in models]
        score, window = max(windows, key=lambda option: option[0], default=(0.0, range(0)))
        if score <= 0:
            break
        chain = _extended(graph, Chain((window.start, window.stop)), list(graph.chains), ALIKE[0])
        graph = graph.cut_into(tuple(sorted((*graph.chains, chain), key=lambda c: c.cuts)))
    return graph


def _models(graph: UseGraph, own: bool) -> list[_Model]:
    blocks = [chain.block(chain.sample) for chain in graph.chains]
    return [_Model(tuple(_kinds(graph, block)), len(block), own) for block in blocks]


def _resemblance(kinds: list[str], model: _Model) -> float:
    """How like a model a stretch is, above what is needed; the other side's blocks may hold more than this side's.

    Against a block of the other side, what a stretch shares counts twice as much as what it lacks: an F-measure with
    beta = 1/2 of the longest common subsequence (van Rijsbergen, "Information Retrieval", 1979, chapter 7).
    """
    if model.own:
        return similarity(kinds, list(model.kinds)) - _SIMILAR_TO_OWN
    common = similarity(kinds, list(model.kinds)) * (len(kinds) + len(model.kinds)) / 2
    if not common:
        return 0.0
    precision, recall = common / len(kinds), common / len(model.kinds)
    return 1.25 * precision * recall / (0.25 * precision + recall) - _SIMILAR_TO_OTHER


def _single(graph: UseGraph, model: _Model, crossing: int) -> tuple[float, range]:
    """The stretch outside all chains that is most like a model block; among equals, crossed by fewest values."""
    outside = {mark.index for mark in graph.outside() if mark.kind not in ("input", "output")}
    ends = [q for q in range(len(graph.landmarks)) if graph.live[q] <= crossing + _background(graph, q)]
    windows = [
        range(start, stop)
        for start in ends
        if start in outside
        for stop in ends
        if model.length // 3 <= stop - start <= 2 * model.length and outside.issuperset(range(start, stop))
    ]
    scored = [(_resemblance(_kinds(graph, window), model), window) for window in windows]
    enough = [(score, _has_stream(graph, window), window) for score, window in scored if score > 0]
    score, _, window = max(enough, key=lambda option: _rank(graph, *option), default=(0.0, False, range(0)))
    return score, window


def _rank(graph: UseGraph, score: float, streamed: bool, window: range) -> tuple[bool, float, int]:
    return streamed, score, -graph.live[window.start] - graph.live[window.stop]


def _has_stream(graph: UseGraph, window: range) -> bool:
    """Whether something that enters a stretch feeds a branch and a sum in it, as the stream of a residual block does."""
    entering = [edge.source for index in window for edge in graph.landmarks[index].ins if edge.source < window.start]
    return any(count > 1 for count in Counter(entering).values())


def _background(graph: UseGraph, q: int) -> int:
    """How many values cross a cut without being made or used near it: conditioning that many blocks read."""
    near = range(max(0, q - 40), min(len(graph.landmarks), q + 40))
    return max(0, min(graph.live[near.start + 1 : near.stop], default=1) - 1)
