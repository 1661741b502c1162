"""What the shipped conversions say of two models that they know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from automatch.core.mapping import Entry, Evidence, MappingRecord
from automatch.known.fit import Fit, fits
from automatch.known.library import library

MOST = 0.9
"""The share of the target's keys that a conversion must determine to be worth a run."""


def shipped(structural: MappingRecord) -> Iterator[MappingRecord]:
    """The mappings of known conversions that speak of nearly all keys; structure says the rest.

    Args:
        structural: What structure says.
    """
    for fit in fits(library(), structural.source, structural.target, MOST):
        yield replace(structural, entries=tuple(_known(entry, fit) for entry in structural.entries))


def _known(entry: Entry, fit: Fit) -> Entry:
    found = fit.entries.get(entry.target)
    if found is None or found.expr == entry.expr:
        return entry
    return replace(entry, expr=found.expr, status="guessed", evidence=Evidence("rules", (f"as in {fit.title}",)))
