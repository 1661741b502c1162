from __future__ import annotations

import pytest

from automatch.core.expr import text
from automatch.core.graph import Shape, Weight
from automatch.errors import RulesError
from automatch.rules.build import Scope, build, shape_of
from automatch.rules.reading import read_term
from automatch.rules.splitting import numbered

SHAPES: dict[str, Shape] = {
    "q": (6, 4),
    "k": (6, 4),
    "b": (6,),
    "wide": (8, 4),
    "g": (6, 1),
    "l.0.w": (2, 3),
    "l.1.w": (2, 3),
    "l.4.w": (2, 3),
    "s.0.e.0.w": (2,),
    "s.0.e.1.w": (2,),
    "s.1.e.0.w": (2,),
    "block1.w": (2,),
    "block2.w": (2,),
}
KEYS = numbered([Weight(key, shape, "float32") for key, shape in SHAPES.items()])


def built(written: str, *shape: int, words: dict[str, str] | None = None, **sizes: int) -> str:
    return text(build(read_term(written), Scope(KEYS, words or {}, sizes, shape)))


@pytest.mark.parametrize(
    ("written", "shape", "made"),
    [
        ("q", (6, 4), "q"),
        ("cat(q, k)", (12, 4), "cat(q, k)"),
        ("cat(q, k, dim=1)", (6, 8), "cat(q, k, dim=1)"),
        ("stack(q, k)", (2, 6, 4), "stack(q, k)"),
        ("stack(q, k, dim=2)", (6, 4, 2), "stack(q, k, dim=2)"),
        ("interleave(q, k, groups=heads)", (12, 4), "interleave(q, k, groups=3)"),
        ("stack(l.{e}.w for e)", (3, 2, 3), "stack(l.0.w, l.1.w, l.4.w)"),
        ("cat(l.{e}.w, l.{e}.w.T.T for e)", (12, 3), "cat(l.0.w, l.0.w.T.T, l.1.w, l.1.w.T.T, l.4.w, l.4.w.T.T)"),
        ("cat(block{e}.w for e)", (4,), "cat(block1.w, block2.w)"),
        ("q[1:]", (5, 4), "q[1:6]"),
        ("q[-2:]", (2, 4), "q[4:6]"),
        ("q[:-heads, 1:3]", (3, 2), "q[0:3, 1:3]"),
        ("q[0:6]", (6, 4), "q"),
        ("q[2]", (4,), "q[2]"),
        ("q[-1]", (4,), "q[5]"),
        ("q[:, 0]", (6,), "q[:, 0]"),
        ("q.reshape(heads, -1, 4)", (3, 2, 4), "q.reshape(3, 2, 4)"),
        ("q.reshape(24).reshape(6, 4)", (6, 4), "q"),
        ("q.T", (4, 6), "q.T"),
        ("rotary_pairs(q, heads=heads)", (6, 4), "rotary_pairs(q, heads=3)"),
        ("rotary_halves(wide, heads=2, first=2)", (8, 4), "rotary_halves(wide, heads=2, first=2)"),
        ("{heads ** 2} * q", (6, 4), "9 * q"),
        ("{heads} + q", (6, 4), "3 + q"),
        ("zeros", (5, 2), "zeros(5, 2)"),
        ("cat(q, zeros(2, 4))", (8, 4), "cat(q, zeros(2, 4))"),
        ("cat(b, full[0.5](1)) ", (7,), "cat(b, full[0.5](1))"),
        ("weight_norm(g, q)", (6, 4), "weight_norm(g, q)"),
        ("resize(q)", (3, 2), "resize(q, 3x2) * 1.414"),
        ("resize(q, dim1=inputs)", (3, 2), "resize(q, 3x2)"),
        ("resize(q, dim1=inputs)", (6, 9), "resize(q, 6x9, zeros)"),
        ("resize(q, form=table, new=zeros)", (7, 4), "resize(q, 7x4, zeros)"),
        ("q.sum(dim=0)", (4,), "q.sum(dim=0)"),
        ("1 / q", (6, 4), "1 / q"),
    ],
)
def test_terms_are_built(written: str, shape: Shape, made: str) -> None:
    assert built(written, *shape, heads=3) == made


def test_variables_of_the_target_and_sizes_stand_in_keys() -> None:
    assert built("l.{i + 1}.w", 2, 3, words={"i": "0"}) == "l.1.w"
    assert built("l.{depth - i}.w", 2, 3, words={"i": "3"}, depth=4) == "l.1.w"
    assert built('"{x}"', 6, 4, words={"x": "k"}) == "k"


def test_a_loop_takes_the_numbers_that_there_are_beside_the_others() -> None:
    assert built("cat(s.{i}.e.{e}.w for e)", 4, words={"i": "0"}) == "cat(s.0.e.0.w, s.0.e.1.w)"
    assert built("cat(s.{i}.e.{e}.w for e)", 2, words={"i": "1"}) == "cat(s.1.e.0.w)"


@pytest.mark.parametrize(
    ("written", "shape", "message"),
    [
        ("q", (4, 6), "it comes out as [6, 4], the target has [4, 6]"),
        ("l.{i}.w", (2, 3), "it would be made of l.2.w, which the source does not have"),
        ("cat(q, zeros)", (8, 4), "a fill that is part of something else needs its sizes: zeros(heads, 4)"),
        ("cat(q, resize(k))", (8, 4), "a resize that is part of something else needs its sizes"),
        ("resize(q, form=table, dim0=positions)", (9, 4), "9 places in a sequence, of which the source knows 6"),
        ("q.reshape(-1, -1)", (6, 4), "reshape: one size at most may be -1"),
        ("q.reshape(5, -1)", (6, 4), "reshape: [6, 4] cannot be cut into ['5', '-1']"),
        ("q.reshape(5, 5)", (6, 4), "reshape"),
        ("q[7:]", (6, 4), "axis 0"),
        ("q[:, :, 1:]", (6, 4), "a weight of shape [6, 4] has no axis 2"),
        ("q[:, :, 1]", (6, 4), "a weight of shape [6, 4] has no axis 2"),
        ("rotary_pairs(q, heads=4)", (6, 4), "rotary: [6, 4] has no 4 heads of an even size along axis 0"),
        ("rotary_pairs(q, heads=2)", (6, 4), "rotary: [6, 4] has no 2 heads of an even size along axis 0"),
        ("rotary_pairs(q, heads=0)", (6, 4), "rotary: [6, 4] has no 0 heads"),
        ("rotary_pairs(wide, heads=2, first=3)", (8, 4), "rotary: the first 3 of 4 entries of a head cannot be turned"),
        ("interleave(q, k, groups=4)", (12, 4), "interleave: [6, 4] is not cut into 4 groups along axis 0"),
        ("stack(q, k, dim=3)", (2, 6, 4), "stack: a part of shape [6, 4] gets no axis 3"),
        ("cat(q for e)", (6, 4), "nothing tells which numbers e takes: the source's keys differ, or lack it"),
        ("cat(l.{e + 1}.w for e)", (6, 3), "e runs over the keys' own numbers, and cannot be in a formula"),
        ("cat(l.{e}.w, s.0.e.{e}.w for e)", (6, 3), "nothing tells which numbers e takes"),
        ("cat(m.{e}.w for e)", (6, 3), "nothing tells which numbers e takes"),
        ("{n - 3} * q", (6, 4), "n - 3 is 0, and has no power"),
        ("q[:m]", (6, 4), "m has no value"),
        ("cat(q, b)", (6, 4), ""),
        ("q.permute(0, 0)", (6, 4), ""),
        ("q.sum(dim=2)", (6,), ""),
        ("q + wide", (6, 4), ""),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sizes(written: str, shape: Shape, message: str) -> None:
    with pytest.raises(RulesError) as caught:
        built(written, *shape, words={"i": "2"}, n=3)
    assert message in str(caught.value)
    assert str(caught.value)


def test_the_shape_of_a_part() -> None:
    scope = Scope(KEYS, {}, {"heads": 3}, ())
    assert shape_of(read_term("q.reshape(heads, -1, 4)"), scope) == (3, 2, 4)
    with pytest.raises(RulesError, match="which the source does not have"):
        shape_of(read_term("nothing"), scope)
