"""Parts of a tensor, each a box of its entries -> the tensor, as nested concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automatch.core.expr import Concat, Expr
from automatch.core.graph import Shape


@dataclass(frozen=True, slots=True)
class Box:
    """A box of entries.

    Attributes:
        offsets: Its first entry along each axis.
        sizes: How many it has along each axis.
    """

    offsets: Shape
    sizes: Shape


def whole_box(shape: Shape) -> Box:
    """The box of all entries of a tensor."""
    return Box((0,) * len(shape), shape)


def joined(whole: Box, parts: Sequence[tuple[Box, Expr]]) -> Expr:
    """The expression for a box that parts fill.

    It is cut through along the first axis where a cut crosses no part, and its pieces likewise.

    Args:
        whole: The box.
        parts: Boxes in it, in any order, and what lies in each.

    Raises:
        ValueError: The parts leave a gap, overlap, or are interlocked so that no cut separates them.

    Example:
        >>> from automatch.core.expr import Source, text
        >>> left, right = Source("left", (2, 1)), Source("right", (2, 3))
        >>> parts = [(Box((0, 1), (2, 3)), right), (Box((0, 0), (2, 1)), left)]
        >>> text(joined(Box((0, 0), (2, 4)), parts))
        'cat(left, right, dim=1)'
    """
    if len(parts) == 1:
        box, view = parts[0]
        if box != whole:
            raise ValueError(_gap(whole))
        return view
    for axis in range(len(whole.sizes)):
        slabs = _slabs(whole, parts, axis)
        if len(slabs) > 1:
            return Concat(tuple(joined(slab, inner) for slab, inner in slabs), axis)
    raise ValueError("overlap or are interlocked" if parts else _gap(whole))


def _slabs(whole: Box, parts: Sequence[tuple[Box, Expr]], axis: int) -> list[tuple[Box, list[tuple[Box, Expr]]]]:
    """The box cut along one axis wherever no part is cut."""
    groups: list[list[tuple[Box, Expr]]] = []
    start = end = whole.offsets[axis]
    bounds = [start]
    for box, view in sorted(parts, key=lambda part: part[0].offsets[axis]):
        if box.offsets[axis] > end or (not groups and box.offsets[axis] != start):
            raise ValueError(_gap(whole))
        if box.offsets[axis] == end:
            groups.append([])
            bounds.append(end)
        groups[-1].append((box, view))
        end = max(end, box.offsets[axis] + box.sizes[axis])
    if end != start + whole.sizes[axis]:
        raise ValueError(_gap(whole) if end < start + whole.sizes[axis] else "reach outside it")
    return [
        (_within(whole, axis, first, last), inner)
        for first, last, inner in zip(bounds[1:], [*bounds[2:], end], groups, strict=True)
    ]


def _within(whole: Box, axis: int, first: int, last: int) -> Box:
    return Box(
        (*whole.offsets[:axis], first, *whole.offsets[axis + 1 :]),
        (*whole.sizes[:axis], last - first, *whole.sizes[axis + 1 :]),
    )


def _gap(whole: Box) -> str:
    return f"leave a gap in the box of {list(whole.sizes)} entries at {list(whole.offsets)}"
