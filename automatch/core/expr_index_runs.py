"""Long lists of indices as few runs: `[start, count, step]` stands for start, start + step, start + 2 step, ...

Example:
    >>> to_runs((4, 5, 6, 0, 2, 4, 9))
    [(4, 3, 1), (0, 3, 2), (9, 1, 0)]
    >>> from_runs([(4, 3, 1), (0, 3, 2), (9, 1, 0)], 7)
    (4, 5, 6, 0, 2, 4, 9)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import TypeAlias

Run: TypeAlias = tuple[int, int, int]

MOST = 2**28
"""More indices than any weight is gathered by; a damaged file may ask for any number."""


def to_runs(index: Sequence[int]) -> list[Run]:
    """The runs of a list, each as long as can be from the left."""
    return list(_runs(index))


def _runs(index: Sequence[int]) -> Iterator[Run]:
    place = 0
    while place < len(index):
        start = index[place]
        step = index[place + 1] - start if place + 1 < len(index) else 0
        count = 1
        while place + count < len(index) and index[place + count] == start + count * step:
            count += 1
        yield (start, count, step)
        place += count


def from_runs(runs: Sequence[Sequence[int]], total: int) -> tuple[int, ...]:
    """The list that runs stand for.

    Raises:
        ValueError: A run is not three numbers, or they do not make `total` indices.
    """
    if any(len(run) != 3 or run[1] < 1 for run in runs):
        raise ValueError("a run is [start, count, step] with a count of at least 1")
    counted = sum(run[1] for run in runs)
    if counted != total or total > MOST:
        raise ValueError(f"the runs make {counted} indices, but the shape has {total} entries (at most {MOST})")
    return tuple(chain.from_iterable(_expanded(*run) for run in runs))


def _expanded(start: int, count: int, step: int) -> Iterator[int]:
    return iter(range(start, start + count * step, step)) if step else repeat(start, count)
