from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automatch.apply.evaluate import evaluate
from automatch.core.alignment import Region, View
from automatch.core.expr import Affine, Concat, Expr, Permute, Reshape, Slice, Source, text
from automatch.core.graph import Shape
from automatch.synthesize.build import affine, join, permute, reshape, seen, seen_shape, stored, take

Array = npt.NDArray[np.float64]
W = Source("w", (6, 4))


def numbered(shape: Shape) -> Array:
    return np.arange(float(prod(shape))).reshape(shape)


def run(expr: Expr, **weights: Array) -> Array:
    found: Array = evaluate(expr, lambda key: torch.tensor(weights[key])).numpy()
    return found


# Nothing is written that does nothing


def test_steps_that_do_nothing_are_left_out() -> None:
    assert permute(W, (0, 1)) is W
    assert reshape(W, (6, 4)) is W
    assert affine(W, 1.0, 0.0) is W
    assert take(W, Region(0, 0, 6)) is W
    assert join([W], 0, 1) is W


def test_steps_that_undo_each_other_are_left_out() -> None:
    assert permute(permute(W, (1, 0)), (1, 0)) is W
    assert reshape(reshape(W, (24,)), (6, 4)) is W
    assert affine(affine(W, 2.0, 1.0), 0.5, -0.5) is W


def test_steps_of_one_kind_become_one() -> None:
    cube = Source("w", (2, 3, 4))
    assert permute(permute(cube, (2, 0, 1)), (2, 0, 1)) == Permute(cube, (1, 2, 0))
    assert reshape(reshape(cube, (24,)), (4, 6)) == Reshape(cube, (4, 6))
    assert affine(affine(W, 2.0, 1.0), 3.0, 1.0) == Affine(W, 6.0, 4.0)


def test_rows_of_one_group_are_a_slice() -> None:
    assert take(W, Region(0, 2, 5)) == Slice(W, 0, 2, 5)
    assert take(W, Region(1, 0, 3)) == Slice(W, 1, 0, 3)


def test_rows_of_several_groups_are_taken_in_each() -> None:
    found = take(W, Region(0, 1, 2, 3))
    assert text(found) == "w.reshape(3, 2, 4)[:, 1:2].reshape(3, 4)"
    assert np.array_equal(run(found, w=numbered((6, 4))), numbered((6, 4))[1::2])


def test_parts_in_turn_are_joined_in_each_group() -> None:
    parts = [Source(name, (4, 2)) for name in "qk"]
    found = join(list[Expr](parts), 0, 2)
    q, k = numbered((4, 2)), numbered((4, 2)) + 100
    assert np.array_equal(run(found, q=q, k=k), np.concatenate([q[:2], k[:2], q[2:], k[2:]]))


def test_parts_of_one_group_are_concatenated() -> None:
    parts = [Source(name, (4, 2)) for name in "qk"]
    assert join(list[Expr](parts), 1, 1) == Concat(tuple(parts), 1)


# What was cut apart is put together again as what it was


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_all_parts_of_a_weight_in_its_own_order_are_the_weight(groups: int) -> None:
    whole = Source("w", (12, 4))
    share = 12 // groups // 2
    parts = [take(whole, Region(0, 0, share, groups)), take(whole, Region(0, share, 2 * share, groups))]
    assert join(parts, 0, groups) is whole


@pytest.mark.parametrize(
    "regions",
    [
        [Region(0, 4, 8), Region(0, 0, 4)],
        [Region(0, 0, 4), Region(0, 4, 6)],
        [Region(0, 2, 4), Region(0, 4, 8)],
        [Region(0, 0, 4), Region(0, 0, 4)],
        [Region(0, 0, 4), Region(0, 5, 8)],
    ],
    ids=["swapped", "the end missing", "the start missing", "twice", "a gap"],
)
def test_other_parts_of_a_weight_are_not_the_weight(regions: list[Region]) -> None:
    whole = Source("w", (8, 4))
    found = join([take(whole, region) for region in regions], 0, 1)
    assert isinstance(found, Concat)
    rows = np.concatenate([numbered((8, 4))[region.start : region.stop] for region in regions])
    assert np.array_equal(run(found, w=numbered((8, 4))), rows)


def test_parts_of_different_weights_are_not_one_weight() -> None:
    first, second = Source("a", (8, 4)), Source("b", (8, 4))
    assert isinstance(join([take(first, Region(0, 0, 4)), take(second, Region(0, 4, 8))], 0, 1), Concat)


# Views, with numpy as the oracle


@st.composite
def viewed(draw: st.DrawFn) -> tuple[Shape, View]:
    """A stored shape and a view of it, without regions."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axes = tuple(draw(st.permutations(range(len(shape))))) if draw(st.booleans()) else ()
    size = prod(shape)
    shapes = [(size,), (1, size), *((part, size // part) for part in (2, 3, 4) if size % part == 0)]
    other = draw(st.sampled_from([None, *shapes]))
    scale, shift = draw(st.sampled_from([(1.0, 0.0), (1.0, 1.0), (2.0, 0.0), (-0.5, 3.0)]))
    return shape, View(axes=axes, shape=other, scale=scale, shift=shift)


def by_numpy(array: Array, view: View) -> Array:
    array = array.transpose(view.axes) if view.axes else array
    array = array.reshape(view.shape) if view.shape is not None else array
    return view.scale * array + view.shift


@given(viewed())
@settings(max_examples=150, deadline=None)
def test_an_operator_sees_what_the_view_says(case: tuple[Shape, View]) -> None:
    shape, view = case
    expr = seen(Source("w", shape), view)
    expected = by_numpy(numbered(shape), view)
    assert expr.shape == seen_shape(shape, view) == expected.shape
    assert np.array_equal(run(expr, w=numbered(shape)), expected)


@given(viewed())
@settings(max_examples=150, deadline=None)
def test_what_is_stored_is_seen_as_it_was_meant(case: tuple[Shape, View]) -> None:
    shape, view = case
    wanted = Source("v", seen_shape(shape, view))
    expr = stored(wanted, shape, view)
    assert expr.shape == shape
    assert np.allclose(by_numpy(run(expr, v=numbered(wanted.shape)), view), numbered(wanted.shape))


@given(viewed())
@settings(max_examples=150, deadline=None)
def test_a_weight_seen_and_stored_the_same_way_is_itself(case: tuple[Shape, View]) -> None:
    shape, view = case
    source = Source("w", shape)
    assert stored(seen(source, view), shape, view) == source


def test_regions_are_taken_first_then_axes_shape_and_rows() -> None:
    view = View(regions=(Region(0, 2, 6), Region(1, 0, 2)), axes=(1, 0), shape=(4, 2), rows=Region(0, 1, 3))
    array = numbered((6, 4))
    expected = array[2:6][:, 0:2].transpose(1, 0).reshape(4, 2)[1:3]
    assert np.array_equal(run(seen(W, view), w=array), expected)
