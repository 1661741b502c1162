"""Which number of the full-size models stands where a number of the twins does.

Twin and full-size model are recorded from the same code, so the operators of one module line up. Wherever shapes,
sizes or numbers stand in both recordings, they are read off in pairs: 4 heads on one side, 32 on the other. A number
with several meanings has several partners; which one is meant is decided where it is used (`automatch.lift.sizes`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose, isqrt
from typing import TypeGuard

from automatch.core.graph import Arg, Graph, Node, Shape

_AXES = {"permute", "transpose", "mean", "sum", "var_mean", "flip", "roll", "squeeze", "unsqueeze", "layer_norm"}
"""Operators whose numbers are mostly axes."""

_SIZED = {"chunk", "split", "narrow", "repeat_interleave", "slice"}
"""Operators whose bare integers are sizes or bounds."""

_PLAIN = {0.0, 1.0, -1.0}
"""Numbers that no size makes."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What numbers become.

    Attributes:
        sizes: For every size in the twins, the sizes at its places in the full-size models.
        numbers: The same for numbers that are no integers, and that the code itself computes with.
    """

    sizes: Mapping[int, frozenset[int]]
    numbers: Mapping[float, frozenset[float]]

    def size(self, small: int) -> frozenset[int]:
        """What a size may become; empty where no evidence is known."""
        return self.sizes.get(small, frozenset())

    def products(self, small: int) -> frozenset[int]:
        """What a size may become that is a product of two others.

        Example:
            >>> Pairs({6: frozenset({6}), 5: frozenset({64})}, {}).products(30)
            frozenset({384})
        """
        halves = ((size, small // size) for size in range(2, isqrt(small) + 1) if small % size == 0)
        return frozenset(one * other for a, b in halves for one in self._factor(a) for other in self._factor(b))

    def _factor(self, small: int) -> frozenset[int]:
        return self.size(small) | {2} if small == 2 else self.size(small)

    def number(self, small: float) -> tuple[float, ...]:
        """What a factor, or the value of a constant, may become.

        One that the code spells is what it spells at full size. Otherwise it may be a size, a root or one over them,
        or a number that depends on nothing: several answers if several of that hold.

        Example:
            >>> pairs = Pairs({24: frozenset({128})}, {})
            >>> pairs.number(24**-0.5) == (128**-0.5,), pairs.number(-1.0), pairs.number(0.3)
            (True, (-1.0,), (0.3,))
        """
        if small in _PLAIN:
            return (small,)
        spelled = {
            partner if isclose(small, mine, rel_tol=1e-6) else 1 / partner
            for mine, partners in self.numbers.items()
            for partner in partners
            if isclose(small, mine, rel_tol=1e-6) or (partner and mine and isclose(small, 1 / mine, rel_tol=1e-6))
        }
        if spelled:
            return tuple(sorted(spelled))
        made = {
            float(partner) ** power
            for size, partners in self.sizes.items()
            for power in (1.0, -1.0, 0.5, -0.5, 0.25, -0.25)
            if size > 1 and isclose(abs(small), size**power, rel_tol=1e-6)
            for partner in partners
        }
        signed = {value if small > 0 else -value for value in made}
        # a root that is no plain fraction is no accident
        plain = isclose(small * 64, round(small * 64), rel_tol=1e-9)
        return tuple(sorted(signed | {small})) if plain or not signed else tuple(sorted(signed))


def pairs_of(twins: Sequence[Graph], full: Sequence[Graph]) -> Pairs:
    """Line up each twin with its full-size model, and read off what became of the numbers."""
    sizes: defaultdict[int, set[int]] = defaultdict(set)
    numbers: defaultdict[float, set[float]] = defaultdict(set)
    for small, large in _pairs(twins, full):
        if isinstance(small, int) and isinstance(large, int):
            sizes[small].add(large)
        else:
            numbers[float(small)].add(float(large))
    return Pairs(
        {small: frozenset(large) for small, large in sizes.items()},
        {small: frozenset(large) for small, large in numbers.items()},
    )


def grown_ones(twins: Sequence[Graph], full: Sequence[Graph]) -> tuple[str, ...]:
    """Places where a twin has one entry along an axis and the full-size model has several, as text.

    What a conversion does along such an axis does not show in the twin. Sizes of the inputs are not the models' own.
    """
    found: dict[str, None] = {}
    for twin, large in zip(twins, full, strict=True):
        given = {pair for one, other in _nodes(twin, large) if one.op == "input" for pair in _sizes(one, other)}
        for place, mine, theirs in _shapes(twin, large):
            own = set(zip(mine, theirs, strict=True)) - given
            if any(small == 1 < size for small, size in own):
                found[f"{place}: {list(mine)} in the twin, {list(theirs)} at full size"] = None
    return tuple(found)


def _sizes(one: Node, other: Node) -> Iterator[tuple[int, int]]:
    return zip(one.shape or (), other.shape or (), strict=False)


def _shapes(twin: Graph, full: Graph) -> Iterator[tuple[str, Shape, Shape]]:
    shapes = {name: weight.shape for weight in full.weights for name in weight.keys}
    for weight in twin.weights:
        theirs = shapes.get(weight.name)
        if theirs is not None and len(theirs) == len(weight.shape):
            yield weight.name, weight.shape, theirs
    for one, other in _nodes(twin, full):
        if one.shape is not None and other.shape is not None and len(one.shape) == len(other.shape):
            yield f"{one.op} in {one.module or 'the model'}", one.shape, other.shape


def _nodes(twin: Graph, full: Graph) -> Iterator[tuple[Node, Node]]:
    theirs = _by_module(full)
    for module, nodes in _by_module(twin).items():
        yield from _aligned(nodes, theirs.get(module, []))


def _pairs(twins: Sequence[Graph], full: Sequence[Graph]) -> Iterator[tuple[float, float]]:
    for twin, large in zip(twins, full, strict=True):
        for _, mine, theirs in _shapes(twin, large):
            yield from ((a, b) for a, b in zip(mine, theirs, strict=True) if a > 0 and b > 0)
        for one, other in _nodes(twin, large):
            yield from _of_arguments(one, other)


def _by_module(graph: Graph) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op != "weight":  # paired by name
            found.setdefault(node.module, []).append(node)
    return found


def _aligned(mine: list[Node], theirs: list[Node]) -> Iterator[tuple[Node, Node]]:
    """Nodes one by one; where a loop ran more often, those before it and after it."""
    yield from _while_alike(mine, theirs)
    if len(mine) != len(theirs):
        yield from _while_alike(reversed(mine), reversed(theirs))


def _while_alike(mine: Iterable[Node], theirs: Iterable[Node]) -> Iterator[tuple[Node, Node]]:
    for one, other in zip(mine, theirs, strict=False):
        if one.op != other.op:
            return
        yield one, other


def _of_arguments(mine: Node, theirs: Node) -> Iterator[tuple[float, float]]:
    pairs = zip(
        (*mine.args, *(value for _, value in mine.kwargs)),
        (*theirs.args, *(value for _, value in theirs.kwargs)),
        strict=False,
    )
    for small, large in pairs:
        yield from _of_argument(small, large, mine.op)


def _of_argument(mine: Arg, theirs: Arg, op: str) -> Iterator[tuple[float, float]]:
    if isinstance(mine, tuple) and isinstance(theirs, tuple) and op not in _AXES:
        for small, large in zip(mine, theirs, strict=False):
            yield from _of_argument(small, large, "split")
    elif isinstance(mine, float):
        yield from [(mine, theirs)] if isinstance(theirs, float) else []
    elif _is_size(mine) and _is_size(theirs) and op in _SIZED:
        yield mine, theirs


def _is_size(value: Arg) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
