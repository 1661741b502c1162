"""A source that may be fused of several target weights makes none of them surely."""

from __future__ import annotations

import pytest

from automatch.core.expr import Expr, Resize, Source
from automatch.core.mapping import Entry, Evidence
from automatch.synthesize.fused import with_fused

FUSED = Resize(Source("qkv", (24, 8)), (8, 8), ("leading", "keep"))


def entry(target: str, expr: Expr | None, shape: tuple[int, ...] = (8, 8)) -> Entry:
    return Entry(target, shape, "float32", "structural" if expr else "unmapped", expr, Evidence("structure"))


OUT = entry("out", Source("out", (8, 8)))


def test_the_first_rows_of_what_may_be_fused_are_a_guess() -> None:
    query, key, _ = with_fused([entry("q", FUSED), entry("k", None), OUT])
    assert query.status == "guessed"
    assert "it may hold them as well" in query.evidence.reasons[0]
    assert (key.status, key.expr) == ("unmapped", None)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("q", FUSED), OUT],  # nothing is left open
        [entry("q", FUSED), entry("k", None, (4, 8)), OUT],  # what is, has another shape
        [entry("q", FUSED), entry("k", None)],  # a narrower model: no weight keeps this size
        [entry("q", Resize(Source("w", (20, 8)), (8, 8), ("leading", "keep"))), entry("k", None), OUT],  # no multiple
        [entry("q", Source("w", (8, 8))), entry("k", None), OUT],
    ],
)
def test_other_cuts_stay_what_they_are(entries: list[Entry]) -> None:
    assert with_fused(entries) == tuple(entries)
