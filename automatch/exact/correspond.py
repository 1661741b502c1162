"""From colours to sources: for every element of every target leaf, the source elements whose sum it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from automatch.exact.colours import Flags, Ints
from automatch.exact.gradients import Side
from automatch.exact.search import Found
from automatch.exact.siblings import siblings

NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """By target element, in the side's flat order, what it takes.

    Attributes:
        sources: One column a summand: a source element, or `NONE`.
        known: Whether it is determined; with no summand it is then neutral (a bias of zero, a scale of one).
        free: Whether the outputs would be the same with the sum split otherwise between this element and others.
    """

    sources: Ints
    known: Flags
    free: Flags


def sums(found: Found, source: Side, target: Side) -> Sums:
    """Read a finished colouring."""
    partner = _partners(found)
    ours, theirs = _members(found.carriers[0]), _members(found.carriers[1])
    width = ours.shape[1]
    sources = np.full((target.size, width), NONE, np.int64)
    known = np.zeros(target.size, bool)
    free = np.zeros(target.size, bool)
    carriers = np.flatnonzero(found.carriers[1] == np.arange(target.size))
    settled = carriers[partner[carriers] >= 0]
    single = settled[(ours[partner[settled], 1:] < 0).all(1) & (theirs[settled, 1:] < 0).all(1)]
    sources[single, 0] = partner[single]
    known[single] = True
    rest = np.setdiff1d(settled, single, assume_unique=True)
    if len(rest):
        weights = _Affinity(source, target, np.where(np.isin(np.arange(target.size), single), partner, NONE))
        _share(sources, known, free, rest, ours[partner[rest]], theirs[rest], weights)
    _neutral(found, target, theirs, known)
    return Sums(sources, known, free)


def _partners(found: Found) -> Ints:
    """By target element, the one source element of its colour, where it is one to one."""
    colouring = found.colouring
    colours, border = colouring.colours, colouring.border
    ours, theirs = colouring.sizes()
    single = np.append((ours == 1) & (theirs == 1), False)
    place = np.full(colouring.count + 1, NONE, np.int64)
    members = np.flatnonzero(colours[:border] >= 0)
    place[colours[:border][members]] = members
    target = colours[border:]
    return np.where((target >= 0) & single[target], place[target], NONE)


def _members(carriers: Ints) -> Ints:
    """By carrier, the elements that share its sum, itself first, padded with `NONE`; rows of others are empty."""
    mates = np.flatnonzero(carriers != np.arange(len(carriers)))
    order = mates[np.argsort(carriers[mates], kind="stable")]
    heads = carriers[order]
    first = np.searchsorted(heads, heads)
    column = np.arange(len(order)) - first + 1
    table = np.full((len(carriers), int(column.max(initial=0)) + 2), NONE, np.int64)
    table[:, 0] = np.where(carriers == np.arange(len(carriers)), np.arange(len(carriers)), NONE)
    table[heads, column] = order
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
        return int(np.bincount(self.source.leaf[found]).argmax()) if len(found) else NONE


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _share(
    sources: Ints, known: Flags, free: Flags, carriers: Ints, ours: Ints, theirs: Ints, affinity: _Affinity
) -> None:
    """Share out the sums of twins, alike for all elements whose twins lie in the same leaves."""
    left = np.where(ours >= 0, affinity.source.leaf[ours], NONE)
    right = np.where(theirs >= 0, affinity.target.leaf[theirs], NONE)
    kinds, kind = np.unique(np.concatenate([left, right], axis=1), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    for number, row in enumerate(kinds):
        chosen = np.flatnonzero(kind == number)
        ours_leaves = [int(leaf) for leaf in row[: ours.shape[1]] if leaf >= 0]
        theirs_leaves = [int(leaf) for leaf in row[ours.shape[1] :] if leaf >= 0]
        shares = _shares(affinity.table(ours_leaves, theirs_leaves))
        for column, given in enumerate(shares):
            elements = theirs[chosen, column]
            known[elements] = True
            free[elements] = len(theirs_leaves) > 1
            for place, summand in enumerate(given):
                sources[elements, place] = ours[chosen, summand]


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


def _neutral(found: Found, target: Side, members: Ints, known: Flags) -> None:
    """Living elements of a bias or scale that no source element plays: they change nothing at their neutral value."""
    colours, border = found.colouring.colours, found.colouring.border
    ours, _ = found.colouring.sizes()
    lone = np.append(ours == 0, False)
    elements = np.flatnonzero((colours[border:] >= 0) & lone[colours[border:]] & found.colouring.loose[border:])
    everyone = members[elements].reshape(-1)
    known[everyone[everyone >= 0]] = True
