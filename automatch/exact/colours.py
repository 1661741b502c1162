"""Colour refinement over the elements of both sides' weights.

The colour of an element is a whole number. Elements that held equal colours and have equal signatures keep equal
colours; all others part. This is the refinement of Weisfeiler and Leman (1968), with the gradient in place of the
multiset of neighbours' colours. -1 is the colour of what takes no part.

What is coloured are cells (`cells.py`): elements that are alike by the lines that they lie in count as one entry here,
with how many they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from automatch.exact.tolerance import TOLERANCES, Flags, Floats, Ints, Tolerance


@dataclass(frozen=True, slots=True, eq=False)
class Colouring:
    """Colours of all cells, the source's first.

    Attributes:
        colours: By cell.
        border: How many cells the source has.
        loose: By cell, whether having no partner is no fault (a target's bias that the source may lack).
        many: By cell, how many elements it has; None where every cell that has a colour is one element.
    """

    colours: Ints
    border: int
    loose: Flags
    many: Ints | None = None

    @property
    def count(self) -> int:
        """The number of colours, 0 to count - 1."""
        return int(self.colours.max(initial=-1)) + 1

    def sizes(self) -> tuple[Ints, Ints]:
        """By colour, how many elements have it in the source and in the target."""
        return self._sizes(slice(None, self.border)), self._sizes(slice(self.border, None))

    def _sizes(self, part: slice, without: Flags | None = None) -> Ints:
        counts = np.zeros(self.count, np.int32)
        colours, many = self.colours[part], None if self.many is None else self.many[part]
        for start in range(0, len(colours), _AT_ONCE):
            few = slice(start, start + _AT_ONCE)
            used = colours[few] >= 0 if without is None else (colours[few] >= 0) & ~without[few]
            _count(colours[few][used], None if many is None else many[few][used], counts)
        return counts

    def imbalance(self) -> int:
        """How many elements have no partner, loose ones left out; 0 where the sides may be the same function."""
        source, target = self.sizes()
        loose = self.loose[self.border :]
        strict = self._sizes(slice(self.border, None), loose) if loose.any() else target
        found = 0
        for start in range(0, len(source), _AT_ONCE):
            ours, theirs, wanted = (sizes[start : start + _AT_ONCE] for sizes in (source, target, strict))
            found += int(np.maximum(ours - theirs, 0).sum() + np.maximum(wanted - ours, 0).sum())
        return found

    def alive(self) -> int:
        """How many elements have a colour."""
        used = self.colours >= 0
        return int(used.sum() if self.many is None else self.many[used].sum())

    def single(self) -> Flags:
        """By colour, whether it has one element of each side; one entry more, which is false, for -1."""
        source, target = self.sizes()
        return np.append((source == 1) & (target == 1), False)

    def with_colours(self, colours: Ints) -> Colouring:
        """The same cells in other colours."""
        return replace(self, colours=colours)

    def part(self, cells: Ints) -> Colouring:
        """Some cells alone, in order."""
        border = int(np.searchsorted(cells, self.border))
        many = None if self.many is None else self.many[cells]
        return Colouring(self.colours[cells], border, self.loose[cells], many)

    def members(self) -> tuple[Ints, Ints]:
        """Cells sorted by colour, those without one left out, and where each colour starts (one more at the end)."""
        # a transposed incidence matrix is sorted by counting, which is linear
        cells = np.flatnonzero(self.colours >= 0).astype(np.int32)
        starts = np.arange(len(cells) + 1, dtype=np.int32)
        marks = np.ones(len(cells), np.int8)
        table = csr_array((marks, self.colours[cells], starts), shape=(len(cells), self.count)).tocsc()
        return cells[table.indices], table.indptr


_AT_ONCE = 1 << 20
"""Cells, or colours, that are worked on at a time: numpy counts in 64 bits, and makes arrays on the way."""


def _count(colours: Ints, many: Ints | None, counts: Ints) -> None:
    """Add to the counts by colour; colours that lie close together, as they mostly do, are counted where they lie."""
    if not len(colours):
        return
    low, high = int(colours.min()), int(colours.max())
    if high - low < 4 * _AT_ONCE:
        found = np.bincount(colours - low, many)
        counts[low : high + 1] += found.astype(np.int32)
        return
    kinds, place = np.unique(colours, return_inverse=True)
    counts[kinds] += np.bincount(place, many).astype(np.int32)


def refined(colouring: Colouring, signatures: Floats, elsewhere: Sequence[int] = (0,) * len(TOLERANCES)) -> Colouring:
    """Part the colours by the signatures, at the finest tolerance that leaves both sides in balance.

    Args:
        colouring: The colours so far.
        signatures: One row a signature, one column a cell. A cell that has no colour yet gets one where some is not 0.
        elsewhere: By tolerance, how many elements without a partner there are besides.

    Returns:
        Colours that are never coarser than before. Where no tolerance leaves balance, the one that leaves the least
        imbalance, a looser one only if it halves it.
    """
    return refined_at(colouring, signatures, elsewhere)[0]


def refined_at(colouring: Colouring, signatures: Floats, elsewhere: Sequence[int]) -> tuple[Colouring, int]:
    """The same, with the number of the tolerance that was taken."""
    waking = (colouring.colours < 0) & signatures.any(0)
    start = np.where(waking, colouring.count, colouring.colours)
    best: tuple[int, Colouring, int] | None = None
    for number, tolerance in enumerate(TOLERANCES):
        open_ = _open(colouring.with_colours(start), signatures, tolerance)
        found = colouring.with_colours(compact(_parted(start, signatures, open_, tolerance)))
        fault = found.imbalance() + elsewhere[number]
        if best is None or fault < best[0] / 2:
            best = (fault, found, number)
        if fault == 0:
            break
    assert best is not None
    return best[1], best[2]


def _open(colouring: Colouring, signatures: Floats, tolerance: Tolerance) -> Flags:
    """Cells that need a look: those whose colour is not one to one, or whose partner has another signature."""
    open_ = colouring.colours >= 0
    settled = np.flatnonzero(colouring.single())
    border = colouring.border
    ours = places(colouring.colours[:border], colouring.count)[settled]
    theirs = places(colouring.colours[border:], colouring.count)[settled] + border
    first, second = signatures[:, ours], signatures[:, theirs]
    size = np.maximum(np.abs(first), np.abs(second))
    floor = tolerance.absolute * np.abs(signatures).max(initial=0.0)
    equal = (np.abs(first - second) <= tolerance.relative * size + floor).all(0)
    open_[ours[equal]] = open_[theirs[equal]] = False
    return open_


def places(colours: Ints, count: int) -> Ints:
    """By colour, the last cell of those given that has it; 0 where none has."""
    place = np.zeros(count + 1, np.int32)
    place[colours] = np.arange(len(colours), dtype=np.int32)  # the last entry takes what has no colour
    return place[:count]


def _parted(start: Ints, signatures: Floats, open_: Flags, tolerance: Tolerance) -> Ints:
    result = start.copy()
    if open_.any():
        base = int(start.max()) + 1
        result[open_] = base + parted(start[open_], signatures[:, open_], tolerance)
    return result


def compact(colours: Ints) -> Ints:
    """The same partition with colours 0, 1, 2, ..., in their order."""
    occurs = np.zeros(int(colours.max(initial=-1)) + 2, bool)
    occurs[colours] = True
    numbers = (np.cumsum(occurs) - 1).astype(np.int32)
    numbers[-1] = -1
    return numbers[colours]


def parted(colours: Ints, signatures: Floats, tolerance: Tolerance) -> Ints:
    """Colours parted by several signatures.

    Example:
        >>> parted(np.array([0, 0, 0]), np.array([[1.0, 2.0, 1.0]]), TOLERANCES[0]).tolist()
        [0, 1, 0]
    """
    clusters = _by_projection(signatures, tolerance)
    mixed = _mixed(clusters, colours, signatures, tolerance)
    if mixed.any():
        clusters[mixed] = clusters.max() + 1 + _one_by_one(colours[mixed], signatures[:, mixed], tolerance)
    return clusters


def _by_projection(signatures: Floats, tolerance: Tolerance) -> Ints:
    """Clusters of one random combination of all signatures: a single sort, and nearly always the whole answer."""
    weights = np.random.default_rng(0).uniform(0.5, 1.5, len(signatures))
    projected = weights @ signatures
    size = weights @ np.abs(signatures)
    order = np.argsort(projected)
    allowed = tolerance.relative * size[order[1:]] + tolerance.absolute * size.max(initial=0.0)
    apart = np.diff(projected[order]) > allowed
    clusters = np.zeros(len(projected), np.int32)
    clusters[order[1:]] = np.cumsum(apart)
    return clusters


def _mixed(clusters: Ints, colours: Ints, signatures: Floats, tolerance: Tolerance) -> Flags:
    """Cells of clusters that hold more than one colour, or in which one signature differs."""
    count = int(clusters.max(initial=-1)) + 1
    first = np.zeros(count, np.int32)
    first[clusters[::-1]] = np.arange(len(clusters), dtype=np.int32)[::-1]
    leader = first[clusters]
    odd = colours != colours[leader]
    for row in signatures:
        size = np.maximum(np.abs(row), np.abs(row[leader]))
        odd |= np.abs(row - row[leader]) > 4 * tolerance.relative * size + tolerance.absolute * size.max(initial=0.0)
    touched = np.zeros(count, bool)
    touched[clusters[odd]] = True
    mixed: Flags = touched[clusters]
    return mixed


def _one_by_one(colours: Ints, signatures: Floats, tolerance: Tolerance) -> Ints:
    """Colours parted by each signature in turn."""
    colours = np.unique(colours, return_inverse=True)[1].astype(np.int64)
    # With a loose tolerance, near neighbours in one signature chain up; a second pass sees what the others parted.
    for _ in range(1 if tolerance.relative < 1e-8 else 2):
        for row in signatures:
            colours = _parted_by_one(colours, row, tolerance)
    return colours


def _parted_by_one(colours: Ints, values: Floats, tolerance: Tolerance) -> Ints:
    order = np.lexsort((values, colours))
    ordered, kept = values[order], colours[order]
    largest = np.zeros(int(colours.max(initial=0)) + 1)
    np.maximum.at(largest, colours, np.abs(values))
    size = np.maximum(np.abs(ordered[1:]), np.abs(ordered[:-1]))
    allowed = tolerance.relative * size + tolerance.absolute * largest[kept[1:]]
    apart = (np.diff(ordered) > allowed) | (kept[1:] != kept[:-1])
    result = np.empty(len(colours), np.int64)
    result[order] = np.concatenate([[0], np.cumsum(apart)]) if len(colours) else order
    return result
