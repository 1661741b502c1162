"""What is left of a mapping that a run refuted: what comes before the place where the models part, and beside it."""

from __future__ import annotations

from dataclasses import replace

from automatch.core.mapping import Entry, MappingRecord
from automatch.prove.divergence import Divergence, Parting

WHOLE = "a run of both models refuted the mapping as a whole, and where they part was not found"
SUSPECTED = "a run of both models refuted the mapping: suspected, since it leads to where they first part"
ELSEWHERE = "a run of both models refuted the mapping: it leads to another place where they part"
BEHIND = "lies behind the place where the models part, so no run confirms it"
OPERATOR = "behind an operator in which the two models differ: "


def doubted(record: MappingRecord, parting: Parting | None) -> MappingRecord:
    """The mapping with everything guessed that its refutation bears on.

    1. Suspected weights, and all that comes in at the place where the models part or after it, are guessed.
    2. What comes before, or lies on another branch whose values are right, keeps its status.
    3. Where the place was not found, everything is guessed.
    4. What is unmapped stays so; tied keys are doubted together.

    Args:
        record: The mapping, under which the outputs of both models differ.
        parting: Where they part; None where nobody looked.
    """
    divergence = None if parting is None else parting.divergence
    if divergence is None:
        return replace(record, entries=tuple(_guessed(entry, WHOLE) for entry in record.entries))
    reasons = _reasons(divergence)
    for weight in record.target.weights:
        found = next((reasons[key] for key in weight.keys if key in reasons), None)
        reasons |= dict.fromkeys(weight.keys, found) if found else {}
    entries = tuple(
        _guessed(entry, reasons[entry.target]) if entry.target in reasons else entry for entry in record.entries
    )
    return replace(record, entries=entries)


def _reasons(divergence: Divergence) -> dict[str, str]:
    """Why each target key is doubted, by key."""
    behind = f"{OPERATOR}{divergence.cause}" if divergence.cause else BEHIND
    return {
        **dict.fromkeys(() if divergence.cause else divergence.elsewhere, ELSEWHERE),
        **dict.fromkeys(divergence.behind, behind),
        **dict.fromkeys(divergence.suspected, SUSPECTED),
    }


def _guessed(entry: Entry, reason: str) -> Entry:
    if entry.status == "unmapped":
        return entry
    reasons = (reason, *(old for old in entry.evidence.reasons if old != reason))
    return replace(entry, status="guessed", evidence=replace(entry.evidence, reasons=reasons))
