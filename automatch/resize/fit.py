"""Fit a weight in canonical form into another canonical shape.

Channels: the first ones are kept, or all are repeated cyclically. Kernels: the central taps are kept, or the kernel is
centred among zeros. A kernel axis that the target lacks (the frames of a 3-d convolution) is read at its middle. What
the fan-in lost or gained is made up for by a scale of `sqrt(old fan-in / new fan-in)`, which keeps the variance of
what the weight computes (He et al., "Delving Deep into Rectifiers", 2015, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt

from automatch.core.alignment import Form
from automatch.core.expr import Expr, Fit, Reshape, Resize, Slice, text
from automatch.core.graph import Shape


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted expression and what was done to it.

    Attributes:
        expr: An expression of the wanted shape.
        note: A sentence for the evidence; empty where nothing was resized.
    """

    expr: Expr
    note: str = ""


def fit(expr: Expr, shape: Shape, form: Form) -> Fitted:
    """An expression of the wanted shape that plays the same role.

    Args:
        expr: A weight in canonical form (see `Form` for what its axes mean).
        shape: The canonical shape it must take.
        form: What the axes mean; only a `matrix` has a fan-in and a kernel.

    Example:
        >>> from automatch.core.expr import Source
        >>> fitted = fit(Source("q.weight", (8, 8)), (4, 2), "matrix")
        >>> print(text(fitted.expr))
        resize(q.weight, 4x2) * 2
        >>> print(fitted.note)
        q.weight: [8, 8] to [4, 2], first 4 of 8 outputs, first 2 of 8 inputs, times 2
    """
    if expr.shape == shape:
        return Fitted(expr)
    label, old = text(expr), expr.shape
    expr, dropped = _same_rank(expr, shape, form)
    frames = prod(old) // prod(expr.shape)  # of which a convolution over time keeps one
    fits = tuple(
        _fit(a, b, form == "matrix" and axis > 1) for axis, (a, b) in enumerate(zip(expr.shape, shape, strict=True))
    )
    scale = _scale(expr.shape, shape, frames) if form == "matrix" else 1.0
    if expr.shape != shape or scale != 1.0:
        expr = Resize(expr, shape, fits, scale)
    elif not dropped:
        return Fitted(expr)
    steps = [*dropped, *_steps(old, shape, fits, form, expr)]
    return Fitted(expr, f"{label}: {list(old)} to {list(shape)}, {', '.join(steps)}{_times(scale)}")


def _same_rank(expr: Expr, shape: Shape, form: Form) -> tuple[Expr, list[str]]:
    if len(expr.shape) == len(shape):
        return expr, []
    if prod(expr.shape) == prod(shape) and form == "matrix" and expr.shape[0] == shape[0]:
        return Reshape(expr, shape), ["the same entries in row-major order"]
    return _fewer_axes(expr, shape, form) if len(expr.shape) > len(shape) else _more_axes(expr, shape, form)


def _fewer_axes(expr: Expr, shape: Shape, form: Form) -> tuple[Expr, list[str]]:
    """Read surplus axes at their middle: first kernel axes of a matrix, first rows of a table."""
    at = 2 if form == "matrix" else 0
    steps = []
    while len(expr.shape) > len(shape):
        size = expr.shape[at]
        middle = size // 2 if form == "matrix" else 0
        kept = (*expr.shape[:at], *expr.shape[at + 1 :])
        expr = Reshape(expr if size == 1 else Slice(expr, at, middle, middle + 1), kept)
        steps.append(f"entry {middle} of {size} along axis {at}")
    return expr, steps


def _more_axes(expr: Expr, shape: Shape, form: Form) -> tuple[Expr, list[str]]:
    missing = len(shape) - len(expr.shape)
    ones = (1,) * missing
    grown = (*expr.shape, *ones) if form == "matrix" else (*ones, *expr.shape)
    return Reshape(expr, grown), [
        f"seen as a kernel of {'x'.join('1' * missing)}" if form == "matrix" else "as one row"
    ]


def _fit(old: int, new: int, kernel: bool) -> Fit:
    if old == new:
        return "keep"
    if kernel:
        return "middle" if old > new else "pad"
    return "leading" if old > new else "tile"


def _scale(old: Shape, new: Shape, frames: int) -> float:
    """Old fan-in over new: inputs count as they are, kernel taps only where they were dropped (padding adds zeros)."""
    if len(old) < 2:
        return 1.0
    kernel = prod(a / min(a, b) for a, b in zip(old[2:], new[2:], strict=True))
    return sqrt(old[1] / new[1] * kernel * frames)


def _steps(old: Shape, new: Shape, fits: tuple[Fit, ...], form: Form, expr: Expr) -> list[str]:
    before = expr.of.shape if isinstance(expr, Resize) else old
    named = {"matrix": ("outputs", "inputs"), "table": ("rows", "features"), "vector": ("features",)}.get(form, ())
    steps = []
    for axis, (a, b, how) in enumerate(zip(before, new, fits, strict=False)):
        name = named[axis] if axis < len(named) else ("taps" if form == "matrix" else "entries")
        match how:
            case "keep":
                continue
            case "leading":
                steps.append(f"first {b} of {a} {name}")
            case "tile":
                steps.append(f"{a} {name} repeated to {b}")
            case "middle":
                steps.append(f"middle {b} of {a} {name}")
            case "pad":
                steps.append(f"{a} {name} centred in {b}")
    return steps


def _times(scale: float) -> str:
    return "" if scale == 1.0 else f", times {scale:.4g}"
