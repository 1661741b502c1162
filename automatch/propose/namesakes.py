"""The same names and shapes: what is called alike on both sides is each other's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from automatch.core.expr import Source
from automatch.core.mapping import Entry, Evidence, MappingRecord

MOST = 0.5
"""The share of the target's keys from which on equal names are no chance."""


def namesakes(structural: MappingRecord) -> Iterator[MappingRecord]:
    """The mapping in which every weight is made of its namesake, where most have one; the others stay as they are.

    Args:
        structural: What structure says.
    """
    shapes = {key: weight.shape for weight in structural.source.weights for key in weight.keys}
    own = [entry for entry in structural.entries if shapes.get(entry.target) == entry.shape]
    if len(own) <= MOST * len(structural.entries):
        return
    named = {entry.target: _copied(entry) for entry in own}
    yield replace(structural, entries=tuple(named.get(entry.target, entry) for entry in structural.entries))


def _copied(entry: Entry) -> Entry:
    expr = Source(entry.target, entry.shape)
    if entry.expr == expr:
        return entry
    evidence = Evidence("names", ("the source has a weight of this name and shape",))
    return replace(entry, expr=expr, status="structural", evidence=evidence)
