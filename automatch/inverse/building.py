"""Slices, joins and undone arithmetic, written as short as a person would write them."""

from __future__ import annotations

from dataclasses import replace
from math import frexp, prod

from automatch.core.expr import Concat, Constant, Elementwise, Expr, Fit, Function, Resize, Slice
from automatch.core.graph import Shape
from automatch.synthesize.build import affine

UNDONE: dict[Function, tuple[Function, ...]] = {
    "exp": ("log",),
    "log": ("exp",),
    "sqrt": ("square",),
    "rsqrt": ("square", "reciprocal"),
    "reciprocal": ("reciprocal",),
    "tanh": ("atanh",),
    "atanh": ("tanh",),
    "sigmoid": ("logit",),
    "logit": ("sigmoid",),
    "softplus": ("inverse_softplus",),
    "inverse_softplus": ("softplus",),
    "expm1": ("log1p",),
    "log1p": ("expm1",),
}
"""What undoes a function, first step first; `square` and `abs` are not here, because they forget the sign."""


def cut(expr: Expr, axis: int, start: int, stop: int) -> Expr:
    """`Slice`, unless it takes everything; slices of one tensor are merged, those along lower axes first.

    Example:
        >>> from automatch.core.expr import Source, text
        >>> print(text(cut(Slice(Source("qkv", (12, 4)), 0, 4, 8), 0, 1, 3)))
        qkv[5:7]
    """
    if (start, stop) == (0, expr.shape[axis]):
        return expr
    if not isinstance(expr, Slice) or expr.axis < axis:
        return Slice(expr, axis, start, stop)
    if expr.axis == axis:
        return cut(expr.of, axis, expr.start + start, expr.start + stop)
    return replace(expr, of=cut(expr.of, axis, start, stop))


def joined(parts: list[Expr], axis: int) -> Expr:
    """`Concat`, with joins along the same axis taken in and slices that follow each other made into one.

    Example:
        >>> from automatch.core.expr import Source, text
        >>> w = Source("w", (6,))
        >>> print(text(joined([Slice(w, 0, 0, 2), Slice(w, 0, 2, 5), Source("b", (1,))], 0)))
        cat(w[0:5], b)
    """
    flat: list[Expr] = []
    for part in parts:
        for each in part.parts if isinstance(part, Concat) and part.axis == axis else (part,):
            merged = _one_after_the_other(flat[-1], each, axis) if flat else None
            flat[-1:] = [merged] if merged else [*flat[-1:], each]
    return flat[0] if len(flat) == 1 else Concat(tuple(flat), axis)


def _one_after_the_other(first: Expr, second: Expr, axis: int) -> Expr | None:
    """Two slices of one tensor as one; None where they are not, or leave a gap."""
    if not isinstance(first, Slice) or not isinstance(second, Slice):
        return None
    if not first.axis == second.axis == axis or first.stop != second.start:
        return None
    if first.of is not second.of and first.of != second.of:
        return None
    return cut(first.of, axis, first.start, second.stop)


def unscaled(expr: Expr, scale: float, shift: float) -> Expr:
    """What `scale * x + shift` was made of; `scale` is not 0."""
    # 0 - 0.0, not -0.0: a zero with a sign would be printed and stored with it
    return affine(expr, 1 / scale, 0.0 - shift / scale)


def is_exact(scale: float, shift: float) -> bool:
    """Whether `scale * x + shift` loses no bit, as long as nothing overflows: a power of two, and no term.

    Example:
        >>> is_exact(-0.5, 0.0), is_exact(1.0, 1.0), is_exact(3.0, 0.0)
        (True, False, False)
    """
    return shift == 0.0 and abs(frexp(scale)[0]) == 0.5


def without_function(expr: Expr, function: Function) -> Expr:
    """What a function was applied to; the function is one of `UNDONE`."""
    for step in UNDONE[function]:
        expr = Elementwise(expr, step)
    return expr


def spelled_out(expr: Resize) -> Expr:
    """A resize as slices and joins. What it invents of old entries is written as zeros, for these say it already."""
    made = expr.of
    for axis, (size, fit) in enumerate(zip(expr.shape, expr.fits, strict=True)):
        made = _fitted(made, axis, size, fit)
    return affine(made, expr.scale, 0.0)


def _fitted(expr: Expr, axis: int, size: int, fit: Fit) -> Expr:
    old = expr.shape[axis]
    if fit in ("keep", "leading", "middle"):
        start = (old - size) // 2 if fit == "middle" else 0
        return cut(expr, axis, start, start + size)
    before = (size - old) // 2 if fit == "pad" else 0
    parts = [_zeros(expr.shape, axis, before), expr, _zeros(expr.shape, axis, size - old - before)]
    return joined([part for part in parts if prod(part.shape)], axis)


def _zeros(shape: Shape, axis: int, size: int) -> Constant:
    return Constant(0.0, (*shape[:axis], size, *shape[axis + 1 :]))
