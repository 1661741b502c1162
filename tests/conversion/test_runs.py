from __future__ import annotations

import tracemalloc
from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from automatch.apply.evaluate import evaluate
from automatch.conversion.runs import FEW, Runs, find_runs
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
    source_leaves,
)
from automatch.core.expr_rewrite import only_moves
from tests.apply.expressions import expressions


def spelled(runs: Runs) -> list[tuple[str, int, int]]:
    return [
        (runs.keys[which], start, count)
        for which, start, count in zip(runs.which.tolist(), runs.starts.tolist(), runs.counts.tolist(), strict=True)
    ]


@settings(deadline=None, max_examples=300)
@given(expressions())
def test_the_runs_of_a_movement_are_its_entries_in_order(expr: Expr) -> None:
    runs = find_runs(expr, 1)
    if not only_moves(expr):
        assert runs is None
        return
    assert runs is not None
    keys = list(dict.fromkeys(leaf.key for leaf in source_leaves(expr)))
    shapes = {leaf.key: leaf.shape for leaf in source_leaves(expr)}
    weights = {
        key: (torch.arange(prod(shapes[key])) + 1000 * number).reshape(shapes[key]) for number, key in enumerate(keys)
    }
    found = [1000 * keys.index(key) + start + step for key, start, count in spelled(runs) for step in range(count)]
    assert found == evaluate(expr, weights.__getitem__).reshape(-1).tolist()
    assert all((a[0], a[1] + a[2]) != (b[0], b[1]) for a, b in pairwise(spelled(runs)))


Q, K = Source("q", (1000, 8)), Source("k", (999, 8))


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (Q, [("q", 0, 8000)]),
        (Reshape(Reshape(Q, (80, 100)), (8, 1000)), [("q", 0, 8000)]),
        (Concat((Q, K)), [("q", 0, 8000), ("k", 0, 7992)]),
        (Concat((Slice(Q, 0, 0, 3), Slice(Q, 0, 3, 1000))), [("q", 0, 8000)]),
        (Concat((Source("a", (5,)), Source("b", (4,)), Source("a", (5,)))), [("a", 0, 5), ("b", 0, 4), ("a", 0, 5)]),
        (Concat((Source("a", (2, 3)), Source("b", (2, 2))), 1), [("a", 0, 3), ("b", 0, 2), ("a", 3, 3), ("b", 2, 2)]),
        (Concat((Source("a", (2, 0)), Source("b", (2, 2)), Source("c", (2, 0))), 1), [("b", 0, 4)]),
        (Permute(Source("a", (1, 50, 1)), (1, 2, 0)), [("a", 0, 50)]),
        (Permute(Permute(Source("a", (900, 800)), (1, 0)), (1, 0)), [("a", 0, 720000)]),
        (Permute(Source("a", (2, 2, 9)), (1, 0, 2)), [("a", 0, 9), ("a", 18, 9), ("a", 9, 9), ("a", 27, 9)]),
        (Gather(Source("a", (4, 4)), (6,), (4, 5, 6, 1, 2, 2)), [("a", 4, 3), ("a", 1, 2), ("a", 2, 1)]),
        (Resize(Source("a", (3, 4)), (7, 4), ("tile", "keep")), [("a", 0, 12), ("a", 0, 12), ("a", 0, 4)]),
        (Resize(Source("a", (6, 4)), (2, 4), ("middle", "keep")), [("a", 8, 8)]),
        (Source("a", ()), [("a", 0, 1)]),
        (Source("a", (0, 4)), []),
    ],
)
def test_runs_are_as_long_as_can_be(expr: Expr, expected: list[tuple[str, int, int]]) -> None:
    runs = find_runs(expr, 1)
    assert runs is not None
    assert spelled(runs) == expected


@pytest.mark.parametrize(
    "expr",
    [
        Constant(1.0, (4,)),
        Affine(Source("a", (4,)), 2.0),
        Concat((Source("a", (4,)), Constant(0.0, (4,)))),
        Resize(Source("a", (4,)), (6,), ("pad",)),
        Resize(Source("a", (4,)), (4,), ("keep",), scale=2.0),
    ],
)
def test_what_computes_or_fills_has_no_runs(expr: Expr) -> None:
    assert find_runs(expr, 1) is None


def test_a_huge_transpose_is_refused_without_memory() -> None:
    expr = Concat((Permute(Source("a", (40000, 50000)), (1, 0)), Permute(Source("b", (40000, 50000)), (1, 0))))
    tracemalloc.start()
    assert find_runs(expr, 8192) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20  # nor time: a list of its 2 billion runs would take gigabytes


def test_a_number_repeated_without_end_is_refused_without_memory() -> None:
    filled = Resize(Source("w", (1, 1)), (10**6, 10**7), ("tile", "tile"))
    tracemalloc.start()
    assert find_runs(filled, 4096) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_runs_that_are_too_short_on_average_are_refused_unless_they_are_few() -> None:
    heads = FEW + 1
    swapped = Permute(Source("a", (2, heads, 100)), (1, 0, 2))
    assert find_runs(swapped, 101) is None
    assert find_runs(swapped, 100) is not None
    few = Permute(Source("a", (2, FEW // 2, 100)), (1, 0, 2))
    assert find_runs(few, 101) is not None


def test_pieces_that_are_joined_again_do_not_count() -> None:
    w = Source("w", (300, 200))
    halves = Concat((Slice(w, 1, 0, 100), Slice(w, 1, 100, 200)), 1)
    runs = find_runs(halves, 200)
    assert runs is not None
    assert spelled(runs) == [("w", 0, 60000)]
    assert runs.counts.dtype == np.int64
