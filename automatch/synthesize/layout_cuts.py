"""Where to cut a block of a map so that the pieces are simpler: along which axis, and whether in every period alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from automatch.core.graph import Shape
from automatch.synthesize.layout_strides import Indices, leading_run

Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A block of a target weight: for each element which kind of value it is, and which entry of the kind's leaf."""

    kind: Indices
    index: Indices

    @property
    def shape(self) -> Shape:
        """The block's shape."""
        return self.kind.shape

    @property
    def uniform(self) -> bool:
        """Whether all elements are of one kind."""
        return bool((self.kind == self.kind.flat[0]).all())

    def viewed(self, shape: Shape) -> Block:
        """The same elements under another shape."""
        return Block(self.kind.reshape(shape), self.index.reshape(shape))

    def piece(self, axis: int, start: int, stop: int) -> Block:
        """The elements from `start` to `stop` along an axis."""
        where = (slice(None),) * axis + (slice(start, stop),)
        return Block(self.kind[where], self.index[where])


@dataclass(frozen=True, slots=True)
class Cut:
    """How a block is cut: seen under which shape, along which of its axes, where.

    Attributes:
        shape: The block's shape while it is cut.
        axis: The axis of that shape.
        bounds: Where the pieces begin, and where the last one ends.
        mixed: How many pieces are still of several kinds.
    """

    shape: Shape
    axis: int
    bounds: tuple[int, ...]
    mixed: int = 0

    @property
    def cost(self) -> int:
        """The pieces to be expected: one that is still mixed becomes several."""
        return len(self.bounds) - 1 + 2 * self.mixed


def best_cut(block: Block, most: int) -> Cut | None:
    """The cut of least cost, the first of several; None where every cut makes more than `most`."""
    # pieces of the flat block have lost its shape, which costs a reshape each
    flat = (prod(block.shape),)
    views = [block.shape] if block.shape == flat else [block.shape, flat]
    uniform = block.uniform
    cuts: list[Cut] = []
    for shape in views:
        view = block.viewed(shape)
        for axis in range(len(shape)):
            cuts.extend(_index_cuts(view, axis, most) if uniform else _kind_cuts(view, axis))
    allowed = [cut for cut in cuts if 2 < len(cut.bounds) <= most + 1]
    return min(allowed, key=lambda cut: cut.cost + 2 * (cut.shape == flat != block.shape), default=None)


def _kind_cuts(block: Block, axis: int) -> Iterator[Cut]:
    """Cuts where the kinds change along an axis: in every period alike, or once and for all."""
    size = block.shape[axis]
    marks = _fingerprints(block.kind, axis)
    changes = np.flatnonzero(marks[1:] != marks[:-1]) + 1
    if not len(changes):
        return
    period = next((p for p in _divisors(size) if (marks[p:] == marks[:-p]).all()), None)
    uneven = ~_even(block.kind, axis)
    if period is not None:
        starts = [0, *map(int, changes[changes < period])]
        yield _periodic(block.shape, axis, period, (*starts, period), int(uneven[starts].sum()))
    if period is None or size // period <= 2:
        starts = [0, *map(int, changes)]
        yield Cut(block.shape, axis, (*starts, size), int(uneven[starts].sum()))


def _index_cuts(block: Block, axis: int, most: int) -> Iterator[Cut]:
    """Cuts where the way through the source changes along an axis, in every period alike, or once and for all."""
    size = block.shape[axis]
    if size < 2:
        return
    steps = np.diff(block.index, axis=axis)
    marks = _fingerprints(steps, axis)
    even = _even(steps, axis)
    bounds = _stretches(marks, even, most)
    if bounds is not None:
        yield Cut(block.shape, axis, bounds)
    for period in _divisors(size):
        inner = marks[: period - 1]
        rows = np.append(marks, 0).reshape(-1, period)[:, :-1]
        if period > 2 and (rows == inner).all():
            bounds = _stretches(inner, even[: period - 1], most)
            if bounds is not None and len(bounds) > 2:
                yield _periodic(block.shape, axis, period, bounds)
                return


def _stretches(steps: Indices, even: Flags, most: int) -> tuple[int, ...] | None:
    """Where to cut a sequence, given by its steps, so that every piece is walked in one way; None if in too many."""
    path = np.concatenate([[0], np.cumsum(np.where(even, steps, 0))])
    breaks = [0, *(int(place) + 1 for place in np.flatnonzero(~even)[: most + 1]), len(path)]
    plain: list[int] = [0]
    nested: list[int] = [0]
    for start, stop in pairwise(breaks):
        plain.extend(_lengths(path[start:stop], start, most, nest=False))
        nested.extend(_lengths(path[start:stop], start, most, nest=True))
        if min(len(plain), len(nested)) > most + 1:
            return None
    return tuple(plain) if len(plain) <= len(nested) else tuple(nested)


def _lengths(path: Indices, offset: int, most: int, nest: bool) -> Iterator[int]:
    """Where the pieces of a sequence end, each as long as it can be."""
    done = count = 0
    while done < len(path) and count <= most + 1:
        rest = path[done:]
        done += longest_walk(rest) if nest else _forward_run(rest)
        count += 1
        yield offset + done


def _forward_run(index: Indices) -> int:
    """The length of the run at the start; of one entry where the next ones are better off without it."""
    if len(index) < 2 or index[1] < index[0]:
        return 1
    run = leading_run(index)
    return 1 if run == 2 < len(index) and leading_run(index[1:]) > 2 else run


def longest_walk(index: Indices) -> int:
    """The length of the longest nested strided form at the start.

    Example:
        >>> longest_walk(np.array([0, 4, 1, 5, 2, 6, 3, 7, 8, 9, 10, 11]))
        8
    """
    run = _forward_run(index)
    rows = index[: len(index) // run * run].reshape(-1, run)
    if run < 2 or len(rows) < 2 or rows[1, 0] < rows[0, 0]:
        return run
    alike = (rows - rows[:, :1] == rows[0] - rows[0, 0]).all(axis=1)
    count = len(rows) if alike.all() else int(np.argmin(alike))
    return run * longest_walk(rows[:count, 0])


def _periodic(shape: Shape, axis: int, period: int, bounds: tuple[int, ...], mixed: int = 0) -> Cut:
    seen = (*shape[:axis], shape[axis] // period, period, *shape[axis + 1 :])
    return Cut(seen, axis + 1, bounds, mixed)


def _divisors(size: int) -> list[int]:
    """The proper divisors above 1, smallest first."""
    small = [number for number in range(1, int(size**0.5) + 1) if size % number == 0]
    return sorted({d for number in small for d in (number, size // number)} - {1, size})


def _even(values: Indices, axis: int) -> Flags:
    """Whether each slab along an axis holds one value only."""
    slabs = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    same: Flags = (slabs == slabs[:, :1]).all(axis=1)
    return same


def _fingerprints(values: Indices, axis: int) -> Indices:
    """A number for each slab along an axis: its value where it has only one, else a hash of all."""
    slabs = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    first = slabs[:, 0].astype(np.int64)
    uneven = np.flatnonzero((slabs != slabs[:, :1]).any(axis=1))
    if len(uneven):
        # odd factors without a pattern; equal sums of different slabs cost a better cut, never a wrong answer
        factors = np.random.default_rng(0).integers(1, 2**62, slabs.shape[1]) | 1
        first[uneven] = slabs[uneven] @ factors
    return first
