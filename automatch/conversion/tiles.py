"""Tensors too large for memory, in boxes that are quick to read and quick to write.

Example:
    >>> from automatch.core.expr import Permute, Source
    >>> weight = Source("w", (4096, 4096))
    >>> next(tiles(weight, 2, 2**20)), next(tiles(Permute(weight, (1, 0)), 2, 2**23))
    (((0, 128), (0, 4096)), ((0, 2048), (0, 2048)))
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from math import inf, prod

import torch
from torch import Tensor

from automatch.conversion.copying import write_at
from automatch.conversion.regions import Box, extents, leaf_boxes, run_count, run_length, run_starts, whole
from automatch.core.expr import Expr, Gather, children
from automatch.core.graph import Shape

_CALL = 16 * 1024
"""Bytes that take as long to copy as a call takes that reads or writes them."""

_PARTS = 512
"""A box of so many parts is not worth counting them."""

_EASY = 7
"""The largest factor of a size that boxes grow by; beyond it they are doubled, and the last is smaller."""


def tiles(expr: Expr, itemsize: int, budget: int) -> Iterator[Box]:
    """Cut a tensor into boxes.

    Args:
        expr: What it is made of.
        itemsize: Bytes an entry.
        budget: Bytes that a box may have, and bytes that may be read for it beyond what a single entry needs: an entry
            of which an axis is summed up needs all of that axis.

    Yields:
        Boxes that hold every entry once, in ascending order.
    """
    shape = expr.shape
    if 0 in shape:
        return
    sizes = _tile(expr, max(1, budget // itemsize), itemsize)
    for starts in product(*(range(0, size, step) for size, step in zip(shape, sizes, strict=True))):
        yield tuple((at, min(at + step, size)) for at, step, size in zip(starts, sizes, shape, strict=True))


def write_box(target: int, offset: int, shape: Shape, box: Box, tensor: Tensor) -> None:
    """Write a box of a tensor that lies row by row in a file.

    Args:
        target: Descriptor of the file.
        offset: Where in it the whole tensor begins.
        shape: The whole tensor's shape.
        box: Which entries of it are written.
        tensor: These entries.

    Raises:
        OSError: The system refuses.
    """
    # A last axis of one entry may have any step, which no other dtype could be seen through.
    content = tensor.contiguous().as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data
    step = run_length(shape, box) * tensor.itemsize
    for place, start in enumerate((run_starts(shape, box) * tensor.itemsize).tolist()):
        write_at(target, offset + start, content[place * step : (place + 1) * step])


def _tile(expr: Expr, most: int, itemsize: int) -> Shape:
    """The size of a tile: from one entry on, the axis grows that makes an entry cheapest."""
    shape = expr.shape
    if prod(shape) <= most and _needed(expr, whole(shape)) <= most:
        return shape
    if _gathers(expr):
        return _rows(shape, most)
    sizes: Shape = (1,) * len(shape)
    allowed = most + _needed(expr, _middle(shape, sizes))
    while True:
        grown = [(*sizes[:axis], _grown(sizes[axis], size), *sizes[axis + 1 :]) for axis, size in enumerate(shape)]
        # Of equals, the last axis: a tile of whole rows is written at once.
        costs = [
            (_cost(expr, each, most, allowed, itemsize), -axis) for axis, each in enumerate(grown) if each != sizes
        ]
        cost, axis = min(costs, default=(inf, 0))
        if cost == inf:
            return sizes
        sizes = grown[-axis]


def _rows(shape: Shape, most: int) -> Shape:
    """A tile of as many whole rows as possible, or of a part of one."""
    sizes: list[int] = []
    for size in reversed(shape):
        sizes.insert(0, max(1, min(size, most)))
        most //= size
    return tuple(sizes)


def _gathers(expr: Expr) -> bool:
    return isinstance(expr, Gather) or any(map(_gathers, children(expr)))


def _grown(size: int, whole: int) -> int:
    """The next size of a tile along an axis: one that divides it, so that tiles end where heads and groups end."""
    factor = next((factor for factor in range(2, _EASY + 1) if whole % (size * factor) == 0), 2)
    return min(size * factor, whole)


def _middle(shape: Shape, sizes: Shape) -> Box:
    """A tile that stands for all."""
    starts = [size // step // 2 * step for size, step in zip(shape, sizes, strict=True)]
    return tuple((at, min(at + step, size)) for at, step, size in zip(starts, sizes, shape, strict=True))


def _needed(expr: Expr, box: Box) -> int:
    return sum(prod(extents(each)) for _, each in leaf_boxes(expr, box))


def _cost(expr: Expr, sizes: Shape, most: int, allowed: int, itemsize: int) -> float:
    """Bytes that could be copied in the time that an entry of a tile takes; infinite for a tile that is too large."""
    box = _middle(expr.shape, sizes)
    if prod(sizes) > most:
        return inf
    leaves = list(islice(leaf_boxes(expr, box), _PARTS))
    needed = sum(prod(extents(each)) for _, each in leaves)
    if len(leaves) == _PARTS or needed > allowed:
        return inf
    calls = run_count(expr.shape, box) + sum(run_count(leaf.shape, each) for leaf, each in leaves)
    return (needed * itemsize + calls * _CALL) / prod(extents(box))
