"""What is known of a mapping as a whole, in one sentence that every report begins with."""

from __future__ import annotations

from collections import Counter

from automatch.core.mapping import MappingRecord, Verdict

TO_PROVE = (
    "run `automatch prove SOURCE TARGET --mapping FILE`, or match small models of the same code, as twins, "
    "where these are too large to run"
)
"""What would prove a mapping that does not say so itself."""


def is_good(verdict: Verdict) -> bool:
    """Whether both models were run under the mapping, and their outputs agree.

    Example:
        >>> is_good("agrees, in part shown"), is_good("not run")
        (True, False)
    """
    return verdict in ("proved", "agrees, in part shown")


def headline(record: MappingRecord) -> str:
    """The verdict and how far it goes, in one line.

    Example:
        >>> from automatch.core.mapping import Side
        >>> sides = Side("a", "names", ()), Side("b", "names", ())
        >>> headline(MappingRecord(*sides, (), not_run="the source has no code.", next_step="match its code"))
        'not run: the source has no code; to prove it: match its code'
    """
    return f"{record.verdict}: {_extent(record)}"


def _extent(record: MappingRecord) -> str:
    shown = _clause(record.proof.reason) if record.proof is not None else ""
    match record.verdict:
        case "not run":
            reason = _clause(record.not_run) or shown
            following = _clause(record.next_step) or ("" if reason else TO_PROVE)
            said = reason or "nobody ran both models under this mapping"
            return f"{said}; to prove it: {following}" if following else said
        case "refuted":
            return "; ".join(filter(None, (shown, _clause(record.next_step))))
        case _:
            return f"{_counts(record)}; {shown}"


def _counts(record: MappingRecord) -> str:
    statuses = Counter(entry.status for entry in record.entries)
    total = len(record.entries)
    if statuses["proved"] == total:
        return f"all {total:,} weights"
    unmapped = f", {statuses['unmapped']:,} unmapped" if statuses["unmapped"] else ""
    return f"{statuses['proved']:,} of {total:,} weights proved{unmapped}"


def _clause(sentence: str) -> str:
    """A sentence as a part of a longer one: in one line, without its full stop."""
    return " ".join(sentence.split()).rstrip(".")
