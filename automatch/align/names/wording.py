"""Agreement of paths and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from automatch.align.names.patterns import Path
from automatch.align.names.vocabulary import resemblance, vocabulary

Table: TypeAlias = NDArray[np.float64]
Bag: TypeAlias = tuple[str, ...]

WEAK = 0.1
"""What a weak word counts, beside an ordinary one of the same rarity."""


def common_tails(source: Sequence[Path], target: Sequence[Path]) -> Table:
    """Share of the longer path that the last components of both have in common.

    Example:
        >>> common_tails([("net", "norm", "weight")], [("norm", "weight"), ("norm", "bias")]).round(2).tolist()
        [[0.67, 0.0]]
    """
    same = np.ones((len(source), len(target)), dtype=bool)
    shared = np.zeros(same.shape)
    longest = np.maximum.outer([len(path) for path in source], [len(path) for path in target])
    for depth in range(1, int(longest.max(initial=0)) + 1):
        codes: dict[str, int] = {}
        # A path that has ended equals nothing: -1 on one side, -2 on the other.
        rows = [codes.setdefault(path[-depth], len(codes)) if depth <= len(path) else -1 for path in source]
        columns = [codes.setdefault(path[-depth], len(codes)) if depth <= len(path) else -2 for path in target]
        same &= np.equal.outer(rows, columns)
        shared += same
    return np.asarray(shared / np.maximum(longest, 1))


def coverage(source: Sequence[Bag], target: Sequence[Bag], rarity: tuple[dict[str, float], dict[str, float]]) -> Table:
    """How far the words of two sets spell each other, both ways, by what the words count."""
    forward, backward = _spelled(source, target, rarity[1]), _spelled(target, source, rarity[0]).T
    both_empty = np.logical_and.outer([not bag for bag in source], [not bag for bag in target])
    return np.asarray(np.where(both_empty, 0.5, (forward + backward) / 2))


def word_weights(bags: Sequence[Bag], other: Sequence[Bag] = ()) -> dict[str, float]:
    """What every word counts: the rarer on its side the more; weak words little, and implied ones left out there."""
    said = {word for bag in other for word in bag}
    seen = Counter(word for bag in bags for word in set(bag))
    rarity = {word: log((len(bags) + 1) / (count + 0.5)) + 0.3 for word, count in seen.items()}
    weak = vocabulary().weak | (vocabulary().implied - said)
    return {word: value * (WEAK if word in weak else 1.0) for word, value in rarity.items()}


def _spelled(bags: Sequence[Bag], wanted: Sequence[Bag], rarity: dict[str, float]) -> Table:
    """How much of every wanted bag (column) every bag (row) spells."""
    left = {word: at for at, word in enumerate(dict.fromkeys(word for bag in bags for word in bag))}
    right = {word: at for at, word in enumerate(dict.fromkeys(word for bag in wanted for word in bag))}
    alike = np.array([[resemblance(a, b) for b in right] for a in left]).reshape(len(left), len(right))
    best = np.zeros((len(bags), len(right)))
    for row, bag in enumerate(bags):
        best[row] = alike[[left[word] for word in bag]].max(0, initial=0.0)
    shares = np.zeros((len(wanted), len(right)))
    for row, bag in enumerate(wanted):
        for word in bag:
            shares[row, right[word]] += rarity[word]
    return np.asarray(best @ (shares / np.maximum(shares.sum(1, keepdims=True), 1e-9)).T)
