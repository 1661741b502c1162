"""Axes before elements: the elements of a leaf by its rows and columns, alike lines taken together.

Before anything is chosen, all hidden units are alike, and so are the lines of every weight that they index: a gradient
of a million numbers holds a few hundred different ones. A leaf is looked at as a matrix. Rows that are equal, number by
number, are one class, and so are columns; a *cell* is what a class of rows and a class of columns have in common. All
elements of a cell have one colour, so that cells are sorted in place of elements, and colours of elements are told by
the classes of their row and column. Where no two lines are alike, every element is a cell of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automatch.exact.tolerance import CHUNK, Flags, Floats, Ints, Tolerance

_WORTH = 0.7
"""Share of the lines above which classes of them are not worth keeping."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The rows of a matrix, or its columns, in classes.

    Attributes:
        size: How many lines there are.
        of: By line, its class; classes are numbered by their first line. None where every line is its own.
        first: By class, its first line.
    """

    size: int
    of: Ints | None
    first: Ints

    @property
    def count(self) -> int:
        """How many classes there are."""
        return len(self.first)

    @property
    def many(self) -> Ints:
        """By class, how many lines it has."""
        if self.of is None:
            return np.ones(self.size, np.int64)
        return np.bincount(self.of, minlength=self.count).astype(np.int64)

    def classes(self) -> Ints:
        """By line, its class."""
        return np.arange(self.size) if self.of is None else self.of

    def apart(self, chosen: Ints) -> Lines:
        """The same lines; each is alone that is in one of the chosen classes."""
        if self.of is None or not (self.many[chosen] > 1).any():
            return self
        flags = np.zeros(self.count, bool)
        flags[chosen] = True
        return lines(np.where(flags[self.of], np.arange(self.size), self.first[self.of]))


def lines(keys: NDArray[Any]) -> Lines:
    """Classes of lines that have equal keys.

    Example:
        >>> found = lines(np.array([7, 3, 7]))
        >>> found.of.tolist(), found.first.tolist()
        ([0, 1, 0], [0, 1])
    """
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) == len(keys):
        return alone(len(keys))
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return Lines(len(keys), rank[place.reshape(-1)], np.sort(first).astype(np.int64))


def alone(size: int) -> Lines:
    """Every line in a class of its own."""
    return Lines(size, None, np.arange(size))


def together(size: int) -> Lines:
    """All lines in one class."""
    return Lines(size, np.zeros(size, np.int64), np.zeros(min(size, 1), np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A leaf's elements by classes of rows and columns. Cells are numbered row by row, as elements are.

    Attributes:
        rows: Classes of rows.
        columns: Classes of columns.
    """

    rows: Lines
    columns: Lines

    @property
    def count(self) -> int:
        """How many cells there are."""
        return self.rows.count * self.columns.count

    @property
    def whole(self) -> bool:
        """Whether every element is a cell of its own."""
        return self.rows.of is None and self.columns.of is None

    def many(self) -> Ints:
        """By cell, how many elements it has."""
        return np.outer(self.rows.many, self.columns.many).reshape(-1)

    def firsts(self) -> Ints:
        """By cell, its first element's place in the leaf."""
        return (self.rows.first[:, None] * self.columns.size + self.columns.first).reshape(-1)

    def pick(self, elements: NDArray[Any]) -> NDArray[Any]:
        """By cell, the entry of its first element, of something that is told by element."""
        table = elements.reshape(self.rows.size, self.columns.size)
        table = table if self.rows.of is None else table[self.rows.first]
        table = table if self.columns.of is None else table[:, self.columns.first]
        return table.reshape(-1)

    def spread(self, entries: NDArray[Any]) -> NDArray[Any]:
        """By element, the entry of its cell."""
        table = entries.reshape(self.rows.count, self.columns.count)
        table = table if self.columns.of is None else table[:, self.columns.of]
        table = table if self.rows.of is None else table[self.rows.of]
        return table.reshape(-1)

    def moved(self, entries: NDArray[Any], other: Cells) -> NDArray[Any]:
        """By cell of the same leaf in other cells, the entry of the cell that its first element has here."""
        table = entries.reshape(self.rows.count, self.columns.count)
        rows = other.rows.first if self.rows.of is None else self.rows.of[other.rows.first]
        columns = other.columns.first if self.columns.of is None else self.columns.of[other.columns.first]
        return table[rows[:, None], columns].reshape(-1)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The rows and columns that a leaf is looked at in: cut where they are fewest.

    Example:
        >>> matrix_shape((4, 8, 6)), matrix_shape((5,)), matrix_shape(())
        ((32, 6), (1, 5), (1, 1))
    """
    cuts = [(prod(shape[:cut]), prod(shape[cut:])) for cut in range(len(shape))] or [(1, 1)]
    return min(cuts, key=sum)


def elements(shape: tuple[int, ...]) -> Cells:
    """Every element a cell of its own."""
    rows, columns = matrix_shape(shape)
    return Cells(alone(rows), alone(columns))


def one_cell(shape: tuple[int, ...]) -> Cells:
    """All elements in one cell."""
    rows, columns = matrix_shape(shape)
    return Cells(together(rows), together(columns))


def alike(gradient: Floats, before: Cells, colours: Ints, tolerance: Tolerance, largest: float) -> Cells:
    """The cells of a leaf's gradient: alike are lines that are equal, number by number, and were coloured alike.

    Args:
        gradient: By element.
        before: The cells so far.
        colours: By cell so far.
        tolerance: When two numbers are equal.
        largest: What the absolute tolerance is measured by.
    """
    matrix = gradient.reshape(before.rows.size, before.columns.size)
    table = colours.reshape(before.rows.count, before.columns.count)
    rows = _classes(matrix, before.rows, table, tolerance, largest)
    table = table if rows.of is None else table[before.rows.classes()[rows.first]]
    matrix = matrix if rows.of is None else matrix[rows.first]
    return Cells(rows, _classes(matrix.T, before.columns, table.T, tolerance, largest))


def still_alike(gradient: Floats, cells: Cells, tolerance: Tolerance, largest: float) -> bool:
    """Whether the elements of every cell are equal in another gradient as well."""
    matrix = gradient.reshape(cells.rows.size, cells.columns.size)
    if _unlike(matrix, cells.rows, tolerance, largest).any():
        return False
    matrix = matrix if cells.rows.of is None else matrix[cells.rows.first]
    return not _unlike(matrix.T, cells.columns, tolerance, largest).any()


def _classes(matrix: Floats, before: Lines, table: Ints, tolerance: Tolerance, largest: float) -> Lines:
    """Classes of rows: proposed by one random combination of the numbers in a row, confirmed number by number."""
    count, width = matrix.shape
    if count < 2 or not width:
        return alone(count)
    chance = np.random.default_rng(0)
    projected = matrix @ chance.uniform(0.5, 1.5, width)
    length = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    # equal colours have equal sums of these numbers, and others have not, but for one chance in 2 ** 60
    marks = chance.integers(1, 2**62, table.shape[1])
    coloured = (np.einsum("ij,j->i", table.astype(np.int64) + 2, marks))[before.classes()]
    order = np.lexsort((projected, coloured))
    allowed = 2 * np.sqrt(width) * (tolerance.relative * length[order[1:]] + tolerance.absolute * largest)
    apart = (np.diff(projected[order]) > allowed) | (np.diff(coloured[order]) != 0)
    if apart.sum() + 1 > _WORTH * count:
        return alone(count)
    keys = np.empty(count, np.int64)
    keys[order] = np.concatenate([[0], np.cumsum(apart)])
    proposed = lines(keys)
    odd = _unlike(matrix, proposed, tolerance, largest)
    return lines(np.where(odd, count + np.arange(count), keys)) if odd.any() else proposed


def _unlike(matrix: Floats, rows: Lines, tolerance: Tolerance, largest: float) -> Flags:
    """Rows that differ from the first of their class in some number."""
    odd = np.zeros(len(matrix), bool)
    if rows.of is None:
        return odd
    leader = rows.first[rows.of]
    others = np.flatnonzero(leader != np.arange(len(matrix)))
    step = max(1, CHUNK // max(1, matrix.shape[1]))
    for start in range(0, len(others), step):
        part = others[start : start + step]
        mine, its = matrix[part], matrix[leader[part]]
        allowed = tolerance.relative * np.maximum(np.abs(mine), np.abs(its)) + tolerance.absolute * largest
        odd[part] = (np.abs(mine - its) > allowed).any(1)
    return odd
