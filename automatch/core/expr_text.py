"""Expressions as a person would write them.

What is recognised: single entries of an axis (`w[3]`), stacks, groups in turn (`interleave`), the two layouts of rotary
embedding and weight norm. Everything else is printed operator by operator.

Example:
    >>> from automatch.core.expr_ops import Concat, Reshape, Slice, Source
    >>> q, k = (Reshape(Source(name, (4, 2)), (2, 2, 2)) for name in "qk")
    >>> print(text(Reshape(Concat((q, k), axis=1), (8, 2))))
    interleave(q, k, groups=2)
    >>> print(text(Reshape(Slice(Source("experts", (8, 4, 2)), 0, 3, 4), (4, 2))))
    experts[3]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from automatch.core.expr_layouts import Rotary, as_interleave, as_rotary, as_stack, as_weight_norm
from automatch.core.expr_ops import (
    Affine,
    Arithmetic,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Gather,
    Movement,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
)

SMALL = 1e-2
"""A smaller shift is written last, as people write the epsilon of a norm."""


def text(expr: Expr) -> str:
    """An expression as a person would write it.

    Example:
        >>> from automatch.core.expr_ops import Affine, Slice, Source
        >>> print(text(Affine(Source("norm.weight", (4,)), shift=1.0)))
        1 + norm.weight
        >>> print(text(Slice(Source("qkv.weight", (12, 4)), 0, 4, 8)))
        qkv.weight[4:8]
    """
    match expr:
        case Source(key=key):
            return key
        case Constant(value=value, shape=shape):
            return f"{_constant_name(value)}({_sizes(shape)})"
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            return _movement_text(expr)
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return _arithmetic_text(expr)
        case Resize(of=of, shape=shape, fits=fits, scale=scale):
            factor = "" if scale == 1.0 else f" * {scale:.4g}"
            invented = [fit for fit in dict.fromkeys(fits) if fit in ("zeros", "mean", "cubic")]
            return f"resize({', '.join([text(of), 'x'.join(map(str, shape)), *invented])}){factor}"
        case _:
            assert_never(expr)


def _movement_text(expr: Movement) -> str:
    match expr:
        case Concat():
            return _concat_text(expr)
        case Slice():
            return _slice_text(expr)
        case Permute(of=of, axes=axes):
            return f"{_operand(of)}.T" if axes == (1, 0) else f"{_operand(of)}.permute{axes}"
        case Reshape():
            return _reshape_text(expr)
        case Gather(of=of, index=index):
            return f"gather({text(of)}, {len(index):,} {'index' if len(index) == 1 else 'indices'})"
        case _:
            assert_never(expr)


def _arithmetic_text(expr: Arithmetic) -> str:
    match expr:
        case Affine(of=of, scale=scale, shift=shift):
            return _affine_text(of, scale, shift)
        case Sum(parts=parts):
            return " + ".join(text(part) for part in parts)
        case Product(parts=parts):
            return _product_text(expr, parts)
        case Elementwise(of=of, function=function):
            return f"1 / {_factor(of)}" if function == "reciprocal" else f"{function}({text(of)})"
        case Reduce(of=of, kind=kind, axes=axes, keepdim=keepdim):
            dims = str(axes[0]) if len(axes) == 1 else str(axes)
            return f"{_operand(of)}.{kind}(dim={dims}{', keepdim=True' if keepdim else ''})"
        case _:
            assert_never(expr)


def _operand(expr: Expr) -> str:
    """Text with brackets where a suffix would otherwise bind to the last part only."""
    written = text(expr)
    if isinstance(expr, Product):
        return written if as_weight_norm(expr) else f"({written})"
    if isinstance(expr, Elementwise):
        return f"({written})" if expr.function == "reciprocal" else written
    return f"({written})" if isinstance(expr, Affine | Sum | Resize) else written


def _factor(expr: Expr) -> str:
    """Text with brackets where a product would otherwise bind to a part of it only."""
    scaled = isinstance(expr, Resize) and expr.scale == 1.0
    return text(expr) if scaled else _operand(expr)


def _concat_text(expr: Concat) -> str:
    stacked = as_stack(expr)
    if stacked:
        return _call("stack", [text(part) for part in stacked], dim=expr.axis)
    return _call("cat", [text(part) for part in _flat(expr, expr.axis)], dim=expr.axis)


def _flat(expr: Concat, axis: int) -> list[Expr]:
    """The parts of a concatenation, those of a concatenation within it along the same axis included."""
    nested = [
        _flat(part, axis) if isinstance(part, Concat) and part.axis == axis and not as_stack(part) else [part]
        for part in expr.parts
    ]
    return [part for parts in nested for part in parts]


def _slice_text(expr: Slice) -> str:
    """Slices along several axes in one pair of brackets."""
    bounds: dict[int, str] = {}
    of: Expr = expr
    while isinstance(of, Slice) and of.axis not in bounds:
        bounds[of.axis] = f"{of.start}:{of.stop}"
        of = of.of
    return f"{_operand(of)}[{', '.join(bounds.get(axis, ':') for axis in range(max(bounds) + 1))}]"


def _reshape_text(expr: Reshape) -> str:
    parts = as_interleave(expr)
    if parts:
        concat = expr.of
        assert isinstance(concat, Concat)
        groups = concat.shape[concat.axis - 1]
        return _call("interleave", [text(part) for part in parts], groups=groups, dim=concat.axis - 1)
    rotary = as_rotary(expr)
    if rotary:
        return _rotary_text(rotary)
    if _selects_one(expr.of):
        return _selection_text(expr.of, expr.shape)
    return f"{_operand(expr.of)}.reshape({_sizes(expr.shape) or '()'})"


def _rotary_text(found: Rotary) -> str:
    named = {"first": found.first} if found.first else {}
    return _call(f"rotary_{found.order}", [text(found.of)], heads=found.heads, **named, dim=found.axis)


def _selects_one(expr: Expr) -> bool:
    """Whether one entry of a stored stack is taken; of a view made for the purpose, the numbers would mislead."""
    while isinstance(expr, Slice):
        if expr.stop - expr.start == 1 and expr.of.shape[expr.axis] > 1:
            return _stored(expr.of)
        expr = expr.of
    return False


def _stored(expr: Expr) -> bool:
    while isinstance(expr, Slice):
        expr = expr.of
    return not isinstance(expr, Reshape)


def _selection_text(of: Expr, shape: tuple[int, ...]) -> str:
    """Slices of which those of a single entry drop their axis: `w[3]`, `w[:, 0]`, `w[3, 2:4]`."""
    single: dict[int, str] = {}
    wanted = of.shape
    inner = of
    bounds: dict[int, str] = {}
    while isinstance(inner, Slice) and inner.axis not in bounds:
        one = inner.stop - inner.start == 1 and inner.of.shape[inner.axis] > 1
        bounds[inner.axis] = str(inner.start) if one else f"{inner.start}:{inner.stop}"
        single |= {inner.axis: ""} if one else {}
        inner = inner.of
    written = f"{_operand(inner)}[{', '.join(bounds.get(axis, ':') for axis in range(max(bounds) + 1))}]"
    left = tuple(size for axis, size in enumerate(wanted) if axis not in single)
    return written if left == shape else f"{written}.reshape({_sizes(shape) or '()'})"


def _affine_text(of: Expr, scale: float, shift: float) -> str:
    scaled = _scaled_text(of, abs(scale))
    if shift == 0.0:
        return f"-{scaled}" if scale < 0 else scaled
    if scale < 0:
        return f"{shift:.6g} - {scaled}"
    return f"{scaled} + {shift:.6g}" if 0 < shift < SMALL else f"{shift:.6g} + {scaled}"


def _scaled_text(of: Expr, scale: float) -> str:
    return _operand(of) if scale == 1.0 else f"{scale:.6g} * {_operand(of)}"


def _product_text(expr: Product, parts: Sequence[Expr]) -> str:
    normed = as_weight_norm(expr)
    if normed:
        return _call("weight_norm", [text(normed.g), text(normed.v)], dim=normed.axis)
    above = [part for part in parts if not _is_reciprocal(part)]
    below = [_factor(part.of) for part in parts if isinstance(part, Elementwise) and _is_reciprocal(part)]
    return " / ".join([" * ".join(map(_factor, above)) or "1", *below])


def _is_reciprocal(expr: Expr) -> bool:
    return isinstance(expr, Elementwise) and expr.function == "reciprocal"


def _call(name: str, arguments: list[str], dim: int | None = 0, **named: int) -> str:
    """A call; the axis is left out where it is the first."""
    keywords = [f"{key}={value}" for key, value in named.items()] + ([f"dim={dim}"] if dim != 0 else [])
    return f"{name}({', '.join([*arguments, *keywords])})"


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _constant_name(value: float) -> str:
    return {0.0: "zeros", 1.0: "ones"}.get(value, f"full[{value:.6g}]")
