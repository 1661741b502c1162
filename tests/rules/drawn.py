"""Random formulas, patterns and terms."""

from __future__ import annotations

from typing import Literal, get_args

from hypothesis import strategies as st

from automatch.core.alignment import Form
from automatch.core.expr import Function, Reduction
from automatch.rules.formula import Binary, Formula, Name, Number, Operator
from automatch.rules.pattern import Hole, Pattern, Piece
from automatch.rules.terms import (
    Bound,
    Call,
    Combine,
    Fill,
    Fit,
    Index,
    Join,
    Key,
    Power,
    Rotary,
    Scale,
    Term,
    Total,
    Transpose,
    View,
    WeightNorm,
)

OPERATORS: tuple[Operator, ...] = ("+", "-", "*", "//")
FUNCTIONS: tuple[Function, ...] = get_args(Function)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
FORMS: tuple[Form, ...] = get_args(Form)
JOINS: tuple[Literal["cat", "stack"], ...] = ("cat", "stack")
ORDERS: tuple[Literal["pairs", "halves"], ...] = ("pairs", "halves")
NAMES = ("heads", "width", "kv_heads")

FORMULAS: st.SearchStrategy[Formula] = st.recursive(
    st.one_of(st.builds(Number, st.integers(-9, 9)), st.builds(Name, st.sampled_from(NAMES))),
    lambda inner: st.builds(Binary, st.sampled_from(OPERATORS), inner, inner),
    max_leaves=5,
)
PIECES = ("layers.", ".w", "h", ".attn.q_proj.weight", "T", "for", "3", "1e5", "ones", " ", '"', "é", ".T", "-", "(")
HOLES = st.builds(Hole, FORMULAS)
SCALARS = st.one_of(
    st.floats(-1e6, 1e6).filter(bool), st.builds(Power, FORMULAS, st.sampled_from((1.0, 0.5, -0.5, 2.0)))
)


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """A key's pattern, of any text at all."""
    pieces: list[Piece] = []
    for text, hole in draw(st.lists(st.tuples(st.sampled_from(PIECES), st.none() | HOLES), min_size=1, max_size=3)):
        if pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        else:
            pieces.append(text)
        pieces += [hole] if hole else []
    return Pattern(tuple(pieces))


@st.composite
def bounds(draw: st.DrawFn) -> tuple[Bound, ...]:
    """Ends along one or two axes."""
    found = []
    for axis in sorted(draw(st.sets(st.integers(0, 2), min_size=1, max_size=2))):
        start, stop = draw(st.none() | FORMULAS), draw(st.none() | FORMULAS)
        if start is not None and draw(st.booleans()):
            found.append(Bound(axis, start, None, single=True))
        else:
            found.append(Bound(axis, start, stop) if start or stop else Bound(axis, Number(1)))
    return tuple(found)


def _scaled(of: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    # what does nothing is not written, and a sum of a product is written as one thing
    bare = of.filter(lambda term: not isinstance(term, Scale))
    times = st.builds(Scale, bare, SCALARS.filter(lambda scale: scale != 1.0))
    return st.one_of(times, st.builds(Scale, bare, st.just(1.0), SCALARS))


def _inner(of: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    parts = st.lists(of, min_size=2, max_size=3).map(tuple)
    shape = st.lists(FORMULAS, min_size=1, max_size=3).map(tuple)
    axis = st.integers(0, 2)
    return st.one_of(
        st.builds(Join, st.sampled_from(JOINS), parts, axis, st.none(), st.sampled_from(("", "e"))),
        st.builds(Join, st.just("interleave"), parts, axis, FORMULAS),
        st.builds(Index, of, bounds()),
        st.builds(Transpose, of, st.permutations(range(3)).map(tuple) | st.just((1, 0))),
        st.builds(View, of, shape),
        st.builds(Rotary, of, st.sampled_from(ORDERS), FORMULAS, st.none() | FORMULAS, axis),
        st.builds(WeightNorm, of, of, st.none() | axis),
        _scaled(of),
        st.builds(Combine, st.sampled_from(("+", "*")), parts),
        st.builds(Call, st.sampled_from(FUNCTIONS), of),
        st.builds(Total, st.sampled_from(REDUCTIONS), of, st.sampled_from(((0,), (1,), (0, 2))), st.booleans()),
        st.builds(Fit, of, st.none() | shape, st.sampled_from(FORMS)),
    )


TERMS: st.SearchStrategy[Term] = st.recursive(
    st.one_of(
        st.builds(Key, patterns()),
        st.builds(Fill, st.floats(-10, 10), st.lists(FORMULAS, min_size=1, max_size=2).map(tuple)),
    ),
    _inner,
    max_leaves=6,
)
