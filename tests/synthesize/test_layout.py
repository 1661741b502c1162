from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automatch.apply.evaluate import evaluate
from automatch.core.expr import Affine, Elementwise, Expr, Gather, Product, Reduce, Reshape, Source, children, text
from automatch.core.graph import Shape
from automatch.synthesize.layout import ElementMap, element_map, expression

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """A tensor by where its elements come from; movements are numpy's own."""

    leaf: Array
    index: Array
    scale: Array
    shift: Array

    def moved(self, move: Callable[[Array], Array]) -> Traced:
        return Traced(move(self.leaf), move(self.index), move(self.scale), move(self.shift))

    def times(self, scale: float, shift: float = 0.0) -> Traced:
        return replace(self, scale=self.scale * scale, shift=self.shift * scale + shift)

    @property
    def shape(self) -> Shape:
        return self.leaf.shape

    def reshape(self, *shape: int) -> Traced:
        return self.moved(lambda x: x.reshape(shape))

    def swap(self, first: int, second: int) -> Traced:
        return self.moved(lambda x: x.swapaxes(first, second))

    def transpose(self, *axes: int) -> Traced:
        return self.moved(lambda x: x.transpose(axes))

    def __getitem__(self, where: Any) -> Traced:
        return self.moved(lambda x: x[where])


def leaf(number: int, *shape: int) -> Traced:
    index = np.arange(prod(shape)).reshape(shape)
    return Traced(np.full(shape, number), index, np.ones(shape), np.zeros(shape))


def filled(value: float, *shape: int) -> Traced:
    whole = np.zeros(shape, dtype=np.int64)
    return Traced(whole - 1, whole, np.zeros(shape), np.full(shape, value))


def cat(*parts: Traced, axis: int = 0) -> Traced:
    columns = zip(*((x.leaf, x.index, x.scale, x.shift) for x in parts), strict=True)
    return Traced(*(np.concatenate(column, axis) for column in columns))


def stack(*parts: Traced) -> Traced:
    return cat(*(part[None] for part in parts))


def as_map(traced: Traced, leaves: tuple[Expr, ...]) -> ElementMap:
    flat = traced.moved(lambda x: x.reshape(-1))
    return ElementMap(traced.shape, leaves, flat.leaf, flat.index, flat.scale, flat.shift)


def worth(traced: Traced, arrays: list[Array]) -> Array:
    """The values by numpy alone."""
    values = traced.shift.copy()
    for number, array in enumerate(arrays):
        mine = traced.leaf == number
        values[mine] += traced.scale[mine] * array.reshape(-1)[traced.index[mine]]
    return values


def found(traced: Traced, **shapes: Shape) -> Expr:
    """The expression, after a look at whether it gives what numpy gives."""
    leaves = tuple(Source(name, shape) for name, shape in shapes.items())
    arrays = {x.key: np.arange(1.0, prod(x.shape) + 1).reshape(x.shape) + 1000 * n for n, x in enumerate(leaves)}
    expr = expression(as_map(traced, leaves))
    got = evaluate(expr, lambda key: torch.from_numpy(arrays[key]), dtype=torch.float64).numpy()
    np.testing.assert_array_equal(got, worth(traced, list(arrays.values())), strict=True)
    return expr


def pairs(x: Traced, heads: int, first: int | None = None) -> Traced:
    """Halves of each head to neighbours."""
    by_head = x.moved(lambda a: a.reshape(heads, -1, *a.shape[1:]))
    size = by_head.shape[1] if first is None else first
    turned = by_head[:, :size].moved(lambda a: a.reshape(heads, 2, size // 2, *a.shape[2:]).swapaxes(1, 2))
    turned = turned.moved(lambda a: a.reshape(heads, size, *a.shape[3:]))
    return cat(turned, by_head[:, size:], axis=1).moved(lambda a: a.reshape(-1, *a.shape[2:]))


def halves(x: Traced, heads: int) -> Traced:
    whole = x.shape
    return x.moved(lambda a: a.reshape(heads, -1, 2, *whole[1:]).swapaxes(1, 2).reshape(whole))


def in_turn(groups: int, *parts: Traced) -> Traced:
    shares = [x.moved(lambda a: a.reshape(groups, -1, *a.shape[1:])) for x in parts]
    return cat(*shares, axis=1).moved(lambda a: a.reshape(-1, *a.shape[2:]))


W, WIDE, CONV, EXPERTS = leaf(0, 8, 6), leaf(0, 24, 6), leaf(0, 8, 3, 2, 2), leaf(0, 4, 6, 5)
Q, K, V = (leaf(number, 8, 6) for number in range(3))
KEY, VALUE = leaf(1, 4, 6), leaf(2, 4, 6)
THREE: dict[str, Shape] = {"q": (8, 6), "k": (8, 6), "v": (8, 6)}
GROUPED: dict[str, Shape] = {"q": (8, 6), "k": (4, 6), "v": (4, 6)}
ONE: dict[str, Shape] = {"w": (8, 6)}
FUSED: dict[str, Shape] = {"w": (24, 6)}

LAYOUTS: dict[str, tuple[Traced, dict[str, Shape], str]] = {
    "whole": (W, ONE, "w"),
    "transposed": (W.swap(0, 1), ONE, "w.T"),
    "permuted": (CONV.transpose(1, 0, 3, 2), {"w": (8, 3, 2, 2)}, "w.permute(1, 0, 3, 2)"),
    "reshaped": (W.reshape(6, 8), ONE, "w.reshape(6, 8)"),
    "scalar": (leaf(0, 1).reshape(), {"w": (1,)}, "w.reshape(())"),
    "rows": (W[2:], ONE, "w[2:8]"),
    "a part of rows and columns": (W[2:5, 1:3], ONE, "w[2:5, 1:3]"),
    "one row of a slice of a table": (W[3:4], ONE, "w[3:4]"),
    "transposed after a slice": (W[2:5].swap(0, 1), ONE, "w[2:5].T"),
    "every other row": (W[1::2], ONE, "w.reshape(4, 2, 6)[:, 1:2].reshape(4, 6)"),
    "an expert": (EXPERTS[2], {"w": (4, 6, 5)}, "w[2]"),
    "an expert, transposed": (EXPERTS[2].swap(0, 1), {"w": (4, 6, 5)}, "w[2].T"),
    "a frame of a kernel": (leaf(0, 4, 3, 2, 2, 2)[:, :, 0], {"w": (4, 3, 2, 2, 2)}, "w[:, :, 0]"),
    "fused": (cat(Q, K, V), THREE, "cat(q, k, v)"),
    "fused along the other axis": (cat(Q, K, V, axis=1), THREE, "cat(q, k, v, dim=1)"),
    "fused and transposed": (cat(Q.swap(0, 1), K.swap(0, 1), axis=1), THREE, "cat(q.T, k.T, dim=1)"),
    "one of a fusion": (WIDE[8:16], FUSED, "w[8:16]"),
    "interleaved by head": (in_turn(4, Q, K, V), THREE, "interleave(q, k, v, groups=4)"),
    "grouped queries": (in_turn(2, Q, KEY, VALUE), GROUPED, "interleave(q, k, v, groups=2)"),
    "shards in another order": (in_turn(4, Q, V, K), THREE, "interleave(q, v, k, groups=4)"),
    "interleaved row by row": (in_turn(8, Q, K), THREE, "interleave(q, k, groups=8)"),
    "interleaved columns": (in_turn(3, Q.swap(0, 1), K.swap(0, 1)).swap(0, 1), THREE,
                            "interleave(q, k, groups=3, dim=1)"),
    "interleaved bias": (in_turn(2, leaf(0, 4), leaf(1, 4)), {"q": (4,), "k": (4,)}, "interleave(q, k, groups=2)"),
    "one of an interleaved fusion": (WIDE.reshape(4, 3, 2, 6)[:, 1].reshape(8, 6), FUSED,
                                     "w.reshape(4, 6, 6)[:, 2:4].reshape(8, 6)"),
    "an interleaved fusion unravelled": (WIDE.reshape(4, 3, 2, 6).swap(0, 1).reshape(24, 6), FUSED,
                                         "w.reshape(4, 3, 2, 6).permute(1, 0, 2, 3).reshape(24, 6)"),
    "rotary, halves to pairs": (pairs(Q, 2), ONE, "rotary_pairs(w, heads=2)"),
    "rotary, pairs to halves": (halves(WIDE, 4), FUSED, "rotary_halves(w, heads=4)"),
    "rotary in a bias": (pairs(leaf(0, 8), 2), {"b": (8,)}, "rotary_pairs(b, heads=2)"),
    "rotary in transposed storage": (pairs(leaf(0, 6, 24).swap(0, 1), 4).swap(0, 1), {"w": (6, 24)},
                                     "rotary_pairs(w, heads=4, dim=1)"),
    "rotary in part of each head": (pairs(WIDE, 2, first=8), FUSED, "rotary_pairs(w, heads=2, first=8)"),
    "rotary within a fusion": (cat(pairs(Q, 2), pairs(K, 2), V), THREE,
                               "cat(rotary_pairs(q, heads=2), rotary_pairs(k, heads=2), v)"),
    "rotary within an interleaved fusion": (in_turn(2, pairs(Q, 2), pairs(K, 2), V), THREE,
                                            "interleave(rotary_pairs(q, heads=2), rotary_pairs(k, heads=2), v, "
                                            "groups=2)"),
    "rotary of rows of a fusion": (pairs(WIDE[8:16], 2), FUSED, "rotary_pairs(w[8:16], heads=2)"),
    "kernel to linear, channels last": (CONV.transpose(0, 2, 3, 1).reshape(8, 12), {"w": (8, 3, 2, 2)},
                                        "w.permute(0, 2, 3, 1).reshape(8, 12)"),
    "linear to kernel, channels last": (leaf(0, 8, 12).reshape(8, 2, 2, 3).transpose(0, 3, 1, 2), {"w": (8, 12)},
                                        "w.reshape(8, 4, 3).permute(0, 2, 1).reshape(8, 3, 2, 2)"),
    "kernel to linear": (CONV.reshape(8, 12), {"w": (8, 3, 2, 2)}, "w.reshape(8, 12)"),
    "stacked": (stack(Q, K, V), THREE, "stack(q, k, v)"),
    "stacked and transposed": (stack(Q.swap(0, 1), K.swap(0, 1)), THREE, "stack(q.T, k.T)"),
    "experts, each fused": (
        stack(*(cat(leaf(n, 4, 3), leaf(n + 3, 4, 3)) for n in range(3))),
        {name: (4, 3) for name in ("g0", "g1", "g2", "u0", "u1", "u2")},
        "cat(stack(g0, g1, g2), stack(u0, u1, u2), dim=1)",
    ),
    "unstacked and fused": (cat(EXPERTS[1], EXPERTS[0]), {"w": (4, 6, 5)}, "cat(w[1], w[0])"),
    "zeros": (filled(0.0, 3, 2), ONE, "zeros(3, 2)"),
    "padded rows": (cat(W, filled(0.0, 2, 6)), ONE, "cat(w, zeros(2, 6))"),
    "padded all around": (cat(filled(0.0, 8, 1), W, axis=1), ONE, "cat(zeros(8, 1), w, dim=1)"),
    "a bias without keys": (cat(leaf(0, 4), filled(0.0, 4), leaf(1, 4)), {"q": (4,), "v": (4,)},
                            "cat(q, zeros(4), v)"),
    "one plus": (W.times(1.0, 1.0), ONE, "1 + w"),
    "negated": (W.times(-1.0), ONE, "-w"),
    "one part scaled": (cat(WIDE[:8].times(0.5), WIDE[8:]), FUSED, "cat(0.5 * w[0:8], w[8:24])"),
    "parts scaled differently": (cat(Q.times(0.5), K.times(2.0, 1.0)), THREE, "cat(0.5 * q, 1 + 2 * k)"),
    "one part of an interleaving scaled": (in_turn(4, Q.times(0.5), K), THREE, "interleave(0.5 * q, k, groups=4)"),
    "halves swapped": (cat(WIDE[12:], WIDE[:12]), FUSED, "cat(w[12:24], w[0:12])"),
    "unequal parts swapped": (cat(WIDE[18:], WIDE[:18]), FUSED, "cat(w[18:24], w[0:18])"),
    "rows in three places": (cat(WIDE[2:5], WIDE[9:10], WIDE[20:]), FUSED, "cat(w[2:5], w[9:10], w[20:24])"),
    "used twice": (cat(W, W), ONE, "cat(w, w)"),
    "heads repeated": (W.reshape(4, 1, 2, 6).moved(lambda x: np.repeat(x, 2, 1)).reshape(16, 6), ONE,
                       "interleave(w, w, groups=4)"),
    "joined before a cut that ignores rows": (cat(leaf(0, 7), leaf(1, 5)).reshape(3, 4), {"a": (7,), "b": (5,)},
                                              "cat(a, b).reshape(3, 4)"),
    "backwards": (leaf(0, 40)[::-1], {"w": (40,)}, "gather(w, 40 indices)"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_printed_as_a_person_would_write_it(name: str) -> None:
    traced, shapes, expected = LAYOUTS[name]
    assert text(found(traced, **shapes)) == expected


# Any map


@st.composite
def traces(draw: st.DrawFn, depth: int = 4) -> Traced:
    """Leaves of 24 elements, moved, cut, joined and scaled at random."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        shape = draw(st.sampled_from([(24,), (4, 6), (2, 3, 4), (12, 2)]))
        return draw(st.one_of(st.integers(0, 2).map(lambda n: leaf(n, *shape)), st.just(filled(2.0, *shape))))
    x: Traced = draw(traces(depth - 1))
    match draw(st.sampled_from(["permute", "reshape", "slice", "cat", "scale", "shuffle"])):
        case "permute":
            return x.transpose(*draw(st.permutations(range(len(x.shape)))))
        case "reshape":
            return x.reshape(*draw(_shapes(prod(x.shape))))
        case "slice":
            axis = draw(st.integers(0, len(x.shape) - 1))
            start = draw(st.integers(0, x.shape[axis] - 1))
            stop, step = draw(st.integers(start + 1, x.shape[axis])), draw(st.integers(1, 3))
            return x[(slice(None),) * axis + (slice(start, stop, step),)]
        case "cat":
            other: Traced = draw(traces(depth - 1))
            fill = other.moved(lambda a: np.resize(a, x.shape))
            return cat(x, fill, axis=draw(st.integers(0, len(x.shape) - 1)))
        case "scale":
            return x.times(draw(st.sampled_from([1.0, 2.0, -0.5])), draw(st.sampled_from([0.0, 1.0])))
        case _:
            order = np.array(draw(st.permutations(range(x.shape[0]))))
            return x[order]


def _shapes(size: int) -> st.SearchStrategy[Shape]:
    two: list[Shape] = [(a, size // a) for a in range(2, size) if size % a == 0]
    three: list[Shape] = [(a, b, size // a // b) for a in (2, 3, 4) for b in (2, 3) if size % (a * b) == 0]
    return st.sampled_from([(size,), *two, *three])


@settings(deadline=None, max_examples=300)  # the first call pays for torch
@given(traces())
def test_any_map_is_met_exactly(traced: Traced) -> None:
    found(traced, a=(24,), b=(4, 6), c=(2, 3, 4))


@given(st.lists(st.integers(-1, 23), min_size=6, max_size=48), st.data())
@settings(deadline=None)
def test_a_map_without_any_order_is_met_exactly(entries: list[int], data: st.DataObject) -> None:
    index = np.array(entries)
    scales = np.array(data.draw(st.lists(st.sampled_from([1.0, 3.0]), min_size=len(index), max_size=len(index))))
    which = np.where(index < 0, -1, index % 2)
    traced = Traced(which, np.maximum(index, 0), np.where(which < 0, 0.0, scales), np.where(which < 0, 5.0, 0.0))
    expr = found(traced, a=(24,), b=(4, 6))
    assert expr == expression(as_map(traced, (Source("a", (24,)), Source("b", (4, 6)))))


# What leaves may be


def test_leaves_may_be_any_expressions() -> None:
    v, g = Source("v", (8, 6)), Source("g", (8, 1))
    normed = Product((g, v, Elementwise(Reduce(v, "norm", (1,), keepdim=True), "reciprocal")))
    assert text(expression(as_map(cat(Q, K), (normed, v)))) == "cat(weight_norm(g, v), v)"
    assert text(expression(as_map(Q[2:4], (normed, v)))) == "weight_norm(g, v)[2:4]"


def test_what_is_inside_a_leaf_is_not_taken_for_what_is_done_with_it() -> None:
    w = Source("w", (8, 6))
    leaves = (w, Affine(w, 2.0), Reshape(w, (6, 8)))
    assert expression(as_map(Q.times(2.0), leaves)) == Affine(w, 2.0)
    assert expression(as_map(K, leaves)) == Affine(w, 2.0)
    assert expression(as_map(leaf(2, 6, 8).reshape(8, 6), leaves)) == w


def test_a_leaf_given_twice_is_no_trouble() -> None:
    w = Source("w", (8, 6))
    assert text(expression(as_map(cat(Q, K), (w, w)))) == "cat(w, w)"


def test_a_repetition_without_end_is_gathered() -> None:
    expr = found(leaf(0, 1).moved(lambda x: np.repeat(x, 100)), w=(1,))
    assert text(expr) == "gather(w, 100 indices)"


def test_a_weight_without_elements_has_an_expression() -> None:
    assert expression(element_map((0, 3), (), 0, 0)).shape == (0, 3)


def test_a_shuffle_of_several_sources_is_one_gather_of_them() -> None:
    order = np.random.default_rng(1).permutation(24)
    expr = found(cat(leaf(0, 12), leaf(1, 12).times(2.0))[order], a=(12,), b=(12,))
    assert text(expr) == "gather(cat(a, 2 * b), 24 indices)"


@pytest.mark.parametrize(
    ("leaves", "index", "message"),
    [([0, 0], [0, 1], "leaf: shape"), ([0, 0, 1], [0, 1, 0], "there are 1 leaves"), ([0, 0, 0], [0, 1, 4], "outside")],
)
def test_a_map_that_cannot_be_is_refused(leaves: list[int], index: list[int], message: str) -> None:
    whole, real = np.array(index), np.ones(3)
    with pytest.raises(ValueError, match=message):
        expression(ElementMap((3,), (Source("w", (4,)),), np.array(leaves), whole, real, real))


def test_a_million_elements_take_little_time() -> None:
    traced = as_map(in_turn(8, *(pairs(leaf(n, 512, 680), 8) for n in range(3))), _wide("q", "k", "v"))
    start = time.process_time()
    expr = expression(traced)
    # measured 0.4 s; the bound is for a quadratic mistake, which takes minutes
    assert time.process_time() - start < 10
    assert all(not isinstance(part, Gather) for part in (expr, *children(expr)))


def _wide(*names: str) -> tuple[Expr, ...]:
    return tuple(Source(name, (512, 680)) for name in names)


def test_an_expression_that_is_not_the_map_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(of: Expr, start: int, digits: object, shape: Shape) -> Expr:
        return Reshape(of, shape)

    monkeypatch.setattr("automatch.synthesize.layout.moved", wrong)
    assert text(found(W.swap(0, 1), w=(8, 6))) == "gather(w, 48 indices)"
    assert text(found(W, w=(8, 6))) == "w"
