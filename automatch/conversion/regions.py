"""Boxes of tensors, and which boxes of its parts a box of an expression is made of.

A box is the first entry and the one after the last along every axis. Nothing here touches a number.

Example:
    >>> from automatch.core.expr import Concat, Permute, Source
    >>> joined = Concat((Source("a", (2, 4)), Permute(Source("b", (4, 3)), (1, 0))))
    >>> for leaf, box in leaf_boxes(joined, ((1, 3), (0, 4))):
    ...     print(leaf.key, box)
    a ((1, 2), (0, 4))
    b ((0, 4), (0, 1))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Fit,
    Gather,
    Movement,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
)
from automatch.core.graph import Shape

Box: TypeAlias = tuple[tuple[int, int], ...]
Ints: TypeAlias = NDArray[np.int64]

WASTE = 2
"""How many entries may be needed for one that is wanted, before a box is cut."""

_GAP = 1024
"""Entries between two indices that are rather read than left out."""


def whole(shape: Shape) -> Box:
    """The box that holds a tensor of this shape."""
    return tuple((0, size) for size in shape)


def extents(box: Box) -> Shape:
    """The shape of what is in a box."""
    return tuple(stop - start for start, stop in box)


def run_length(shape: Shape, box: Box) -> int:
    """How many entries of a box follow one another in a tensor that lies row by row.

    Example:
        >>> run_length((4, 3, 5), ((0, 2), (1, 3), (0, 5))), run_starts((4, 3, 5), ((0, 2), (1, 3), (0, 5))).tolist()
        (10, [5, 20])
    """
    return prod(extents(box)[_run_axis(shape, box) :])


def run_count(shape: Shape, box: Box) -> int:
    """How many such runs a box has."""
    return prod(extents(box)[: _run_axis(shape, box)])


def run_starts(shape: Shape, box: Box) -> Ints:
    """Where they begin, in order."""
    steps = strides(shape)
    starts = np.array([sum(start * step for (start, _), step in zip(box, steps, strict=True))], dtype=np.int64)
    for place in range(_run_axis(shape, box)):
        start, stop = box[place]
        starts = (starts[:, None] + np.arange(stop - start) * steps[place]).reshape(-1)
    return starts


def strides(shape: Shape) -> Shape:
    """How far apart neighbours along each axis lie in a tensor that lies row by row."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _run_axis(shape: Shape, box: Box) -> int:
    """The first axis that a run goes along."""
    cut = (axis for axis in reversed(range(len(shape))) if box[axis] != (0, shape[axis]))
    return next(cut, 0)


def leaf_boxes(expr: Expr, box: Box) -> Iterator[tuple[Source, Box]]:
    """The boxes of stored blocks that a box of an expression is made of.

    A leaf may have another shape than its block, with as many entries: what lies row by row has any shape.
    """
    if isinstance(expr, Source):
        yield expr, box
    for part, inner in parts(expr, box):
        yield from leaf_boxes(part, inner)


def parts(expr: Expr, box: Box) -> list[tuple[Expr, Box]]:
    """What a box of an expression is made of: expressions under it, and a box of each. No box here is empty."""
    if 0 in extents(box):
        return []
    match expr:
        case Source() | Constant():
            return []
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            return _moved(expr, box)
        case Affine(of=of) | Elementwise(of=of):
            return [(of, box)]
        case Sum(parts=terms) | Product(parts=terms):
            return [(term, _broadcast(term.shape, box)) for term in terms]
        case Reduce(of=of):
            return [(of, _unreduced(expr, box))]
        case Resize(of=of):
            needed = tuple(map(fitted, of.shape, expr.shape, expr.fits, box))
            return [] if 0 in extents(needed) else [(of, needed)]
        case _:
            assert_never(expr)


def _moved(expr: Movement, box: Box) -> list[tuple[Expr, Box]]:
    match expr:
        case Concat():
            return list(_joined(expr, box))
        case Slice(of=of, axis=axis, start=start):
            return [(of, _with(box, axis, box[axis][0] + start, box[axis][1] + start))]
        case Permute(of=of, axes=axes):
            return [(of, tuple(box[axes.index(axis)] for axis in range(len(axes))))]
        case Reshape():
            return reshaped(expr, box)
        case Gather(of=of):
            flat = Reshape(of, (prod(of.shape),))
            return [(flat, (stretch,)) for stretch in stretches(gathered(expr, box))]
        case _:
            assert_never(expr)


def _joined(expr: Concat, box: Box) -> Iterator[tuple[Expr, Box]]:
    (start, stop), place = box[expr.axis], 0
    for part in expr.parts:
        size = part.shape[expr.axis]
        first, last = max(start - place, 0), min(stop - place, size)
        if first < last:
            yield part, _with(box, expr.axis, first, last)
        place += size


def _with(box: Box, axis: int, start: int, stop: int) -> Box:
    return (*box[:axis], (start, stop), *box[axis + 1 :])


def _broadcast(shape: Shape, box: Box) -> Box:
    own = box[len(box) - len(shape) :]
    return tuple((0, 1) if size == 1 else bounds for size, bounds in zip(shape, own, strict=True))


def _unreduced(expr: Reduce, box: Box) -> Box:
    kept = iter(box)
    needed: list[tuple[int, int]] = []
    for axis, size in enumerate(expr.of.shape):
        bounds = next(kept) if expr.keepdim or axis not in expr.axes else (0, 0)
        needed.append((0, size) if axis in expr.axes else bounds)
    return tuple(needed)


def fitted(old: int, new: int, fit: Fit, bounds: tuple[int, int]) -> tuple[int, int]:
    """Which entries of an axis are needed for some of the fitted one; from and to are equal where none is.

    Example:
        >>> fitted(3, 8, "zeros", (2, 6)), fitted(8, 4, "middle", (0, 2)), fitted(3, 8, "mean", (3, 4))
        ((2, 3), (2, 4), (0, 3))
    """
    start, stop = bounds
    match fit:
        case "keep" | "leading":
            return bounds
        case "middle":
            shift = (old - new) // 2
            return start + shift, stop + shift
        case "tile":
            first, last = start % old, (stop - 1) % old
            return (first, last + 1) if stop - start <= old and first <= last else (0, old)
        case "pad" | "zeros":
            before = (new - old) // 2 if fit == "pad" else 0
            return min(max(start - before, 0), old), min(max(stop - before, 0), old)
        case "mean":
            return bounds if stop <= old else (0, old)
        case "cubic":
            return 0, old
        case _:
            assert_never(fit)


def gathered(expr: Gather, box: Box) -> Ints:
    """The indices of a gather for the entries in a box, in order."""
    starts, length = run_starts(expr.shape, box), run_length(expr.shape, box)
    first = int(starts[0])
    index: Ints = np.array(expr.index[first : int(starts[-1]) + length], dtype=np.int64)
    wanted: Ints = index[(starts[:, None] - first + np.arange(length)).reshape(-1)]
    return wanted


def stretches(index: Ints) -> list[tuple[int, int]]:
    """Ranges that hold all indices: one, if little else is in it, else several, in order."""
    low, high = int(index.min()), int(index.max())
    if high - low < 2 * WASTE * len(index):
        return [(low, high + 1)]
    found = np.unique(index)
    last = np.flatnonzero(np.diff(found) > _GAP)
    starts, stops = found[[0, *(last + 1)]], found[[*last, -1]] + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def reshaped(expr: Reshape, box: Box) -> list[tuple[Expr, Box]]:
    """What a box of a reshaped tensor is made of: the same under a simpler expression, pieces of it, or a cover."""
    match expr.of:
        case Source(key=key):
            return [(Source(key, expr.shape), box)]
        case Constant(value=value):
            return [(Constant(value, expr.shape), box)]
        case Reshape(of=of):
            return [(Reshape(of, expr.shape), box)]
        case _:
            pieces = _cut(expr, box)
            return pieces if len(pieces) > 1 else [(expr.of, cover(expr, box))]


def cover(expr: Reshape, box: Box) -> Box:
    """The smallest box of a tensor that holds a box of the same tensor reshaped."""
    return tuple(bounds for group in groups(expr.shape, expr.of.shape) for bounds in group.cover(box))


def cut_axis(expr: Reshape, box: Box) -> int | None:
    """The axis along which a box is cut because its cover holds much else; None where it is not."""
    for group in groups(expr.shape, expr.of.shape):
        if prod(extents(group.cover(box))) > WASTE * prod(extents(group.own(box))):
            return next(axis for axis in group.outer if box[axis][1] - box[axis][0] > 1)
    return None


def _cut(expr: Reshape, box: Box) -> list[tuple[Expr, Box]]:
    axis = cut_axis(expr, box)
    if axis is None:
        return []
    group = next(group for group in groups(expr.shape, expr.of.shape) if axis in group.outer)
    return [(expr, _with(box, axis, start, stop)) for start, stop in group.cut(box, axis)]


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring axes of two shapes of one tensor that hold the same entries.

    Attributes:
        outer: The axes of the one shape.
        sizes: Their sizes.
        inner: The sizes of the other's.
    """

    outer: range
    sizes: Shape
    inner: Shape

    def own(self, box: Box) -> Box:
        """The part of a box that these axes have."""
        return box[self.outer.start : self.outer.stop]

    def span(self, box: Box) -> tuple[int, int]:
        """The first and the last entry in a box, counted in the group."""
        own, steps = self.own(box), strides(self.sizes)
        first = sum(start * step for (start, _), step in zip(own, steps, strict=True))
        return first, sum((stop - 1) * step for (_, stop), step in zip(own, steps, strict=True))

    def cover(self, box: Box) -> Box:
        """The smallest box of the inner axes that holds a box."""
        first, last = self.span(box)
        bounds: list[tuple[int, int]] = []
        apart = False
        for size, step in zip(self.inner, strides(self.inner), strict=True):
            low, high = first // step % size, last // step % size
            bounds.append((0, size) if apart else (low, high + 1))
            apart = apart or low != high
        return tuple(bounds)

    def cut(self, box: Box, axis: int) -> list[tuple[int, int]]:
        """Ranges along an axis of a box whose covers hold less else than that of the whole."""
        start, stop = box[axis]
        first, last = self.span(box)
        step = strides(self.sizes)[axis - self.outer.start]
        block = next(step for step in strides(self.inner) if first // step != last // step)
        # Whole blocks stay together: it is of the blocks at both ends that little may be wanted.
        borders = [(first // block + 1) * block - first, last // block * block - first]
        places = {start + border // step for border in borders} | {start - -border // step for border in borders}
        cuts = sorted({start, stop} | {place for place in places if start < place < stop})
        if len(cuts) == 2 or step >= block:
            cuts = list(range(start, stop + 1))
        return list(pairwise(cuts))


@lru_cache(maxsize=1024)
def groups(outer: Shape, inner: Shape) -> tuple[Group, ...]:
    """The smallest groups of axes, in order, that two shapes of as many entries share.

    Example:
        >>> [(list(group.outer), group.inner) for group in groups((8, 3, 4), (2, 4, 12))]
        [([0], (2, 4)), ([1, 2], (12,))]
    """
    found: list[Group] = []
    here = there = 0
    while here < len(outer) or there < len(inner):
        first, other = here, there
        here, there = _group_ends(outer, inner, first, other)
        found.append(Group(range(first, here), outer[first:here], inner[other:there]))
    return tuple(found)


def _group_ends(outer: Shape, inner: Shape, first: int, other: int) -> tuple[int, int]:
    """Where the smallest group ends that begins at these axes, in either shape."""
    here, there, mine, its = first, other, 1, 1
    while (here, there) == (first, other) or mine != its:
        if mine <= its and here < len(outer):
            mine, here = mine * outer[here], here + 1
        else:
            its, there = its * inner[there], there + 1
    return here, there
