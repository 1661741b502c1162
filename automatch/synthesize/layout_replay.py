"""Expressions run on places instead of values, to see where every element of the result comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from automatch.core.expr import Affine, Concat, Constant, Expr, Gather, Permute, Reshape, Slice, Source
from automatch.synthesize.build import permute, reshape

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where the elements of a tensor come from; see `automatch.synthesize.layout.ElementMap`."""

    leaf: Array
    index: Array
    scale: Array
    shift: Array

    def moved(self, move: Callable[[Array], Array]) -> Origin:
        """The same elements in other places."""
        return Origin(move(self.leaf), move(self.index), move(self.scale), move(self.shift))

    def equals(self, other: Origin) -> bool:
        """Whether every element comes from the same place in the same way."""
        mine, theirs = ((x.leaf, x.index, x.scale, x.shift) for x in (self, other))
        return all(
            np.array_equal(a.reshape(-1), b.reshape(-1), equal_nan=True) for a, b in zip(mine, theirs, strict=True)
        )


def replayed(expr: Expr, leaves: tuple[Source, ...]) -> Origin:
    """Where each element of an expression over these leaves comes from.

    Raises:
        ValueError: The expression is more than movement, affine arithmetic and constants.

    Example:
        >>> w = Source("w", (2, 2))
        >>> replayed(Permute(w, (1, 0)), (w,)).index.tolist()
        [[0, 2], [1, 3]]
    """
    numbers = {leaf.key: number for number, leaf in enumerate(leaves)}
    return _replayed(expr, numbers)


def _replayed(expr: Expr, numbers: Mapping[str, int]) -> Origin:
    match expr:
        case Source(key=key, shape=shape):
            index = np.arange(prod(shape)).reshape(shape)
            return Origin(_all(numbers[key], expr), index, _all(1.0, expr), _all(0.0, expr))
        case Constant(value=value):
            return Origin(_all(-1, expr), _all(0, expr), _all(0.0, expr), _all(value, expr))
        case Concat(parts=parts, axis=axis):
            inner = [_replayed(part, numbers) for part in parts]
            columns = zip(*((x.leaf, x.index, x.scale, x.shift) for x in inner), strict=True)
            return Origin(*(np.concatenate(column, axis) for column in columns))
        case Affine(of=of, scale=scale, shift=shift):
            origin = _replayed(of, numbers)
            return replace(origin, scale=origin.scale * scale, shift=origin.shift * scale + shift)
        case Slice(of=of) | Permute(of=of) | Reshape(of=of) | Gather(of=of):
            return _replayed(of, numbers).moved(_move(expr))
        case _:
            raise ValueError(f"{type(expr).__name__} is not movement")


def _all(value: float, expr: Expr) -> Array:
    return np.broadcast_to(value, expr.shape)


def _move(expr: Slice | Permute | Reshape | Gather) -> Callable[[Array], Array]:
    match expr:
        case Slice(axis=axis, start=start, stop=stop):
            return lambda x: x[(slice(None),) * axis + (slice(start, stop),)]
        case Permute(axes=axes):
            return lambda x: x.transpose(axes)
        case Reshape(shape=shape):
            return lambda x: x.reshape(shape)
        case Gather(shape=shape, index=index):
            places = np.array(index, dtype=np.int64)
            return lambda x: x.reshape(-1)[places].reshape(shape)


def replaced(expr: Expr, leaves: Mapping[Source, Expr]) -> Expr:
    """The same expression over other leaves, steps that then follow each other made into one."""
    match expr:
        case Source():
            return leaves[expr]
        case Concat(parts=parts):
            return replace(expr, parts=tuple(replaced(part, leaves) for part in parts))
        case Permute(of=of, axes=axes):
            return permute(replaced(of, leaves), axes)
        case Reshape(of=of, shape=shape):
            return reshape(replaced(of, leaves), shape)
        case Slice(of=of) | Affine(of=of) | Gather(of=of):
            return replace(expr, of=replaced(of, leaves))
        case _:
            return expr
