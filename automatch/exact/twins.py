"""Additive twins: elements that only ever enter through their sum.

Two biases that are added, or a class token and the position under it, have equal gradients whatever the weights are.
No output tells how the sum is split. One of them carries the sum while colours are sought, the others are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from automatch.exact.colours import parted
from automatch.exact.gradients import Side
from automatch.exact.tolerance import CHUNK, Flags, Floats, Ints, Tolerance

_EQUAL = Tolerance(1e-10, 1e-13)
_DEAD = 1e-13
_NEAR = 4
"""How much wider the first look is than what counts as equal."""


@dataclass(frozen=True, slots=True, eq=False)
class Mates:
    """Elements whose sum another one carries.

    Attributes:
        elements: Those that carry nothing, ascending.
        carriers: For each, the element that carries its sum.
    """

    elements: Ints
    carriers: Ints

    def within(self, start: int, stop: int) -> Ints:
        """The places of those that lie in a stretch of elements, counted from its start."""
        first, last = np.searchsorted(self.elements, (start, stop))
        return self.elements[first:last] - start


def twins(
    side: Side, cotangents: Sequence[Sequence[Tensor]], seed: int, check: Callable[[], None] = lambda: None
) -> Mates:
    """The elements whose sum another carries: of those with equal gradients on two generic draws, one carries it.

    Twins within one leaf are left apart: both sides hold them alike.

    Args:
        side: The side.
        cotangents: Weights of its outputs; the first are used.
        seed: Decides the draws.
        check: Called between evaluations; ends the search by raising.
    """
    live, rows = _with_company(side, cotangents[0], seed, check)
    check()
    if not len(live):
        return Mates(live, live)
    colours = parted(np.zeros(len(live), np.int64), rows, _EQUAL)
    # Which twin carries the sum must not depend on the order in which a side's code happens to add: the one in the
    # largest weight does (of words and positions, the words).
    leaf = side.leaf_of(live)
    sizes = np.array([each.size for each in side.form.leaves])
    order = np.lexsort((live, -sizes[leaf], colours))
    heads = np.concatenate([[True], np.diff(colours[order]) > 0])
    head = order[np.flatnonzero(heads)[np.cumsum(heads) - 1]]
    carried = leaf[order] != leaf[head]
    elements, carriers = live[order[carried]], live[head[carried]]
    ascending = np.argsort(elements)
    return Mates(elements[ascending], carriers[ascending])


def _with_company(side: Side, cotangent: Sequence[Tensor], seed: int, check: Callable[[], None]) -> tuple[Ints, Floats]:
    """Elements that have others with nearly their gradient on the first draw, and their gradients on both draws."""
    first = _gradient(side, cotangent, seed)
    check()
    second = _gradient(side, cotangent, seed + 100)
    largest = float(max(_largest(first), _largest(second)))
    telling = _beyond(first, _DEAD * largest)
    late = np.flatnonzero(_beyond(second, _DEAD * largest) & ~telling)
    near = _near(first, np.flatnonzero(telling), largest)
    live = np.union1d(near, late)
    return live, np.stack([first[live], second[live]])


def _gradient(side: Side, cotangent: Sequence[Tensor], seed: int) -> Floats:
    """By element, its gradient at generic values; 0 where that is not finite, and for what is not unknown."""
    found = side.evaluated(side.draws(seed)).gradients(cotangent)
    flat = np.zeros(side.size)
    for leaf, gradient in enumerate(found):
        if gradient is not None:
            part = flat[side.starts[leaf] : side.starts[leaf + 1]]
            np.copyto(part, gradient, where=side.unknown(leaf))
            part[~np.isfinite(part)] = 0.0
        found[leaf] = None
    return flat


def _largest(values: Floats) -> float:
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


def _beyond(values: Floats, floor: float) -> Flags:
    found = np.empty(len(values), bool)
    for start in range(0, len(values), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = np.abs(values[part]) > floor
    return found


def _near(values: Floats, elements: Ints, largest: float) -> Ints:
    """Those elements whose value lies beside another's."""
    order = elements[np.argsort(values[elements])].astype(np.int32)
    close = np.zeros(len(order) + 1, bool)  # whether each and the one before it lie together
    for start in range(0, len(order), CHUNK):
        part = values[order[start : start + CHUNK + 1]]
        size = np.maximum(np.abs(part[1:]), np.abs(part[:-1]))
        allowed = _NEAR * (_EQUAL.relative * size + _EQUAL.absolute * largest)
        close[start + 1 : start + len(part)] = np.diff(part) <= allowed
    return np.sort(order[close[:-1] | close[1:]]).astype(np.int64)
