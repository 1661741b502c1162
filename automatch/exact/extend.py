"""From the elements that outputs speak of to those that they do not.

Rows of a vocabulary that no input used, positions beyond its length, the bias of a key projection (softmax does not see
it): their gradients are zero and their colours say nothing. The living elements of the same weight show how its axes
lie on the source's axes; the dead ones follow. A bias follows the factor of its contraction, channel by channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from automatch.exact.tolerance import CHUNK, Flags, Floats, Ints

NONE = -1
BEYOND = -2
"""The source coordinate of what lies past the source's end."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One summand of every element of a target weight.

    Attributes:
        origin: By element, the number of the source weight or expression; `NONE` where it has no such summand.
        index: By element, the flat index into it.
        scale: By element, the factor.
    """

    origin: Ints
    index: Ints
    scale: Floats


def extended(
    column: Column, missing: Flags, shape: tuple[int, ...], shapes: dict[int, tuple[int, ...]]
) -> tuple[Column, Flags, bool]:
    """Fill in missing elements along the axes.

    Args:
        column: What is known.
        missing: By element, whether it is unknown.
        shape: The target weight's shape.
        shapes: The shapes of the origins.

    Returns:
        The column with more elements, which are still missing, and whether some follow no step of the seen ones: as
        many places are left as coordinates, and take them in order. Where a weight goes on past the end of its only
        source (a padded vocabulary), what lies beyond has no origin: it is padding.

    Example:
        >>> known = Column(np.array([0, 0, -1, -1]), np.array([0, 1, 0, 0]), np.ones(4))
        >>> filled, left, made_up = extended(known, np.array([False, False, True, True]), (2, 2), {0: (2, 2)})
        >>> filled.index.tolist(), left.any(), made_up
        ([0, 1, 2, 3], np.False_, False)
    """
    made_up = False
    origins = [int(origin) for origin in np.unique(column.origin[~missing & (column.origin >= 0)])]
    for origin in origins:
        if missing.any():
            alone = len(origins) == 1
            column, missing, guessed = _from_one(column, missing, shape, origin, shapes[origin], alone)
            made_up |= guessed
    return column, missing, made_up


def _from_one(
    column: Column, missing: Flags, shape: tuple[int, ...], origin: int, source: tuple[int, ...], alone: bool
) -> tuple[Column, Flags, bool]:
    """Fill in missing elements from one origin."""
    living = ~missing & (column.origin == origin)
    maps = _axis_maps(column.index, living, shape, source, alone)
    if maps is None:
        return column, missing, False
    dead = np.flatnonzero(missing)
    index, found, beyond = _through(maps, dead, shape, source)
    missing = _set(missing, dead[beyond | found], False)
    dead, index = dead[found], index[found]
    scale = column.scale[living]
    filled = replace(
        column,
        origin=_set(column.origin, dead, origin),
        index=_set(column.index, dead, index),
        scale=_set(column.scale, dead, scale[0]),
    )
    return filled, missing, maps.made_up and bool(len(dead))


def _set(values: np.ndarray, places: Ints, new: object) -> np.ndarray:
    changed = values.copy()
    changed[places] = new
    return changed


@dataclass(frozen=True, slots=True, eq=False)
class _Maps:
    """How a target weight lies on a source weight.

    Attributes:
        pairs: Target axis and source axis that go together.
        along: For each pair, the source coordinate of every target coordinate; `NONE` or `BEYOND` where there is none.
        base: The source coordinates along the axes that do not vary.
        within: Other target axes, with the coordinates at which the source was seen.
        made_up: Whether coordinates that follow no step of the seen ones were given what was left.
    """

    pairs: tuple[tuple[int, int], ...]
    along: tuple[Ints, ...]
    base: Ints
    within: tuple[tuple[int, Flags], ...]
    made_up: bool


def _axis_maps(
    index: Ints, living: Flags, shape: tuple[int, ...], source: tuple[int, ...], alone: bool
) -> _Maps | None:
    elements = np.flatnonzero(living)
    ours, theirs = _coordinates(elements, shape), _coordinates(index[elements], source)
    wide = [axis for axis, size in enumerate(shape) if size > 1]
    varying = [axis for axis in range(len(source)) if (theirs[:, axis] != theirs[0, axis]).any()]
    for chosen in permutations(wide, len(varying)):
        pairs = list(zip(chosen, varying, strict=True))
        along = [_along(ours[:, axis], theirs[:, other], shape[axis]) for axis, other in pairs]
        if any(column is None for column in along):
            continue
        seen = [column for column in along if column is not None]
        filled = tuple(_filled(column, source[other], alone) for column, other in zip(seen, varying, strict=True))
        rest = [axis for axis in wide if axis not in chosen]
        still = _still(ours, rest, shape, source, varying)
        extra = tuple(_filled(_one(ours[0, i], theirs[0, j], shape[i]), source[j], True) for i, j in still)
        within = _seen_places(ours, [axis for axis in rest if axis not in dict(still)], shape, alone)
        made_up = any(_step(column) is None and bool((column < 0).any()) for column in seen)
        return _Maps((*pairs, *still), (*filled, *extra), theirs[0], within, made_up)
    return None


def _seen_places(ours: Ints, axes: list[int], shape: tuple[int, ...], alone: bool) -> tuple[tuple[int, Flags], ...]:
    """By axis that the source does not vary along, where it was seen; one that is seen to repeat itself goes on."""
    found = []
    for axis in axes:
        seen = np.bincount(ours[:, axis], minlength=shape[axis]) > 0
        if not alone or seen.sum() == 1:
            found.append((axis, seen))
    return tuple(found)


def _coordinates(elements: Ints, shape: tuple[int, ...]) -> Ints:
    """One row an element, one column an axis."""
    return np.stack(np.unravel_index(elements, shape), 1) if shape else np.zeros((len(elements), 0), np.int64)


def _still(
    ours: Ints, rest: list[int], shape: tuple[int, ...], source: tuple[int, ...], varying: list[int]
) -> list[tuple[int, int]]:
    """Axes at which a single place was seen, with the source's: nothing says that the weight repeats itself there."""
    if len(source) != len(shape):
        return []
    single = [axis for axis in rest if (ours[:, axis] == ours[0, axis]).all()]
    same = [(axis, axis) for axis in single if axis not in varying]
    free = [axis for axis, size in enumerate(source) if size > 1 and axis not in varying]
    return [(single[0], free[0])] if not same and len(single) == len(free) == 1 else same


def _one(ours: int, theirs: int, size: int) -> Ints:
    column = np.full(size, NONE, np.int64)
    column[ours] = theirs
    return column


def _along(ours: Ints, theirs: Ints, size: int) -> Ints | None:
    """By target coordinate, the source coordinate; None where it is no function of that axis alone."""
    column = np.full(size, NONE, np.int64)
    column[ours] = theirs
    return column if (column[ours] == theirs).all() else None


def _step(column: Ints) -> tuple[int, int] | None:
    """The direction and the distance that all seen coordinates keep: `direction * place + distance`; None if none."""
    seen = np.flatnonzero(column >= 0)
    for direction in (1, -1):
        distance = np.unique(column[seen] - direction * seen)
        if len(distance) == 1:
            return direction, int(distance[0])
    return None


def _filled(column: Ints, size: int, alone: bool) -> Ints:
    """Coordinates that were not seen, where the seen ones keep one step, or where as many are left over."""
    unseen = np.flatnonzero(column < 0)
    if not len(unseen) or not alone:
        return column
    step = _step(column)
    if step is not None:
        moved = step[0] * unseen + step[1]
        inside = (moved >= 0) & (moved < size)
        # past the end lies padding only where all of the source lies before it
        past = (moved >= size) & (step[1] <= 0)
        filled: Ints = _set(column, unseen, np.where(inside, moved, np.where(past, BEYOND, NONE)))
        return filled
    spare = np.setdiff1d(np.arange(size), column[column >= 0])
    return _set(column, unseen, spare) if len(spare) == len(unseen) else column


def _through(maps: _Maps, elements: Ints, shape: tuple[int, ...], source: tuple[int, ...]) -> tuple[Ints, Flags, Flags]:
    """The source index of target elements, for which of them there is one, and which lie past the source's end."""
    index = np.zeros(len(elements), np.int32)
    found, beyond = np.zeros(len(elements), bool), np.zeros(len(elements), bool)
    for start in range(0, len(elements), CHUNK):
        part = slice(start, start + CHUNK)
        index[part], found[part], beyond[part] = _some_through(maps, elements[part], shape, source)
    return index, found, beyond


def _some_through(
    maps: _Maps, elements: Ints, shape: tuple[int, ...], source: tuple[int, ...]
) -> tuple[Ints, Flags, Flags]:
    ours = _coordinates(elements, shape)
    coordinates = np.repeat(maps.base[:, None], len(elements), axis=1)
    found, beyond = np.ones(len(elements), bool), np.zeros(len(elements), bool)
    for (axis, other), along in zip(maps.pairs, maps.along, strict=True):
        value = along[ours[:, axis]]
        found &= value >= 0
        beyond |= value == BEYOND
        coordinates[other] = np.maximum(value, 0)
    for axis, seen in maps.within:
        found &= seen[ours[:, axis]]
        beyond &= seen[ours[:, axis]]
    flat = np.ravel_multi_index(tuple(coordinates), source) if source else np.zeros(len(elements), np.int64)
    return np.asarray(flat, np.int64), found & ~beyond, beyond
