"""The operators of expressions on single numbers: what a tensor of equal values becomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import assert_never

from automatch.core.expr_ops import Function, Reduction


def product_value(factors: Sequence[float | None]) -> float | None:
    """The product of known numbers; None where one is not known.

    Example:
        >>> product_value([2.0, 3.0]), product_value([2.0, None])
        (6.0, None)
    """
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def function_value(function: Function, value: float | None) -> float | None:
    """A function of a known number; None where the number is not known, or has no such value.

    Example:
        >>> function_value("rsqrt", 4.0), function_value("log", 0.0)
        (0.5, None)
    """
    if value is None:
        return None
    try:
        return _FUNCTIONS[function](value)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def reduced_value(kind: Reduction, value: float | None, sizes: Sequence[int]) -> float | None:
    """What axes of these sizes come to if a known number stands in every place; None where it is not known.

    Example:
        >>> reduced_value("norm", -2.0, [2, 2]), reduced_value("mean", -2.0, [2, 2])
        (4.0, -2.0)
    """
    if value is None:
        return None
    count = math.prod(sizes)
    match kind:
        case "sum":
            return value * count
        case "mean":
            return value if count else None
        case "norm":
            return abs(value) * math.sqrt(count)
        case _:
            assert_never(kind)


_FUNCTIONS: dict[Function, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "abs": abs,
    "tanh": math.tanh,
    "atanh": math.atanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "logit": lambda x: math.log(x / (1 - x)),
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "inverse_softplus": lambda x: x + math.log(-math.expm1(-x)),
    "expm1": math.expm1,
    "log1p": math.log1p,
}
