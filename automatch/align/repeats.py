"""Find what repeats in a sequence of symbols: the longest stretch that equals itself, shifted by a period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_OCCURRENCES = 4


@dataclass(frozen=True, slots=True)
class Repeat:
    """A stretch `start` to `stop` (excluded) of a sequence in which `s[i] == s[i + period]`.

    Attributes:
        start: First position.
        stop: End, excluded. The stretch may be longer than `times * period`: the phase is then open.
        period: Length of what repeats.
    """

    start: int
    stop: int
    period: int

    @property
    def times(self) -> int:
        """How many whole periods the stretch holds."""
        return (self.stop - self.start) // self.period

    @property
    def slack(self) -> int:
        """How many positions are left over: the number of further phases."""
        return (self.stop - self.start) - self.times * self.period


def longest_repeat(symbols: Sequence[Hashable], least: int = 3) -> Repeat | None:
    """The repeat that covers most of a sequence; the shortest period among equals.

    Args:
        symbols: The sequence.
        least: A period shorter than this must repeat three times to count, others twice.

    Example:
        >>> longest_repeat("xabcabcabcy")
        Repeat(start=1, stop=10, period=3)
        >>> longest_repeat("abcd") is None
        True
    """
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(symbol, len(numbers)) for symbol in symbols])
    found = [repeat for period in _periods(symbols) for repeat in _stretches(codes, period)]
    enough = [repeat for repeat in found if repeat.times >= (2 if repeat.period >= least else 3)]
    return max(enough, key=lambda r: (r.times * r.period, -r.period, -r.start), default=None)


def _periods(symbols: Sequence[Hashable]) -> list[int]:
    """Distances between a symbol and its next few occurrences: any true period is among them, and they are few."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, symbol in enumerate(symbols):
        places[symbol].append(place)
    return sorted(
        {
            later - place
            for occurrences in places.values()
            for i, place in enumerate(occurrences)
            for later in occurrences[i + 1 : i + 1 + _OCCURRENCES]
        }
    )


def _stretches(codes: npt.NDArray[np.int64], period: int) -> list[Repeat]:
    equal = np.concatenate(([0], (codes[:-period] == codes[period:]).astype(np.int8), [0]))
    steps = np.diff(equal)
    starts, stops = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [Repeat(int(a), int(b) + period, period) for a, b in zip(starts, stops, strict=True)]
