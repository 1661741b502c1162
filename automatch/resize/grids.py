"""Tables of places in a picture, for a picture of another size: special rows kept, the grid resampled.

As is done for vision transformers since "An Image is Worth 16x16 Words" (Dosovitskiy et al., 2021, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt, prod

from automatch.core.alignment import Indexed
from automatch.core.expr import Concat, Expr, Fit, Reshape, Resize, Slice
from automatch.core.graph import Shape

SPECIAL = 2
"""How many special rows may stand before a grid whose sizes are not known: a class token's and a distillation token's.

With more, too many numbers are a square and something.
"""


class UnfitError(ValueError):
    """A weight cannot take a size; the message says why."""


def regridded(expr: Expr, shape: Shape, meanings: Mapping[int, Indexed]) -> tuple[Expr, list[str]]:
    """A table whose grid has the wanted sizes, and what was done; as it is where it has none, or needs no other.

    Args:
        expr: The table.
        shape: What it must become, of the same rank; axes that are no grid are left alone.
        meanings: What indexed axes are.

    Raises:
        UnfitError: The grid's sizes are not known, or the rows before it are not the same on both sides.
    """
    steps = []
    for axis, meaning in meanings.items():
        old, new = expr.shape[axis], shape[axis]
        if meaning.entries != "grid" or (old == new and meaning.grids[0] == meaning.grids[1]):
            continue
        before, after = meaning.grids if all(meaning.grids) else _squares(old, new)
        special = old - prod(before)
        if special != new - prod(after) or special < 0 or len(before) != len(after):
            raise UnfitError(
                f"{old} places are {special} and a grid of {_sizes(before)}, the target's {new} are "
                f"{new - prod(after)} and one of {_sizes(after)}"
            )
        expr = _resampled(expr, axis, special, before, after)
        first = [f"first {special} rows kept"] if special else []
        steps += [*first, f"a grid of {_sizes(before)} resampled to {_sizes(after)}"]
    return expr, steps


def _squares(old: int, new: int) -> tuple[Shape, Shape]:
    for special in range(SPECIAL + 1):
        sides = isqrt(max(0, old - special)), isqrt(max(0, new - special))
        if all(sides) and (sides[0] ** 2, sides[1] ** 2) == (old - special, new - special):
            return (sides[0],) * 2, (sides[1],) * 2
    raise UnfitError(f"{old} places in a picture and {new} of another, whose grids are not known and not square")


def _resampled(expr: Expr, axis: int, special: int, old: Shape, new: Shape) -> Expr:
    before, after = expr.shape[:axis], expr.shape[axis + 1 :]
    places = Slice(expr, axis, special, expr.shape[axis]) if special else expr
    fits: list[Fit] = ["keep" if a == b else "cubic" for a, b in zip(old, new, strict=True)]
    around: tuple[list[Fit], list[Fit]] = (["keep"] * len(before), ["keep"] * len(after))
    grid = Resize(Reshape(places, (*before, *old, *after)), (*before, *new, *after), (*around[0], *fits, *around[1]))
    flat = Reshape(grid, (*before, prod(new), *after))
    return Concat((Slice(expr, axis, 0, special), flat), axis) if special else flat


def _sizes(grid: Shape) -> str:
    return "x".join(map(str, grid)) or "no sizes"
