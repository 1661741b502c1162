"""How long a search may take: asked between evaluations, so that it ends soon after, and says what it left."""

from __future__ import annotations

import time
from dataclasses import dataclass


class OutOfBudget(Exception):
    """A search gave up; the message says where, and how to go on."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A time by which a search has to end.

    Attributes:
        seconds: How long it may take; infinite for as long as it takes.
        started: When it began, by `time.monotonic`.
    """

    seconds: float
    started: float

    @staticmethod
    def of(seconds: float | None) -> Budget:
        """A budget that starts now; None for as long as it takes."""
        return Budget(float("inf") if seconds is None else seconds, time.monotonic())

    def check(self, doing: str) -> None:
        """Do nothing while there is time.

        Args:
            doing: What the search is at, for the message.

        Raises:
            OutOfBudget: There is none left.
        """
        if time.monotonic() - self.started > self.seconds:
            raise OutOfBudget(
                f"the search gave up after {self.seconds:g} s, {doing}; a larger budget_s lets it go on, "
                "and small models of the same code (twins) need less"
            )


UNBOUNDED = Budget(float("inf"), 0.0)
