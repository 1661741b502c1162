from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Expr,
    Gather,
    Permute,
    Reshape,
    Resize,
    Slice,
    Source,
    children,
    source_leaves,
)
from automatch.core.graph import Weight
from automatch.core.mapping import MappingRecord
from automatch.errors import RulesError
from automatch.rules.build import Scope, build
from automatch.rules.reading import read_term
from automatch.rules.spell import normal, spelled
from automatch.rules.splitting import numbered
from automatch.rules.terms import Fill, Term
from automatch.rules.wording import term_text
from tests.apply.expressions import arrays, expressions, worth
from tests.inverse.layouts import layouts

Q, K, W = Source("q", (6, 4)), Source("k", (6, 4)), Source("w", (12, 4))


def again(term: Term, expr: Expr) -> Expr:
    leaves = [Weight(leaf.key, leaf.shape, "float32") for leaf in source_leaves(expr)]
    return build(term, Scope(numbered(leaves), {}, {}, expr.shape))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions())
def test_a_spelled_expression_is_built_again_also_through_its_text(expr: Expr) -> None:
    if _gathers(expr) or _resizes(expr):
        return
    term = spelled(expr)
    assert normal(again(term, expr)) == normal(expr)
    assert normal(again(read_term(term_text(term)), expr)) == normal(expr)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(loses=True))
def test_whatever_only_moves_is_spelled_unless_it_is_gathered(drawn: MappingRecord) -> None:
    for entry in drawn.entries:
        assert entry.expr is not None
        if not _gathers(entry.expr):
            assert normal(again(spelled(entry.expr), entry.expr)) == normal(entry.expr)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expressions())
def test_the_normal_form_is_worth_the_same_and_is_its_own(expr: Expr) -> None:
    assert (worth(normal(expr), arrays(expr)) == worth(expr, arrays(expr))).all()
    assert normal(normal(expr)) == normal(expr)


def _gathers(expr: Expr) -> bool:
    return isinstance(expr, Gather) or any(map(_gathers, children(expr)))


def _resizes(expr: Expr) -> bool:
    return isinstance(expr, Resize) or any(map(_resizes, children(expr)))


@pytest.mark.parametrize(
    ("expr", "written"),
    [
        (Concat((Q, K)), "cat(q, k)"),
        (Slice(Slice(Q, 0, 1, 3), 1, 0, 2), "q[1:3, 0:2]"),
        (Slice(Slice(Q, 1, 0, 2), 0, 1, 3), "q[:, 0:2][1:3]"),
        (Reshape(Slice(Q, 0, 2, 3), (4,)), "q[2]"),
        (Permute(Q, (1, 0)), "q.T"),
        (Affine(Q, 0.5, 1.0), "1 + 0.5 * q"),
        (Constant(1.0, (3,)), "ones"),
        (Concat((Constant(0.0, (2, 4)), Q)), "cat(zeros(2, 4), q)"),
        (Reshape(Concat((Reshape(Q, (3, 2, 4)), Reshape(K, (3, 2, 4))), 1), (12, 4)), "interleave(q, k, groups=3)"),
        (Concat((Reshape(Q, (1, 6, 4)), Reshape(K, (1, 6, 4)))), "stack(q, k)"),
        (Reshape(Permute(Reshape(W, (2, 2, 3, 4)), (0, 2, 1, 3)), (12, 4)), "rotary_pairs(w, heads=2)"),
    ],
)
def test_layouts_are_called_by_their_names(expr: Expr, written: str) -> None:
    assert term_text(spelled(expr)) == written


def test_a_fill_has_no_sizes_of_its_own() -> None:
    assert spelled(Constant(0.5, (2, 3))) == Fill(0.5)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (Gather(Source("w", (4,)), (2,), (3, 0)), "its entries are gathered one by one, which no rule says"),
        (Resize(Q, (3, 4), ("leading", "keep"), 7.0), "it is resized in a way that its sizes do not tell"),
    ],
)
def test_what_no_rule_can_say_is_refused(expr: Expr, message: str) -> None:
    with pytest.raises(RulesError, match=message):
        spelled(expr)
