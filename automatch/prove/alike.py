"""Which numbers of many are equal: found by sorting values alone, a range at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from automatch.core.memory import give_back

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]

AT_ONCE = 2_000_000
"""How many numbers are sorted at a time; numpy sorts values many times faster than it finds their order."""

_SAMPLE = 4096
_BITS = 20
_LOW = 0 if sys.byteorder == "little" else 1


def alike(values: Floats, tolerance: float, among: Flags | None = None) -> tuple[Ints, Ints]:
    """The numbers that have an equal among the others.

    Args:
        values: Any finite numbers but 0, [N].
        tolerance: The relative difference under which two are equal.
        among: Which of them are looked at, [N]; None for all.

    Returns:
        Their places, [M], and for each the number of the group of equals that it belongs to, [M].

    Example:
        >>> places, groups = alike(np.array([3.0, 1.0, 3.0, 2.0, 1.0]), 1e-9)
        >>> sorted(zip(places.tolist(), groups.tolist()))
        [(0, 1), (1, 0), (2, 1), (4, 0)]
    """
    doubled = np.concatenate([np.empty(0), *(_doubled(part, tolerance) for part in _sorted(values, among))])
    if not doubled.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    places = _places(doubled, values)
    places = places if among is None else places[among[places]]
    return regrouped(values[places], places, np.zeros(len(places), np.int64), tolerance)


def regrouped(values: Floats, places: Ints, groups: Ints, tolerance: float) -> tuple[Ints, Ints]:
    """Of numbers that were equal in their groups before, those that have an equal there now.

    Args:
        values: What they are now, [N].
        places: Where they are, [N].
        groups: Which of them were equal, [N].
        tolerance: The relative difference under which two are equal.

    Returns:
        Places and groups as `alike` gives them.
    """
    order = np.lexsort((values, groups))
    values, places, groups = values[order], places[order], groups[order]
    follows = (groups[1:] == groups[:-1]) & _near(values[:-1], values[1:], tolerance)
    number = np.concatenate([[0], np.cumsum(~follows)])[: len(values)]
    several = np.bincount(number, minlength=1)[number] > 1
    return places[several], number[several]


def _sorted(values: Floats, among: Flags | None) -> Iterator[Floats]:
    """The numbers in order, in parts that meet: each begins with the last number of the one before."""
    sample = np.sort(values[:: max(1, values.size // _SAMPLE)])
    count = -(-values.size // AT_ONCE)
    edges = [-np.inf, *sample[[len(sample) * part // count for part in range(1, count)]], np.inf]
    last = np.empty(0)
    for low, high in pairwise(edges):
        part = np.concatenate([last, *_between(values, low, high, among)])
        part.sort()
        last = part[-1:].copy()
        yield part
        give_back(len(part))


def _between(values: Floats, low: float, high: float, among: Flags | None) -> Iterator[Floats]:
    for start in range(0, values.size, AT_ONCE):
        part = values[start : start + AT_ONCE]
        wanted = (part >= low) & (part < high)
        yield part[wanted if among is None else wanted & among[start : start + AT_ONCE]]


def _doubled(ordered: Floats, tolerance: float) -> Floats:
    """Those of ordered numbers that have an equal beside them."""
    if ordered.size < 2:
        return ordered[:0]
    largest = max(-ordered[0], ordered[-1])
    near = np.flatnonzero(np.diff(ordered) <= tolerance * largest)  # a cheap look first: it leaves few
    near = near[_near(ordered[near], ordered[near + 1], tolerance)]
    doubled: Floats = ordered[np.unique(np.concatenate([near, near + 1]))]
    return doubled


def _places(wanted: Floats, values: Floats) -> Ints:
    """Where those of the numbers are that are among some others, which are in order."""
    few = np.zeros(1 << _BITS, bool)  # a few bits of each rule nearly all numbers out, and cost no search
    few[_low_bits(wanted)] = True
    kept = []
    for start in range(0, values.size, AT_ONCE):
        places = start + np.flatnonzero(few[_low_bits(values[start : start + AT_ONCE])])
        found = values[places]
        at = np.minimum(np.searchsorted(wanted, found), wanted.size - 1)
        kept.append(places[wanted[at] == found])
    return np.concatenate(kept)


def _low_bits(values: Floats) -> npt.NDArray[np.uint32]:
    return values.view(np.uint32)[_LOW::2] >> np.uint32(32 - _BITS)


def _near(smaller: Floats, larger: Floats, tolerance: float) -> Flags:
    near: Flags = larger - smaller <= tolerance * np.maximum(np.abs(smaller), np.abs(larger))
    return near
