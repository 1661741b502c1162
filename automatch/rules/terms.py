"""What a rule makes a weight of: expressions like those of `automatch.core.expr`, over patterns of keys and formulas.

A term has no shape until it is built for two models (`automatch.rules.build`). How it is written is in
`automatch.rules.wording`, how it is read in `automatch.rules.reading`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

from automatch.core.alignment import Form, Indexed, NewRows
from automatch.core.expr import Function, Reduction
from automatch.rules.formula import Formula
from automatch.rules.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Key:
    """A source weight; the pattern's variables are those of the rule's target."""

    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Fill:
    """One value everywhere: `ones`, `zeros(heads, 4)`, `full[0.5]`.

    Attributes:
        value: The value.
        shape: Its sizes; None for those of the target weight.
    """

    value: float
    shape: tuple[Formula, ...] | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """Parts put together along an axis.

    Attributes:
        kind: `cat` joins along an axis that is there, `stack` along a new one; `interleave` cuts an axis of every part
            into groups, and lets the parts take turns group by group.
        parts: The parts.
        axis: The axis.
        groups: Number of groups; given for `interleave` alone.
        each: A variable for every number of which, ascending, the parts are repeated (`experts.{e}`); empty for none.
            Its numbers are those that the source's keys have in its place.
    """

    kind: Literal["cat", "stack", "interleave"]
    parts: tuple[Term, ...]
    axis: int = 0
    groups: Formula | None = None
    each: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """Entries along one axis, with Python's meaning.

    Attributes:
        axis: The axis.
        start: The first entry; None for the axis' first.
        stop: The entry after the last; None to the axis' end.
        single: Whether only the entry `start` is taken, and the axis goes.
    """

    axis: int
    start: Formula | None = None
    stop: Formula | None = None
    single: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """`w[a:b, :, 3]`: entries along some axes. Negative numbers count from the axis' end."""

    of: Term
    bounds: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class Transpose:
    """Axes in another order, as `Tensor.permute`."""

    of: Term
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The same entries under another shape, as `Tensor.reshape`; one size may be -1."""

    of: Term
    shape: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Rotary:
    """Entries within heads rearranged from one layout of rotary embedding to the other.

    Attributes:
        of: What is rearranged.
        order: What it becomes; `pairs` or `halves`.
        heads: Number of heads along the axis.
        first: How many entries at the start of each head are rearranged; None for all.
        axis: The axis that holds the heads.
    """

    of: Term
    order: Literal["pairs", "halves"]
    heads: Formula
    first: Formula | None = None
    axis: int = 0


@dataclass(frozen=True, slots=True)
class WeightNorm:
    """`g * v / ||v||`, the norm over all axes of `v` but one.

    Attributes:
        g: The lengths.
        v: The directions.
        axis: The axis that is kept; None for a norm over all.
    """

    g: Term
    v: Term
    axis: int | None = 0


@dataclass(frozen=True, slots=True)
class Power:
    """A number made of sizes: `{head_dim ** -0.5}`."""

    of: Formula
    exponent: float = 1.0


Scalar: TypeAlias = float | Power


@dataclass(frozen=True, slots=True)
class Scale:
    """`scale * of + shift`."""

    of: Term
    scale: Scalar = 1.0
    shift: Scalar = 0.0


@dataclass(frozen=True, slots=True)
class Combine:
    """Parts added or multiplied, broadcast as torch does."""

    kind: Literal["+", "*"]
    parts: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function of every entry; `reciprocal` is written as a division."""

    function: Function
    of: Term


@dataclass(frozen=True, slots=True)
class Total:
    """Axes summed up: `w.sum(dim=1)`, `w.mean(dim=(0, 1), keepdim=True)`, `w.norm(dim=1)`."""

    kind: Reduction
    of: Term
    axes: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """`resize(w)`: a weight of another size in the same role, cut or tiled (`automatch.resize`); not exact.

    Attributes:
        of: The weight.
        shape: The new sizes; None for those of the target weight.
        form: What the axes mean: a `matrix` has a fan-in whose variance is kept, and a kernel.
        indexed: Axes whose entries are picked one by one; a grid's sizes are read off where it is square.
        new_rows: What rows begin as that the weight lacks.
    """

    of: Term
    shape: tuple[Formula, ...] | None = None
    form: Form = "matrix"
    indexed: tuple[Indexed, ...] = ()
    new_rows: NewRows = "mean"


Term: TypeAlias = (
    Key | Fill | Join | Index | Transpose | View | Rotary | WeightNorm | Scale | Combine | Call | Total | Fit
)


def children(term: Term) -> tuple[Term, ...]:
    """The terms that a term is made of, left to right."""
    match term:
        case Key() | Fill():
            return ()
        case Join(parts=parts) | Combine(parts=parts):
            return parts
        case WeightNorm(g=g, v=v):
            return g, v
        case Index(of=of) | Transpose(of=of) | View(of=of) | Rotary(of=of) | Scale(of=of):
            return (of,)
        case Call(of=of) | Total(of=of) | Fit(of=of):
            return (of,)
        case _:
            assert_never(term)


def with_children(term: Term, new: Sequence[Term]) -> Term:
    """The same operator over other terms, as many as `children` names and in their order."""
    match term:
        case Key() | Fill():
            return term
        case Join() | Combine():
            return replace(term, parts=tuple(new))
        case WeightNorm():
            return replace(term, g=new[0], v=new[1])
        case Index() | Transpose() | View() | Rotary() | Scale() | Call() | Total() | Fit():
            return replace(term, of=new[0])
        case _:
            assert_never(term)


def keys(term: Term) -> tuple[Pattern, ...]:
    """Every mention of a source weight, left to right, repeats kept."""
    if isinstance(term, Key):
        return (term.pattern,)
    return tuple(pattern for child in children(term) for pattern in keys(child))


def formulas(term: Term) -> tuple[Formula, ...]:
    """Every formula of sizes in a term: an operator's own first, then those of what it is made of; keys' numbers aside.

    Example:
        >>> from automatch.rules.formula import Name
        >>> from automatch.rules.pattern import parse
        >>> formulas(Rotary(Key(parse("q.weight")), "pairs", Name("heads")))
        (Name(name='heads'),)
    """
    return (*own_formulas(term), *(found for child in children(term) for found in formulas(child)))


def own_formulas(term: Term) -> tuple[Formula, ...]:
    """The formulas of the operator itself."""
    match term:
        case Fill(shape=shape) | Fit(shape=shape):
            return shape or ()
        case View(shape=shape):
            return shape
        case Index(bounds=bounds):
            return tuple(f for bound in bounds for f in (bound.start, bound.stop) if f is not None)
        case Join(groups=groups):
            return () if groups is None else (groups,)
        case Rotary(heads=heads, first=first):
            return (heads,) if first is None else (heads, first)
        case Scale(scale=scale, shift=shift):
            return tuple(number.of for number in (scale, shift) if isinstance(number, Power))
        case Key() | Transpose() | WeightNorm() | Combine() | Call() | Total():
            return ()
        case _:
            assert_never(term)


def with_formulas(term: Term, new: Sequence[Formula]) -> Term:
    """The same term with other formulas, as many as `formulas` names and in their order."""
    count = len(own_formulas(term))
    own, rest = _with_own(term, iter(new[:count])), list(new[count:])
    parts: list[Term] = []
    for child in children(term):
        size = len(formulas(child))
        parts.append(with_formulas(child, rest[:size]))
        rest = rest[size:]
    return with_children(own, parts)


def _with_own(term: Term, given: Iterator[Formula]) -> Term:
    match term:
        case Fill(shape=shape) | Fit(shape=shape):
            return term if shape is None else replace(term, shape=tuple(next(given) for _ in shape))
        case View(shape=shape):
            return replace(term, shape=tuple(next(given) for _ in shape))
        case Index(bounds=bounds):
            return replace(term, bounds=tuple(_bound(bound, given) for bound in bounds))
        case Join(groups=groups):
            return term if groups is None else replace(term, groups=next(given))
        case Rotary(first=first):
            return replace(term, heads=next(given), first=None if first is None else next(given))
        case Scale(scale=scale, shift=shift):
            scales = [replace(n, of=next(given)) if isinstance(n, Power) else n for n in (scale, shift)]
            return replace(term, scale=scales[0], shift=scales[1])
        case Key() | Transpose() | WeightNorm() | Combine() | Call() | Total():
            return term
        case _:
            assert_never(term)


def _bound(bound: Bound, given: Iterator[Formula]) -> Bound:
    start = None if bound.start is None else next(given)
    return replace(bound, start=start, stop=None if bound.stop is None else next(given))
