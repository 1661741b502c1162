"""How a number of a source's key follows from the numbers of the target's: formulas that fit all layers seen.

Example:
    >>> from automatch.rules.formula import text
    >>> print(text(follow((1, 3, 5), {"i": (0, 1, 2)})))
    2 * i + 1
    >>> print(text(follow((0, 0, 1, 1), {"i": (0, 1, 2, 3)})))
    i // 2
    >>> sampling = Sampling("i", (8, 8, 8), (3, 3, 3), lambda: ("depth", "layers"))
    >>> print(text(follow((0, 2, 5), {"i": (0, 1, 2)}, [sampling])))
    i * depth // layers
    >>> print(text(follow((7, 5, 2), {"i": (0, 1, 2)}, [sampling])))
    depth - 1 - i * depth // layers
    >>> follow((3, 1, 2), {"i": (0, 1, 2)})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from automatch.rules.formula import Binary, Formula, Name, Number

Column: TypeAlias = tuple[int, ...]
"""The values that one number takes over the keys of a group."""

_STEPS = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How layers may have been sampled: evenly, target layer i from source layer `i * depth // layers`.

    Attributes:
        variable: The variable that counts the target's layers.
        depth: For every key, the number of source layers.
        layers: For every key, the number of target layers.
        names: What formulas call the two, asked for once they are used.
        even: Whether the two are the same for all keys of one model; stages of different depths have no one name.
    """

    variable: str
    depth: Column
    layers: Column
    names: Callable[[], tuple[str, str]]
    even: bool = True


def follow(values: Column, own: Mapping[str, Column], samplings: Sequence[Sampling] = ()) -> Formula | None:
    """The simplest formula that gives these values.

    A factor other than 1 is believed from three different values on: two points are on many lines.

    Args:
        values: What the formula must give, key by key.
        own: For every variable, its value for the same keys.
        samplings: How layers may have been sampled.

    Returns:
        The formula, or None where these values follow nothing.
    """
    if len(set(values)) == 1:
        return Number(values[0])
    for name, column in own.items():
        if len({value - number for value, number in zip(values, column, strict=True)}) == 1:
            return _plus(Name(name), values[0] - column[0])
    for sampling in samplings:
        found = _sampled(values, own[sampling.variable], sampling)
        if found is not None:
            return found
    for name, column in own.items():
        found = _line(values, column, name)
        if found is not None:
            return found
    return _plane(values, own)


def _sampled(values: Column, column: Column, sampling: Sampling) -> Formula | None:
    """Layers that were sampled evenly, or that count from the other end."""
    rows = list(zip(column, sampling.depth, sampling.layers, strict=True))
    if any(layers < 2 for _, _, layers in rows) or len(set(column)) < 2 or not sampling.even:
        return None
    taken = tuple(i * depth // layers for i, depth, layers in rows)
    turned = tuple(depth - 1 - place for place, (_, depth, _) in zip(taken, rows, strict=True))
    if values not in (taken, turned):
        return None
    depth_name, layers_name = sampling.names()
    if not depth_name or not layers_name:
        return None
    index: Formula = Name(sampling.variable)
    if any(depth != layers for _, depth, layers in rows):
        index = Binary("//", Binary("*", index, Name(depth_name)), Name(layers_name))
    return index if values == taken else Binary("-", Binary("-", Name(depth_name), Number(1)), index)


def _line(values: Column, column: Column, name: str) -> Formula | None:
    points = sorted(set(zip(column, values, strict=True)))
    if len({x for x, _ in points}) < len(points):
        return None  # one number of the target, several of the source
    (x0, y0), (x1, y1) = points[0], points[-1]
    for slope in _STEPS if len(points) > 2 else ():
        offset = y0 - slope * x0
        if all(y == slope * x + offset for x, y in points):
            return _plus(_times(slope, Name(name)), offset)
    for step in _STEPS if x1 - x0 >= 2 * max(1, y1 - y0) else ():
        if len(points) < 2 * step:
            break  # fewer would be a chance
        for shift in range(step):
            if all(y == (x + shift) // step for x, y in points):
                return Binary("//", _plus(Name(name), shift), Number(step))
        offset = y0 - x0 // step
        if all(y == x // step + offset for x, y in points):
            return _plus(Binary("//", Name(name), Number(step)), offset)
    return None


def _plane(values: Column, own: Mapping[str, Column]) -> Formula | None:
    """A sum over two variables: the blocks of a stage counted through, as `2 * i + j`."""
    for (one, ours), (other, theirs) in combinations(own.items(), 2):
        points = sorted(set(zip(ours, theirs, values, strict=True)))
        for first in (1, *_STEPS):
            for second in (1, *_STEPS):
                offset = points[0][2] - first * points[0][0] - second * points[0][1]
                enough = len({x for x, _, _ in points}) > 2 or first == 1
                if enough and all(v == first * x + second * y + offset for x, y, v in points):
                    return _plus(Binary("+", _times(first, Name(one)), _times(second, Name(other))), offset)
    return None


def _times(factor: int, of: Formula) -> Formula:
    return of if factor == 1 else Binary("*", Number(factor), of)


def _plus(of: Formula, offset: int) -> Formula:
    if offset == 0:
        return of
    return Binary("+", of, Number(offset)) if offset > 0 else Binary("-", of, Number(-offset))
