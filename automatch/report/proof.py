"""What a proof showed, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from automatch.core.mapping import Entry, MappingRecord, ProofRecord
from automatch.report.patterns import collapse
from automatch.report.render import facts, heading, indented, table, verdict

REASONS = 12
"""Reasons, and patterns for each, that the report names for weights that were not proved."""

_HEADS = {"agree": "outputs agree", "differ": "OUTPUTS DIFFER", "nothing": "nothing shown"}


def proof_lines(proof: ProofRecord) -> Iterator[tuple[str, str | Text]]:
    """The outcome, and what the claim is limited by."""
    yield _HEADS[proof.outcome], Text(proof.reason, style="" if proof.outcome == "agree" else "red")
    for line in (*proof.divergence, proof.lengths, *proof.notes):
        if line:
            yield "", line


def proof_report(record: MappingRecord) -> list[RenderableType]:
    """Everything that running both models under a mapping showed; nothing where they were not run."""
    proof = record.proof
    if proof is None:
        return []
    rows: list[tuple[str, str | Text]] = [
        *proof_lines(proof),
        ("inputs", f"source {proof.source_inputs}; target {proof.target_inputs}"),
    ]
    outputs = [
        [
            f"{output.source} and {output.target}",
            str(list(output.shape)),
            f"{output.gap:.1e}",
            _figure(output.disturbed),
        ]
        for output in proof.outputs
    ]
    head = ["outputs compared", "shape", "gap", "after a change of 1%"]
    parts: list[RenderableType] = [
        verdict(record),
        heading(f"{record.source.name or 'source'} -> {record.target.name or 'target'}"),
        facts(rows),
    ]
    if outputs:
        parts += [Text(""), table(head, outputs, right=head[2:])]
    return [*parts, *_weights(record)]


def _figure(value: float | None) -> str:
    return "not run" if value is None else f"{value:.1e}"


def _weights(record: MappingRecord) -> Iterator[RenderableType]:
    """How many weights were proved, in part, or not, and why not."""
    proved = [entry for entry in record.entries if entry.status == "proved"]
    part = [entry for entry in record.entries if entry.status != "proved" and _elements(entry)]
    rest = [entry for entry in record.entries if entry.status != "proved" and not _elements(entry)]
    yield heading(f"weights: {len(proved):,} proved, {len(part):,} in part, {len(rest):,} not shown")
    reasons: dict[str, list[str]] = {}
    for entry in (*part, *rest):
        reasons.setdefault(_why(entry), []).append(entry.target)
    for reason, keys in list(reasons.items())[:REASONS]:
        yield indented(reason)
        patterns = [pattern.text for pattern in collapse(keys)]
        yield from (indented(text, 6) for text in patterns[:REASONS])
        if len(patterns) > REASONS:
            yield indented(f"... and {len(patterns) - REASONS:,} more", 6)
    if len(reasons) > REASONS:
        yield indented(f"... and {len(reasons) - REASONS:,} more reasons")


def _elements(entry: Entry) -> int:
    return 0 if entry.evidence.shown is None else entry.evidence.shown.elements


def _why(entry: Entry) -> str:
    if entry.evidence.shown is not None:
        return entry.evidence.shown.reason
    return "unmapped" if entry.status == "unmapped" else "the outputs did not agree, or could not be compared"
