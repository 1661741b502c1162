"""Layouts that people have names for, recognised in expressions made of plain operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from automatch.core.expr_ops import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Permute,
    Product,
    Reduce,
    Reshape,
    Slice,
)
from automatch.core.graph import Shape

Order: TypeAlias = Literal["pairs", "halves"]


@dataclass(frozen=True, slots=True)
class Rotary:
    """The two layouts of rotary embedding within heads, one turned into the other.

    Attributes:
        of: What is rearranged.
        order: What it becomes: `pairs` (an entry of the first half beside its partner of the second) or `halves`.
        axis: The axis that holds the heads.
        heads: Number of heads.
        first: How many entries at the start of each head are rearranged; 0 for all.
    """

    of: Expr
    order: Order
    axis: int
    heads: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """`g * v / ||v||`, the norm over all axes of `v` but one; over all where `axis` is None."""

    g: Expr
    v: Expr
    axis: int | None


def as_stack(expr: Concat) -> tuple[Expr, ...] | None:
    """What is stacked, where every part is given a new axis to be joined along; None for any other join."""
    if len(expr.parts) < 2:
        return None
    inner = [_without_unit_axis(part, expr.axis) for part in expr.parts]
    found = tuple(part for part in inner if part is not None)
    return found if len(found) == len(inner) else None


def _without_unit_axis(part: Expr, axis: int) -> Expr | None:
    """A part before it was given an axis of one entry; None where it was not."""
    if isinstance(part, Affine):
        inner = _without_unit_axis(part.of, axis)
        return None if inner is None else Affine(inner, part.scale, part.shift)
    if part.shape[axis] != 1:
        return None
    left = (*part.shape[:axis], *part.shape[axis + 1 :])
    if isinstance(part, Constant):
        return Constant(part.value, left)
    if isinstance(part, Concat) and part.axis != axis:
        inner_parts = [_without_unit_axis(each, axis) for each in part.parts]
        kept = tuple(each for each in inner_parts if each is not None)
        return Concat(kept, part.axis - (part.axis > axis)) if len(kept) == len(inner_parts) else None
    return part.of if isinstance(part, Reshape) and part.of.shape == left else None


def as_interleave(expr: Reshape) -> tuple[Expr, ...] | None:
    """The parts that take turns in groups along an axis; None where that is not what happens."""
    concat = expr.of
    if not isinstance(concat, Concat) or concat.axis == 0 or len(concat.parts) < 2:
        return None
    axis = concat.axis - 1
    if expr.shape != merged(concat.shape, axis):
        return None
    found = [_ungrouped(part, axis) for part in concat.parts]
    parts = tuple(part for part in found if part is not None)
    return parts if len(parts) == len(found) else None


def _ungrouped(part: Expr, axis: int) -> Expr | None:
    """The part before its axis was cut into groups."""
    if isinstance(part, Affine):
        inner = _ungrouped(part.of, axis)
        return None if inner is None else Affine(inner, part.scale, part.shift)
    flat = merged(part.shape, axis)
    if isinstance(part, Constant):
        return Constant(part.value, flat)
    if isinstance(part, Reshape) and part.of.shape == flat:
        return part.of
    whole = Reshape(part.of if isinstance(part, Reshape) else part, flat)
    return whole if as_rotary(whole) else None


def merged(shape: Shape, axis: int) -> Shape:
    """A shape with an axis and the next one made into one."""
    return (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])


def as_rotary(expr: Reshape) -> Rotary | None:
    """The rotary layout that an expression makes; None where it does something else."""
    if isinstance(expr.of, Concat):
        return _partial_rotary(expr.of, expr.shape)
    if not isinstance(expr.of, Permute) or not isinstance(expr.of.of, Reshape):
        return None
    whole = expr.of.of.of
    split = expr.of.of.shape
    if whole.shape != expr.shape:
        return None
    axis = _swapped(expr.of.axes)
    if not axis or expr.shape != merged(merged(split, axis - 1), axis - 1):
        return None
    return _rotary(whole, axis - 1, split[axis - 1], split[axis], split[axis + 1])


def _rotary(of: Expr, axis: int, heads: int, outer: int, inner: int) -> Rotary | None:
    # without heads it may as well be two halves of something else, a gate and what it scales
    if 2 not in (outer, inner) or heads < 2:
        return None
    return Rotary(of, "pairs" if outer == 2 else "halves", axis, heads)


def _swapped(axes: tuple[int, ...]) -> int | None:
    """The first of two neighbouring axes that change places, where nothing else moves."""
    moved = [axis for axis, old in enumerate(axes) if old != axis]
    return moved[0] if len(moved) == 2 and moved[1] == moved[0] + 1 else None


def _partial_rotary(concat: Concat, shape: Shape) -> Rotary | None:
    """Heads of which the first entries are rearranged and the others stay."""
    axis = concat.axis - 1
    if axis < 0 or len(concat.parts) != 2 or shape != merged(concat.shape, axis):
        return None
    turned, kept = concat.parts
    first = turned.shape[axis + 1]
    if not isinstance(kept, Slice) or not isinstance(kept.of, Reshape):
        return None
    whole = kept.of.of
    if whole.shape != shape or kept != Slice(kept.of, axis + 1, first, concat.shape[axis + 1]):
        return None
    order = _turned(turned, whole, axis + 1)
    return order and Rotary(whole, order, axis, concat.shape[axis], first)


def _turned(expr: Expr, whole: Expr, axis: int) -> Order | None:
    """How the first entries along an axis of a tensor in heads are rearranged; None where it is none of the two."""
    if not isinstance(expr, Reshape) or not isinstance(expr.of, Permute) or not isinstance(expr.of.of, Slice):
        return None
    cut, split = expr.of.of, expr.of.of.of
    if not isinstance(split, Reshape) or split.of != whole or (cut.axis, cut.start) != (axis, 0):
        return None
    if _swapped(expr.of.axes) != axis or expr.shape != merged(expr.of.shape, axis):
        return None
    if 2 not in cut.shape[axis : axis + 2]:
        return None
    return "pairs" if cut.shape[axis] == 2 else "halves"


def as_weight_norm(expr: Product) -> WeightNorm | None:
    """Weight norm's factors, in whatever order they are multiplied; None for any other product."""
    if len(expr.parts) != 3:
        return None
    for place, part in enumerate(expr.parts):
        norm = part.of if isinstance(part, Elementwise) and part.function == "reciprocal" else None
        others = [other for index, other in enumerate(expr.parts) if index != place]
        if isinstance(norm, Reduce) and norm.kind == "norm" and norm.keepdim and norm.of in others:
            others.remove(norm.of)
            return _weight_norm(others[0], norm)
    return None


def _weight_norm(g: Expr, norm: Reduce) -> WeightNorm | None:
    kept = [axis for axis in range(len(norm.of.shape)) if axis not in norm.axes]
    if len(kept) > 1:
        return None
    return WeightNorm(g, norm.of, kept[0] if kept else None)
