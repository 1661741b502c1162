"""Modules go together: what all weights of a module say at once, and which arrangements would part what is together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automatch.align.names.assign import Match
from automatch.align.names.features import Mask, outer
from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path
from automatch.align.names.rounds import Round
from automatch.align.names.vocabulary import tokens

TOGETHER = 0.06
"""Margin, summed over the weights of a module, from which it goes with another."""


def sure_together(found: Round, matches: Sequence[Match]) -> frozenset[int]:
    """Columns of matches whose modules, all their weights taken together, are clearly each other's.

    One weight of two like modules (an encoder's, a decoder's) hardly tells which; to exchange the modules, all of their
    weights would have to be exchanged.
    """
    modules: dict[tuple[Path, Path], list[Match]] = {}
    for match in matches:
        modules.setdefault((_home(match.source), _home(match.target)), []).append(match)
    whole = [pair for pair in modules if _is_whole(pair, modules)]
    if len(whole) < 2:
        return frozenset()
    alone = np.where(found.scores.allowed, found.scores.named, found.scores.floor)
    kept = np.array([sum(alone[match.row, match.column] for match in modules[pair]) for pair in whole])
    best = [alone[[match.row for match in modules[pair]]].max(0) for pair in whole]
    moved = np.array([[sum(row[match.column] for match in modules[pair]) for pair in whole] for row in best])
    loss = kept[:, None] + kept[None, :] - moved - moved.T
    np.fill_diagonal(loss, np.inf)
    clear = loss.min(1) >= TOGETHER
    return frozenset(match.column for at, pair in enumerate(whole) if clear[at] for match in modules[pair])


def coherent(found: Round, sure: Sequence[Match]) -> Mask:
    """Pairs that do not part what is together: not of two modules that are both known to belong elsewhere."""
    onto: dict[Path, set[Path]] = {}
    from_: dict[Path, set[Path]] = {}
    for match in sure:
        onto.setdefault(_home(match.source), set()).add(_home(match.target))
        from_.setdefault(_home(match.target), set()).add(_home(match.source))
    rows, columns = ([_home(node) for node in each.nodes] for each in (found.source, found.target))

    def fits(old: Path, new: Path) -> float:
        elsewhere = old in onto and new not in onto[old] and new in from_ and old not in from_[new]
        return float(not elsewhere)

    return (outer(rows, columns, fits) > 0) & _as_others_are_read(found)


def _is_whole(pair: tuple[Path, Path], modules: dict[tuple[Path, Path], list[Match]]) -> bool:
    """Whether two modules have nothing to do with any third."""
    return sum(pair[0] == old or pair[1] == new for old, new in modules) == 1


def _home(node: Node) -> Path:
    """The module that a module lies in, lists without a name of their own left out (`to_out.0`)."""
    return node.module[: max((at for at, part in enumerate(node.module) if tokens(part)), default=0)]


def _as_others_are_read(found: Round) -> Mask:
    """Where no match has to be read transposed, no other arrangement is likely that has to be."""
    turned = np.array([[fit.reading == "transposed" for fit in row] for row in found.scores.fits], dtype=bool)
    if any(turned[match.row, match.column] for match in found.matches):
        return np.ones_like(found.scores.allowed)
    return np.asarray(~turned.reshape(found.scores.allowed.shape))
