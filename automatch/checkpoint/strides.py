"""A tensor's place in a storage, told by strides -> movements over a block of consecutive entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from automatch.core.expr import Expr, Permute, Reshape, Slice, Source
from automatch.core.graph import Shape


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor as movements over a block.

    Attributes:
        view: The tensor, over the one leaf `Source(name, block)`.
        block: The block's shape; its entries lie side by side, row by row.
        start: The block's first entry, counted in the storage.
    """

    view: Expr
    block: Shape
    start: int


def fits(shape: Shape, strides: Shape, offset: int, room: int) -> bool:
    """Whether every entry of a tensor lies in a storage of `room` entries."""
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return 0 in shape or 0 <= offset <= last < room


def place(name: str, shape: Shape, strides: Shape, offset: int, room: int) -> Placed | None:
    """The block that a tensor is cut from; None where entries share their places, or no block of the storage holds it.

    Args:
        name: What to call the block.
        shape: The tensor's shape.
        strides: How many entries of the storage lie between neighbours, for each axis.
        offset: The place of its first entry in the storage.
        room: How many entries the storage has.

    Example:
        >>> place("w", (2, 3), (1, 2), 4, 10)
        Placed(view=Permute(of=Source(key='w', shape=(3, 2)), axes=(1, 0)), block=(3, 2), start=4)
        >>> place("w", (2, 3), (1, 0), 4, 10) is None
        True
    """
    axes = sorted((axis for axis, size in enumerate(shape) if size > 1), key=lambda axis: -strides[axis])
    if 0 in shape or not axes:
        return Placed(Source(name, shape), shape, 0 if 0 in shape else offset)
    sizes, steps = [shape[axis] for axis in axes], [strides[axis] for axis in axes]
    if min(steps) > 1:  # every nth entry is one of n along a further axis
        sizes, steps = [*sizes, 1], [*steps, 1]
    box = _box(sizes, steps)
    if box is None:
        return None
    if box == tuple(sizes) and axes == sorted(axes):
        return Placed(Source(name, shape), shape, offset)
    for starts in _candidates(sizes, steps, box, offset):
        start = offset - sum(first * step for first, step in zip(starts, steps, strict=True))
        if start >= 0 and start + prod(box) <= room:
            return Placed(_view(Source(name, box), starts, sizes, axes, shape), box, start)
    return None


def _box(sizes: Sequence[int], steps: Sequence[int]) -> Shape | None:
    """The shape of the smallest block that has these strides, outermost first."""
    if min(steps) < 1:
        return None
    inner = [divmod(outer, step) for outer, step in pairwise(steps)]
    if any(rest or whole < size for (whole, rest), size in zip(inner, sizes[1:], strict=True)):
        return None
    return (sizes[0], *(whole for whole, _ in inner))


def _candidates(sizes: Sequence[int], steps: Sequence[int], box: Shape, offset: int) -> Iterator[tuple[int, ...]]:
    """Where in the block the tensor may begin, along each axis: as the storage's own rows have it, first, or last."""
    rest, aligned = offset % steps[0], [0]
    for step in steps[1:]:
        aligned.append(rest // step)
        rest %= step
    if all(start + size <= whole for start, size, whole in zip(aligned, sizes, box, strict=True)):
        yield tuple(aligned)
    yield (0,) * len(box)
    yield tuple(whole - size for size, whole in zip(sizes, box, strict=True))


def _view(view: Expr, starts: Sequence[int], sizes: Sequence[int], axes: list[int], shape: Shape) -> Expr:
    """The block cut, its axes put in the tensor's order, and axes of one entry put back."""
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        if size < view.shape[axis]:
            view = Slice(view, axis, start, start + size)
    kept = tuple(shape[axis] for axis in axes)
    if view.shape != kept:
        view = Reshape(view, kept)
    if axes != sorted(axes):
        view = Permute(view, tuple(axes.index(axis) for axis in sorted(axes)))
    return view if view.shape == shape else Reshape(view, shape)
