"""Exit statuses, decided here for all commands; `docs/command-line.md` has the table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from automatch.core.mapping import MappingRecord

RIGHT = 0
"""The command did what was asked."""

SHORT = 1
"""There is an answer, and it is short of what was asked; stderr says in what."""

ERROR = 2
"""There is no answer; the message names the thing and the next step."""

INTERRUPTED = 130
"""The user stopped it; what a shell gives for SIGINT."""

READER_GONE = 141
"""Whoever read the output has gone; what a shell gives for SIGPIPE."""

Requirement: TypeAlias = Literal["complete", "agrees", "proved"]
"""What `match --require` asks of a mapping; see `shortfall`."""


def of(short: str) -> int:
    """The status of an answer; one that is short is told in a line on stderr.

    Args:
        short: What the answer lacks of what was asked; empty for nothing.
    """
    if not short:
        return RIGHT
    print(f"exit status {SHORT}: {short}", file=sys.stderr)
    return SHORT


def shortfall(record: MappingRecord, require: Requirement) -> str:
    """What a mapping lacks of what is required of it; empty for nothing. A refuted one never meets anything.

    Args:
        record: The mapping.
        require: `complete`: every key of the target is mapped; `agrees`: both models were run under it and agree;
            `proved`: they do, and every weight was shown.
    """
    from automatch.core.verdict import is_good

    if record.verdict == "refuted":
        return "the mapping is refuted: both models were run under it, and their outputs differ"
    if require == "complete":
        return left_open(record)
    met = record.verdict == "proved" if require == "proved" else is_good(record.verdict)
    if met:
        return ""
    short = [entry.target for entry in record.entries if entry.status != "proved"] if is_good(record.verdict) else []
    which = f"; not proved: {_some(short)}" if short else ""
    return f"--require {require} is not met: the verdict is {record.verdict!r}{which}"


def left_open(record: MappingRecord) -> str:
    """Which keys of the target nothing was found for; empty where all are mapped."""
    keys = [entry.target for entry in record.entries if entry.expr is None]
    if not keys:
        return ""
    return f"{len(keys):,} of {len(record.entries):,} target weights are unmapped: {_some(keys)}"


def unshown(record: MappingRecord) -> str:
    """In what a proof does not agree; empty where it does."""
    if record.verdict == "not run":
        return "nothing was shown: no outputs of the two models could be compared"
    return shortfall(record, "agrees")


def _some(keys: list[str], limit: int = 3) -> str:
    return ", ".join(keys[:limit]) + (", ..." if len(keys) > limit else "")
