"""How much two stretches of a graph have in common, told by the kinds of their landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from automatch.align.use_graph import UseGraph

_TELLING = ("contraction", "norm", "attention", "activation", "add", "mul", "embedding")


def kinds(graph: UseGraph, window: range) -> tuple[str, ...]:
    """Kinds of the landmarks of a stretch, in order, those left out that any implementation may add or lack."""
    marks = (graph.landmarks[index] for index in window)
    return tuple(mark.kind for mark in marks if mark.kind in _TELLING)


def similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """How much of two sequences is common to both in order: twice the longest common subsequence over both lengths.

    Example:
        >>> similarity(["norm", "linear", "add"], ["norm", "add"])
        0.8
    """
    if not first or not second:
        return 0.0
    return 2 * common_length(tuple(first), tuple(second)) / (len(first) + len(second))


@lru_cache(maxsize=2**14)  # blocks repeat: few of the stretches that are compared differ
def common_length(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for symbol in first:
        previous = 0
        for j, other in enumerate(second):
            previous, row[j + 1] = row[j + 1], previous + 1 if symbol == other else max(row[j + 1], row[j])
    return row[-1]
