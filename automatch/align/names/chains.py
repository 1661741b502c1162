"""Which repeated blocks go with which."""

from __future__ import annotations

import numpy as np

from automatch.align.names.assign import best_pairs
from automatch.align.names.context import in_context
from automatch.align.names.features import Mask, Side
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
    """Which pairs of nodes lie in paired chains, or both in none."""
    wanted = [tuple(chains.get(chain, ("",)) for chain in _chains(node)) for node in target.nodes]
    codes = {key: at for at, key in enumerate(dict.fromkeys([*map(_chains, source.nodes), *wanted]))}
    return np.asarray(np.equal.outer([codes[_chains(n)] for n in source.nodes], [codes[key] for key in wanted]))


def _chains(node: Node) -> tuple[Path, ...]:
    return node.patterns[0].chains


def _pair_level(source: Side, target: Side, soft: Table, outer: dict[Path, Path], level: int) -> dict[Path, Path]:
    """Chains at one level of nesting, by how much of their contents the soft assignment moves between them."""
    rows = [_chain_at(node, level) for node in source.nodes]
    columns = [_chain_at(node, level) for node in target.nodes]
    from_, onto = (list(dict.fromkeys(chain for chain in each if chain)) for each in (rows, columns))
    support = np.zeros((len(from_), len(onto)))
    for i, a in enumerate(from_):
        for j, b in enumerate(onto):
            if level == 0 or outer.get(_outer(b)) == _outer(a):
                support[i, j] = soft[np.ix_([row == a for row in rows], [column == b for column in columns])].sum()
    return {onto[j]: from_[i] for i, j in best_pairs(support)}


def _chain_at(node: Node, level: int) -> Path:
    chains = _chains(node)
    return chains[level] if level < len(chains) else ()


def _outer(chain: Path) -> Path:
    """The chain that a chain lies in."""
    holes = [at for at, part in enumerate(chain[:-1]) if part == HOLE]
    return chain[: holes[-1] + 1] if holes else ()
