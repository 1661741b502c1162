"""The elements of target weights while they are gathered, in as few numbers as will do."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from automatch.core.graph import Shape
from automatch.exact.extend import NONE, Column
from automatch.exact.tolerance import Flags, Floats, Ints, held_once

ROUNDING = 1e-6  # factors of a float32 normaliser are one and the same as their float64 spelling


@dataclass(slots=True, eq=False)
class Weight:
    """The elements of one target weight while they are gathered: one column a summand."""

    shape: Shape
    columns: list[Column]
    shift: Floats
    missing: Flags
    free: bool = False
    seen: int = 0
    problem: str = ""
    unseen: Flags = field(default_factory=lambda: np.zeros(0, bool))
    made_up: bool = False

    def summands(self, chosen: Flags) -> Ints:
        """Of how many source elements those chosen are made."""
        count = sum((column.origin >= 0).astype(np.int64) for column in self.columns)
        found: Ints = np.broadcast_to(count, chosen.shape)[chosen]
        return found

    @property
    def plain(self) -> bool:
        """Whether what was seen is made in one way, which the rest goes on with.

        That is, no element has several summands where others have one.
        """
        if self.made_up:
            return False
        seen = self.summands(~self.unseen)
        return not len(seen) or int(seen.max()) <= 1 or bool((seen == seen[0]).all())

    @property
    def padded(self) -> bool:
        """Whether some of what was not seen is made of nothing."""
        return bool((self.summands(self.unseen) == 0).any())


def slim(column: Column) -> Column:
    """A column that is held until all weights are gathered: in as few numbers as will do."""
    return Column(held_once(column.origin), held_once(column.index), held_once(column.scale))


def empty_column(size: int) -> Column:
    """A column that no element has."""
    return Column(np.full(size, NONE, np.int32), np.zeros(size, np.int32), np.ones(size))


def free_to_write(column: Column) -> Column:
    """The same column with an entry for every element."""
    return Column(column.origin.copy(), column.index.copy(), column.scale.copy())


def place(columns: list[Column], size: int, chosen: Ints, origin: int, index: Ints, scale: Floats) -> None:
    """Put one summand of some elements into the first column that has room for all of them."""
    column_number = next((k for k, column in enumerate(columns) if (column.origin[chosen] < 0).all()), len(columns))
    if column_number == len(columns):
        columns.append(empty_column(size))
    column = columns[column_number]
    column.origin[chosen] = origin
    column.index[chosen] = index
    column.scale[chosen] = scale


def merged(first: Weight, second: Weight) -> Weight:
    """Two readings of one weight: the second fills what the first leaves open."""
    new = first.missing & ~second.missing
    size = len(first.missing)
    columns = list(first.columns)
    while len(columns) < len(second.columns):
        columns.append(empty_column(size))
    empty = empty_column(size)
    merged = []
    for number, column in enumerate(columns):
        other = second.columns[number] if number < len(second.columns) else empty
        merged.append(
            Column(
                np.where(new, other.origin, column.origin),
                np.where(new, other.index, column.index),
                np.where(new, other.scale, column.scale),
            )
        )
    missing = first.missing & second.missing
    clash = ~first.missing & ~second.missing & _differ(first, second)
    if clash.any():
        problem = f"its uses ask for different source weights in {int(clash.sum()):,} elements"
        return Weight(first.shape, merged, first.shift, missing | clash, first.free, 0, problem, missing.copy())
    shift = np.where(new, second.shift, first.shift)
    seen = int((~missing).sum())
    free, problem = first.free or second.free, first.problem or second.problem
    return Weight(first.shape, merged, shift, missing, free, seen, problem, missing.copy())


def _differ(first: Weight, second: Weight) -> Flags:
    """Elements for which two readings of a weight name different sources."""
    differ = np.abs(first.shift - second.shift) > ROUNDING * (1 + np.abs(first.shift))
    for one, other in zip(first.columns, second.columns, strict=False):
        named = (one.origin >= 0) & (other.origin >= 0)
        differ |= (one.origin != other.origin) | (named & (one.index != other.index))
    for longer in (first.columns[len(second.columns) :], second.columns[len(first.columns) :]):
        for column in longer:
            differ |= column.origin >= 0
    return differ
