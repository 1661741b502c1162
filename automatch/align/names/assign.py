"""Which node goes with which: Hungarian assignment in which refusing is an option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from automatch.align.names.context import in_context
from automatch.align.names.features import Mask, Side
from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path
from automatch.align.names.similarity import Scores
from automatch.align.names.wording import Table


@dataclass(frozen=True, slots=True)
class Match:
    """A source node and the target node it was assigned to.

    Attributes:
        row: The source node's row in the scores.
        column: The target node's column.
        source: The source node.
        target: The target node.
        score: Their similarity with their surroundings, 0 to 1.
        alone: Their similarity by themselves.
        margin: How much worse by themselves the next best arrangement without this pair is, others moved if need be;
            negative where surroundings decided against it, infinite where there is no other.
    """

    row: int
    column: int
    source: Node
    target: Node
    score: float
    alone: float
    margin: float


def assign(source: Side, target: Side, scores: Scores) -> tuple[tuple[Match, ...], Table]:
    """The best matches in which every pattern is used at most once, and the scores in context."""
    _, pairs = _solve(source, target, scores, scores.allowed)
    context, pairs = _solve(source, target, scores, scores.allowed & _followers(pairs, source, target))
    possible = np.where(scores.allowed, scores.alone, scores.floor)
    margins = margins_of(pairs, possible, scores.floor, source, target, pairs)
    matches = tuple(
        Match(i, j, source.nodes[i], target.nodes[j], float(context[i, j]), float(scores.alone[i, j]), margin)
        for (i, j), margin in zip(pairs, margins, strict=True)
    )
    return matches, context


def best_pairs(gain: Table) -> list[tuple[int, int]]:
    """Pairs of rows and columns with the largest sum of gains, of positive gain only.

    Example:
        >>> best_pairs(np.array([[0.9, 0.8], [0.7, 0.0]]))
        [(0, 1), (1, 0)]
    """
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if gain[i, j] > 0.0]


def _solve(source: Side, target: Side, scores: Scores, allowed: Mask) -> tuple[Table, list[tuple[int, int]]]:
    """Scores in context, and the best pairs above the floor; of pairs that share a pattern the better one."""
    context, _ = in_context(scores.alone, allowed, source, target)
    sizes = ([len(node.patterns) for node in each.nodes] for each in (source, target))
    gain = np.where(allowed, (context - scores.floor) * np.add.outer(*sizes) / 2, 0.0).clip(0.0)
    pairs = best_pairs(gain)
    while losers := _conflicts(pairs, gain, source, target):
        for row, column in losers:
            gain[row, column] = 0.0
        pairs = best_pairs(gain)
    return context, pairs


def _conflicts(pairs: Sequence[tuple[int, int]], gain: Table, source: Side, target: Side) -> list[tuple[int, int]]:
    """Pairs that use a pattern which a better pair uses as well, alone or as part of a virtual node."""
    used: set[tuple[str, Path]] = set()
    losers = []
    for row, column in sorted(pairs, key=lambda pair: (-gain[pair], pair)):
        mine = {("source", part.path) for part in source.nodes[row].patterns}
        mine |= {("target", part.path) for part in target.nodes[column].patterns}
        if used & mine:
            losers.append((row, column))
        used |= mine
    return losers


def _followers(pairs: Sequence[tuple[int, int]], source: Side, target: Side) -> Mask:
    """Which pairs respect that a bias (a running mean ...) goes with the weight of its module, if that was matched.

    Where the source's module has no bias, another module's may not take its place if it has a weight to go with.
    """
    leader = {
        target.nodes[column].module: source.nodes[row].module
        for row, column in pairs
        if source.nodes[row].kind == target.nodes[column].kind == "weight"
    }
    present = {(node.module, node.kind) for node in source.nodes}
    respected = np.ones((len(source.nodes), len(target.nodes)), dtype=bool)
    for column, node in enumerate(target.nodes):
        module = leader.get(node.module)
        if node.kind != "weight" and module is not None:
            own = (module, node.kind) in present
            respected[:, column] = [
                each.module == module if own else (each.module, "weight") not in present for each in source.nodes
            ]
    return respected


def margins_of(
    pairs: Sequence[tuple[int, int]],
    alone: Table,
    floor: float,
    source: Side,
    target: Side,
    matched: Sequence[tuple[int, int]],
) -> list[float]:
    """For every pair, what the cheapest other arrangement costs: a free source or target instead, or a swap of two.

    Args:
        pairs: Those that may swap.
        alone: Similarity of every source node (row) with every target node (column).
        floor: The similarity of those that cannot be matched.
        source: The source's nodes.
        target: The target's nodes.
        matched: All pairs; what they use is not free.
    """
    if not pairs:
        return []
    rows, columns = (np.array(each) for each in zip(*pairs, strict=True))
    chosen, swapped = alone[rows, columns], alone[np.ix_(rows, columns)]
    # What is matched for the sake of its surroundings is worth no less than to be left out.
    loss = chosen[:, None] + np.maximum(chosen, floor)[None, :] - swapped - swapped.T
    np.fill_diagonal(loss, np.inf)
    free = unused(source, [row for row, _ in matched]), unused(target, [column for _, column in matched])
    instead = np.where(free[0][:, None], alone[:, columns], -np.inf).max(0)
    elsewhere = np.where(free[1][None, :], alone[rows], -np.inf).max(1)
    return [float(margin) for margin in np.minimum(loss.min(1), chosen - np.maximum(instead, elsewhere))]


def unused(side: Side, matched: Sequence[int]) -> Mask:
    """The nodes of which no match uses any part."""
    used = {part.path for at in matched for part in side.nodes[at].patterns}
    return np.array([used.isdisjoint(part.path for part in node.patterns) for node in side.nodes], dtype=bool)
