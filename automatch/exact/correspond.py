"""From colours to sources: for every element of every target leaf, the source elements whose sum it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from automatch.exact.gradients import Side
from automatch.exact.search import Found
from automatch.exact.siblings import siblings
from automatch.exact.tolerance import Flags, Ints
from automatch.exact.twins import Mates

NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """By target element, in the side's flat order, what it takes.

    Attributes:
        first: Its first summand: a source element, or `NONE`.
        several: The elements that share in a sum, ascending.
        summands: One row for each of these, one column a summand.
        known: Whether it is determined; with no summand it is then neutral (a bias of zero, a scale of one).
        free: Whether the outputs would be the same with the sum split otherwise between this element and others.
    """

    first: Ints
    several: Ints
    summands: Ints
    known: Flags
    free: Flags

    def sources(self, start: int, stop: int) -> list[Ints]:
        """The summands of a stretch of elements, one array a summand."""
        found = [self.first[start:stop]]
        begin, end = np.searchsorted(self.several, (start, stop))
        if begin == end:
            return found
        places = self.several[begin:end] - start
        found = [found[0].copy()] + [np.full(stop - start, NONE, np.int32) for _ in range(self.summands.shape[1] - 1)]
        for column, summand in enumerate(found):
            summand[places] = self.summands[begin:end, column]
        return found


def sums(found: Found, source: Side, target: Side) -> Sums:
    """Read a finished colouring."""
    colours = found.colours()
    partner = _partners(*colours)
    has_mates = np.zeros(source.size, bool)
    has_mates[found.mates[0].carriers] = True
    shared = has_mates[partner]
    shared[found.mates[1].carriers] = True
    shared &= partner >= 0
    rest = np.flatnonzero(shared)
    ours, theirs = _members(found.mates[0], partner[rest]), _members(found.mates[1], rest)
    known, free = (partner >= 0) & ~shared, np.zeros(target.size, bool)
    single = np.where(known, partner, np.int32(NONE))
    several, summands = np.zeros(0, np.int64), np.zeros((0, 1), np.int64)
    if len(rest):
        shares = _share(ours, theirs, _Affinity(source, target, single))
        several, summands = shares.elements, shares.summands
        known[several], free[several] = True, shares.free
    _neutral(found, colours, known)
    return Sums(single, several, summands, known, free)


def _partners(ours: Ints, theirs: Ints) -> Ints:
    """By target element, the one source element of its colour, where it is one to one."""
    count = int(max(ours.max(initial=-1), theirs.max(initial=-1))) + 1
    place = np.full(count + 1, NONE, np.int32)
    place[ours] = np.arange(len(ours), dtype=np.int32)
    for colours in (ours, theirs):
        place[:-1][np.bincount(colours[colours >= 0], minlength=count) != 1] = NONE
    place[-1] = NONE
    return place[theirs]


def _members(mates: Mates, heads: Ints) -> Ints:
    """One row a carrier: itself and the elements whose sum it carries, padded with `NONE`."""
    order = np.argsort(mates.carriers, kind="stable")
    carriers = mates.carriers[order]
    first, last = np.searchsorted(carriers, heads), np.searchsorted(carriers, heads, side="right")
    table = np.full((len(heads), int((last - first).max(initial=0)) + 1), NONE, np.int64)
    table[:, 0] = heads
    for column in range(1, table.shape[1]):
        rows = np.flatnonzero(first + column <= last)
        table[rows, column] = mates.elements[order[first[rows] + column - 1]]
    return table


@dataclass(frozen=True, slots=True, eq=False)
class _Affinity:
    """How well a source leaf and a target leaf that share a sum go together."""

    source: Side
    target: Side
    partner: Ints

    def table(self, ours: Sequence[int], theirs: Sequence[int]) -> list[list[float]]:
        """One row a target leaf: 4 for other elements in common, 2 for a shared sibling, 1 for an equal shape."""
        left, right = siblings(self.source.form), siblings(self.target.form)
        rows = []
        for i, theirs_leaf in enumerate(theirs):
            wanted = {self.main_source(sibling) for sibling in right[theirs_leaf]} - {NONE}
            shape = _bare(self.target.form.leaves[theirs_leaf].shape)
            rows.append(
                [
                    4.0 * (self.main_source(theirs_leaf) == ours_leaf)
                    + 2.0 * bool(wanted & left[ours_leaf])
                    + (_bare(self.source.form.leaves[ours_leaf].shape) == shape)
                    - 0.01 * abs(i - j)
                    for j, ours_leaf in enumerate(ours)
                ]
            )
        return rows

    def main_source(self, leaf: int) -> int:
        """The source leaf that most of a target leaf's elements come from."""
        found = self.partner[self.target.starts[leaf] : self.target.starts[leaf + 1]]
        found = found[found >= 0]
        return int(np.bincount(self.source.leaf_of(found)).argmax()) if len(found) else NONE


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Shares:
    """What elements that share in sums take: one row an element, ascending.

    Attributes:
        elements: The target elements.
        summands: The source elements of each, padded with `NONE`.
        free: Whether another split would do.
    """

    elements: Ints
    summands: Ints
    free: Flags


def _share(ours: Ints, theirs: Ints, affinity: _Affinity) -> _Shares:
    """Share out the sums of twins, alike for all elements whose twins lie in the same leaves."""
    left = np.where(ours >= 0, affinity.source.leaf_of(ours), NONE)
    right = np.where(theirs >= 0, affinity.target.leaf_of(theirs), NONE)
    kinds, kind = np.unique(np.concatenate([left, right], axis=1), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    elements, summands, free = [], [], []
    for number, row in enumerate(kinds):
        chosen = np.flatnonzero(kind == number)
        ours_leaves = [int(leaf) for leaf in row[: ours.shape[1]] if leaf >= 0]
        theirs_leaves = [int(leaf) for leaf in row[ours.shape[1] :] if leaf >= 0]
        shares = _shares(affinity.table(ours_leaves, theirs_leaves))
        for column, given in enumerate(shares):
            taken = np.full((len(chosen), ours.shape[1]), NONE, np.int64)
            taken[:, : len(given)] = ours[chosen][:, given]
            elements.append(theirs[chosen, column])
            summands.append(taken)
            free.append(np.full(len(chosen), len(theirs_leaves) > 1))
    order = np.argsort(np.concatenate(elements))
    return _Shares(np.concatenate(elements)[order], np.concatenate(summands)[order], np.concatenate(free)[order])


def _shares(table: list[list[float]]) -> list[list[int]]:
    """By target leaf, the source leaves whose sum it takes; a source leaf that is left over joins the first."""
    rows, columns = linear_sum_assignment(-np.asarray(table))
    shares: list[list[int]] = [[] for _ in table]
    for row, column in zip(rows, columns, strict=True):
        shares[int(row)].append(int(column))
    left = sorted(set(range(len(table[0]))) - {int(column) for column in columns})
    receiver = next(index for index, share in enumerate(shares) if share)
    shares[receiver] = sorted([*shares[receiver], *left])
    return shares


def _neutral(found: Found, colours: tuple[Ints, Ints], known: Flags) -> None:
    """Living elements of a bias or scale that no source element plays: they change nothing at their neutral value."""
    ours, theirs = colours
    played = np.zeros(int(max(ours.max(initial=-1), theirs.max(initial=-1))) + 2, bool)
    played[ours] = True
    played[-1] = True  # what has no colour
    lone = np.flatnonzero(~played[theirs])
    lone = lone[_loose(found)[lone]]
    everyone = _members(found.mates[1], lone).reshape(-1)
    known[everyone[everyone >= 0]] = True


def _loose(found: Found) -> Flags:
    """By target element, whether it may have no partner."""
    paint = found.paint
    parts = [
        paint.cells[leaf].spread(paint.colouring.loose[paint.starts[leaf] : paint.starts[leaf + 1]])
        for leaf in range(found.border, len(paint.cells))
    ]
    return np.concatenate([*parts, np.zeros(0, bool)])
