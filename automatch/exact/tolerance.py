"""Arrays of the search, what keeps them small, and when two floating-point numbers count as equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.signedinteger[Any]]
"""Whole numbers: in 32 bits where there is one for every element, else in 64."""
Flags: TypeAlias = NDArray[np.bool_]

CHUNK = 1 << 17
"""Elements that are worked on at a time, so that what is made on the way stays small and in the cache."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When two numbers of one colour count as equal.

    Attributes:
        relative: To the larger of the two.
        absolute: To the largest of their colour.
    """

    relative: float
    absolute: float


TOLERANCES = (Tolerance(1e-9, 1e-15), Tolerance(1e-7, 1e-12), Tolerance(3e-6, 1e-10), Tolerance(1e-4, 1e-8))


def held_once(values: NDArray[T]) -> NDArray[T]:
    """A row of values; where all are the same, as one that stands for all, not to be written to.

    Example:
        >>> held_once(np.array([3, 3, 3])).strides
        (0,)
    """
    same = len(values) > 1 and bool((values == values[0]).all())
    return np.broadcast_to(values[:1].copy().reshape(()), values.shape) if same else values
