"""Random expressions with the arrays they read, and numpy's opinion of what they are worth."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from math import prod
from typing import TypeAlias, assert_never

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from automatch.core.expr import (
    Affine,
    Arithmetic,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Fit,
    Function,
    Gather,
    Movement,
    Permute,
    Product,
    Reduce,
    Reduction,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    source_leaves,
)
from automatch.core.graph import Shape

Array: TypeAlias = NDArray[np.float64]

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
# Powers of two and small integers keep float64 exact, so that the oracle can be compared bit by bit.
FACTORS = st.sampled_from([1.0, 2.0, -0.5, 0.25])
EXACT: tuple[Function, ...] = ("square", "abs")
SUMS: tuple[Reduction, ...] = ("sum", "mean")
FITS: tuple[Fit, ...] = ("keep", "leading", "tile", "middle", "pad", "zeros", "mean")
TERMS = st.sampled_from([0.0, 1.0, -3.0])


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Expr:
    """An expression of any shape, of at most `depth` operators inside one another."""
    return draw(of_shape(draw(SHAPES), depth))


@st.composite
def of_shape(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    """An expression of a given shape."""
    leaves = [_source(shape), _constant(shape)]
    inner = [_concat, _slice, _permute, _reshape, _gather, _affine, _sum, _product, _exact_function, _reduce, _resize]
    deeper = [make(shape, depth - 1) for make in inner] if depth > 1 else []
    expr: Expr = draw(st.one_of(*leaves, *deeper))
    return expr


def arrays(expr: Expr) -> dict[str, Array]:
    """An array of small integers for every source, different for every key."""
    return {
        leaf.key: (np.arange(prod(leaf.shape), dtype=np.float64) * 3 + number).reshape(leaf.shape)
        for number, leaf in enumerate(source_leaves(expr))
    }


def worth(expr: Expr, weights: dict[str, Array]) -> Array:
    """What numpy computes."""
    match expr:
        case Source(key=key):
            return weights[key]
        case Constant(value=value, shape=shape):
            return np.full(shape, value, dtype=np.float64)
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            return _moved(expr, weights)
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return _computed(expr, weights)
        case Resize(of=of, shape=shape, fits=fits, scale=scale):
            return _resized(worth(of, weights), shape, fits) * scale
        case _:
            assert_never(expr)


def _moved(expr: Movement, weights: dict[str, Array]) -> Array:
    match expr:
        case Concat(parts=parts, axis=axis):
            return np.concatenate([worth(part, weights) for part in parts], axis=axis)
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return np.take(worth(of, weights), range(start, stop), axis=axis)
        case Permute(of=of, axes=axes):
            return np.transpose(worth(of, weights), axes)
        case Reshape(of=of, shape=shape):
            return worth(of, weights).reshape(shape)
        case Gather(of=of, shape=shape, index=index):
            return np.take(worth(of, weights), index).reshape(shape)
        case _:
            assert_never(expr)


def _computed(expr: Arithmetic, weights: dict[str, Array]) -> Array:
    match expr:
        case Affine(of=of, scale=scale, shift=shift):
            return worth(of, weights) * scale + shift
        case Sum(parts=parts):
            return reduce(np.add, [worth(part, weights) for part in parts])
        case Product(parts=parts):
            return reduce(np.multiply, [worth(part, weights) for part in parts])
        case Elementwise(of=of, function=function):
            return np.square(worth(of, weights)) if function == "square" else np.abs(worth(of, weights))
        case Reduce(of=of, kind=kind, axes=axes, keepdim=keepdim):
            summed: Array = np.sum(worth(of, weights), axis=axes, keepdims=keepdim)
            return summed if kind == "sum" else summed / prod(of.shape[axis] for axis in axes)
        case _:
            assert_never(expr)


def _resized(values: Array, shape: Shape, fits: tuple[Fit, ...]) -> Array:
    for axis, (new, fit) in enumerate(zip(shape, fits, strict=True)):
        values = _fitted(values, axis, new, fit)
    return values


def _fitted(values: Array, axis: int, new: int, fit: Fit) -> Array:
    old = values.shape[axis]
    match fit:
        case "keep":
            return values
        case "leading":
            return np.take(values, range(new), axis=axis)
        case "middle":
            first = (old - new) // 2
            return np.take(values, range(first, first + new), axis=axis)
        case "tile":
            return np.take(values, [place % old for place in range(new)], axis=axis)
        case "pad":
            before = (new - old) // 2
            widths = [(before, new - old - before) if place == axis else (0, 0) for place in range(values.ndim)]
            return np.pad(values, widths)
        case "zeros":
            return np.pad(values, [(0, new - old if place == axis else 0) for place in range(values.ndim)])
        case "mean":
            mean = np.repeat(values.mean(axis, keepdims=True), new - old, axis)
            return np.concatenate([values, mean], axis)
        case "cubic":
            raise NotImplementedError("not exact, so that there is no oracle; it has tests of its own")
        case _:
            assert_never(fit)


def _source(shape: Shape) -> st.SearchStrategy[Expr]:
    size = "x".join(map(str, shape)) or "scalar"
    return st.integers(0, 2).map(lambda number: Source(f"layers.{number}.w{size}", shape))


def _constant(shape: Shape) -> st.SearchStrategy[Expr]:
    return TERMS.map(lambda value: Constant(value, shape))


@st.composite
def _concat(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    axis = draw(st.integers(0, len(shape) - 1))
    cuts = draw(st.sets(st.integers(1, max(1, shape[axis] - 1)), max_size=2)) if shape[axis] > 1 else set()
    bounds = [0, *sorted(cuts), shape[axis]]
    sizes = [stop - start for start, stop in pairwise(bounds)]
    parts = (draw(of_shape((*shape[:axis], size, *shape[axis + 1 :]), depth)) for size in sizes)
    return Concat(tuple(parts), axis)


@st.composite
def _slice(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    axis, before, after = draw(st.integers(0, len(shape) - 1)), draw(st.integers(0, 2)), draw(st.integers(0, 2))
    whole = (*shape[:axis], before + shape[axis] + after, *shape[axis + 1 :])
    return Slice(draw(of_shape(whole, depth)), axis, before, before + shape[axis])


@st.composite
def _permute(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    axes = tuple(draw(st.permutations(range(len(shape)))))
    before = tuple(shape[axes.index(axis)] for axis in range(len(shape)))
    return Permute(draw(of_shape(before, depth)), axes)


@st.composite
def _reshape(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    before = draw(st.sampled_from([(prod(shape),), (*shape, 1), (1, *shape), shape[::-1]]))
    return Reshape(draw(of_shape(before, depth)), shape)


@st.composite
def _gather(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    before = draw(SHAPES)
    size = prod(shape)
    index = draw(st.lists(st.integers(0, prod(before) - 1), min_size=size, max_size=size))
    return Gather(draw(of_shape(before, depth)), shape, tuple(index))


@st.composite
def _product(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    broadcast = draw(st.sampled_from([shape, shape[1:] or shape, (1, *shape[1:])]))
    # leaves only: products of products outgrow what float64 holds exactly
    return Product((draw(of_shape(shape, 1)), draw(of_shape(broadcast, 1))))


@st.composite
def _exact_function(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    function = draw(st.sampled_from([*EXACT]))
    return Elementwise(draw(of_shape(shape, 1 if function == "square" else depth)), function)


@st.composite
def _reduce(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    axis, size = draw(st.integers(0, len(shape))), draw(st.sampled_from([1, 2, 4]))
    before = (*shape[:axis], size, *shape[axis:])
    return Reduce(draw(of_shape(before, depth)), draw(st.sampled_from([*SUMS])), (axis,))


@st.composite
def _affine(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    return Affine(draw(of_shape(shape, depth)), draw(FACTORS), draw(TERMS))


@st.composite
def _sum(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    broadcast = draw(st.sampled_from([shape, shape[1:] or shape, (1, *shape[1:])]))
    return Sum((draw(of_shape(shape, depth)), draw(of_shape(broadcast, depth))))


@st.composite
def _resize(draw: st.DrawFn, shape: Shape, depth: int) -> Expr:
    fits: list[Fit] = [draw(st.sampled_from(FITS)) for _ in shape]
    before = tuple(draw(_old_size(new, fit)) for new, fit in zip(shape, fits, strict=True))
    return Resize(draw(of_shape(before, depth)), shape, tuple(fits), draw(FACTORS))


def _old_size(new: int, fit: Fit) -> st.SearchStrategy[int]:
    match fit:
        case "keep":
            return st.just(new)
        case "leading" | "middle":
            return st.integers(new, new + 3)
        case "tile" | "pad" | "zeros" | "mean":
            return st.integers(1, new)
        case "cubic":
            return st.integers(1, new + 3)
        case _:
            assert_never(fit)
