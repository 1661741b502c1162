"""What children found, and the table of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.table import Table

from tests.benchmarks.ordinary.rows import Aim, Row
from tests.benchmarks.tables import figures


@dataclass(frozen=True, slots=True)
class Found:
    """What one child found.

    Attributes:
        automatch: The file that `automatch` was imported from.
        numbers: Numbers in both models' parameters.
        before_mb: Peak memory of the process when the models had been made, in MB (10^6 bytes).
        peak_mb: The same when they had been matched.
        wall_s: Seconds of the match by the clock.
        processor_s: Seconds of processor time, all threads together.
        statuses: How many target weights have which status.
        verdict: Of the mapping as a whole.
        right: How many target weights are right.
        of: How many were compared.
        meta_s: Seconds of the same match on the meta device; None where that is no matter.
    """

    automatch: str
    numbers: tuple[int, int]
    before_mb: float
    peak_mb: float
    wall_s: float
    processor_s: float
    statuses: Mapping[str, int]
    verdict: str
    right: int
    of: int
    meta_s: float | None

    def missed(self, aim: Aim) -> Iterator[str]:
        """What was aimed at and is not met."""
        if self.wall_s >= aim.seconds:
            yield "seconds"
        if self.peak_mb >= 1000 * aim.gigabytes:
            yield "memory"
        if aim.times_meta is not None and self.meta_s is not None and self.wall_s >= aim.times_meta * self.meta_s:
            yield "meta"
        if self.right < self.of:
            yield "right"


Outcome: TypeAlias = Found | str
"""What a child found, or why there is nothing."""


class OtherTree(Exception):
    """A child measured another automatch than it was meant to."""


def answer(printed: str, tree: Path) -> dict[str, Any]:
    """The last line of what a child printed.

    Raises:
        OtherTree: Its automatch is not the one of the tree.
    """
    fields: dict[str, Any] = json.loads(printed.splitlines()[-1])
    if not Path(fields["automatch"]).resolve().is_relative_to(tree.resolve() / "automatch"):
        raise OtherTree(f"{fields['automatch']} was measured in place of {tree}")
    return fields


def found(fields: Mapping[str, Any]) -> Found:
    """What a child found, from its fields."""
    return Found(**{**fields, "numbers": tuple(fields["numbers"])})


COLUMNS = (
    "numbers",
    "tree",
    "s",
    "factor",
    "processor s",
    "of meta's s",
    "GB before",
    "GB peak",
    "right",
    "verdict",
    "statuses",
    "aims",
)


def table(outcomes: Sequence[tuple[Row, Mapping[str, Outcome]]]) -> Table:
    """A line for every row and tree; trees are the same for all rows, the first is what others are compared with."""
    made = figures("pair", *COLUMNS)
    for row, trees in outcomes:
        first = next(iter(trees.values()))
        for place, (tree, outcome) in enumerate(trees.items()):
            made.add_row("" if place else row.title, *_cells(row.aim, tree, outcome, first if place else None))
        made.add_section()
    return made


def _cells(aim: Aim, tree: str, outcome: Outcome, first: Outcome | None) -> list[str]:
    if isinstance(outcome, str):
        return ["", tree, outcome]
    missed = list(outcome.missed(aim))
    return [
        " to ".join(f"{count / 1e6:.1f}M" for count in dict.fromkeys(outcome.numbers)),
        tree,
        f"{outcome.wall_s:.1f}",
        f"x{outcome.wall_s / first.wall_s:.2f}" if isinstance(first, Found) else "",
        f"{outcome.processor_s:.1f}",
        f"x{outcome.wall_s / outcome.meta_s:.2f}" if outcome.meta_s else "",
        f"{outcome.before_mb / 1000:.2f}",
        f"{outcome.peak_mb / 1000:.2f}",
        f"{outcome.right} of {outcome.of}",
        outcome.verdict,
        ", ".join(f"{count} {status}" for status, count in outcome.statuses.items()),
        f"NOT met: {', '.join(missed)}" if missed else "met",
    ]
