"""Expressions with some of their parts replaced.

Example:
    >>> from automatch.core.expr import Permute, Source, text
    >>> text(with_sources(Permute(Source("w", (2, 3)), (1, 0)), lambda leaf: Source("block", leaf.shape)))
    'block.T'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from automatch.core.expr import (
    MOVING_FITS,
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Gather,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    children,
)


def with_sources(expr: Expr, give: Callable[[Source], Expr]) -> Expr:
    """The expression with every source leaf replaced by what `give` has for it, of the same shape."""
    if isinstance(expr, Source):
        return give(expr)
    return with_children(expr, [with_sources(child, give) for child in children(expr)])


def with_children(expr: Expr, new: Sequence[Expr]) -> Expr:
    """The same operator over other expressions, as many as `children` names and in their order."""
    match expr:
        case Source() | Constant():
            return expr
        case Concat() | Sum() | Product():
            return replace(expr, parts=tuple(new))
        case Slice() | Permute() | Reshape() | Gather() | Affine() | Elementwise() | Reduce() | Resize():
            return replace(expr, of=new[0])
        case _:
            assert_never(expr)


def only_moves(expr: Expr) -> bool:
    """Whether the expression only says which source entry goes where: no arithmetic, no constants.

    Example:
        >>> only_moves(Source("w", (2,))), only_moves(Affine(Source("w", (2,)), shift=1.0))
        (True, False)
    """
    match expr:
        case Constant() | Affine() | Sum() | Product() | Elementwise() | Reduce():
            return False
        case Resize(of=of, fits=fits, scale=scale):
            return scale == 1.0 and MOVING_FITS.issuperset(fits) and only_moves(of)
        case Source() | Concat() | Slice() | Permute() | Reshape() | Gather():
            return all(only_moves(child) for child in children(expr))
        case _:
            assert_never(expr)
