"""Boxes of expressions on real tensors: the part of a result that a box holds, made from no more than it needs.

Example:
    >>> import torch
    >>> from automatch.core.expr import Affine, Permute, Source
    >>> weight = torch.arange(6.0).reshape(2, 3)
    >>> def read(source, box):
    ...     print("read", box)
    ...     return weight.reshape(source.shape)[tuple(slice(*bounds) for bounds in box)]
    >>> expr = Affine(Permute(Source("w", (2, 3)), (1, 0)), shift=1.0)
    >>> compute_box(expr, ((1, 3), (0, 1)), read, working=torch.float32)
    read ((0, 1), (1, 3))
    tensor([[2.],
            [3.]])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from typing import Any, TypeAlias, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automatch.apply.axis_fits import along
from automatch.apply.evaluate import FUNCTIONS, affine, computes, evaluate, promoted, working_dtype
from automatch.apply.reductions import reduced
from automatch.checkpoint.dtypes import dtype_name
from automatch.conversion.regions import (
    Box,
    cover,
    cut_axis,
    extents,
    fitted,
    gathered,
    groups,
    parts,
    stretches,
    strides,
)
from automatch.core.expr import (
    Affine,
    Arithmetic,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Gather,
    Movement,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    source_leaves,
)
from automatch.core.graph import Shape
from automatch.core.mapping import Entry
from automatch.errors import MappingError
from automatch.interruption import let_through

Read: TypeAlias = Callable[[Source, Box], Tensor]
"""Gives a box of a block. The source may have another shape than the block: the same entries, row by row."""

_CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""What entries are moved as, by their size: torch moves no others of every kind, and these keep every bit."""

_ROWS, _COLUMNS, _GAP = 256, 512, 8
"""How much is transposed at once, so that it fits into a core's cache, and what is left free between its rows."""

_NARROW = 16
"""Rows of fewer entries are copied column by column, so that numpy has long loops."""


def result_dtype(
    expr: Expr, dtypes: Mapping[str, torch.dtype], without_sources: torch.dtype
) -> tuple[torch.dtype, torch.dtype]:
    """The dtype that an expression has, and the one that it is computed in.

    Args:
        expr: What is computed.
        dtypes: The dtype of every source.
        without_sources: The dtype of an expression that reads no source.

    Example:
        >>> from automatch.core.expr import Affine, Source
        >>> result_dtype(Affine(Source("w", (2,)), 2.0), {"w": torch.bfloat16}, torch.float32)
        (torch.bfloat16, torch.float32)
    """
    found = [dtypes[leaf.key] for leaf in source_leaves(expr)]
    dtype = promoted(found or [without_sources])
    working = working_dtype(expr, dtype)
    return (dtype if dtype.is_floating_point else _dtype_of(expr, working)), working


def result_dtype_name(expr: Expr, dtypes: Mapping[str, str], entry: Entry) -> str:
    """The dtype that a target weight will have, as torch prints it, without the prefix.

    Raises:
        MappingError: Torch cannot compute with the sources' dtypes.
    """
    try:
        found = {key: getattr(torch, name) for key, name in dtypes.items()}
        return dtype_name(result_dtype(expr, found, getattr(torch, entry.dtype))[0])
    except (AttributeError, RuntimeError) as error:
        let_through(error)
        kinds = ", ".join(sorted({*dtypes.values()} or {entry.dtype}))
        raise MappingError(f"{entry.target} cannot be computed from {kinds}: {error}") from error


def compute_box(expr: Expr, box: Box, read: Read, *, working: torch.dtype) -> Tensor:
    """Compute the entries of an expression in a box; they have the bits that `evaluate` gives them.

    An expression that reduces axes reads all of them for every box.

    Args:
        expr: What is computed.
        box: Which entries of it.
        read: Gives boxes of blocks; what needs two boxes of one block asks twice.
        working: What `result_dtype` says that the expression is computed in.

    Returns:
        A tensor of the box's shape, contiguous, in the working dtype; where that is not a floating one, in the
        dtype that the expression has.
    """
    with torch.no_grad():
        if computes(expr):
            return settled(_Bench(read, working, None).run(expr, box))
        bench = _Bench(read, working, _CARRIERS.get(working.itemsize, working))
        return settled(bench.run(expr, box)).view(working)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What boxes are computed with.

    Attributes:
        read: Where entries come from.
        working: The dtype they are computed in.
        carrier: The dtype that they are moved as; None where they are computed with.
    """

    read: Read
    working: torch.dtype
    carrier: torch.dtype | None

    def run(self, expr: Expr, box: Box) -> Tensor:
        """The entries of an expression in a box."""
        if 0 in extents(box):
            return torch.empty(extents(box), dtype=self.carrier or _dtype_of(expr, self.working))
        match expr:
            case Source():
                return self._carried(self.read(expr, box).to(self.working))
            case Constant(value=value):
                return self._carried(torch.full(extents(box), value, dtype=self.working))
            case Concat() | Slice() | Permute() | Reshape() | Gather():
                return self._move(expr, box)
            case Affine() | Sum() | Product() | Elementwise() | Reduce():
                return _computed(expr, self._parts(expr, box))
            case Resize():
                return self._resize(expr, box)
            case _:
                assert_never(expr)

    def _parts(self, expr: Expr, box: Box) -> list[Tensor]:
        return [self.run(part, needed) for part, needed in parts(expr, box)]

    def _carried(self, x: Tensor) -> Tensor:
        return x if self.carrier is None else x.view(self.carrier)

    def _move(self, expr: Movement, box: Box) -> Tensor:
        match expr:
            case Concat(axis=axis):
                return self._concat(expr, self._parts(expr, box), axis)
            case Slice():
                return self._parts(expr, box)[0]
            case Permute(axes=axes):
                return self._parts(expr, box)[0].permute(axes)
            case Reshape():
                return self._reshape(expr, box)
            case Gather():
                return self._gather(expr, box)
            case _:
                assert_never(expr)

    def _concat(self, expr: Concat, found: list[Tensor], axis: int) -> Tensor:
        # Whole numbers become fractions where another part has fractions, even if this box has nothing of it.
        if self.carrier is None and not self.working.is_floating_point:
            found = [part.to(_dtype_of(expr, self.working)) for part in found]
        return found[0] if len(found) == 1 else torch.cat(found, dim=axis)

    def _reshape(self, expr: Reshape, box: Box) -> Tensor:
        (part, needed), *more = parts(expr, box)
        if more:
            axis = cut_axis(expr, box)
            assert axis is not None
            return torch.cat(self._parts(expr, box), dim=axis)
        found = self.run(part, needed)
        return _picked(found, expr, box) if part is expr.of else found

    def _gather(self, expr: Gather, box: Box) -> Tensor:
        index = gathered(expr, box)
        ranges = np.array(stretches(index))
        # Where in the stretches that were read, laid end to end, an index points.
        ends = np.cumsum(ranges[:, 1] - ranges[:, 0])
        which = np.searchsorted(ranges[:, 1], index, side="right")
        places = index - ranges[which, 1] + ends[which]
        found = torch.cat(self._parts(expr, box))
        return found.index_select(0, torch.from_numpy(places)).reshape(extents(box))

    def _resize(self, expr: Resize, box: Box) -> Tensor:
        sizes = tuple(zip(expr.of.shape, expr.shape, strict=True))
        needed = tuple(fitted(*size, fit, bounds) for size, fit, bounds in zip(sizes, expr.fits, box, strict=True))
        x = self.run(expr.of, needed)
        for axis, (size, fit, (first, _), bounds) in enumerate(zip(sizes, expr.fits, needed, box, strict=True)):
            x = along(x, axis, size, fit, first, bounds)
        return x if self.carrier is not None else affine(x, expr.scale, 0.0)


def _computed(expr: Arithmetic, found: list[Tensor]) -> Tensor:
    match expr:
        case Affine(scale=scale, shift=shift):
            return affine(found[0], scale, shift)
        case Sum():
            return reduce(torch.add, found)
        case Product():
            return reduce(torch.mul, found)
        case Elementwise(function=function):
            return FUNCTIONS[function](found[0])
        case Reduce(kind=kind, axes=axes, keepdim=keepdim):
            return reduced(found[0], kind, axes, keepdim)
        case _:
            assert_never(expr)


def _picked(x: Tensor, expr: Reshape, box: Box) -> Tensor:
    """The entries in a box of a reshaped tensor, out of those in the box's cover."""
    shared = groups(expr.shape, expr.of.shape)
    needed, sizes, firsts = list(cover(expr, box)), [], []
    for group in shared:
        own, needed = needed[: len(group.inner)], needed[len(group.inner) :]
        sizes.append(extents(tuple(own)))
        firsts.append(sum(start * step for (start, _), step in zip(own, strides(group.inner), strict=True)))
    flat = settled(x).view([prod(size) for size in sizes])
    place = flat.storage_offset()
    steps: list[int] = []
    for group, first, stride in zip(shared, firsts, flat.stride(), strict=True):
        place += (group.span(box)[0] - first) * stride
        steps += [step * stride for step in strides(group.sizes)]
    return flat.as_strided(extents(box), steps, place)


def settled(x: Tensor) -> Tensor:
    """The same entries, contiguous. What is transposed is copied in blocks, which is several times faster."""
    carrier = _CARRIERS.get(x.itemsize)
    if x.is_contiguous() or carrier is None:
        return x.contiguous()
    # Numpy copies in this thread: to share out blocks this small among threads costs more than to copy them.
    out = torch.empty(x.shape, dtype=x.dtype)
    entries, places = x.view(carrier).numpy(), out.view(carrier).numpy()
    fastest = min(range(x.dim()), key=lambda axis: (x.shape[axis] == 1, x.stride(axis), -axis))
    if fastest == x.dim() - 1:
        places[...] = entries
    else:
        _transpose(entries, places, fastest)
    return out


def _transpose(entries: NDArray[Any], places: NDArray[Any], fastest: int) -> None:
    """Copy what is consecutive along an axis that is not the last to where it is not."""
    entries, places = np.moveaxis(entries, fastest, -1), np.moveaxis(places, fastest, -1)
    steps = _block(places.shape, fastest)
    # Rows a power of two apart would drive each other out of the cache, so that a block is first brought together.
    scratch = np.empty((*steps[:-1], steps[-1] + _GAP), entries.dtype)
    for starts in product(*(range(0, size, step) for size, step in zip(places.shape, steps, strict=True))):
        block = tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))
        part = scratch[tuple(slice(size) for size in entries[block].shape)]
        part[...] = entries[block]
        places[block] = part


def _block(shape: Shape, fastest: int) -> Shape:
    """The size of a block of a tensor whose last axis is to become an earlier one."""
    narrow = prod(shape[fastest:-1]) < _NARROW
    steps = [min(shape[-1], _ROWS)]
    left = _ROWS * _COLUMNS // steps[0]
    for axis in reversed(range(len(shape) - 1)):
        steps.insert(0, 1 if narrow and axis >= fastest else max(1, min(left, shape[axis])))
        left //= steps[0]
    return tuple(steps)


def _dtype_of(expr: Expr, working: torch.dtype) -> torch.dtype:
    """The dtype that an expression has if all that it reads has the working one."""
    if working.is_floating_point:
        return working
    shapes = {leaf.key: leaf.shape for leaf in source_leaves(expr)}
    meta = evaluate(
        expr, lambda key: torch.empty(shapes[key], dtype=working, device="meta"), dtype=working, device="meta"
    )
    return meta.dtype
