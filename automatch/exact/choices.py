"""Choices among equals: which elements of one colour could be paired, in which order, and which are tried first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from automatch.exact.cells import Cells
from automatch.exact.colours import compact
from automatch.exact.painted import Both, Painted, painted
from automatch.exact.tolerance import Flags, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Equals:
    """Elements of one colour, each a cell of its own, in the order in which they would be paired.

    Attributes:
        ours: Those of the source.
        theirs: As many of the target.
        leaves: The first leaf of each side that holds some.
        alike: Whether their leaves have equal shares on both sides.
    """

    ours: Ints
    theirs: Ints
    leaves: tuple[int, int]
    alike: bool


def opened(both: Both, paint: Painted) -> Painted:
    """The same colours, with a cell for every element of a colour that several elements of each side share."""
    several = _several(paint)
    cells: list[Cells] = []
    tables: list[Ints] = []
    for before, table in zip(paint.cells, map(paint.table, range(both.count)), strict=True):
        now = before if before.whole else _cut(before, several[table] & (before.many() > 1))
        cells.append(now)
        tables.append(table if now is before else before.moved(table, now))
    made = painted(both, cells, tables)
    return made.with_colours(made.colouring.colours)


def _cut(cells: Cells, chosen: Flags) -> Cells:
    """The lines of chosen cells each on its own."""
    if not chosen.any():
        return cells
    rows, columns = np.nonzero(chosen.reshape(cells.rows.count, cells.columns.count))
    return Cells(cells.rows.apart(rows), cells.columns.apart(columns))


def _several(paint: Painted) -> Flags:
    """By colour, whether several elements of each side, and as many, have it; false once more at the end, for none."""
    ours, theirs = paint.colouring.sizes()
    return np.append((ours > 1) & (ours == theirs), False)


def equals(paint: Painted) -> Iterator[Equals]:
    """The elements of every colour that several elements of each side share, smallest colours first.

    The colours must be `opened`.
    """
    sizes, _ = paint.colouring.sizes()
    order, starts = paint.colouring.members()
    colours = np.flatnonzero(_several(paint))
    colours = colours[np.argsort(sizes[colours], kind="stable")]
    middles = starts[colours] + sizes[colours]
    ends = starts[colours + 1]
    # of either side, the first leaf and the last
    leaves = [paint.leaf_of(order[place]) for place in (starts[colours], middles - 1, middles, ends - 1)]
    spans = zip(starts[colours].tolist(), middles.tolist(), ends.tolist(), strict=True)
    for (start, middle, end), (first, last, other, final) in zip(spans, np.stack(leaves, 1).tolist(), strict=True):
        ours, theirs = order[start:middle], order[middle:end]
        if first == last and other == final:
            yield Equals(ours, theirs, (first, other), True)
        else:
            yield _in_order(paint, ours, theirs)


def _in_order(paint: Painted, ours: Ints, theirs: Ints) -> Equals:
    """The elements in the order in which a person would pair them: leaf by leaf, leaves of equal share together."""
    left, right = paint.leaf_of(ours), paint.leaf_of(theirs)
    share, other = np.bincount(left), np.bincount(right)
    alike = np.array_equal(np.sort(share[share > 0]), np.sort(other[other > 0]))
    if alike and (share > 0).sum() > 1:
        ours = ours[np.lexsort((ours, left, share[left]))]
        theirs = theirs[np.lexsort((theirs, right, other[right]))]
    return Equals(ours, theirs, (int(left[0]), int(right[0])), alike)


def paired(paint: Painted, pairs: Sequence[Equals]) -> Painted:
    """Every pair of elements in a colour of its own."""
    colours, base = paint.colouring.colours.copy(), paint.colouring.count
    ours = np.concatenate([pair.ours for pair in pairs])
    theirs = np.concatenate([pair.theirs for pair in pairs])
    # colours ascend along the source, so that what is told by colour is read in the order in which it is stored
    rank = np.empty(len(ours), np.int32)
    rank[np.argsort(ours)] = np.arange(len(ours), dtype=np.int32)
    colours[ours] = colours[theirs] = base + rank
    return paint.with_colours(compact(colours))


def proposals(found: list[Equals]) -> Iterator[list[Equals]]:
    """Choices to try, boldest first: all colours at once, those that lie in leaves alike, one a leaf, ever fewer."""
    yield found
    alike = [pair for pair in found if pair.alike]
    if 0 < len(alike) < len(found):
        yield alike
    one_each: dict[tuple[int, int], Equals] = {}
    for pair in alike:
        one_each.setdefault(pair.leaves, pair)
    fewer = sorted(one_each.values(), key=lambda pair: (len(pair.ours), int(pair.ours[0])))
    while fewer:
        if len(fewer) < len(alike) or len(alike) < len(found):
            yield fewer
        fewer = fewer[: len(fewer) // 4] if len(fewer) > 1 else []
    if len(found) > 1:
        yield found[:1]
