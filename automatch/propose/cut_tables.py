"""Tables of which the target holds fewer rows: not the first ones, but some further on.

Some models keep rows before the first position for padding, so that a table of as many positions is longer there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from automatch.core.expr import Resize, Slice, Source
from automatch.core.mapping import Entry, MappingRecord

FEW = 4
"""How many rows a table may be longer for every cut to be tried; of a longer one only the last rows are."""


def is_cut(entry: Entry) -> bool:
    """Whether an entry is made of the first rows of a longer table, and otherwise as it is."""
    expr = entry.expr
    if not isinstance(expr, Resize) or not isinstance(expr.of, Source) or len(expr.shape) < 2:
        return False
    return expr.of.shape[0] > expr.shape[0] and expr.of.shape[1:] == expr.shape[1:] and expr.fits[0] == "leading"


def cut_elsewhere(structural: MappingRecord) -> Iterator[MappingRecord]:
    """The mapping with every cut table made of rows further on; all tables by as many.

    Args:
        structural: What structure says.
    """
    spare = {_spare(entry) for entry in structural.entries if is_cut(entry)}
    for most in sorted(spare):
        for start in range(1, most + 1) if most <= FEW else (most,):
            entries = tuple(_from_row(entry, start) if is_cut(entry) else entry for entry in structural.entries)
            yield replace(structural, entries=entries)


def _spare(entry: Entry) -> int:
    """How many rows a cut leaves out."""
    assert isinstance(entry.expr, Resize)
    return entry.expr.of.shape[0] - entry.expr.shape[0]


def _from_row(entry: Entry, start: int) -> Entry:
    if _spare(entry) < start:
        return entry
    assert isinstance(entry.expr, Resize)
    reason = f"rows {start} to {start + entry.shape[0] - 1} of a table that is longer"
    evidence = replace(entry.evidence, reasons=(reason, *entry.evidence.reasons))
    return replace(entry, expr=Slice(entry.expr.of, 0, start, start + entry.shape[0]), evidence=evidence)
