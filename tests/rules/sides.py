"""Models and mappings written down by their keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping

from automatch.core.expr import text
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side, Status
from automatch.rules.build import Scope, build
from automatch.rules.reading import read_term
from automatch.rules.splitting import numbered


def side(weights: Mapping[str, Shape], sizes: Mapping[str, int] | None = None, name: str = "Model") -> Side:
    """A model of these weights, which carries these sizes."""
    made = tuple(Weight(key, shape, "float32") for key, shape in weights.items())
    return Side(name, "names", made, sizes=tuple(sorted((sizes or {}).items())))


def mapping(
    source: Side, made: Mapping[str, str | None], status: Status = "proved", target: Side | None = None
) -> MappingRecord:
    """A mapping whose entries are written as terms without holes; None for an unmapped one.

    Args:
        source: The source.
        made: For every target key what it is made of, with its shape after ` -> ` where it is not the source's own.
        status: The status of mapped entries.
        target: The target; None for one that has the entries' weights and carries nothing.
    """
    entries = tuple(_entry(key, term, source, status) for key, term in made.items())
    given = target or side({entry.target: entry.shape for entry in entries}, name="Target")
    return MappingRecord(source, given, entries)


def _entry(key: str, term: str | None, source: Side, status: Status) -> Entry:
    if term is None:
        return Entry(key, (2,), "float32", "unmapped", None, Evidence("structure", ("no counterpart",)))
    written, _, sizes = term.partition(" -> ")
    known = numbered(source.weights)
    shape = tuple(map(int, sizes.split("x"))) if sizes else known.shape(written) or ()
    expr = build(read_term(written), Scope(known, {}, {}, shape))
    return Entry(key, shape, "float32", status, expr, Evidence("structure"))


def texts(record: MappingRecord) -> dict[str, str]:
    """For every target key the text of its expression, or why there is none."""
    return {
        entry.target: entry.evidence.reasons[0] if entry.expr is None else text(entry.expr) for entry in record.entries
    }
