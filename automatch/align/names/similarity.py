"""How alike the nodes of two sides are by themselves: by names and shapes together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from automatch.align.names.features import Mask, Side, name_tables, out_of_turn, outer, without_places
from automatch.align.names.nodes import node_fit
from automatch.align.names.shapes import Fit, Widths, learn_widths, loose
from automatch.align.names.wording import Table
from automatch.core.graph import Shape

ENOUGH_SHAPE = 0.35
"""How well shapes must fit for a pair to be possible; equal names need less."""
WEIGHTS: Mapping[str, float] = {
    "tail": 1.0,
    "leaf": 1.0,
    "path": 0.8,
    "parent": 0.4,
    "shape": 0.8,
    "numbers": 0.5,
    "module": 0.4,
    "turn": 0.3,
    "order": 0.1,
}
"""What each kind of agreement counts in a pair's similarity, their weighted mean."""
UNUSUAL = 0.15
"""How much less alike siblings joined in no usual order are."""
OTHER_KIND = 0.05
"""How much less alike two parameters of different kinds are, if neither is a plain weight or bias for the other."""
OTHER_TURN = 0.2
"""How much less alike two norms are of which one runs first among its siblings and the other last, by their names."""
NEAREST = 16
"""How fast the say of a pair in the change of widths falls with its distance from the nearest name."""
SAME_SIZE = 0.55
"""Mean of two shares from which both sides count as equally large: of target shapes that the source has as well, and of
like names that have like shapes."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarities, one row per source node and one column per target node.

    Attributes:
        alone: By the nodes themselves, 0 to 1.
        named: The same without what only the places of keys in a state dict say.
        fits: How every pair's shapes fit.
        allowed: Which pairs are possible at all.
        fitting: Which pairs are possible by kind and shape, wherever they lie.
        equal: Which pairs have the same name.
        numbers: Agreement of the numbers in their paths, 0 to 1.
        widths: The change of widths by which shapes were compared.
    """

    alone: Table
    named: Table
    fits: tuple[tuple[Fit, ...], ...]
    allowed: Mask
    fitting: Mask
    equal: Mask
    numbers: Table
    widths: Widths

    @property
    def floor(self) -> float:
        """The similarity below which a target weight rather stays without a source; higher where sizes prove less."""
        return 0.39 if self.widths.same else 0.48


def score(source: Side, target: Side, widths: Widths) -> Scores:
    """All agreement that pairs have by themselves."""
    names = name_tables(source, target)
    fits = _fits(source, target, widths)
    shape = np.array([[fit.score for fit in row] for row in fits]).reshape(len(source.nodes), len(target.nodes))
    equal = np.asarray(names["tail"] >= 1.0)
    fitting = _compatible(source, target) & (shape >= ENOUGH_SHAPE)
    allowed = _possible(source, target) & ((shape >= ENOUGH_SHAPE) | (equal & _same_rank(source, target)))
    allowed &= _with_their_weights(source, target, allowed)
    less = OTHER_KIND * ~_same_kind(source, target)
    less = less + OTHER_TURN * out_of_turn(source, target)
    for each, axis in ((source, 1), (target, 0)):
        less = less + np.expand_dims([UNUSUAL * (not node.usual) for node in each.nodes], axis)
    tables = names | {"shape": shape}
    alone, named = (np.clip(_mean(each) - less, 0.0, 1.0) for each in (tables, tables | without_places(source, target)))
    return Scores(alone, named, fits, np.asarray(allowed), np.asarray(fitting), equal, names["numbers"], widths)


def learn_from_names(source: Side, target: Side) -> Widths:
    """The change of widths, from weights whose names are each other's nearest.

    Both sides count as equally large where shapes recur on the other side, and mostly under like names.
    """
    possible = _possible(source, target) & _same_rank(source, target)
    likeness = np.where(possible, _mean(name_tables(source, target)), 0.0)
    best = np.maximum(likeness.max(1, keepdims=True, initial=1e-9), likeness.max(0, keepdims=True, initial=1e-9))
    likely = (likeness / best) ** NEAREST * likeness
    votes: list[tuple[Shape, Shape, float]] = [
        (source.nodes[row].shape, target.nodes[column].shape, float(likely[row, column]))
        for row, column in zip(*np.nonzero(likely > 1e-3), strict=True)
        if loose(source.nodes[row].shape)
    ]
    known = {loose(node.shape) for node in source.nodes}
    recurring = sum(loose(node.shape) in known for node in target.nodes) / max(1, len(target.nodes))
    alike = sum(vote for old, new, vote in votes if loose(old) == loose(new))
    total = sum(vote for *_, vote in votes)
    share = alike / total if total else recurring
    return Widths(True) if (recurring + share) / 2 >= SAME_SIZE else learn_widths(votes)


def _mean(tables: Mapping[str, Table]) -> Table:
    weights = {name: WEIGHTS[name] for name in tables}
    return np.asarray(sum(weights[name] * table for name, table in tables.items()) / sum(weights.values()))


def _possible(source: Side, target: Side) -> Mask:
    """Equally deep in repeated blocks, not weight against bias, and not both virtual."""
    levels = [[len(node.patterns[0].chains) for node in each.nodes] for each in (source, target)]
    return np.asarray(_compatible(source, target) & np.equal.outer(levels[0], levels[1]))


def _compatible(source: Side, target: Side) -> Mask:
    """Not weight against bias, and not both virtual."""
    plain = outer([n.kind for n in source.nodes], [n.kind for n in target.nodes], _goes_with) > 0
    virtual = [[node.fused for node in each.nodes] for each in (source, target)]
    return np.asarray(plain & ~np.logical_and.outer(virtual[0], virtual[1]))


def _with_their_weights(source: Side, target: Side, allowed: Mask) -> Mask:
    """Biases and buffers of modules whose weights can be each other."""
    old, new = (
        {node.module: at for at, node in enumerate(each.nodes) if node.kind == "weight"} for each in (source, target)
    )
    rows = np.array([old.get(node.module, at) for at, node in enumerate(source.nodes)], dtype=int)
    columns = np.array([new.get(node.module, at) for at, node in enumerate(target.nodes)], dtype=int)
    both = np.logical_and.outer(
        [node.module in old for node in source.nodes], [node.module in new for node in target.nodes]
    )
    return np.asarray(~both | allowed[np.ix_(rows, columns)])


def _goes_with(a: str, b: str) -> float:
    """A weight is no bias; parameters with names of their own may be either."""
    return float(a == b or not {a, b} <= {"weight", "bias"})


def _same_kind(source: Side, target: Side) -> Mask:
    return outer([n.kind for n in source.nodes], [n.kind for n in target.nodes], lambda a, b: float(a == b)) > 0


def _same_rank(source: Side, target: Side) -> Mask:
    """Both scalars, both vectors or both more than that, axes of size 1 left out."""
    ranks = [[min(2, len(loose(node.shape))) for node in each.nodes] for each in (source, target)]
    return np.asarray(np.equal.outer(ranks[0], ranks[1]))


def _fits(source: Side, target: Side, widths: Widths) -> tuple[tuple[Fit, ...], ...]:
    """How every pair's shapes fit, computed once per pair of different shapes."""
    rows, columns = ([(node.shape, node.lengths) for node in each.nodes] for each in (source, target))
    one, other = dict(zip(rows, source.nodes, strict=True)), dict(zip(columns, target.nodes, strict=True))
    known = {(a, b): node_fit(one[a], other[b], widths) for a in one for b in other}
    return tuple(tuple(known[a, b] for b in columns) for a in rows)
