"""Pairs of values behind the place where two models part, between which and what is held fixed a search may be made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from automatch.core.graph import Shape
from automatch.exact.normalise import ancestors
from automatch.region.held import Half, Links, is_number
from automatch.trace.program import Program, name_of

GROUPS = 4
"""Sets of weights that are tried in one round and way of holding values, smallest first."""

PAIRS = 2
"""Pairs of values that are tried of one set of weights."""

PART = 0.5
"""The share of all numbers above which a region is no part any more."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A part of both programs.

    Attributes:
        source: The nodes of the source that it makes.
        target: Those of the target, in the same order.
        weights: The target's weights in it.
        size: How many numbers these hold.
    """

    source: tuple[fx.Node, ...]
    target: tuple[fx.Node, ...]
    weights: frozenset[str]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both models in one run, what is held fixed, and which weights belong together.

    Attributes:
        source: The source.
        target: The target.
        held: What is held fixed in the source, and in the target.
        links: Which weights are made of each other.
        outputs: Which outputs are compared.
        anywhere: Whether a region may end in a value whose order no stream decides.
    """

    source: Half
    target: Half
    held: tuple[frozenset[fx.Node], frozenset[fx.Node]]
    links: Links
    outputs: Sequence[tuple[int, int]]
    anywhere: bool = False


def regions(sides: Sides, suspected: Collection[str]) -> Iterator[Region]:
    """Regions that may hold what is wrong, smallest first; the whole rest of both models, if it is small, last.

    The weights that come in between what is held fixed and the two values must be each other's on both sides.

    Args:
        sides: Both models.
        suspected: Target weights of which a region holds some.
    """
    ours, theirs = _own(sides, 0), _own(sides, 1)
    grouped: dict[frozenset[str], tuple[list[fx.Node], list[fx.Node]]] = {}
    for place, own in enumerate((ours, theirs)):
        for node in _open(sides, place):
            common = _common(sides.links, own[node], place)
            if common:
                grouped.setdefault(common, ([], []))[place].append(node)
    sizes = {name: value.numel() for name, value in sides.target.program.values.items()}
    found: list[tuple[int, list[tuple[fx.Node, fx.Node]]]] = []
    for firsts, seconds in grouped.values():
        names = theirs[seconds[-1]] if firsts and seconds else frozenset[str]()
        if names and not names.isdisjoint(suspected):
            found.append((sum(sizes[name] for name in names), _pairs(firsts, seconds)))
    most = PART * sum(sizes.values())
    small = sorted((row for row in found if row[1] and row[0] <= most), key=lambda row: row[0])
    for size, pairs in small[:GROUPS]:
        for one, other in pairs[:PAIRS]:
            yield Region((one,), (other,), theirs[other], size)
    yield from _rest(sides, theirs, sizes, most)


def _rest(
    sides: Sides, own: Mapping[fx.Node, frozenset[str]], sizes: Mapping[str, int], most: float
) -> Iterator[Region]:
    pairs = [(sides.source.program.outputs[a], sides.target.program.outputs[b]) for a, b in sides.outputs]
    names = frozenset[str]().union(*(own.get(node, frozenset()) for _, node in pairs))
    size = sum(sizes[name] for name in names)
    if names and size <= most:
        yield Region(tuple(one for one, _ in pairs), tuple(other for _, other in pairs), names, size)


def _own(sides: Sides, place: int) -> dict[fx.Node, frozenset[str]]:
    """By node, the weights that come in between what is held fixed and it."""
    program, held = (sides.source, sides.target)[place].program, sides.held[place]
    found: dict[fx.Node, frozenset[str]] = {}
    for node in program.graph.nodes:
        if node in program.weights:
            found[node] = frozenset([program.weights[node]])
        elif node in held:
            found[node] = frozenset()
        else:
            found[node] = frozenset[str]().union(*(found[item] for item in node.all_input_nodes))
    return found


def _open(sides: Sides, place: int) -> list[fx.Node]:
    """The nodes that inputs reach, that lead to an output, and whose value is not held on both sides."""
    half = (sides.source, sides.target)[place]
    program: Program = half.program
    wanted = ancestors(program.outputs[pair[place]] for pair in sides.outputs)
    reached = {step.node for step in half.ran[0]} if sides.anywhere else half.ordered
    chosen = (node for node in program.graph.nodes if node in wanted and node in reached and node not in half.alike)
    return [node for node in chosen if node.op != "placeholder" and is_number(node)]


def _common(links: Links, names: frozenset[str], place: int) -> frozenset[str]:
    """Weights in the source's names, without those that the mapping does not know."""
    if place == 0:
        return frozenset(name for name in names if name in links.targets)
    return frozenset[str]().union(*(links.sources.get(name, frozenset()) for name in names))


def _pairs(ours: Sequence[fx.Node], theirs: Sequence[fx.Node]) -> list[tuple[fx.Node, fx.Node]]:
    """Pairs of one shape, those where branches meet first, then the last: all that is wrong has come in there."""
    ranked: list[list[tuple[fx.Node, fx.Node]]] = [[], [], []]
    beside: dict[Shape, list[fx.Node]] = {}
    for node in reversed(ours):
        beside.setdefault(_shape(node), []).append(node)
    # no more of a shape can be among the first pairs
    few = {shape: _first(nodes) for shape, nodes in beside.items()}
    for other in reversed(theirs):
        for one in few.get(_shape(other), ()):
            ranked[(not _meets(one)) + (not _meets(other))].append((one, other))
    chosen = [pair for pairs in ranked for pair in pairs]
    return chosen or [(ours[-1], theirs[-1])] * (_count(ours[-1]) == _count(theirs[-1]))


def _first(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """The first few nodes where branches meet, then the first few others."""
    meeting = [node for node in nodes if _meets(node)]
    others = [node for node in nodes if not _meets(node)]
    return [*meeting[:PAIRS], *others[:PAIRS]]


def _meets(node: fx.Node) -> bool:
    return name_of(node) in ("add", "add_") and len(node.all_input_nodes) > 1


def _shape(node: fx.Node) -> Shape:
    """The shape of a node's value, without unit axes."""
    return tuple(int(size) for size in node.meta["val"].shape if size != 1)


def _count(node: fx.Node) -> int:
    return int(node.meta["val"].numel())
