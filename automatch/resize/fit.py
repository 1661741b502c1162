"""Fit a weight in canonical form into another canonical shape.

Channels: the first ones are kept, or all are repeated cyclically. Kernels: the central taps are kept, or the kernel is
centred among zeros. A kernel axis that the target lacks (the frames of a 3-d convolution) is read at its middle. What
the fan-in lost or gained is made up for by a scale of `sqrt(old fan-in / new fan-in)`, which keeps the variance of
what the weight computes (He et al., "Delving Deep into Rectifiers", 2015, section 2.2).

Axes whose entries are picked one by one (`Indexed`) are never repeated. Channels that a caller feeds are kept as they
are, and those that the source lacks are zeros, so that the target begins as the source. Rows that the source lacks are
the mean of its rows, or zeros. Places in a picture are resampled, with special rows before them kept; places in a
sequence can be left out at the end, and none can be invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt

from automatch.core.alignment import Form, Indexed, NewRows
from automatch.core.expr import Expr, Fit, Reshape, Resize, Slice, text
from automatch.core.graph import Shape
from automatch.resize.grids import UnfitError, regridded


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted expression and what was done to it.

    Attributes:
        expr: An expression of the wanted shape.
        note: A sentence for the evidence; empty where nothing was resized.
    """

    expr: Expr
    note: str = ""


def fit(expr: Expr, shape: Shape, form: Form, indexed: Sequence[Indexed] = (), new_rows: NewRows = "mean") -> Fitted:
    """An expression of the wanted shape that plays the same role.

    Args:
        expr: A weight in canonical form (see `Form` for what its axes mean).
        shape: The canonical shape it must take.
        form: What the axes mean; only a `matrix` has a fan-in and a kernel. The rows of a `table` are always indexed.
        indexed: Axes whose entries are picked one by one.
        new_rows: What rows begin as that the weight lacks.

    Raises:
        UnfitError: Nothing in the weight says what the new one should hold.

    Example:
        >>> from automatch.core.expr import Source
        >>> fitted = fit(Source("q.weight", (8, 8)), (4, 2), "matrix")
        >>> print(text(fitted.expr))
        resize(q.weight, 4x2) * 2
        >>> print(fitted.note)
        q.weight: [8, 8] to [4, 2], first 4 of 8 outputs, first 2 of 8 inputs, times 2
        >>> print(fit(Source("in.weight", (8, 4, 3, 3)), (8, 9, 3, 3), "matrix", (Indexed(1, "inputs"),)).note)
        in.weight: [8, 4, 3, 3] to [8, 9, 3, 3], 4 inputs, then 5 of zeros
    """
    if expr.shape == shape and all(each.grids[0] == each.grids[1] for each in indexed):
        return Fitted(expr)
    label, old = text(expr), expr.shape
    expr, dropped = _same_rank(expr, shape, form)
    meanings = {each.axis: each for each in indexed if each.axis < len(shape)}
    if form == "table":  # one row is features alone
        meanings = {0: Indexed(0, "rows"), **meanings} if len(shape) > 1 else {}
    frames = prod(old) // prod(expr.shape)  # of which a convolution over time keeps one
    expr, gridded = regridded(expr, shape, meanings)
    before, scale = expr.shape, 1.0
    fits = tuple(
        _fit(a, b, form == "matrix" and axis > 1, meanings.get(axis), new_rows)
        for axis, (a, b) in enumerate(zip(before, shape, strict=True))
    )
    if form == "matrix":
        scale = _scale(before, shape, frames, mixed=1 not in meanings)
    if before != shape or scale != 1.0:
        expr = Resize(expr, shape, fits, scale)
    elif not dropped and not gridded:
        return Fitted(expr)
    steps = [*dropped, *gridded, *_steps(before, shape, fits, form)]
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


def _fit(old: int, new: int, kernel: bool, meaning: Indexed | None, new_rows: NewRows) -> Fit:
    if old == new:
        return "keep"
    if kernel:
        return "middle" if old > new else "pad"
    if meaning is None:
        return "leading" if old > new else "tile"
    if meaning.entries == "relative":
        raise UnfitError(f"{new} distances between places, and {old} in the source")
    if meaning.entries == "patches":
        raise UnfitError(f"{new} channels and places folded into one axis, and {old} in the source")
    if old > new:
        return "leading"
    if meaning.entries == "positions":
        raise UnfitError(f"{new} places in a sequence, of which the source knows {old}")
    return "zeros" if meaning.entries == "inputs" else new_rows


def _scale(old: Shape, new: Shape, frames: int, mixed: bool) -> float:
    """Old fan-in over new: inputs count where they are mixed, kernel taps where they were dropped (padding adds zeros).

    Channels that a caller feeds are no sample of those that the source was fed, so that none stands for another.
    """
    if len(old) < 2:
        return 1.0
    kernel = prod(a / min(a, b) for a, b in zip(old[2:], new[2:], strict=True))
    return sqrt((old[1] / new[1] if mixed else 1.0) * kernel * frames)


_NAMES: Mapping[Form, tuple[str, ...]] = {
    "matrix": ("outputs", "inputs"),
    "table": ("rows", "features"),
    "vector": ("features",),
}


def _steps(old: Shape, new: Shape, fits: Sequence[Fit], form: Form) -> list[str]:
    named = _NAMES.get(form, ())
    named = named[-len(new) :] if form == "table" else named  # one row is features alone
    steps = []
    for axis, (a, b, how) in enumerate(zip(old, new, fits, strict=True)):
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
            case "zeros":
                steps.append(f"{a} {name}, then {b - a} of zeros")
            case "mean":
                steps.append(f"{a} {name}, then their mean {b - a} times")
            case "cubic":
                steps.append(f"{a} {name} resampled to {b}")
    return steps


def _times(scale: float) -> str:
    return "" if scale == 1.0 else f", times {scale:.4g}"
