"""Which chain goes with which, then which node with which: Hungarian assignment in which refusing is an option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from automatch.align.names.features import Mask, Side, Table
from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path
from automatch.align.names.similarity import Scores, in_context


@dataclass(frozen=True, slots=True)
class Match:
    """A source node and the target node it was assigned to.

    Attributes:
        source: Row of the source node.
        target: Column of the target node.
        score: Their similarity with their surroundings, 0 to 1.
        alone: Their similarity by themselves.
        margin: How much worse by themselves the next best arrangement without this pair is, others moved if need be;
            negative where surroundings decided against it.
    """

    source: int
    target: int
    score: float
    alone: float
    margin: float


def pair_chains(source: Side, target: Side, scores: Scores) -> dict[Path, Path]:
    """For target chains, the source chain each is paired with: outer chains first, inner ones inside paired ones."""
    _, soft = in_context(scores.alone, scores.allowed, source, target)
    paired: dict[Path, Path] = {}
    levels = max((len(_chains(node)) for node in target.nodes), default=0)
    for level in range(levels):
        paired |= _pair_level(source, target, soft, paired, level)
    return paired


def inside_chains(source: Side, target: Side, chains: dict[Path, Path]) -> Mask:
    """Which pairs of nodes lie in paired chains, or both in none."""
    wanted = [tuple(chains.get(chain, ("",)) for chain in _chains(node)) for node in target.nodes]
    codes = {key: at for at, key in enumerate(dict.fromkeys([*map(_chains, source.nodes), *wanted]))}
    rows = np.array([codes[_chains(node)] for node in source.nodes])
    columns = np.array([codes[key] for key in wanted])
    return np.asarray(np.equal.outer(rows, columns))


def assign(source: Side, target: Side, scores: Scores) -> tuple[tuple[Match, ...], Table]:
    """The best matches in which every pattern is used at most once, and the scores in context."""
    _, pairs = _solve(source, target, scores, scores.allowed)
    context, pairs = _solve(source, target, scores, scores.allowed & _followers(pairs, source, target))
    margins = _margins(pairs, np.where(scores.allowed, scores.alone, scores.floor), source.nodes, target.nodes)
    matches = tuple(
        Match(row, column, float(context[row, column]), float(scores.alone[row, column]), margin)
        for (row, column), margin in zip(pairs, margins, strict=True)
    )
    return matches, context


def _solve(source: Side, target: Side, scores: Scores, allowed: Mask) -> tuple[Table, list[tuple[int, int]]]:
    """Scores in context, and the pairs with the largest sum of them above the floor."""
    context, _ = in_context(scores.alone, allowed, source, target)
    weight = np.add.outer(*[np.array([len(node.patterns) for node in each.nodes]) for each in (source, target)]) / 2
    gain = np.where(allowed, (context - scores.floor) * weight, 0.0).clip(0.0)
    pairs = _best_pairs(gain)
    while losers := _conflicts(pairs, gain, source.nodes, target.nodes):
        for row, column in losers:
            gain[row, column] = 0.0
        pairs = _best_pairs(gain)
    return context, pairs


def _followers(pairs: Sequence[tuple[int, int]], source: Side, target: Side) -> Mask:
    """Which pairs respect that a bias (a running mean ...) goes with the weight of its module, where there is one."""
    leader = {
        target.nodes[column].module: source.nodes[row].module
        for row, column in pairs
        if source.nodes[row].kind == target.nodes[column].kind == "weight"
    }
    present = {(node.module, node.kind) for node in source.nodes}
    respected = np.ones((len(source.nodes), len(target.nodes)), dtype=bool)
    for column, node in enumerate(target.nodes):
        if node.kind != "weight" and (leader.get(node.module), node.kind) in present:
            respected[:, column] = [each.module == leader[node.module] for each in source.nodes]
    return respected


def _chains(node: Node) -> tuple[Path, ...]:
    return node.patterns[0].chains


def _pair_level(source: Side, target: Side, soft: Table, outer: dict[Path, Path], level: int) -> dict[Path, Path]:
    """Chains at one level of nesting, by how much of their contents the soft assignment moves between them."""
    rows, columns = ([_chain_at(node, level) for node in each.nodes] for each in (source, target))
    from_, onto = (list(dict.fromkeys(chain for chain in each if chain)) for each in (rows, columns))
    support = np.zeros((len(from_), len(onto)))
    for i, a in enumerate(from_):
        for j, b in enumerate(onto):
            if level and outer.get(_outer_chain(b)) != _outer_chain(a):
                continue
            inside = np.ix_([row == a for row in rows], [column == b for column in columns])
            support[i, j] = soft[inside].sum()
    return {onto[j]: from_[i] for i, j in _best_pairs(support)}


def _chain_at(node: Node, level: int) -> Path:
    chains = _chains(node)
    return chains[level] if level < len(chains) else ()


def _outer_chain(chain: Path) -> Path:
    holes = [at for at, part in enumerate(chain[:-1]) if part == chain[-1]]
    return chain[: holes[-1] + 1] if holes else ()


def _best_pairs(gain: Table) -> list[tuple[int, int]]:
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if gain[i, j] > 0.0]


def _conflicts(
    pairs: Sequence[tuple[int, int]], gain: Table, source: Sequence[Node], target: Sequence[Node]
) -> list[tuple[int, int]]:
    """Pairs that use a pattern which a better pair uses as well, alone or as part of a virtual node."""
    used: set[tuple[str, Path]] = set()
    losers = []
    for row, column in sorted(pairs, key=lambda pair: (-gain[pair], pair)):
        mine = {("source", part.path) for part in source[row].patterns}
        mine |= {("target", part.path) for part in target[column].patterns}
        if used & mine:
            losers.append((row, column))
        used |= mine
    return losers


def _margins(
    pairs: Sequence[tuple[int, int]], alone: Table, source: Sequence[Node], target: Sequence[Node]
) -> list[float]:
    """For every pair, what the cheapest other arrangement costs: a free source instead, or a swap with another pair."""
    if not pairs:
        return []
    rows, columns = (np.array(each) for each in zip(*pairs, strict=True))
    chosen = alone[rows, columns]
    swapped = alone[np.ix_(rows, columns)]
    loss = chosen[:, None] + chosen[None, :] - swapped - swapped.T
    np.fill_diagonal(loss, np.inf)
    used = {part.path for row in rows for part in source[row].patterns}
    free = np.array([not any(part.path in used for part in node.patterns) for node in source])
    instead = np.where(free[:, None], alone[:, columns], -np.inf).max(0, initial=-np.inf)
    return [float(margin) for margin in np.minimum(loss.min(1), chosen - instead)]
