"""Which repeated blocks go with which."""

from __future__ import annotations

import numpy as np

from automatch.align.names.assign import best_pairs
from automatch.align.names.context import in_context
from automatch.align.names.features import Mask, Side, outer
from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path
from automatch.align.names.similarity import Scores
from automatch.align.names.vocabulary import HOLE
from automatch.align.names.wording import Table


def pair_chains(source: Side, target: Side, scores: Scores) -> dict[Path, Path]:
    """For target chains, the source chain each is paired with: outer chains first, inner ones inside paired ones."""
    _, soft = in_context(scores.alone, scores.allowed, source, target)
    paired: dict[Path, Path] = {}
    for level in range(max((len(_chains(node)) for node in target.nodes), default=0)):
        paired |= _pair_level(source, target, soft, paired, level)
    return paired


def inside_chains(source: Side, target: Side, chains: dict[Path, Path]) -> Mask:
    """Which pairs of nodes lie in paired chains (in a common layer, if these are equally long), or both in none."""
    wanted = [tuple(chains.get(chain, ("",)) for chain in _chains(node)) for node in target.nodes]
    codes = {key: at for at, key in enumerate(dict.fromkeys([*map(_chains, source.nodes), *wanted]))}
    inside = np.equal.outer([codes[_chains(n)] for n in source.nodes], [codes[key] for key in wanted])
    return np.asarray(inside & (outer(_layers(source), _layers(target), _share_a_layer) > 0))


def _layers(side: Side) -> list[tuple[int, frozenset[int]]]:
    """For every node, how many layers its outermost chain has, and the places of those that it occurs in."""
    taken = [frozenset(index[0] for index, _ in node.patterns[0].members if index) for node in side.nodes]
    outermost = [_chains(node)[:1] for node in side.nodes]
    numbers: dict[tuple[Path, ...], set[int]] = {}
    for chain, found in zip(outermost, taken, strict=True):
        numbers.setdefault(chain, set()).update(found)
    places = {chain: {number: at for at, number in enumerate(sorted(found))} for chain, found in numbers.items()}
    return [
        (len(places[chain]), frozenset(places[chain][number] for number in found))
        for chain, found in zip(outermost, taken, strict=True)
    ]


def _share_a_layer(a: tuple[int, frozenset[int]], b: tuple[int, frozenset[int]]) -> float:
    return float(a[0] != b[0] or not a[1] or bool(a[1] & b[1]))


def _chains(node: Node) -> tuple[Path, ...]:
    return node.patterns[0].chains


def _pair_level(source: Side, target: Side, soft: Table, around: dict[Path, Path], level: int) -> dict[Path, Path]:
    """Chains at one level of nesting, by how much of their contents the soft assignment moves between them."""
    rows = [_chain_at(node, level) for node in source.nodes]
    columns = [_chain_at(node, level) for node in target.nodes]
    from_, onto = (list(dict.fromkeys(chain for chain in each if chain)) for each in (rows, columns))
    support = np.zeros((len(from_), len(onto)))
    for i, a in enumerate(from_):
        for j, b in enumerate(onto):
            if level == 0 or around.get(_outer(b)) == _outer(a):
                support[i, j] = soft[np.ix_([row == a for row in rows], [column == b for column in columns])].sum()
    return {onto[j]: from_[i] for i, j in best_pairs(support)}


def _chain_at(node: Node, level: int) -> Path:
    chains = _chains(node)
    return chains[level] if level < len(chains) else ()


def _outer(chain: Path) -> Path:
    """The chain that a chain lies in."""
    holes = [at for at, part in enumerate(chain[:-1]) if part == HOLE]
    return chain[: holes[-1] + 1] if holes else ()
