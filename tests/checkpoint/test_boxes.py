from __future__ import annotations

from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.checkpoint.boxes import Box, joined
from automatch.core.expr import Concat, Expr, Source

Entries = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def evaluated(expr: Expr, blocks: dict[str, Entries]) -> Entries:
    match expr:
        case Source(key=key):
            return blocks[key]
        case Concat(parts=parts, axis=axis):
            return np.concatenate([evaluated(part, blocks) for part in parts], axis)
        case _:
            raise AssertionError(expr)


@st.composite
def cut(draw: st.DrawFn) -> tuple[Entries, list[Box]]:
    """A tensor, and boxes that it falls into when it is cut through again and again."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    boxes = [Box((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 6))):
        box = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        axis = draw(st.integers(0, len(shape) - 1))
        first = draw(st.integers(0, box.sizes[axis]))
        if first in (0, box.sizes[axis]):
            boxes.append(box)
            continue
        for offset, size in ((0, first), (first, box.sizes[axis] - first)):
            offsets, sizes = list(box.offsets), list(box.sizes)
            offsets[axis], sizes[axis] = offsets[axis] + offset, size
            boxes.append(Box(tuple(offsets), tuple(sizes)))
    return np.arange(int(np.prod(shape))).reshape(shape), draw(st.permutations(boxes))


def parts_of(boxes: list[Box]) -> list[tuple[Box, Expr]]:
    return [(box, Source(str(place), box.sizes)) for place, box in enumerate(boxes)]


@given(cut())
def test_parts_are_put_together_as_they_were_cut(drawn: tuple[Entries, list[Box]]) -> None:
    tensor, boxes = drawn
    ends = [tuple(map(add, box.offsets, box.sizes)) for box in boxes]
    slices = [tuple(map(slice, box.offsets, end)) for box, end in zip(boxes, ends, strict=True)]
    blocks = {str(place): tensor[part] for place, part in enumerate(slices)}
    whole = Box((0,) * tensor.ndim, tensor.shape)
    np.testing.assert_array_equal(evaluated(joined(whole, parts_of(boxes)), blocks), tensor)


@given(cut())
def test_a_missing_part_is_a_gap(drawn: tuple[Entries, list[Box]]) -> None:
    tensor, boxes = drawn
    with pytest.raises(ValueError, match="leave a gap"):
        joined(Box((0,) * tensor.ndim, tensor.shape), parts_of(boxes)[1:])


@pytest.mark.parametrize(
    ("boxes", "problem"),
    [
        ([Box((0,), (3,)), Box((2,), (2,))], "overlap or are interlocked"),
        ([Box((0,), (2,)), Box((2,), (3,))], "reach outside"),
        ([Box((1,), (3,))], "leave a gap"),
        ([Box((0,), (1,)), Box((2,), (2,))], "leave a gap"),
        ([], "leave a gap"),
    ],
)
def test_parts_that_do_not_fill_the_tensor_once_are_refused(boxes: list[Box], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        joined(Box((0,), (4,)), parts_of(boxes))


def test_interlocked_parts_are_refused() -> None:
    wheel = [Box((0, 0), (1, 2)), Box((0, 2), (2, 1)), Box((2, 1), (1, 2)), Box((1, 0), (2, 1)), Box((1, 1), (1, 1))]
    with pytest.raises(ValueError, match="interlocked"):
        joined(Box((0, 0), (3, 3)), parts_of(wheel))
