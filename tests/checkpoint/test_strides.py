from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from automatch.checkpoint.strides import fits, place
from automatch.core.expr import Expr, Permute, Reshape, Slice, Source

Entries = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def evaluated(expr: Expr, block: Entries) -> Entries:
    match expr:
        case Source():
            return block
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return np.take(evaluated(of, block), range(start, stop), axis)
        case Permute(of=of, axes=axes):
            return evaluated(of, block).transpose(axes)
        case Reshape(of=of, shape=shape):
            return evaluated(of, block).reshape(shape)
        case _:
            raise AssertionError(expr)


def seen(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, storage: Entries) -> Entries:
    return as_strided(storage[offset:], shape, [stride * storage.itemsize for stride in strides])


@st.composite
def views(draw: st.DrawFn) -> tuple[int, Entries]:
    """A storage's length, and some view of the whole that torch could save."""
    room = draw(st.integers(0, 3))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    count = int(np.prod(shape))
    held: Entries = np.arange(count + 2 * room)[room : room + count].reshape(shape)
    for axis, size in enumerate(shape):
        start = draw(st.integers(0, size - 1))
        held = held[
            (slice(None),) * axis + (slice(start, draw(st.integers(start + 1, size)), draw(st.integers(1, 2))),)
        ]
    return count + 2 * room, held.transpose(draw(st.permutations(range(len(shape)))))


@given(views())
@settings(max_examples=400, deadline=None)
def test_a_placed_view_is_the_view_that_was_saved(drawn: tuple[int, Entries]) -> None:
    count, view = drawn
    storage: Entries = np.arange(count)
    strides = tuple(stride // storage.itemsize for stride in view.strides)
    offset = int(view.reshape(-1)[0])
    assert fits(view.shape, strides, offset, count)
    placed = place("w", view.shape, strides, offset, count)
    assume(placed is not None)
    assert placed is not None
    size = int(np.prod(placed.block))
    assert 0 <= placed.start <= placed.start + size <= count
    block = storage[placed.start : placed.start + size].reshape(placed.block)
    assert placed.view.shape == view.shape
    np.testing.assert_array_equal(evaluated(placed.view, block), view)


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "view"),
    [
        ((4, 6), (6, 1), 0, Source("w", (4, 6))),
        ((4, 1, 6), (6, 99, 1), 0, Source("w", (4, 1, 6))),
        ((6, 4), (1, 6), 0, Permute(Source("w", (4, 6)), (1, 0))),
        ((2, 6), (6, 1), 6, Source("w", (2, 6))),
        ((4, 2), (6, 1), 1, Slice(Source("w", (4, 6)), 1, 1, 3)),
        ((2, 4), (1, 6), 4, Permute(Slice(Source("w", (4, 6)), 1, 4, 6), (1, 0))),
        ((12,), (2,), 0, Reshape(Slice(Source("w", (12, 2)), 1, 0, 1), (12,))),
        ((), (), 5, Source("w", ())),
        ((0, 3), (3, 1), 0, Source("w", (0, 3))),
        ((6, 1, 4), (1, 24, 6), 0, Reshape(Permute(Source("w", (4, 6)), (1, 0)), (6, 1, 4))),
    ],
)
def test_the_usual_views_are_short_expressions(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, view: Expr
) -> None:
    placed = place("w", shape, strides, offset, 24)
    assert placed is not None
    assert placed.view == view
    storage = np.arange(24)
    block = storage[placed.start : placed.start + int(np.prod(placed.block))].reshape(placed.block)
    np.testing.assert_array_equal(evaluated(placed.view, block), seen(shape, strides, offset, storage))


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((5,), (0,)), ((3, 3), (1, 1)), ((3, 3), (2, 1)), ((2, 3), (5, 2)), ((2, 2, 2), (8, 3, 1)), ((3,), (12,))],
)
def test_entries_that_share_places_or_fill_no_block_have_no_view(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    assert place("w", shape, strides, 0, 25) is None


@pytest.mark.parametrize(("shape", "strides", "offset"), [((4, 6), (6, 1), 1), ((), (), 24), ((2,), (24,), 0)])
def test_a_tensor_that_leaves_its_storage_is_noticed(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    assert not fits(shape, strides, offset, 24)
