"""A tensor that is only moved, as stretches of consecutive entries of stored blocks.

Stretches of the target are followed down the expression, all of one operator at once, and cut where what they are made
of is not consecutive; what turns out to be consecutive after all is joined again at the end.

Example:
    >>> from automatch.core.expr import Concat, Permute, Slice, Source
    >>> q, k = Source("q", (4, 8)), Source("k", (2, 8))
    >>> runs = find_runs(Concat((q, Slice(q, 0, 0, 1), k)), 16)
    >>> for which, start, count in zip(runs.which, runs.starts, runs.counts, strict=True):
    ...     print(runs.keys[which], start, count)
    q 0 32
    q 0 8
    k 0 16
    >>> find_runs(Permute(Source("w", (10**5, 10**5)), (1, 0)), 4096) is None
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

import numpy as np

from automatch.conversion.regions import Ints, strides
from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
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
from automatch.core.expr_rewrite import only_moves

FEW = 64
"""So many runs are always worth it, however short: a tensor this small is copied before torch is imported."""

_SLACK = 4
"""How many times more stretches there may be on the way, for those that will be joined."""

_REPEATS = 4096
"""What is repeated more often is left to tiles: to spell it out would take longer than to make it."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The entries of a tensor in row-major order.

    Attributes:
        keys: The blocks that are read.
        which: For every run, the place of its block in `keys`.
        starts: Where in the block it begins, counted in entries.
        counts: How many entries it has.
    """

    keys: tuple[str, ...]
    which: Ints
    starts: Ints
    counts: Ints


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Consecutive entries of a tensor: where they begin in it, where in the target, and how many they are."""

    starts: Ints
    places: Ints
    counts: Ints

    def only(self, chosen: Ints) -> _Stretches:
        return _Stretches(self.starts[chosen], self.places[chosen], self.counts[chosen])

    def at(self, starts: Ints) -> _Stretches:
        """The same in another tensor."""
        return _Stretches(starts, self.places, self.counts)


_Found = list[tuple[str, _Stretches]]


def find_runs(expr: Expr, shortest: int) -> Runs | None:
    """Find the runs of a tensor, each as long as can be.

    Args:
        expr: What the tensor is made of.
        shortest: How many entries a run must have on average, if they are more than `FEW`.

    Returns:
        None if the expression computes or fills, or the runs are too short. That is noticed without building them.
    """
    if not only_moves(expr):
        return None
    total = prod(expr.shape)
    begin = np.zeros(1 if total else 0, np.int64)
    most = max(FEW, total // max(1, shortest))
    found = _follow(expr, _Stretches(begin, begin, begin + total), _SLACK * most)
    runs = None if found is None else _joined(found)
    return runs if runs is not None and len(runs.counts) <= most else None


def _joined(found: _Found) -> Runs:
    """All stretches in the target's order, those joined that follow one another in their block too."""
    keys = tuple(dict.fromkeys(key for key, _ in found))
    which = np.concatenate([np.full(len(each.counts), keys.index(key), np.int64) for key, each in found] or [_NONE])
    places = np.concatenate([each.places for _, each in found] or [_NONE])
    order = np.argsort(places, kind="stable")
    which, places = which[order], places[order]
    starts = np.concatenate([each.starts for _, each in found] or [_NONE])[order]
    counts = np.concatenate([each.counts for _, each in found] or [_NONE])[order]
    apart = (which[1:] != which[:-1]) | (starts[1:] != starts[:-1] + counts[:-1])
    first = np.flatnonzero(np.concatenate([np.ones(min(1, len(which)), np.bool_), apart]))
    sums = np.add.reduceat(counts, first) if len(first) else counts
    return Runs(keys, which[first], starts[first], sums)


_NONE = np.zeros(0, np.int64)


def _follow(expr: Expr, wanted: _Stretches | None, most: int) -> _Found | None:
    """Stretches of an expression as stretches of blocks; None as soon as they are more than `most`."""
    if wanted is None or not len(wanted.counts):
        return None if wanted is None else []
    match expr:
        case Source(key=key):
            return [(key, wanted)]
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            return _follow_movement(expr, wanted, most)
        case Resize():
            return None if _repeats(expr) > _REPEATS else _follow(_spelled(expr), wanted, most)
        case Constant() | Affine() | Sum() | Product() | Elementwise() | Reduce():
            return None
        case _:
            assert_never(expr)


def _follow_movement(expr: Movement, wanted: _Stretches, most: int) -> _Found | None:
    match expr:
        case Concat(parts=parts, axis=axis):
            return _follow_parts(parts, axis, wanted, most)
        case Slice(of=of):
            return _follow(of, _shifted(expr, wanted, most), most)
        case Permute(of=Permute(of=of, axes=before), axes=axes):
            return _follow(Permute(of, tuple(before[axis] for axis in axes)), wanted, most)
        case Permute(of=of, axes=axes):
            return _follow(of, _permuted(of.shape, axes, wanted, most), most)
        case Reshape(of=of):
            return _follow(of, wanted, most)
        case Gather(of=of, index=index):
            return _follow(of, _gathered(np.array(index, dtype=np.int64), wanted, most), most)
        case _:
            assert_never(expr)


def _follow_parts(parts: Sequence[Expr], axis: int, wanted: _Stretches, most: int) -> _Found | None:
    sizes = [prod(part.shape[axis:]) for part in parts]
    bounds = np.cumsum([0, *sizes])
    cut = _cut(wanted, int(bounds[-1]), most, bounds[:-1])
    if cut is None:
        return None
    rows, within = np.divmod(cut.starts, bounds[-1])
    whose = np.searchsorted(bounds, within, side="right") - 1
    found: _Found = []
    for place in np.unique(whose).tolist():
        chosen = np.flatnonzero(whose == place)
        own = cut.only(chosen).at(rows[chosen] * sizes[place] + within[chosen] - bounds[place])
        part = _follow(parts[place], own, most)
        if part is None:
            return None
        found += part
    return found


def _cut(wanted: _Stretches, row: int, most: int, bounds: Ints = _NONE) -> _Stretches | None:
    """Stretches cut wherever a row ends and, within every row, at `bounds`, the first of which is 0."""
    bounds = bounds if len(bounds) else np.zeros(1, np.int64)
    first, last = _segment(wanted.starts, row, bounds), _segment(wanted.starts + wanted.counts - 1, row, bounds)
    pieces = last - first + 1
    if int(pieces.sum()) > most:
        return None
    own = np.repeat(np.arange(len(pieces)), pieces)
    segment = np.repeat(first - np.cumsum(pieces) + pieces, pieces) + np.arange(len(own))
    # Empty parts have no segment of their own, because the last of equal bounds is found.
    starts = np.maximum(segment // len(bounds) * row + bounds[segment % len(bounds)], wanted.starts[own])
    following = segment + 1
    stops = following // len(bounds) * row + bounds[following % len(bounds)]
    stops = np.minimum(stops, (wanted.starts + wanted.counts)[own])
    cut = _Stretches(starts, wanted.places[own] + starts - wanted.starts[own], stops - starts)
    return cut.only(np.flatnonzero(cut.counts > 0))


def _segment(entries: Ints, row: int, bounds: Ints) -> Ints:
    found: Ints = entries // row * len(bounds) + np.searchsorted(bounds, entries % row, side="right") - 1
    return found


def _shifted(expr: Slice, wanted: _Stretches, most: int) -> _Stretches | None:
    inner = strides(expr.shape)[expr.axis]
    row, whole = expr.shape[expr.axis] * inner, expr.of.shape[expr.axis] * inner
    cut = _cut(wanted, row, most)
    return cut and cut.at(cut.starts // row * whole + expr.start * inner + cut.starts % row)


def _permuted(shape: tuple[int, ...], axes: tuple[int, ...], wanted: _Stretches, most: int) -> _Stretches | None:
    """Cut into what the permutation leaves together: the trailing axes that stay, and of others one entry."""
    # Axes of one entry may change places without moving anything.
    order = [axis for axis in axes if shape[axis] > 1]
    stay = 0
    while stay < len(order) and order[-1 - stay] == sorted(order)[-1 - stay]:
        stay += 1
    if stay == len(order):
        return wanted
    outer = tuple(shape[axis] for axis in axes)
    cut = _cut(wanted, prod(shape[axis] for axis in order[len(order) - stay :]), most)
    if cut is None:
        return None
    old, starts = strides(shape), np.zeros(len(cut.starts), np.int64)
    for size, step, axis in zip(outer, strides(outer), axes, strict=True):
        starts += cut.starts // step % size * old[axis]
    return cut.at(starts)


def _gathered(index: Ints, wanted: _Stretches, most: int) -> _Stretches | None:
    """Cut wherever the index does not go on by one."""
    breaks = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1])
    cut = _cut(wanted, len(index), most, breaks)
    return cut and cut.at(index[cut.starts])


def _repeats(expr: Resize) -> int:
    """How often it repeats what it is made of, along the axis where it does so most often."""
    axes = zip(expr.shape, expr.of.shape, expr.fits, strict=True)
    return max((new // old for new, old, fit in axes if fit == "tile"), default=1)


def _spelled(expr: Resize) -> Expr:
    """A resizing that only moves, as slices and repeats."""
    of = expr.of
    for axis, (new, fit) in enumerate(zip(expr.shape, expr.fits, strict=True)):
        old = of.shape[axis]
        if fit == "tile":
            rest = (Slice(of, axis, 0, new % old),) if new % old else ()
            of = Concat((of,) * (new // old) + rest, axis)
        elif new != old:
            first = (old - new) // 2 if fit == "middle" else 0
            of = Slice(of, axis, first, first + new)
    return of
