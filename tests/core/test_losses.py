"""What a resized weight lost, and where people see it."""

from __future__ import annotations

import pytest

from automatch.core.expr import Concat, Constant, Expr, Fit, Resize, Slice, Source
from automatch.core.losses import Loss, losses
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.core.summary import summarise

W = Source("w", (4, 4))


@pytest.mark.parametrize(
    ("fit", "size", "loss"),
    [
        ("leading", 2, "cut"),
        ("middle", 2, "cut"),
        ("tile", 6, "repeated"),
        ("pad", 6, "filled"),
        ("zeros", 6, "filled"),
        ("mean", 6, "filled"),
        ("cubic", 6, "interpolated"),
    ],
)
def test_every_fit_that_changes_a_size_is_a_loss(fit: Fit, size: int, loss: Loss) -> None:
    assert losses(Concat((W, Resize(W, (4, size), ("keep", fit))), axis=1)) == (loss,)
    assert losses(Resize(W, (4, 4), ("keep", "keep" if fit != "cubic" else fit))) == ()


@pytest.mark.parametrize("expr", [None, W, Slice(W, 0, 1, 2), Constant(1.0, (2,)), Concat((W, W))])
def test_what_only_moves_loses_nothing(expr: Expr | None) -> None:
    assert losses(expr) == ()


def test_a_factor_alone_makes_up_for_what_was_left_out_before() -> None:
    assert losses(Resize(Slice(W, 0, 1, 2), (1, 4), ("keep", "keep"), 1.4)) == ("cut",)


def test_losses_stand_beside_the_status_and_are_counted() -> None:
    exact = Entry("a", (4, 4), "float32", "structural", W, Evidence("structure"))
    expr = Resize(W, (2, 6), ("leading", "zeros"))
    lossy = Entry("b", (2, 6), "float32", "structural", expr, Evidence("structure"))
    assert (exact.standing, lossy.standing) == ("structural", "structural, cut, filled")
    summary = summarise(MappingRecord(Side("s", "names", ()), Side("t", "names", ()), (exact, lossy)))
    assert summary.losses == (("structural", "cut", 1), ("structural", "filled", 1))
    assert "2 structural (1 cut, 1 filled)" in str(summary)
