"""The verdict on a mapping that a command is about to use."""

from __future__ import annotations

from automatch.cli.console import show, warn
from automatch.core.mapping import MappingRecord
from automatch.core.verdict import is_good
from automatch.report.render import verdict


def told(record: MappingRecord, name: str) -> None:
    """Print the verdict, and warn on stderr unless both models were run under the mapping and agree.

    Args:
        record: The mapping.
        name: What the user calls it.
    """
    show([verdict(record)])
    if not is_good(record.verdict):
        warn(f"the mapping {name} is {_doubt[record.verdict]}")


_doubt = {"not run": "not run, so what it gives may be wrong", "refuted": "refuted, so what it gives is wrong"}
