"""All proposals, likeliest first. Each is a whole mapping; none is believed before a run of both models agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from automatch.core.mapping import MappingRecord
from automatch.propose.cut_tables import cut_elsewhere
from automatch.propose.namesakes import namesakes
from automatch.propose.shipped import shipped

KINDS: tuple[Callable[[MappingRecord], Iterator[MappingRecord]], ...] = (namesakes, cut_elsewhere, shipped)
"""What proposes, beside structure itself; each from the structural mapping, cheapest first."""


def proposals(structural: MappingRecord) -> Iterator[MappingRecord]:
    """The mappings that are worth a run before anything is searched: the structural one, then others.

    Args:
        structural: What structure says.

    Yields:
        Mappings with an entry for every key of the target; none twice.
    """
    seen = [_read(structural)]
    yield structural
    for kind in KINDS:
        for record in kind(structural):
            if _read(record) not in seen:
                seen.append(_read(record))
                yield record


def _read(record: MappingRecord) -> tuple[object, ...]:
    return tuple(entry.expr for entry in record.entries)
