"""What conversions get wrong, as edits of an expression: each gives another reading of the same shape, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import TypeAlias

from automatch.core.alignment import Region
from automatch.core.expr import Affine, Concat, Constant, Expr, Reshape, Slice
from automatch.core.expr_layouts import Order, as_interleave, as_rotary
from automatch.synthesize.build import affine, join, permute, reshape, take

Change: TypeAlias = Callable[[Expr], "Expr | None"]

PARTS = (2, 3)
"""Into how many equal parts a weight is cut that is not made of parts."""

MOST_PARTS = 4
"""Parts that are put in another order at most."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One way to read a weight differently.

    Attributes:
        label: What it does, in words.
        change: Gives the other reading, or None where there is none such.
    """

    label: str
    change: Change


def edits(heads: Collection[int]) -> Iterator[Edit]:
    """Edits of one weight that only move its numbers, or make `1 + w` of it, the likeliest first.

    Args:
        heads: Numbers of heads, or groups, to try.
    """
    yield from _plain()
    for groups in heads:
        yield from _in_heads(groups)
    yield from _ordered()


def scaled(factors: Collection[float]) -> Iterator[Edit]:
    """A constant factor on a weight, or on one of its parts."""
    for factor in factors:
        yield Edit(f"times {factor:.6g}", times(factor))
        for count in PARTS:
            for part in range(count):
                yield Edit(f"part {part + 1} of {count} times {factor:.6g}", on_part(count, part, times(factor)))


def _plain() -> Iterator[Edit]:
    yield Edit("transposed", transposed)
    yield Edit("without its arithmetic", lambda expr: expr.of if isinstance(expr, Affine) else None)
    yield Edit("one more", times(1.0, 1.0))
    yield Edit("one less", times(1.0, -1.0))
    yield from (Edit(f"{rows} rows further on", partial(shifted, rows=rows)) for rows in (1, 2, -1, -2))


def _in_heads(groups: int) -> Iterator[Edit]:
    orders: tuple[Order, ...] = ("pairs", "halves")
    for order in orders:
        turn: Change = partial(rotary, heads=groups, order=order)
        label = f"rotary {order} in {groups} heads"
        yield Edit(label, turn)
        yield Edit(f"{label}, of parts 1 and 2 of 3", both(on_part(3, 0, turn), on_part(3, 1, turn)))
        yield from (Edit(f"{label}, of part {part + 1} of 3", on_part(3, part, turn)) for part in range(3))
    yield Edit(f"parts by turns in {groups} groups", partial(grouped, groups=groups))
    yield Edit(f"parts one after another, from {groups} groups", partial(ungrouped, groups=groups))


def _ordered() -> Iterator[Edit]:
    for count in range(2, MOST_PARTS):
        for order in list(permutations(range(count)))[1:]:
            yield Edit(f"parts in the order {', '.join(str(place + 1) for place in order)}", reordered(order))


def times(factor: float, shift: float = 0.0) -> Change:
    """A factor, and a summand; constants take them in."""

    def changed(expr: Expr) -> Expr:
        if isinstance(expr, Constant):
            return Constant(expr.value * factor + shift, expr.shape)
        return affine(expr, factor, shift)

    return changed


def on_columns(change: Change) -> Change:
    """A change of the columns of a matrix; anything else is changed as it is."""

    def changed(expr: Expr) -> Expr | None:
        if len(expr.shape) != 2:
            return change(expr)
        new = change(permute(expr, (1, 0)))
        return None if new is None else permute(new, (1, 0))

    return changed


def parts_of(expr: Expr, count: int) -> tuple[list[Expr], int, int] | None:
    """The parts of a weight along its first axis, the axis, and in how many groups they take turns."""
    if isinstance(expr, Concat) and len(expr.parts) > 1:
        return (list(expr.parts), expr.axis, 1) if len(expr.parts) == count else None
    turns = as_interleave(expr) if isinstance(expr, Reshape) else None
    if turns and isinstance(expr, Reshape) and isinstance(expr.of, Concat):
        axis = expr.of.axis - 1
        return (list(turns), axis, expr.of.shape[axis]) if len(turns) == count else None
    if not expr.shape or expr.shape[0] % count or expr.shape[0] == count:
        return None
    size = expr.shape[0] // count
    return [Slice(expr, 0, place * size, (place + 1) * size) for place in range(count)], 0, 1


def on_part(count: int, part: int, change: Change) -> Change:
    """A change of one of so many parts."""

    def changed(expr: Expr) -> Expr | None:
        found = parts_of(expr, count)
        new = change(found[0][part]) if found else None
        if found is None or new is None or new.shape != found[0][part].shape:
            return None
        parts, axis, groups = found
        return join([*parts[:part], new, *parts[part + 1 :]], axis, groups)

    return changed


def both(first: Change, second: Change) -> Change:
    """Two changes, one after the other."""

    def changed(expr: Expr) -> Expr | None:
        once = first(expr)
        return None if once is None else second(once)

    return changed


def reordered(order: tuple[int, ...]) -> Change:
    """Parts in another order."""

    def changed(expr: Expr) -> Expr | None:
        found = parts_of(expr, len(order))
        return None if found is None else join([found[0][place] for place in order], found[1], found[2])

    return changed


def transposed(expr: Expr) -> Expr | None:
    """A square matrix, or a stack of such, turned over."""
    if len(expr.shape) < 2 or expr.shape[0] != expr.shape[1]:
        return None
    return permute(expr, (1, 0, *range(2, len(expr.shape))))


def shifted(expr: Expr, rows: int) -> Expr | None:
    """A table of which row k takes row k + `rows`; rows past either end are zero."""
    whole = expr.of if isinstance(expr, Slice) and expr.axis == 0 else expr
    start = (expr.start if whole is not expr and isinstance(expr, Slice) else 0) + rows
    if len(expr.shape) != 2:
        return None
    stop = start + expr.shape[0]
    first, last = max(start, 0), min(stop, whole.shape[0])
    if first >= last:
        return None
    kept = whole if (first, last) == (0, whole.shape[0]) else Slice(whole, 0, first, last)
    before = [Constant(0.0, (first - start, expr.shape[1]))] if first > start else []
    after = [Constant(0.0, (stop - last, expr.shape[1]))] if stop > last else []
    parts: list[Expr] = [*before, kept, *after]
    return Concat(tuple(parts), 0) if len(parts) > 1 else kept


def rotary(expr: Expr, heads: int, order: Order) -> Expr | None:
    """Rows of heads put from one rotary layout into the other."""
    turned = as_rotary(expr) if isinstance(expr, Reshape) else None
    if turned is not None:
        return turned.of if (turned.heads, turned.axis) == (heads, 0) and turned.order != order else None
    if not expr.shape or expr.shape[0] % (2 * heads) or expr.shape[0] < 4 * heads:
        return None
    half, rest = expr.shape[0] // heads // 2, expr.shape[1:]
    split = (heads, 2, half, *rest) if order == "pairs" else (heads, half, 2, *rest)
    return Reshape(permute(reshape(expr, split), (0, 2, 1, *range(3, len(split)))), expr.shape)


def grouped(expr: Expr, groups: int) -> Expr | None:
    """Parts that followed each other, by turns in groups; or one part, taken from where parts take turns."""
    if isinstance(expr, Slice):
        return _share(expr, groups)
    if not isinstance(expr, Concat) or any(part.shape[expr.axis] % groups for part in expr.parts):
        return None
    return join(list(expr.parts), expr.axis, groups) if groups > 1 else None


def _share(expr: Slice, groups: int) -> Expr | None:
    size, whole = expr.stop - expr.start, expr.of.shape[expr.axis]
    if groups < 2 or whole % size or expr.start % size or size % groups:
        return None
    share, place = size // groups, expr.start // size
    return take(expr.of, Region(expr.axis, place * share, (place + 1) * share, groups))


def ungrouped(expr: Expr, groups: int) -> Expr | None:
    """Parts that took turns in groups, one after another."""
    if not isinstance(expr, Reshape):
        return None
    turns = as_interleave(expr)
    if turns and isinstance(expr.of, Concat):
        return Concat(turns, expr.of.axis - 1) if expr.of.shape[expr.of.axis - 1] == groups else None
    cut = expr.of
    if not isinstance(cut, Slice) or not isinstance(cut.of, Reshape) or cut.axis == 0:
        return None
    axis, share = cut.axis - 1, cut.stop - cut.start
    if cut.of.shape[axis] != groups or cut.start % share:
        return None
    place, size = cut.start // share, share * groups
    return Slice(cut.of.of, axis, place * size, (place + 1) * size)
