"""A term for two models at hand: an expression, with keys, sizes and shapes in the places of patterns and formulas.

Example:
    >>> from automatch.core.expr import text
    >>> from automatch.core.graph import Weight
    >>> from automatch.rules.splitting import numbered
    >>> from automatch.rules.reading import read_term
    >>> keys = numbered([Weight(f"experts.{e}.w", (2, 3), "float32") for e in range(3)])
    >>> print(text(build(read_term("stack(experts.{e}.w for e)"), Scope(keys, {}, {}, (3, 2, 3)))))
    stack(experts.0.w, experts.1.w, experts.2.w)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import assert_never

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Permute,
    Product,
    Reduce,
    Reshape,
    Slice,
    Source,
    Sum,
)
from automatch.core.graph import Shape
from automatch.errors import RulesError
from automatch.lift.keys import Keys
from automatch.resize import fit
from automatch.rules import pattern as patterns
from automatch.rules.formula import Formula, Name, evaluate
from automatch.rules.formula import text as formula_text
from automatch.rules.pattern import Hole, Pattern
from automatch.rules.splitting import split
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
    Scalar,
    Scale,
    Term,
    Total,
    Transpose,
    View,
    WeightNorm,
)
from automatch.rules.terms import keys as keys_in
from automatch.synthesize.build import reshape


@dataclass(frozen=True, slots=True)
class Scope:
    """What a term is built for.

    Attributes:
        keys: The source's keys.
        words: What the variables of the rule's target stand for.
        sizes: The numbers that its formulas speak of.
        shape: The target weight's shape.
    """

    keys: Keys
    words: Mapping[str, str]
    sizes: Mapping[str, int]
    shape: Shape

    def number(self, formula: Formula) -> int:
        """The number that a formula stands for here."""
        return evaluate(formula, self.numbers)

    @property
    def numbers(self) -> dict[str, int]:
        """Sizes, and variables that are numbers."""
        return {**self.sizes, **{name: int(word) for name, word in self.words.items() if word.isdecimal()}}


def build(term: Term, scope: Scope) -> Expr:
    """The expression that a term stands for.

    Raises:
        RulesError: The source lacks a key, a size has no value, or sizes do not fit; the message says which.
    """
    try:
        expr = _top(term, scope)
    except ValueError as error:  # an operator refuses its sizes
        raise RulesError(str(error)) from None
    if expr.shape != scope.shape:
        raise RulesError(f"it comes out as {list(expr.shape)}, the target has {list(scope.shape)}")
    return expr


def _top(term: Term, scope: Scope) -> Expr:
    if isinstance(term, Fill) and term.shape is None:
        return Constant(term.value, scope.shape)
    if isinstance(term, Fit) and term.shape is None:
        return _fit(term, scope, scope.shape)
    return _built(term, scope)


def _built(term: Term, scope: Scope) -> Expr:
    match term:
        case Key(pattern=pattern):
            return _source(pattern, scope)
        case Fill(value=value, shape=shape):
            if shape is None:
                raise RulesError("a fill that is part of something else needs its sizes: zeros(heads, 4)")
            return Constant(value, tuple(map(scope.number, shape)))
        case Join():
            return _join(term, scope)
        case Rotary():
            return _rotary(term, scope)
        case Index() | Transpose() | View():
            return _moved(term, scope)
        case WeightNorm() | Scale() | Combine() | Call() | Total():
            return _computed(term, scope)
        case Fit(shape=shape):
            if shape is None:
                raise RulesError("a resize that is part of something else needs its sizes: resize(w, rows, columns)")
            return _fit(term, scope, tuple(map(scope.number, shape)))
        case _:
            assert_never(term)


def _fit(term: Fit, scope: Scope, shape: Shape) -> Expr:
    return fit(_built(term.of, scope), shape, term.form, term.indexed, term.new_rows).expr


def _source(pattern: Pattern, scope: Scope) -> Source:
    key = patterns.fill(pattern, scope.words, scope.sizes)
    shape = scope.keys.shape(key)
    if shape is None:
        raise RulesError(f"it would be made of {key}, which the source does not have")
    return Source(key, shape)


# Movement


def _moved(term: Index | Transpose | View, scope: Scope) -> Expr:
    of = _built(term.of, scope)
    match term:
        case Index(bounds=bounds):
            return _indexed(of, bounds, scope)
        case Transpose(axes=axes):
            return Permute(of, axes)
        case View(shape=shape):
            return reshape(of, _sizes(shape, of, scope))
        case _:
            assert_never(term)


def _sizes(shape: tuple[Formula, ...], of: Expr, scope: Scope) -> Shape:
    sizes = [scope.number(size) for size in shape]
    if sizes.count(-1) > 1:
        raise RulesError("reshape: one size at most may be -1")
    rest = prod(size for size in sizes if size != -1)
    if -1 in sizes and (rest <= 0 or prod(of.shape) % rest):
        raise RulesError(f"reshape: {list(of.shape)} cannot be cut into {[formula_text(size) for size in shape]}")
    return tuple(prod(of.shape) // rest if size == -1 else size for size in sizes)


def _indexed(of: Expr, bounds: tuple[Bound, ...], scope: Scope) -> Expr:
    for bound in bounds:
        if bound.axis >= len(of.shape):
            raise RulesError(f"a weight of shape {list(of.shape)} has no axis {bound.axis}")
        size = of.shape[bound.axis]
        start = _place(bound.start, 0, size, scope)
        stop = start + 1 if bound.single else _place(bound.stop, size, size, scope)
        if (start, stop) != (0, size):
            of = Slice(of, bound.axis, start, stop)
    single = {bound.axis for bound in bounds if bound.single}
    left = tuple(size for axis, size in enumerate(of.shape) if axis not in single)
    return Reshape(of, left) if single else of


def _place(formula: Formula | None, default: int, size: int, scope: Scope) -> int:
    if formula is None:
        return default
    place = scope.number(formula)
    return place + size if place < 0 else place


def _join(term: Join, scope: Scope) -> Expr:
    parts = [_built(part, inner) for inner in _turns(term, scope) for part in term.parts]
    axis = term.axis
    if term.kind == "cat":
        return Concat(tuple(parts), axis)
    if term.kind == "stack":
        return Concat(tuple(_with_unit(part, axis) for part in parts), axis)
    assert term.groups is not None
    groups = scope.number(term.groups)
    joined = Concat(tuple(_grouped(part, axis, groups) for part in parts), axis + 1)
    size = joined.shape
    return reshape(joined, (*size[:axis], size[axis] * size[axis + 1], *size[axis + 2 :]))


def _turns(term: Join, scope: Scope) -> list[Scope]:
    """One scope for every number that the loop variable takes; the numbers are those in the source's keys."""
    if not term.each:
        return [scope]
    rows = {_row(pattern, term.each, scope) for part in term.parts for pattern in keys_in(part)} - {None}
    if len(rows) != 1 or not (row := rows.pop()):
        raise RulesError(f"nothing tells which numbers {term.each} takes: the source's keys differ, or lack it")
    return [replace(scope, words={**scope.words, term.each: str(number)}) for number in row]


def _row(pattern: Pattern, variable: str, scope: Scope) -> tuple[int, ...] | None:
    """The numbers that keys have in the place of a variable; None where the pattern does not have it."""
    if variable not in pattern.variables:
        return None
    if any(isinstance(p, Hole) and p.formula != Name(variable) and variable in _names(p) for p in pattern.pieces):
        raise RulesError(f"{pattern}: {variable} runs over the keys' own numbers, and cannot be in a formula")
    low, high = (patterns.fill(pattern, {**scope.words, variable: str(n)}, scope.sizes) for n in (0, 1))
    template, numbers = split(low)
    places = [place for place, (a, b) in enumerate(zip(numbers, split(high)[1], strict=True)) if a != b]
    return scope.keys.row(template, numbers, places[0]) if len(places) == 1 else ()


def _names(hole: Hole) -> tuple[str, ...]:
    return Pattern((hole,)).variables


def _with_unit(part: Expr, axis: int) -> Expr:
    """A part with a new axis of one entry, where `automatch.core.expr_layouts.as_stack` looks for it."""
    if axis > len(part.shape):
        raise RulesError(f"stack: a part of shape {list(part.shape)} gets no axis {axis}")
    shape = (*part.shape[:axis], 1, *part.shape[axis:])
    if isinstance(part, Constant):
        return Constant(part.value, shape)
    if isinstance(part, Affine):
        return Affine(_with_unit(part.of, axis), part.scale, part.shift)
    if isinstance(part, Concat):
        inner = tuple(_with_unit(each, axis) for each in part.parts)
        return Concat(inner, part.axis + (part.axis >= axis))
    return Reshape(part, shape)


def _grouped(part: Expr, axis: int, groups: int) -> Expr:
    if axis >= len(part.shape) or groups < 1 or part.shape[axis] % groups:
        raise RulesError(f"interleave: {list(part.shape)} is not cut into {groups} groups along axis {axis}")
    shape = (*part.shape[:axis], groups, part.shape[axis] // groups, *part.shape[axis + 1 :])
    if isinstance(part, Constant):
        return Constant(part.value, shape)
    if isinstance(part, Affine):
        return Affine(_grouped(part.of, axis, groups), part.scale, part.shift)
    return reshape(part, shape)


def _rotary(term: Rotary, scope: Scope) -> Expr:
    of, axis, heads = _built(term.of, scope), term.axis, scope.number(term.heads)
    size = of.shape[axis] if axis < len(of.shape) else 0
    if heads < 1 or size % heads or (size // heads) % 2:
        raise RulesError(f"rotary: {list(of.shape)} has no {heads} heads of an even size along axis {axis}")
    width = size // heads
    if term.first is not None:
        return _partial_rotary(term, of, heads, width, scope.number(term.first))
    turned = _turned(reshape(of, _cut(of.shape, axis, (heads, *_pair(term.order, width)))), axis + 1)
    return reshape(turned, of.shape)


def _pair(order: str, width: int) -> tuple[int, int]:
    return (2, width // 2) if order == "pairs" else (width // 2, 2)


def _cut(shape: Shape, axis: int, sizes: tuple[int, ...]) -> Shape:
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _turned(of: Expr, axis: int) -> Expr:
    axes = list(range(len(of.shape)))
    axes[axis], axes[axis + 1] = axes[axis + 1], axes[axis]
    return Permute(of, tuple(axes))


def _partial_rotary(term: Rotary, of: Expr, heads: int, width: int, first: int) -> Expr:
    """The first entries of each head turned, the others as they are."""
    axis = term.axis
    if not 0 < first < width or first % 2 or (term.order == "pairs" and width % (first // 2)):
        raise RulesError(f"rotary: the first {first} of {width} entries of a head cannot be turned")
    fine = (width // (first // 2), first // 2) if term.order == "pairs" else (width // 2, 2)
    taken = Slice(
        reshape(of, _cut(of.shape, axis, (heads, *fine))), axis + 1, 0, 2 if term.order == "pairs" else first // 2
    )
    turned = Reshape(_turned(taken, axis + 1), _cut(of.shape, axis, (heads, first)))
    kept = Slice(reshape(of, _cut(of.shape, axis, (heads, width))), axis + 1, first, width)
    return reshape(Concat((turned, kept), axis + 1), of.shape)


# Arithmetic


def _computed(term: WeightNorm | Scale | Combine | Call | Total, scope: Scope) -> Expr:
    match term:
        case WeightNorm(g=g, v=v, axis=axis):
            return _weight_norm(_built(g, scope), _built(v, scope), axis)
        case Scale(of=of, scale=scale, shift=shift):
            return Affine(_built(of, scope), _value(scale, scope), _value(shift, scope))
        case Combine(kind=kind, parts=parts):
            built = tuple(_built(part, scope) for part in parts)
            return Sum(built) if kind == "+" else Product(built)
        case Call(function=function, of=of):
            return Elementwise(_built(of, scope), function)
        case Total(kind=reduction, of=of, axes=axes, keepdim=keepdim):
            return Reduce(_built(of, scope), reduction, axes, keepdim)
        case _:
            assert_never(term)


def _weight_norm(g: Expr, v: Expr, axis: int | None) -> Expr:
    axes = tuple(place for place in range(len(v.shape)) if place != axis)
    return Product((g, v, Elementwise(Reduce(v, "norm", axes, keepdim=True), "reciprocal")))


def _value(scalar: Scalar, scope: Scope) -> float:
    if isinstance(scalar, float):
        return scalar
    base = scope.number(scalar.of)
    if base <= 0:
        raise RulesError(f"{formula_text(scalar.of)} is {base}, and has no power")
    return float(base**scalar.exponent)


def shape_of(term: Term, scope: Scope) -> Shape:
    """The shape of a part of a term; see `build`.

    Raises:
        RulesError: As for `build`.
    """
    try:
        return _built(term, scope).shape
    except ValueError as error:
        raise RulesError(str(error)) from None
