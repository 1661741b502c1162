"""How long a search or a proof may take: asked between evaluations, so that it ends soon after and says so."""

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

    @property
    def spent(self) -> bool:
        """Whether there is no time left."""
        return time.monotonic() - self.started > self.seconds

    def part(self, share: float) -> Budget:
        """A budget from the same beginning that leaves time for what follows."""
        return Budget(share * self.seconds, self.started)

    def check(self, doing: str, who: str = "the search") -> None:
        """Do nothing while there is time.

        Args:
            doing: What it is at, for the message.
            who: What has to end.

        Raises:
            OutOfBudget: There is none left.
        """
        if self.spent:
            raise OutOfBudget(
                f"{who} gave up after {self.seconds:g} s, {doing}; a larger budget_s lets it go on, "
                "and small models of the same code (twins) need less"
            )


UNBOUNDED = Budget(float("inf"), 0.0)
