"""Expressions built so that they come out as short as a person would write them."""

from __future__ import annotations

from automatch.core.alignment import Region, View
from automatch.core.expr import Affine, Concat, Elementwise, Expr, Permute, Product, Reduce, Reshape, Slice
from automatch.core.graph import Shape


def permute(expr: Expr, axes: tuple[int, ...]) -> Expr:
    """`Permute`, unless it does nothing or undoes another."""
    if isinstance(expr, Permute):
        return permute(expr.of, tuple(expr.axes[axis] for axis in axes))
    return expr if axes == tuple(range(len(axes))) else Permute(expr, axes)


def reshape(expr: Expr, shape: Shape) -> Expr:
    """`Reshape`, unless it does nothing or follows another."""
    if isinstance(expr, Reshape):
        return reshape(expr.of, shape)
    return expr if expr.shape == shape else Reshape(expr, shape)


def affine(expr: Expr, scale: float, shift: float) -> Expr:
    """`Affine`, unless it does nothing or undoes another."""
    if isinstance(expr, Affine):
        return affine(expr.of, expr.scale * scale, expr.shift * scale + shift)
    return expr if (scale, shift) == (1.0, 0.0) else Affine(expr, scale, shift)


def take(expr: Expr, region: Region) -> Expr:
    """The entries of a region, in each of its groups."""
    size = expr.shape[region.axis]
    if region.groups == 1:
        whole = (region.start, region.stop) == (0, size)
        return expr if whole else Slice(expr, region.axis, region.start, region.stop)
    before, after = expr.shape[: region.axis], expr.shape[region.axis + 1 :]
    grouped = reshape(expr, (*before, region.groups, size // region.groups, *after))
    part = Slice(grouped, region.axis + 1, region.start, region.stop)
    return reshape(part, (*before, region.groups * (region.stop - region.start), *after))


def weight_norm(lengths: Expr, directions: Expr) -> Expr:
    """The weight that weight normalisation keeps as lengths, which broadcast, and directions."""
    axes = tuple(axis for axis in range(len(directions.shape)) if not lengths.shape or lengths.shape[axis] == 1)
    return Product((directions, lengths, Elementwise(Reduce(directions, "norm", axes, keepdim=True), "reciprocal")))


def join(parts: list[Expr], axis: int, groups: int) -> Expr:
    """Parts side by side along an axis; with groups, every group holds its share of each part in turn."""
    if len(parts) == 1:
        return parts[0]
    whole = _put_back(parts, axis, groups) or _turned(parts, axis, groups)
    if whole is not None:
        return whole
    if groups == 1:
        return Concat(tuple(parts), axis)
    shares = [
        reshape(part, (*part.shape[:axis], groups, part.shape[axis] // groups, *part.shape[axis + 1 :]))
        for part in parts
    ]
    joined = Concat(tuple(shares), axis + 1)
    return reshape(joined, (*joined.shape[:axis], groups * joined.shape[axis + 1], *joined.shape[axis + 2 :]))


def _put_back(parts: list[Expr], axis: int, groups: int) -> Expr | None:
    """The weight that the parts were cut from, where they follow each other in it; None where they do not."""
    if groups > 1:
        inner = [part.of for part in parts if isinstance(part, Reshape)]
        if len(inner) != len(parts):
            return None
        whole = _put_back(inner, axis + 1, 1)
        if whole is None or whole.shape[axis] != groups:
            return None
        return reshape(whole, (*whole.shape[:axis], groups * whole.shape[axis + 1], *whole.shape[axis + 2 :]))
    slices = [part for part in parts if isinstance(part, Slice) and part.axis == axis]
    if len(slices) != len(parts) or len({part.of for part in slices}) != 1:
        return None
    ends = [0, *(part.stop for part in slices)]
    starts = [*(part.start for part in slices), slices[0].of.shape[axis]]
    return slices[0].of if ends == starts else None


def _turned(parts: list[Expr], axis: int, groups: int) -> Expr | None:
    """The weight that parts of one size were cut from, parts and groups in the other order; None where there is none.

    The parts stand one after another in it and are to take turns, or the other way round.
    """
    shape = parts[0].shape
    if any(part.shape != shape for part in parts):
        return None
    count = len(parts)
    if groups > 1:
        whole, sizes = _put_back(parts, axis, 1), (count, groups, shape[axis] // groups)
    else:
        held = next((part.of.shape[axis] for part in parts if isinstance(part, Reshape)), 1)
        whole, sizes = _put_back(parts, axis, held) if held > 1 else None, (held, count, shape[axis] // held)
    if whole is None:
        return None
    before, after = shape[:axis], shape[axis + 1 :]
    apart = reshape(whole, (*before, *sizes, *after))
    order = [*range(axis), axis + 1, axis, *range(axis + 2, len(apart.shape))]
    return reshape(permute(apart, tuple(order)), (*before, count * shape[axis], *after))


def seen(expr: Expr, view: View) -> Expr:
    """A stored weight as its operator sees it."""
    for region in view.regions:
        expr = take(expr, region)
    if view.axes:
        expr = permute(expr, view.axes)
    if view.shape is not None:
        expr = reshape(expr, view.shape)
    if view.rows is not None:
        expr = take(expr, view.rows)
    return affine(expr, view.scale, view.shift)


def seen_shape(shape: Shape, view: View) -> Shape:
    """The shape under which an operator sees a stored weight, regions aside."""
    if view.shape is not None:
        return view.shape
    return tuple(shape[axis] for axis in view.axes) if view.axes else shape


def stored(expr: Expr, shape: Shape, view: View) -> Expr:
    """The inverse of `seen` for a view without regions: what must be stored for an operator to see an expression."""
    scale = view.scale or 1.0  # what is multiplied by zero may hold anything
    expr = affine(expr, 1 / scale, -view.shift / scale)
    before = tuple(shape[axis] for axis in view.axes) if view.axes else shape
    expr = reshape(expr, before)
    if not view.axes:
        return expr
    return permute(expr, tuple(view.axes.index(axis) for axis in range(len(shape))))
