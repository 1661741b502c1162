"""The summary of a mapping: its verdict, how many weights changed in what way, how sure that is, what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from automatch.core.mapping import Entry, MappingRecord, Side
from automatch.core.summary import Summary, kind, summarise
from automatch.report.brief import brief
from automatch.report.detail import rival_line
from automatch.report.patterns import collapse, ranges, shortened
from automatch.report.proof import proof_lines
from automatch.report.render import STYLES, facts, heading, indented, table, verdict
from automatch.report.unused import layers_line, unused

GUESSES = 6
"""Guessed weights that the summary names; `automatch show` has all."""

REASONS = 12
"""Reasons, and patterns for each, that the summary names for unmapped weights."""

EXAMPLE = 66
"""Columns of an example; with the other columns of its table, 100."""


def summary(record: MappingRecord) -> list[RenderableType]:
    """The whole summary, part by part; the verdict comes first."""
    numbers = summarise(record)
    return [
        verdict(record),
        heading(f"{record.source.name or 'source'} -> {record.target.name or 'target'}"),
        _kinds(record.entries, numbers),
        Text(""),
        facts(_facts(record, numbers)),
        *_guessed(record),
        *_unmapped(record),
        *_unused(record),
        *_notes(record),
    ]


def _kinds(entries: Sequence[Entry], numbers: Summary) -> RenderableType:
    """Counts by kind of change, with an example each: the shortest, so that it is seldom cut."""
    examples: dict[str, list[str]] = {}
    for entry in entries:
        examples.setdefault(kind(entry), []).append(_example(entry))
    counts = [*numbers.rows, ("total", numbers.total)]
    rows = [
        [name, f"{count:,}", _share(count, numbers.total), shortened(min(examples.get(name, [""]), key=len), EXAMPLE)]
        for name, count in counts
    ]
    return table(
        ["target weights", "count", "share", "example"], rows, right=["count", "share"], whole=["target weights"]
    )


def _example(entry: Entry) -> str:
    return entry.target if entry.expr is None else f"{entry.target} <- {brief(entry.expr)}"


def _facts(record: MappingRecord, numbers: Summary) -> Iterator[tuple[str, str | Text]]:
    """Rates, statuses, pairing of layers and rungs of tracing, a line each."""
    weights = f"{numbers.transfer_rate:.1%} of weights ({numbers.mapped:,} of {numbers.total:,})"
    yield "transfer rate", f"{weights}, {numbers.element_rate:.1%} of their scalars"
    if numbers.all_resized:
        yield "resized in part", f"{numbers.all_resized:,} (`automatch show MAPPING KEY` says how)"
    for name, count in numbers.statuses:
        if count:
            yield name, Text(f"{count:,}{numbers.lost(name)}", style=STYLES[name])
    for place, chain in enumerate(record.chains):
        yield ("" if place else "layers"), layers_line(chain)
    if record.proof is not None:
        yield from proof_lines(record.proof)
    yield "traced", f"source by {_rung(record.source)}, target by {_rung(record.target)}"


def _rung(side: Side) -> str:
    return {"names": "names and shapes only", "export": "torch.export", "draft_export": "torch.export (draft)"}.get(
        side.rung, side.rung
    )


def _guessed(record: MappingRecord) -> Iterator[RenderableType]:
    guesses = [entry for entry in record.entries if entry.status == "guessed"]
    if not guesses:
        return
    yield heading(f"guessed: {len(guesses):,}")
    for entry in guesses[:GUESSES]:
        made = "" if entry.expr is None else brief(entry.expr)
        yield indented(f"{entry.target} <- {made}")
        yield from (indented(f"or {rival_line(rival)}", 6) for rival in entry.evidence.rivals[:1])
    yield from _more(len(guesses) - GUESSES)


def _unmapped(record: MappingRecord) -> Iterator[RenderableType]:
    """Unmapped keys by reason."""
    reasons: dict[str, list[str]] = {}
    for entry in record.entries:
        if entry.status == "unmapped":
            reasons.setdefault(next(iter(entry.evidence.reasons), "no reason is recorded"), []).append(entry.target)
    if not reasons:
        return
    yield heading(f"unmapped: {sum(map(len, reasons.values())):,}")
    for reason, keys in list(reasons.items())[:REASONS]:
        yield indented(reason)
        yield from _patterns((pattern.text for pattern in collapse(keys)), REASONS)
    yield from _more(len(reasons) - REASONS, "reasons")


def _unused(record: MappingRecord) -> Iterator[RenderableType]:
    """Source weights that nothing reads: layers that were not taken, then everything else."""
    left = unused(record)
    if not record.unused:
        return
    yield heading(f"unused source weights: {len(record.unused):,} of {len(record.source.weights):,}")
    for part in left.skipped:
        layers = ranges(part.layers, " ")
        yield indented(f"layers {layers} of {part.chain} not sampled: {len(part.keys):,} weights")
    yield from (indented(f"{pattern.text}  {len(pattern.keys):,} unused") for pattern in left.patterns)


def _notes(record: MappingRecord) -> Iterator[RenderableType]:
    notes = [
        *(f"source: {note}" for note in record.source.notes),
        *(f"target: {note}" for note in record.target.notes),
        *record.notes,
    ]
    if notes:
        yield heading("notes")
        yield from map(indented, notes)


def _patterns(texts: Iterable[str], limit: int) -> Iterator[RenderableType]:
    shown = list(texts)
    yield from (indented(text, 6) for text in shown[:limit])
    yield from _more(len(shown) - limit)


def _more(count: int, things: str = "") -> Iterator[RenderableType]:
    if count > 0:
        yield indented(" ".join(["... and", f"{count:,}", "more", things]))


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}%" if total else "-"
