"""The verdict on a mapping that a command is about to use."""

from __future__ import annotations

from collections.abc import Mapping

from automatch.cli.console import show, warn
from automatch.core.mapping import MappingRecord, Verdict
from automatch.core.verdict import is_good
from automatch.report.render import verdict

_DOUBTS: Mapping[Verdict, str] = {
    "not run": "no run of both models showed that this mapping is right; what is made by it may be wrong",
    "refuted": "a run of both models refuted this mapping; what is made by it is wrong",
}


def told(record: MappingRecord, name: str) -> None:
    """Print the verdict, and warn where it is not good.

    Args:
        record: The mapping.
        name: What the user calls it.
    """
    show([verdict(record)])
    warned(record, name)


def warned(record: MappingRecord, name: str) -> None:
    """Warn on stderr unless both models were run under the mapping and agree."""
    if not is_good(record.verdict):
        warn(f"{name}: {_DOUBTS[record.verdict]}")
