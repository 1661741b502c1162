"""An expression as a term whose keys and numbers are those of the models at hand: the way into rules.

Example:
    >>> from automatch.core.expr import Concat, Source
    >>> from automatch.rules.wording import term_text
    >>> print(term_text(spelled(Concat((Source("q", (4, 2)), Source("k", (2, 2)))))))
    cat(q, k)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from automatch.core.alignment import Form, Indexed, NewRows
from automatch.core.expr import (
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
    source_leaves,
)
from automatch.core.expr_layouts import as_interleave, as_rotary, as_stack, as_weight_norm
from automatch.core.expr_rewrite import with_children
from automatch.core.graph import Shape, Weight
from automatch.errors import RulesError
from automatch.resize import UnfitError, fit
from automatch.rules.build import Scope, build
from automatch.rules.formula import Number
from automatch.rules.pattern import Pattern
from automatch.rules.splitting import numbered
from automatch.rules.terms import (
    Bound,
    Call,
    Combine,
    Fill,
    Fit,
    Index,
    Join,
    Key,
    Rotary,
    Scale,
    Term,
    Total,
    Transpose,
    View,
    WeightNorm,
)
from automatch.synthesize.build import reshape

Sizes: TypeAlias = tuple[Number, ...]


def spelled(expr: Expr) -> Term:
    """The term that stands for an expression.

    Layouts that have names are called by them, where that gives the very same expression back.

    Raises:
        RulesError: The expression gathers entries one by one, or resizes in a way that sizes do not tell.
    """
    wanted = normal(expr)
    for plain in (False, True):
        term = _top(wanted, plain=plain)
        if _builds(term, wanted):
            return term
    raise RulesError("what is done to its sources cannot be written as a rule")


def _builds(term: Term, wanted: Expr) -> bool:
    leaves = {leaf.key: Weight(leaf.key, leaf.shape, "") for leaf in source_leaves(wanted)}
    try:
        return normal(build(term, Scope(numbered(leaves.values()), {}, {}, wanted.shape))) == wanted
    except RulesError:
        return False


def normal(expr: Expr) -> Expr:
    """The same expression without joins of joins along one axis, reshapes of reshapes, and steps that do nothing.

    Example:
        >>> from automatch.core.expr import text
        >>> a, b, c = (Source(name, (2,)) for name in "abc")
        >>> print(text(normal(Concat((Concat((a, b)), c)))), normal(Reshape(a, (2,))) == a)
        cat(a, b, c) True
    """
    given = children(expr)
    if given:
        expr = with_children(expr, [normal(child) for child in given])
    match expr:
        case Concat(parts=parts, axis=axis):
            nested = [part.parts if isinstance(part, Concat) and part.axis == axis else (part,) for part in parts]
            flat = tuple(part for group in nested for part in group)
            return flat[0] if len(flat) == 1 else Concat(flat, axis)
        case Reshape(of=of, shape=shape):
            return reshape(of, shape)
        case Slice(of=of, start=0, stop=stop, axis=axis) if stop == of.shape[axis]:
            return of
        case Affine(of=of, scale=1.0, shift=0.0):
            return of
        case Affine(of=Affine(of=of, scale=scale, shift=0.0), scale=1.0, shift=shift):
            return Affine(of, scale, shift)
        case _:
            return expr


def _top(expr: Expr, *, plain: bool) -> Term:
    """The term of a whole weight: what has the target's shape need not say it."""
    if isinstance(expr, Constant):
        return Fill(expr.value)
    term = _spelled(expr, plain)
    return replace(term, shape=None) if isinstance(term, Fit) else term


def _spelled(expr: Expr, plain: bool) -> Term:
    match expr:
        case Source(key=key):
            return Key(Pattern((key,)))
        case Constant(value=value, shape=shape):
            return Fill(value, _sizes(shape))
        case Concat():
            return _gridded(expr, plain) or _concat(expr, plain)
        case Slice():
            return _slice(expr, plain)
        case Permute(of=of, axes=axes):
            return Transpose(_spelled(of, plain), axes)
        case Reshape():
            return _gridded(expr, plain) or _reshape(expr, plain)
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return _arithmetic(expr, plain)
        case Resize():
            return _gridded(expr, plain) or _resize(expr, plain)
        case Gather():
            raise RulesError("its entries are gathered one by one, which no rule says for other sizes")
        case _:
            assert_never(expr)


def _sizes(shape: Shape) -> Sizes:
    return tuple(map(Number, shape))


def _concat(expr: Concat, plain: bool) -> Term:
    stacked = None if plain else as_stack(expr)
    kind, parts = ("stack", stacked) if stacked else ("cat", expr.parts)
    return Join("stack" if kind == "stack" else "cat", tuple(_spelled(part, plain) for part in parts), expr.axis)


def _slice(expr: Slice, plain: bool) -> Term:
    """Slices along several axes in one pair of brackets, the innermost along the first axis."""
    bounds = [Bound(expr.axis, Number(expr.start), Number(expr.stop))]
    of = expr.of
    while isinstance(of, Slice) and of.axis < bounds[0].axis:
        bounds.insert(0, Bound(of.axis, Number(of.start), Number(of.stop)))
        of = of.of
    return Index(_spelled(of, plain), tuple(bounds))


def _reshape(expr: Reshape, plain: bool) -> Term:
    if not plain:
        named = _named_layout(expr)
        if named is not None:
            return named
    return View(_spelled(expr.of, plain), _sizes(expr.shape))


def _named_layout(expr: Reshape) -> Term | None:
    parts = as_interleave(expr)
    if parts and isinstance(expr.of, Concat):
        axis = expr.of.axis - 1
        return Join("interleave", tuple(_spelled(p, False) for p in parts), axis, Number(expr.of.shape[axis]))
    rotary = as_rotary(expr)
    if rotary:
        first = Number(rotary.first) if rotary.first else None
        return Rotary(_spelled(rotary.of, False), rotary.order, Number(rotary.heads), first, rotary.axis)
    return _single(expr)


def _single(expr: Reshape) -> Term | None:
    """Slices of which those of one entry lose their axis: `w[3]`, `w[:, 0]`."""
    term = _slice(expr.of, False) if isinstance(expr.of, Slice) else None
    if not isinstance(term, Index) or not isinstance(expr.of, Slice):
        return None
    shape = expr.of.shape
    gone = [bound.axis for bound in term.bounds if shape[bound.axis] == 1]
    left = tuple(size for axis, size in enumerate(shape) if axis not in gone)
    if not gone or left != expr.shape:
        return None
    bounds = (Bound(b.axis, b.start, None, single=True) if b.axis in gone else b for b in term.bounds)
    return Index(term.of, tuple(bounds))


def _arithmetic(expr: Affine | Sum | Product | Elementwise | Reduce, plain: bool) -> Term:
    match expr:
        case Affine(of=of, scale=scale, shift=shift):
            return Scale(_spelled(of, plain), scale, shift)
        case Sum(parts=parts):
            return Combine("+", tuple(_spelled(part, plain) for part in parts))
        case Product(parts=parts):
            normed = None if plain else as_weight_norm(expr)
            if normed:
                return WeightNorm(_spelled(normed.g, plain), _spelled(normed.v, plain), normed.axis)
            return Combine("*", tuple(_spelled(part, plain) for part in parts))
        case Elementwise(function=function, of=of):
            return Call(function, _spelled(of, plain))
        case Reduce(kind=kind, of=of, axes=axes, keepdim=keepdim):
            return Total(kind, _spelled(of, plain), axes, keepdim)
        case _:
            assert_never(expr)


_READINGS: tuple[tuple[Form, tuple[Indexed, ...], NewRows], ...] = (
    ("matrix", (), "mean"),
    ("matrix", (Indexed(1, "inputs"),), "mean"),
    ("matrix", (Indexed(0, "rows"),), "mean"),
    ("matrix", (Indexed(0, "rows"),), "zeros"),
    ("vector", (), "mean"),
    ("vector", (Indexed(0, "rows"),), "mean"),
    ("vector", (Indexed(0, "rows"),), "zeros"),
    # rows of which the example needed none more may be places, of which no other model's can be invented either
    ("table", (Indexed(0, "positions"),), "mean"),
    ("table", (), "mean"),
    ("table", (), "zeros"),
    ("other", (), "mean"),
)
"""What a resize may be, the likeliest first."""


def _resize(expr: Resize, plain: bool) -> Term:
    for form, indexed, new_rows in _READINGS:
        if _fits(expr.of, expr, form, indexed, new_rows):
            return Fit(_spelled(expr.of, plain), _sizes(expr.shape), form, indexed, new_rows)
    raise RulesError("it is resized in a way that its sizes do not tell")


def _fits(of: Expr, wanted: Expr, form: Form, indexed: tuple[Indexed, ...], new_rows: NewRows = "mean") -> bool:
    try:
        return normal(fit(of, wanted.shape, form, indexed, new_rows).expr) == wanted
    except UnfitError:
        return False


def _gridded(expr: Expr, plain: bool) -> Term | None:
    """A table of places in a picture that was made for another, as the one function that does it; None elsewhere."""
    table, indexed = _table(expr), (Indexed(0, "grid"),)
    if table is None or len(table.shape) != len(expr.shape) or not _fits(table, expr, "table", indexed):
        return None
    return Fit(_spelled(table, plain), _sizes(expr.shape), "table", indexed)


def _table(expr: Expr) -> Expr | None:
    """What a resampled grid was cut from."""
    match expr:
        case Resize(of=Reshape(of=Slice(of=of)) | Reshape(of=of), fits=fits) if "cubic" in fits:
            return of
        case Concat(parts=(Slice(), grid)) | Resize(of=grid) | Reshape(of=grid):
            return _table(grid)
        case _:
            return None
