from __future__ import annotations

import pytest

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Function,
    Gather,
    Permute,
    Product,
    Reduce,
    Reduction,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    source_leaves,
    sources,
    text,
)
from automatch.core.graph import Shape

W, V, G = Source("w", (8, 6)), Source("v", (8, 6)), Source("g", (8, 1))
A_LOG, VAR = Source("A_log", (4,)), Source("var", (8,))


def norm(of: Expr, *axes: int, keepdim: bool = True) -> Expr:
    return Elementwise(Reduce(of, "norm", axes, keepdim), "reciprocal")


@pytest.mark.parametrize(
    ("expr", "shape"),
    [
        (Gather(W, (3,), (0, 47, 0)), (3,)),
        (Product((W, G)), (8, 6)),
        (Product((Source("a", (6,)), W, Source("b", ()))), (8, 6)),
        (Elementwise(W, "exp"), (8, 6)),
        (Reduce(W, "sum", (0,)), (6,)),
        (Reduce(W, "mean", (1,), keepdim=True), (8, 1)),
        (Reduce(W, "norm", (0, 1)), ()),
    ],
)
def test_an_operator_knows_its_shape(expr: Expr, shape: Shape) -> None:
    assert expr.shape == shape


@pytest.mark.parametrize("index", [(0, 1), (0, 1, 2, 3)])
def test_a_gather_needs_an_index_for_every_entry(index: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"gather: {len(index)} indices do not fill shape \[3\]"):
        Gather(W, (3,), index)


@pytest.mark.parametrize("outside", [-1, 48])
def test_a_gather_reaches_no_entry_outside(outside: int) -> None:
    with pytest.raises(ValueError, match=rf"gather: entry {outside} is outside shape \[8, 6\]"):
        Gather(W, (2,), (0, outside))


def test_a_product_needs_parts_that_broadcast() -> None:
    with pytest.raises(ValueError, match="a product needs at least one part"):
        Product(())
    with pytest.raises(ValueError, match=r"cannot multiply shapes \[\[8, 6\], \[8\]\]"):
        Product((W, VAR))


@pytest.mark.parametrize("axes", [(), (1, 0), (0, 0)])
def test_axes_are_given_once_and_in_order(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be given, each once and in order"):
        Reduce(W, "sum", axes)


@pytest.mark.parametrize("axes", [(-1,), (0, 2)])
def test_axes_are_the_tensors(axes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mean: shape \[8, 6\] does not have all of axes"):
        Reduce(W, "mean", axes)


def test_sources_are_found_within_every_operator() -> None:
    every = Product((Elementwise(Source("a", (2,)), "exp"), Reduce(Source("b", (2, 2)), "sum", (0,))))
    assert sources(Sum((every, Gather(Source("c", (1,)), (2,), (0, 0))))) == ("a", "b", "c")
    assert len(source_leaves(Product((W, W)))) == 2


# As a person would write it

Q, K = Source("q", (8, 6)), Source("k", (8, 6))


def grouped(of: Expr, groups: int) -> Expr:
    return Reshape(of, (groups, of.shape[0] // groups, *of.shape[1:]))


def rotated(of: Expr, heads: int, outer: int) -> Expr:
    split = Reshape(of, (heads, outer, 8 // heads // outer, 6))
    return Reshape(Permute(split, (0, 2, 1, 3)), (8, 6))


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (Affine(Elementwise(A_LOG, "exp"), -1.0), "-exp(A_log)"),
        (Affine(W, shift=1.0), "1 + w"),
        (Affine(W, -1.0, 1.0), "1 - w"),
        (Affine(W, -2.0, 1.0), "1 - 2 * w"),
        (Affine(Affine(W, 2.0), -1.0), "-(2 * w)"),
        (Product((Source("s", (8,)), Elementwise(Affine(VAR, 1.0, 1e-5), "rsqrt"))), "s * rsqrt(var + 1e-05)"),
        (Product((Sum((Q, K)), W)), "(q + k) * w"),
        (Product((Affine(W, shift=1.0), Affine(V, 2.0))), "(1 + w) * (2 * v)"),
        (Product((W, Elementwise(V, "reciprocal"))), "w / v"),
        (Product((Elementwise(V, "reciprocal"), Elementwise(W, "reciprocal"))), "1 / v / w"),
        (Product((W, Elementwise(Product((V, Q)), "reciprocal"))), "w / (v * q)"),
        (Elementwise(Sum((Q, K)), "reciprocal"), "1 / (q + k)"),
        (Slice(Product((W, V)), 0, 0, 2), "(w * v)[0:2]"),
        (Slice(Elementwise(W, "exp"), 0, 0, 2), "exp(w)[0:2]"),
        (Slice(Elementwise(W, "reciprocal"), 0, 0, 2), "(1 / w)[0:2]"),
        (Product((Resize(W, (4, 6), ("leading", "keep"), 2.0), Constant(1.0, (4, 6)))),
         "(resize(w, 4x6) * 2) * ones(4, 6)"),
        (Reduce(W, "sum", (1,)), "w.sum(dim=1)"),
        (Reduce(Sum((Q, K)), "mean", (0, 1), keepdim=True), "(q + k).mean(dim=(0, 1), keepdim=True)"),
        (Gather(W, (48,), tuple(reversed(range(48)))), "gather(w, 48 indices)"),
        (Gather(Source("e", (1,)), (4096,), (0,) * 4096), "gather(e, 4,096 indices)"),
        (Gather(W, (1,), (3,)), "gather(w, 1 index)"),
        (Product((G, V, norm(V, 1))), "weight_norm(g, v)"),
        (Product((norm(V, 1), V, G)), "weight_norm(g, v)"),
        (Product((V, norm(V, 0), Source("g", (1, 6)))), "weight_norm(g, v, dim=1)"),
        (Product((V, norm(V, 0, 1), Source("g", ()))), "weight_norm(g, v, dim=None)"),
        (Product((G, V, norm(W, 1))), "g * v / w.norm(dim=1, keepdim=True)"),
        (Slice(Product((G, V, norm(V, 1))), 0, 0, 2), "weight_norm(g, v)[0:2]"),
    ],
)  # fmt: skip
def test_arithmetic_is_printed(expr: Expr, expected: str) -> None:
    assert text(expr) == expected


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (Reshape(Slice(Source("e", (5, 2, 3)), 0, 3, 4), (2, 3)), "e[3]"),
        (Reshape(Slice(Source("e", (5, 2, 3)), 1, 1, 2), (5, 3)), "e[:, 1]"),
        (Reshape(Slice(Slice(Source("e", (5, 2, 3)), 0, 3, 4), 2, 0, 2), (2, 2)), "e[3, :, 0:2]"),
        (Reshape(Slice(Source("e", (5, 2, 3)), 0, 3, 4), (6,)), "e[3].reshape(6)"),
        (Slice(Source("e", (5, 2, 3)), 0, 3, 4), "e[3:4]"),
        (Reshape(Slice(Reshape(W, (4, 2, 6)), 1, 0, 1), (4, 6)), "w.reshape(4, 2, 6)[:, 0:1].reshape(4, 6)"),
        (Slice(Slice(W, 0, 2, 6), 0, 1, 2), "w[2:6][1:2]"),
        (Reshape(Source("one", (1,)), ()), "one.reshape(())"),
        (Concat((Reshape(Q, (1, 8, 6)), Reshape(K, (1, 8, 6)))), "stack(q, k)"),
        (Concat((Reshape(Q, (8, 1, 6)), Reshape(K, (8, 1, 6))), 1), "stack(q, k, dim=1)"),
        (Concat((Affine(Reshape(Q, (1, 8, 6)), 2.0), Constant(0.0, (1, 8, 6)))), "stack(2 * q, zeros(8, 6))"),
        (Concat((Reshape(Q, (1, 48)), Reshape(K, (1, 48)))), "cat(q.reshape(1, 48), k.reshape(1, 48))"),
        (Concat((Concat((Q, K)), W)), "cat(q, k, w)"),
        (Concat((Concat((Q, K), 1), Concat((W, V), 1))), "cat(cat(q, k, dim=1), cat(w, v, dim=1))"),
        (Concat((W, Constant(0.0, (2, 6)))), "cat(w, zeros(2, 6))"),
        (Reshape(Concat((grouped(Q, 4), grouped(K, 4)), 1), (16, 6)), "interleave(q, k, groups=4)"),
        (Reshape(Concat((grouped(Q, 4), grouped(K, 4)), 1), (4, 24)),
         "cat(q.reshape(4, 2, 6), k.reshape(4, 2, 6), dim=1).reshape(4, 24)"),
        (Reshape(Concat((grouped(Q, 4), Constant(0.0, (4, 1, 6))), 1), (12, 6)),
         "interleave(q, zeros(4, 6), groups=4)"),
        (rotated(Q, 2, 2), "rotary_pairs(q, heads=2)"),
        (rotated(Source("wide", (8, 6)), 1, 4),
         "wide.reshape(1, 4, 2, 6).permute(0, 2, 1, 3).reshape(8, 6)"),
        (Reshape(Permute(Reshape(Source("x", (24, 6)), (2, 6, 2, 6)), (0, 2, 1, 3)), (24, 6)),
         "rotary_halves(x, heads=2)"),
        (Reshape(Permute(Reshape(Source("x", (24, 6)), (2, 4, 3, 6)), (0, 2, 1, 3)), (24, 6)),
         "x.reshape(2, 4, 3, 6).permute(0, 2, 1, 3).reshape(24, 6)"),
    ],
)  # fmt: skip
def test_layouts_with_a_name_are_printed_by_it(expr: Expr, expected: str) -> None:
    assert text(expr) == expected


def test_an_index_of_a_million_entries_is_not_printed() -> None:
    assert text(Gather(Source("w", (2,)), (1_000_000,), (1, 0) * 500_000)) == "gather(w, 1,000,000 indices)"


@pytest.mark.parametrize("kind", ["sum", "mean", "norm"])
def test_every_reduction_is_printed_by_its_name(kind: Reduction) -> None:
    assert text(Reduce(W, kind, (0,))) == f"w.{kind}(dim=0)"


@pytest.mark.parametrize("function", ["log", "sqrt", "square", "abs", "tanh", "logit", "inverse_softplus", "log1p"])
def test_every_function_is_printed_by_its_name(function: Function) -> None:
    assert text(Elementwise(Affine(W, 2.0), function)) == f"{function}(2 * w)"
