"""Colour refinement over the elements of both sides' weights.

The colour of an element is a whole number. Elements that held equal colours and have equal signatures keep equal
colours; all others part. This is the refinement of Weisfeiler and Leman (1968), with the gradient in place of the
multiset of neighbours' colours. -1 is the colour of what takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When two numbers of one colour count as equal.

    Attributes:
        relative: To the larger of the two.
        absolute: To the largest of their colour.
    """

    relative: float
    absolute: float


TOLERANCES = (Tolerance(1e-9, 1e-15), Tolerance(1e-7, 1e-12), Tolerance(3e-6, 1e-10), Tolerance(1e-4, 1e-8))


@dataclass(frozen=True, slots=True, eq=False)
class Colouring:
    """Colours of all elements, the source's first.

    Attributes:
        colours: By element.
        border: How many elements the source has.
        loose: By element, whether having no partner is no fault (a target's bias that the source may lack).
    """

    colours: Ints
    border: int
    loose: Flags

    @property
    def count(self) -> int:
        """The number of colours, 0 to count - 1."""
        return int(self.colours.max(initial=-1)) + 1

    def sizes(self) -> tuple[Ints, Ints]:
        """By colour, how many elements have it in the source and in the target."""
        source, target = self.colours[: self.border], self.colours[self.border :]
        return (
            np.bincount(source[source >= 0], minlength=self.count),
            np.bincount(target[target >= 0], minlength=self.count),
        )

    def imbalance(self) -> int:
        """How many elements have no partner, loose ones left out; 0 where the sides may be the same function."""
        source, target = self.sizes()
        fixed = self.colours[self.border :][~self.loose[self.border :]]
        strict = np.bincount(fixed[fixed >= 0], minlength=self.count)
        return int(np.maximum(source - target, 0).sum() + np.maximum(strict - source, 0).sum())

    def with_colours(self, colours: Ints) -> Colouring:
        """The same elements in other colours."""
        return Colouring(colours, self.border, self.loose)

    def members(self) -> tuple[Ints, Ints]:
        """Elements sorted by colour, those without one left out, and where each colour starts (one more at the end)."""
        order = np.argsort(self.colours, kind="stable").astype(np.int64)
        order = order[np.searchsorted(self.colours[order], 0) :]
        return order, np.searchsorted(self.colours[order], np.arange(self.count + 1)).astype(np.int64)


def refined(colouring: Colouring, signatures: Floats, alive: Flags) -> Colouring:
    """Part the colours by the signatures, at the finest tolerance that leaves both sides in balance.

    Args:
        colouring: The colours so far.
        signatures: One row a signature, one column an element.
        alive: By element, whether any signature so far was not zero; others have no colour.

    Returns:
        Colours that are never coarser than before. Where no tolerance leaves balance, the one that leaves the least
        imbalance, a looser one only if it halves it.
    """
    start = np.where(alive & (colouring.colours < 0), colouring.count, colouring.colours)
    start = np.where(alive, start, -1)
    best: tuple[int, Colouring] | None = None
    for tolerance in TOLERANCES:
        open_ = _open(colouring.with_colours(start), signatures, tolerance)
        found = colouring.with_colours(_compact(_parted(start, signatures, open_, tolerance)))
        fault = found.imbalance()
        if best is None or fault < best[0] / 2:
            best = (fault, found)
        if fault == 0:
            break
    assert best is not None
    return best[1]


def _open(colouring: Colouring, signatures: Floats, tolerance: Tolerance) -> Flags:
    """Elements that need a look: those whose colour is not one to one, or whose partner has another signature."""
    open_ = colouring.colours >= 0
    source, target = colouring.sizes()
    settled = np.flatnonzero((source == 1) & (target == 1))
    ours, theirs = (
        _places(colouring, side)[settled] for side in (slice(None, colouring.border), slice(colouring.border, None))
    )
    theirs = theirs + colouring.border
    first, second = signatures[:, ours], signatures[:, theirs]
    size = np.maximum(np.abs(first), np.abs(second))
    floor = tolerance.absolute * np.abs(signatures).max(initial=0.0)
    equal = (np.abs(first - second) <= tolerance.relative * size + floor).all(0)
    open_[ours[equal]] = open_[theirs[equal]] = False
    return open_


def _places(colouring: Colouring, side: slice) -> Ints:
    """By colour, some element of one side that has it, counted within the side."""
    place = np.zeros(colouring.count, np.int64)
    colours = colouring.colours[side]
    used = np.flatnonzero(colours >= 0)
    place[colours[used]] = used
    return place


def _parted(start: Ints, signatures: Floats, open_: Flags, tolerance: Tolerance) -> Ints:
    result = start.copy()
    if open_.any():
        base = int(start.max()) + 1
        result[open_] = base + parted(start[open_], signatures[:, open_], tolerance)
    return result


def _compact(colours: Ints) -> Ints:
    """The same partition with colours 0, 1, 2, ..."""
    used = colours >= 0
    occurs = np.zeros(int(colours.max(initial=-1)) + 1, bool)
    occurs[colours[used]] = True
    numbers = np.cumsum(occurs) - 1
    result = np.full(len(colours), -1, np.int64)
    result[used] = numbers[colours[used]]
    return result


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
    clusters = np.empty(len(projected), np.int64)
    clusters[order] = np.concatenate([[0], np.cumsum(apart)]) if len(order) else order
    return clusters


def _mixed(clusters: Ints, colours: Ints, signatures: Floats, tolerance: Tolerance) -> Flags:
    """Elements of clusters that hold more than one colour, or in which one signature differs."""
    count = int(clusters.max(initial=-1)) + 1
    first = np.zeros(count, np.int64)
    first[clusters[::-1]] = np.arange(len(clusters))[::-1]
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
