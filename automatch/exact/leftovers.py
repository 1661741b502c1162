"""Weights that neither gradients nor structure speak of: the few pairings that are left, to be tried one by one.

A codebook that is only searched, a scale that only an unpaired output has. Where as many source weights are unused as
target weights are open, of one shape, one of the pairings between them must be meant. A run of both models may tell
which; where it cannot, the first stands as a guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, permutations, product

from automatch.core.expr import Source
from automatch.core.graph import Shape
from automatch.core.mapping import Entry, Evidence, MappingRecord, Rival

_MOST = 6  # pairings that are tried


def completed(record: MappingRecord) -> Iterator[MappingRecord]:
    """The record with its open weights filled in, likeliest first; as it is where nothing can be filled in.

    Open are weights without a source, and those that structure only guessed at.
    """
    open_ = _by_shape(record)
    unused = _unused(record)
    groups = [
        (targets, unused[shape]) for shape, targets in open_.items() if len(unused.get(shape, ())) == len(targets)
    ]
    if not groups:
        yield record
        return
    orders = (islice(permutations(sources), _MOST) for _, sources in groups)  # a product keeps all that it is given
    for choice in islice(product(*orders), _MOST):
        filled: dict[str, Entry] = {}
        for (targets, sources), order in zip(groups, choice, strict=True):
            for entry, source in zip(targets, order, strict=True):
                filled[entry.target] = _guess(entry, source, sources)
        yield replace(record, entries=tuple(filled.get(entry.target, entry) for entry in record.entries))


def _by_shape(record: MappingRecord) -> dict[Shape, list[Entry]]:
    found: dict[Shape, list[Entry]] = {}
    for entry in record.entries:
        if entry.status == "unmapped" or (entry.status == "guessed" and entry.evidence.method == "structure"):
            found.setdefault(entry.shape, []).append(entry)
    return found


def _unused(record: MappingRecord) -> dict[Shape, list[str]]:
    """Source weights that no settled entry reads, by shape; those that open entries guess at come first."""
    settled = {
        key
        for entry in record.entries
        if entry.status not in ("guessed", "unmapped") or entry.evidence.method != "structure"
        for key in entry.sources
    }
    found: dict[Shape, list[str]] = {}
    for weight in record.source.weights:
        if settled.isdisjoint(weight.keys):
            found.setdefault(weight.shape, []).append(weight.name)
    return found


def _guess(entry: Entry, source: str, candidates: list[str]) -> Entry:
    reason = "of its shape, as many source weights are unused as target weights are open"
    rivals = tuple(Rival((other,), "no output tells them apart") for other in candidates if other != source)
    evidence = Evidence("structure", (reason, *entry.evidence.reasons), rivals=rivals)
    return replace(entry, status="guessed", expr=Source(source, entry.shape), evidence=evidence)
