"""Everything that a mapping says about one target weight, and the table of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from rich.console import RenderableType
from rich.text import Text

from automatch.core.expr import text
from automatch.core.mapping import Entry, MappingRecord, Rival
from automatch.errors import MappingError
from automatch.report.brief import RESIZED
from automatch.report.families import families
from automatch.report.render import facts, heading, status, table


def listing(record: MappingRecord) -> list[RenderableType]:
    """One row per target weight, rows that differ only in numbers shown once with their count."""
    rows, legend = families(record.entries)
    cells: list[list[str | Text]] = [
        [row.target, str(len(row.entries)), status(row.standing), row.expression or _why(row.entries)] for row in rows
    ]
    parts: list[RenderableType] = [
        heading("every target weight"),
        table(["target", "count", "status", "made from"], cells, right=["count"], whole=["count", "status"]),
    ]
    if legend:
        parts += [Text(""), *map(Text, legend)]
    if any(RESIZED in row.expression for row in rows):
        parts.append(Text(f"{RESIZED} resized to the target's size"))
    return parts


def select(record: MappingRecord, key: str) -> tuple[Entry, ...]:
    """Entries whose target is this key or fits it as a glob; failing that, those that read such a source key.

    Raises:
        MappingError: Neither side has such a key; near ones are named.
    """
    targets = tuple(entry for entry in record.entries if _fits(entry.target, key))
    if targets:
        return targets
    readers = tuple(entry for entry in record.entries if any(_fits(source, key) for source in entry.sources))
    if readers:
        return readers
    if any(_fits(source, key) for source in record.unused):
        raise MappingError(f"the source weight {key!r} is used by no target weight")
    near = get_close_matches(key, [entry.target for entry in record.entries], n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `automatch show MAPPING` lists them all"
    raise MappingError(f"no weight of the mapping is called {key!r}{hint}")


def detail(record: MappingRecord, entry: Entry) -> list[RenderableType]:
    """Expression, status and evidence of one entry."""
    size = " ".join([str(list(entry.shape)), entry.dtype])
    return [
        heading(f"{entry.target}  {size}"),
        facts((name, _cell(name, value)) for name, value in _facts(record, entry)),
    ]


def _facts(record: MappingRecord, entry: Entry) -> Iterator[tuple[str, str]]:
    evidence = entry.evidence
    shapes = {key: weight.shape for weight in record.source.weights for key in weight.keys}
    yield "status", entry.standing
    if entry.expr is not None:
        yield "made from", text(entry.expr)
    yield from _listed("reads", [f"{key}  {list(shapes.get(key, ()))}" for key in entry.sources])
    if evidence.source_layer is not None:
        yield "layer", f"takes source layer {evidence.source_layer}"
    yield (
        "decided by",
        {
            "colours": "gradient colours (both models were run)",
            "structure": "structure (both graphs)",
            "names": "names (keys and shapes)",
            "rules": "rules (known of other models of the family)",
        }[evidence.method],
    )
    if evidence.shown is not None:
        yield "shown", f"{evidence.shown.elements:,} of {evidence.shown.of:,} elements: {evidence.shown.reason}"
    yield from _listed("why", evidence.reasons)
    if evidence.cost is not None:
        yield "cost", f"{evidence.cost:.4g}"
    if evidence.margin is not None:
        yield "margin", f"{evidence.margin:.4g} to the runner-up"
    yield from _listed("rivals", [rival_line(rival) for rival in evidence.rivals])
    yield from _listed("resized", evidence.resized)


def rival_line(rival: Rival) -> str:
    """A rival and why it lost, in one line.

    Example:
        >>> rival_line(Rival(("a.weight", "b.weight"), "0.2 behind"))
        'a.weight, b.weight (0.2 behind)'
    """
    return f"{', '.join(rival.sources) or 'nothing'} ({rival.reason})"


def _listed(name: str, values: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, value in enumerate(values):
        yield (name if place == 0 else ""), value


def _cell(name: str, value: str) -> str | Text:
    return status(value) if name == "status" else value


def _fits(name: str, key: str) -> bool:
    return name == key or fnmatchcase(name, key)


def _why(entries: Sequence[Entry]) -> str:
    reasons = entries[0].evidence.reasons
    return f"({reasons[0]})" if reasons else ""
