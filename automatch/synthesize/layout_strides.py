"""Index maps in nested strided form: counting digits, each of which moves a fixed step through the source.

A list of flat indices is such a form where counting through it is counting with digits of mixed sizes: index = start +
the sum of digit * stride (the layouts of CUTLASS's CuTe; Shah et al., 2023). Slices, permutations of axes and reshapes
of a tensor all are, and their compositions mostly; from the digits, one reshape, slices, one permutation and another
reshape are read off, whatever operators the map was made by.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from automatch.core.expr import Concat, Expr, Reshape, Slice, children
from automatch.core.graph import Shape
from automatch.synthesize.build import permute, reshape

Indices: TypeAlias = NDArray[np.int64]

MOST_REPEATS = 16
"""More copies of one part than that are not written side by side."""


@dataclass(frozen=True, slots=True)
class Digit:
    """A counting digit: how many values it takes, and how far each moves through the source."""

    size: int
    stride: int


@dataclass(frozen=True, slots=True)
class _Place:
    """A digit of the source's own count: its size and stride, and which of its values are taken."""

    size: int
    stride: int
    start: int
    taken: int


def digits_of(index: Indices) -> tuple[Digit, ...] | None:
    """The digits of a flat list of indices, slowest first; None where it is no nested strided form.

    Example:
        >>> digits_of(np.array([0, 4, 1, 5, 2, 6, 3, 7]))
        (Digit(size=4, stride=1), Digit(size=2, stride=4))
    """
    found: list[Digit] = []
    while len(index) > 1:
        size = leading_run(index)
        if len(index) % size:
            return None
        rows = index.reshape(-1, size)
        if (rows - rows[:, :1] != rows[0] - rows[0, 0]).any():
            return None
        found.append(Digit(size, int(index[1] - index[0])))
        index = rows[:, 0]
    return tuple(reversed(found))


def leading_run(index: Indices) -> int:
    """The number of entries at the start that follow each other in equal steps.

    Example:
        >>> leading_run(np.array([3, 5, 7, 8, 9]))
        3
    """
    step, block = index[1] - index[0], 64
    done = 1
    while done < len(index):
        window = np.diff(index[done - 1 : done + block])
        differs = np.flatnonzero(window != step)
        if len(differs):
            return done + int(differs[0])
        done += len(window)
        block *= 8
    return len(index)


def moved(of: Expr, start: int, digits: tuple[Digit, ...], shape: Shape) -> Expr | None:
    """The expression whose entry i is the entry of `of` that the digits of i lead to; None where there is none.

    Args:
        of: The source.
        start: The flat index of the first entry.
        digits: The digits, slowest first.
        shape: The wanted shape.

    Example:
        >>> from automatch.core.expr import Source, text
        >>> print(text(moved(Source("w", (4, 2)), 0, (Digit(2, 1), Digit(4, 2)), (2, 4))))
        w.T
    """
    if any(digit.stride < 0 for digit in digits):
        return None
    distinct = tuple(digit for digit in digits if digit.stride)
    found = _distinct(of, start, distinct)
    return None if found is None else _repeated(found, digits, shape)


def _repeated(found: Expr, digits: tuple[Digit, ...], shape: Shape) -> Expr | None:
    """Copies side by side for the digits that do not move through the source."""
    copies = prod(digit.size for digit in digits if not digit.stride)
    if copies == 1:
        return reshape(found, shape)
    if copies > MOST_REPEATS:
        return None
    grouped = _grouped(digits, shape, copies)
    if grouped is not None:
        part = reshape(found, (*grouped[0], *grouped[1]))
        return reshape(Concat((part,) * copies, len(grouped[0])), shape)
    sizes = [digit.size if digit.stride else 1 for digit in digits]
    found = reshape(found, tuple(sizes))
    for axis, digit in enumerate(digits):
        if not digit.stride:
            found = Concat((found,) * digit.size, axis)
    return reshape(found, shape)


def _grouped(digits: tuple[Digit, ...], shape: Shape, copies: int) -> tuple[Shape, Shape] | None:
    """The shape before and from the axis along which copies follow each other; None where there are several."""
    place = next(place for place, digit in enumerate(digits) if not digit.stride)
    before = prod(digit.size for digit in digits[:place])
    if digits[place].size != copies:
        return None
    for axis in reversed(range(len(shape))):
        outer = prod(shape[:axis])
        groups = before // outer
        if outer * groups == before and groups and not shape[axis] % (groups * copies):
            lead = (*shape[:axis], groups) if groups > 1 else shape[:axis]
            return lead, (shape[axis] // (groups * copies), *shape[axis + 1 :])
    return None


def _distinct(of: Expr, start: int, digits: tuple[Digit, ...]) -> Expr | None:
    """The entries, in order: in the source's own terms, else out of the rows they lie in, else somehow."""
    stretch = _stretch(of, start, digits)
    rows = stretch if isinstance(stretch, Slice) and stretch.of == of else None
    plain = _in_places(of, start, digits, of.shape)
    if plain is not None and not (rows and _contains_reshape(plain)):
        return plain
    choices = ((rows, 0), (of, start), (stretch, 0))
    for whole, first in choices:
        for axes in (whole.shape, (prod(whole.shape),)) if whole else ():
            found = _in_places(whole, first, digits, axes) if whole else None
            if found is not None:
                return found
    return None


def _contains_reshape(expr: Expr) -> bool:
    return isinstance(expr, Reshape) or any(map(_contains_reshape, children(expr)))


def _stretch(of: Expr, start: int, digits: tuple[Digit, ...]) -> Expr | None:
    """The part of the source from the first entry on, as long as whole turns of the slowest digit need."""
    if not digits or not of.shape:
        return None
    last = max(digits, key=lambda digit: digit.stride)
    length, total = last.size * last.stride, prod(of.shape)
    if start + length > total or length == total:
        return None
    row = prod(of.shape[1:])
    if start % row == 0 and length % row == 0:
        return Slice(of, 0, start // row, (start + length) // row)
    return Slice(reshape(of, (total,)), 0, start, start + length)


def _in_places(of: Expr, start: int, digits: tuple[Digit, ...], axes: Shape) -> Expr | None:
    """The entries by one reshape, slices, a permutation; None where the source does not factor so."""
    steps = _strides(axes)
    split = [part for digit in digits for part in _split(digit, steps)]
    places = _places(prod(axes), start, split, steps)
    if places is None:
        return None
    sizes = tuple(place.size for place in places)
    whole = tuple(size for size in of.shape if size != 1)
    if sizes == whole and len(whole) < len(of.shape):
        places = _with_unit_places(places, of.shape)
        sizes = of.shape
    cut = reshape(of, sizes)
    for axis, place in enumerate(places):
        if place.taken < place.size:
            cut = Slice(cut, axis, place.start, place.start + place.taken)
    return _in_order(cut, [place for place in places if place.taken > 1], split)


def _in_order(cut: Expr, places: list[_Place], split: list[Digit]) -> Expr:
    order = tuple([place.stride for place in places].index(digit.stride) for digit in split)
    if order == tuple(range(len(order))):
        return cut
    return permute(reshape(cut, tuple(place.taken for place in places)), order)


def _strides(shape: Shape) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _split(digit: Digit, steps: tuple[int, ...]) -> list[Digit]:
    """A digit that runs over several axes of the source, as one digit an axis."""
    length = digit.size * digit.stride
    inside = {step for step in steps if digit.stride < step < length and not step % digit.stride}
    marks = [length, *sorted((step for step in inside if not length % step), reverse=True), digit.stride]
    if any(high % low for high, low in pairwise(marks)):
        return [digit]
    return [Digit(high // low, low) for high, low in pairwise(marks)]


def _places(total: int, start: int, digits: list[Digit], steps: tuple[int, ...]) -> list[_Place] | None:
    """The source's count in digits that hold the given ones, slowest first; None where there is no such count."""
    taken = {digit.stride: digit.size for digit in digits}
    marks = sorted({total, 1, *taken}, reverse=True)
    if len(taken) < len(digits) or marks[0] > total or any(high % low for high, low in pairwise(marks)):
        return None
    for step in steps:
        if step not in marks and _fits(step, marks, taken):
            marks = sorted([*marks, step], reverse=True)
    places = [
        _Place(high // low, low, start // low % (high // low), taken.get(low, 1)) for high, low in pairwise(marks)
    ]
    return places if all(place.start + place.taken <= place.size for place in places) else None


def _fits(step: int, marks: list[int], taken: dict[int, int]) -> bool:
    low = max(mark for mark in marks if mark < step)
    high = min(mark for mark in marks if mark > step)
    return not high % step and not step % low and taken.get(low, 1) * low <= step


def _with_unit_places(places: list[_Place], shape: Shape) -> list[_Place]:
    """The same places, with one for every axis of a single entry."""
    remaining = iter(places)
    return [_Place(1, 0, 0, 1) if size == 1 else next(remaining) for size in shape]
