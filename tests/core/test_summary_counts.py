from __future__ import annotations

import pytest

from automatch.core.expr import Concat, Constant, Expr, Permute, Reshape, Resize, Slice, Source
from automatch.core.mapping import MappingRecord, Side
from automatch.core.summary import Kind, kind, summarise
from tests.apply.records import entry, whole

W = Source("w", (4, 4))
SMALL = Resize(W, (2, 2), ("leading", "leading"), 2.0)
FRAME = Resize(Slice(Source("patch", (4, 3, 3, 2, 2)), 2, 1, 2), (2, 3, 1, 2, 2), ("leading",) + ("keep",) * 4)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (None, "unmapped"),
        (Concat((Constant(0.0, (2,)), Constant(1.0, (2,)))), "from constants"),
        (Reshape(FRAME, (2, 3, 2, 2)), "conv3d to conv2d"),
        (Concat((SMALL, SMALL)), "concatenated"),
        (Resize(Concat((W, W)), (4, 4), ("leading", "keep")), "concatenated"),
        (SMALL, "resized"),
        (Permute(SMALL, (1, 0)), "resized"),
        (Permute(W, (1, 0)), "rearranged"),
        (Concat((W,)), "rearranged"),
        (W, "renamed"),
        (Source("key", (4, 4)), "same name"),
    ],
)
def test_an_entry_is_what_is_most_telling_about_it(expr: Expr | None, expected: Kind) -> None:
    assert kind(entry("key", expr)) == expected


def test_every_entry_falls_in_one_row() -> None:
    summary = summarise(whole())
    assert dict(summary.rows) == {
        "same name": 1,
        "renamed": 1,
        "rearranged": 6,
        "resized": 0,
        "concatenated": 2,
        "conv3d to conv2d": 1,
        "from constants": 3,
        "unmapped": 1,
    }
    assert dict(summary.statuses) == {"proved": 2, "structural": 9, "guessed": 3, "unmapped": 1}
    assert sum(count for _, count in summary.rows) == sum(count for _, count in summary.statuses) == 15


def test_what_is_concatenated_and_resized_counts_as_both_apart_from_its_row() -> None:
    summary = summarise(whole())
    assert (summary.concatenated, summary.resized) == (2, 0)
    assert (summary.all_concatenated, summary.all_resized) == (2, 2)


def test_the_transfer_rate_is_the_share_of_keys_and_of_scalars() -> None:
    summary = summarise(whole())
    assert (summary.mapped, summary.total) == (14, 15)
    assert summary.transfer_rate == pytest.approx(14 / 15)
    assert summary.elements - summary.mapped_elements == 1 * 5 * 4
    assert summary.element_rate == pytest.approx(summary.mapped_elements / (summary.mapped_elements + 20))


def test_a_target_without_weights_has_a_rate_of_zero() -> None:
    empty = summarise(MappingRecord(Side("a", "names", ()), Side("b", "names", ()), ()))
    assert (empty.total, empty.transfer_rate, empty.element_rate) == (0, 0.0, 0.0)
    assert "nothing to judge" in str(empty)


def test_the_table_reads_as_a_table() -> None:
    first, *table = str(summarise(whole())).split("\n")
    assert first.startswith("not run: ")
    assert table == [
        "same name              1",
        "renamed                1",
        "rearranged             6",
        "resized                0",
        "concatenated           2",
        "conv3d to conv2d       1",
        "from constants         3",
        "unmapped               1",
        "total                 15",
        "transferred           14 of 15 (93.3% of weights, 93.7% of scalars)",
        "status             2 proved, 9 structural (2 cut), 3 guessed, 1 unmapped",
        "all in all         2 concatenated, 2 resized",
        "unused sources         1 of 16",
    ]
