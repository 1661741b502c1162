from __future__ import annotations

import os
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automatch.conversion.regions import Box, extents, leaf_boxes, run_length
from automatch.conversion.tiles import tiles, write_box
from automatch.core.expr import Concat, Expr, Gather, Permute, Reduce, Reshape, Slice, Source
from tests.apply.expressions import expressions

W = Source("w", (4096, 4096))


@settings(deadline=None)
@given(expressions(), st.integers(1, 8), st.integers(1, 200))
def test_tiles_hold_every_entry_once_in_order_and_no_more_than_they_may(expr: Expr, itemsize: int, budget: int) -> None:
    seen = torch.zeros(expr.shape, dtype=torch.int64)
    found = list(tiles(expr, itemsize, budget))
    for box in found:
        seen[tuple(slice(*bounds) for bounds in box)] += 1
        assert prod(extents(box)) * itemsize <= max(budget, itemsize)
    assert bool((seen == 1).all())
    assert [tuple(start for start, _ in box) for box in found] == sorted(tuple(s for s, _ in box) for box in found)


def test_a_tensor_without_entries_has_no_tiles() -> None:
    assert list(tiles(Source("w", (3, 0)), 2, 100)) == []


def needed(expr: Expr, box: Box) -> int:
    return sum(prod(extents(inner)) for _, inner in leaf_boxes(expr, box))


@pytest.mark.parametrize(
    ("expr", "written", "read"),
    [
        (W, 4096 * 64, 4096 * 64),
        (Permute(W, (1, 0)), 512, 512),
        (Concat((Permute(W, (1, 0)), Permute(W, (1, 0)))), 512, 512),
        (Permute(Source("w", (3, 3, 1024, 1024)), (3, 2, 0, 1)), 9 * 32, 512),
        (Permute(Source("w", (1024, 1024, 3, 3)), (2, 3, 1, 0)), 512, 9 * 32),
        (Reshape(Permute(Reshape(W, (64, 2, 32, 4096)), (0, 2, 1, 3)), (4096, 4096)), 4096 * 64, 4096 * 32),
        (Reshape(Permute(Reshape(W, (2, 2048, 4096)), (1, 0, 2)), (4096, 4096)), 4096 * 64, 4096 * 32),
        (Reshape(Permute(Reshape(W, (2048, 2, 4096)), (1, 0, 2)), (4096, 4096)), 4096 * 64, 4096),
        (Permute(Source("w", (4096, 32, 128)), (1, 0, 2)), 4096, 128),
        (Slice(Source("w", (4096, 8192)), 1, 0, 4096), 4096 * 64, 4096),
    ],
)
def test_a_tile_is_written_and_read_in_long_runs_and_reads_no_more_than_it_holds(
    expr: Expr, written: int, read: int
) -> None:
    found = list(tiles(expr, 2, 2**19))
    for box in found:
        leaves = list(leaf_boxes(expr, box))
        assert run_length(expr.shape, box) >= written
        assert min(run_length(leaf.shape, inner) for leaf, inner in leaves) >= read
        assert needed(expr, box) == prod(extents(box)) <= 2**18
    assert len(found) <= 2 * prod(expr.shape) // 2**18


def test_tiles_whose_axes_are_reduced_read_no_more_than_one_of_their_entries_needs_beyond_the_budget() -> None:
    expr = Reduce(Source("w", (64, 1000)), "sum", (1,))
    assert [needed(expr, box) for box in tiles(expr, 4, 40000)] == [8000] * 8


def test_gathered_tensors_are_cut_into_rows() -> None:
    expr = Gather(Source("w", (1000,)), (10, 100), tuple(range(999, -1, -1)))
    assert list(tiles(expr, 4, 1600)) == [((start, min(start + 4, 10)), (0, 100)) for start in (0, 4, 8)]


def test_boxes_written_one_by_one_make_the_whole(tmp_path: Path) -> None:
    whole = torch.arange(5 * 7 * 3, dtype=torch.int16).reshape(5, 7, 3)
    expr = Permute(Source("w", (3, 7, 5)), (2, 1, 0))
    target = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    try:
        for box in tiles(expr, 2, 30):
            write_box(target, 6, expr.shape, box, whole[tuple(slice(*bounds) for bounds in box)].contiguous())
    finally:
        os.close(target)
    assert (tmp_path / "out").read_bytes() == bytes(6) + whole.numpy().tobytes()


def test_a_scalar_is_written_as_it_is(tmp_path: Path) -> None:
    target = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    write_box(target, 0, (), (), torch.tensor(7.0, dtype=torch.bfloat16))
    os.close(target)
    assert (tmp_path / "out").read_bytes() == b"\xe0\x40"


def test_a_full_disk_is_said_by_the_system() -> None:
    target = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            write_box(target, 0, (4,), ((0, 4),), torch.ones(4))
    finally:
        os.close(target)


def test_an_entry_out_of_a_larger_tensor_is_written_alone(tmp_path: Path) -> None:
    target = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    write_box(target, 0, (1, 1), ((0, 1), (0, 1)), torch.arange(6, dtype=torch.int16).reshape(3, 2)[1:2, 1:])
    write_box(target, 2, (1, 1), ((0, 1), (0, 1)), torch.arange(6, dtype=torch.int16).reshape(3, 2).T[1:, 1:2])
    os.close(target)
    assert (tmp_path / "out").read_bytes() == bytes((3, 0, 3, 0))
