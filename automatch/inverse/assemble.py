"""The pieces that are known of a weight, put together to the whole of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from automatch.core.expr import Constant, Expr
from automatch.core.graph import Shape
from automatch.inverse.building import cut, joined
from automatch.inverse.pieces import Box, Piece, ScatteredError, on_one_grid, volume
from automatch.synthesize.build import reshape


@dataclass(frozen=True, slots=True)
class Assembly:
    """What became of a weight.

    Attributes:
        expr: The whole weight; None where something lacks.
        rounds: Whether a part of it undoes arithmetic.
        covered: How many entries are known.
        bounds: For every axis, the range that is known, where that is all that is; None elsewhere.
        scattered: Whether its pieces were too many to be put together.
    """

    expr: Expr | None
    rounds: bool = False
    covered: int = 0
    bounds: Box | None = None
    scattered: bool = False


def assembled(shape: Shape, pieces: Sequence[Piece], rank: Callable[[Piece], int]) -> Assembly:
    """A weight of that shape, from pieces of it.

    Where pieces overlap, one that does not round is taken before one that does, then one of lower rank, then a larger
    one, then an earlier one.

    Example:
        >>> from automatch.core.expr import Source, text
        >>> halves = [Piece(Source(name, (1, 3)), (2, 3), ((row, row + 1), (0, 3))) for row, name in enumerate("ab")]
        >>> print(text(assembled((2, 3), halves, lambda piece: 0).expr))
        cat(a, b)
    """
    if 0 in shape:
        return Assembly(Constant(0.0, shape))
    try:
        on_grid = on_one_grid(pieces, shape)
    except ScatteredError:
        return Assembly(None, scattered=True)
    if not on_grid:
        return Assembly(None)
    view = on_grid[0].view
    ordered = sorted(on_grid, key=lambda piece: (piece.rounds, rank(piece), -piece.size))
    found = _filled(tuple((0, size) for size in view), ordered)
    covered = sum(volume(cell) for cell, _ in found.cells)
    expr = None if found.expr is None else reshape(found.expr, shape)
    rounds = any(piece.rounds for _, piece in found.cells)
    return Assembly(expr, rounds, covered, _bounds([cell for cell, _ in found.cells], covered, view, shape))


@dataclass(frozen=True, slots=True)
class _Filled:
    """A cell's value, None where it has a hole; and the cells inside that were filled, each from which piece."""

    expr: Expr | None
    cells: tuple[tuple[Box, Piece], ...] = ()


def _filled(cell: Box, pieces: Sequence[Piece]) -> _Filled:
    """A cell from pieces that all have a part in it, the ones to be preferred first."""
    if not pieces:
        return _Filled(None)
    first = pieces[0]
    if _overlap(first.box, cell) == cell:
        return _Filled(_part(first, cell), ((cell, first),))
    axis, bounds = _cuts(cell, pieces)
    parts = [
        _filled((*cell[:axis], (bounds[place], bounds[place + 1]), *cell[axis + 1 :]), inside)
        for place, inside in enumerate(_shared_out(pieces, axis, bounds))
    ]
    exprs = [part.expr for part in parts if part.expr is not None]
    cells = tuple(each for part in parts for each in part.cells)
    return _Filled(joined(exprs, axis) if len(exprs) == len(parts) else None, cells)


def _part(piece: Piece, cell: Box) -> Expr:
    """What stands in a cell that lies in the piece's box."""
    value = piece.value
    for axis, ((start, stop), (offset, _)) in enumerate(zip(cell, piece.box, strict=True)):
        value = cut(value, axis, start - offset, stop - offset)
    return value


def _cuts(cell: Box, pieces: Sequence[Piece]) -> tuple[int, list[int]]:
    """An axis and where to cut a cell along it: where no piece is cut, or else around the first piece."""
    for axis in range(len(cell)):
        bounds = _between(cell, pieces, axis)
        if len(bounds) > 2:
            return axis, bounds
    first = _overlap(pieces[0].box, cell)
    axis = next(axis for axis in range(len(cell)) if first[axis] != cell[axis])
    return axis, sorted({*cell[axis], *first[axis]})


def _between(cell: Box, pieces: Sequence[Piece], axis: int) -> list[int]:
    """The ends of a cell, and the places between them along an axis where pieces begin or end and none goes on."""
    low, high = cell[axis]
    bounds, reached = {low, high}, low
    for start, stop in sorted(piece.box[axis] for piece in pieces):
        if start >= reached:
            bounds |= {reached, start}
        reached = max(reached, stop)
    return sorted(bounds | {min(reached, high)})


def _shared_out(pieces: Sequence[Piece], axis: int, bounds: Sequence[int]) -> list[list[Piece]]:
    """For every stretch between bounds, the pieces that reach into it, in their order."""
    shares: list[list[Piece]] = [[] for _ in bounds[1:]]
    for piece in pieces:
        start, stop = piece.box[axis]
        first = max(bisect_right(bounds, start) - 1, 0)
        for place in range(first, min(bisect_left(bounds, stop), len(shares))):
            shares[place].append(piece)
    return shares


def _overlap(first: Box, second: Box) -> Box:
    return tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(first, second, strict=True))


def _bounds(cells: Sequence[Box], covered: int, view: Shape, shape: Shape) -> Box | None:
    """The one box that all cells make in the weight's own shape, if they do."""
    if view != tuple(size for size in shape if size > 1):
        return None
    box = tuple(
        (min(start for start, _ in column), max(stop for _, stop in column)) for column in zip(*cells, strict=True)
    )
    return box if volume(box) == covered else None
