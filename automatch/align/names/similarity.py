"""How alike the nodes of two sides are, all in all: by names, by shapes, and by what surrounds them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from automatch.align.names.features import Mask, Side, Table, name_tables
from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path
from automatch.align.names.shapes import Fit, Widths, learn_widths, loose, part_sizes, shape_fit
from automatch.core.graph import Shape

ENOUGH_SHAPE = 0.35
"""How well shapes must fit for a pair to be possible; equal names need less."""
WEIGHTS = {
    "tail": 1.0,
    "leaf": 1.0,
    "path": 0.8,
    "parent": 0.4,
    "shape": 0.8,
    "numbers": 0.5,
    "kind": 0.4,
    "module": 0.4,
    "turn": 0.3,
    "order": 0.1,
}
"""What each kind of agreement counts in a pair's similarity, their weighted mean."""
UNUSUAL = 0.15
"""How much less alike siblings joined in no usual order are."""
NEAREST = 16
"""How fast the say of a pair in the change of widths falls with its distance from the nearest name."""
SAME_SIZE = 0.55
"""Mean of two shares from which both sides count as equally large: of target shapes that the source has as well, and of
like names that have like shapes."""
CONTEXT = 1.2
"""What the surroundings count, beside `WEIGHTS`."""
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarities, one row per source node and one column per target node.

    Attributes:
        alone: By the nodes themselves, 0 to 1.
        fits: How every pair's shapes fit.
        allowed: Which pairs are possible at all.
        equal: Which pairs have the same name.
        widths: The change of widths by which shapes were compared.
    """

    alone: Table
    fits: tuple[tuple[Fit, ...], ...]
    allowed: Mask
    equal: Mask
    widths: Widths

    @property
    def floor(self) -> float:
        """The similarity below which a target weight rather stays without a source; higher where sizes prove less."""
        return 0.42 if self.widths.same else 0.5


def score(source: Side, target: Side, widths: Widths) -> Scores:
    """All agreement that pairs have by themselves."""
    names = name_tables(source, target)
    fits = _fits(source, target, widths)
    shape = np.array([[fit.score for fit in row] for row in fits]).reshape(len(source.nodes), len(target.nodes))
    equal = np.asarray(names["tail"] >= 1.0)
    allowed = _possible(source, target, names) & ((shape >= ENOUGH_SHAPE) | (equal & _same_rank(source, target)))
    total = _mean(names | {"shape": shape})
    odd = np.add.outer(*[np.array([UNUSUAL * (not node.usual) for node in each.nodes]) for each in (source, target)])
    return Scores(np.clip(total - odd, 0.0, 1.0), fits, np.asarray(allowed), equal, widths)


def learn_from_names(source: Side, target: Side) -> Widths:
    """The change of widths, from weights whose names are each other's nearest.

    Both sides count as equally large where shapes recur on the other side, and mostly under like names.
    """
    names = name_tables(source, target)
    possible = _possible(source, target, names) & _same_rank(source, target)
    likeness = np.where(possible, _mean(names), 0.0)
    best = np.maximum(likeness.max(1, keepdims=True, initial=1e-9), likeness.max(0, keepdims=True, initial=1e-9))
    likely = (likeness / best) ** NEAREST * likeness
    shapes = [[loose(node.shape) for node in side.nodes] for side in (source, target)]
    votes = [
        (source.nodes[row].shape, target.nodes[column].shape, float(likely[row, column]))
        for row, column in zip(*np.nonzero(likely > 1e-3), strict=True)
        if shapes[0][row]
    ]
    recurring = sum(shape in set(shapes[0]) for shape in shapes[1]) / max(1, len(shapes[1]))
    alike = sum(vote for old, new, vote in votes if loose(old) == loose(new)) / max(
        1e-9, sum(vote for *_, vote in votes)
    )
    return Widths(True) if recurring + alike >= 2 * SAME_SIZE else learn_widths(votes)


def in_context(alone: Table, allowed: Mask, source: Side, target: Side) -> tuple[Table, Table]:
    """Scores in which pairs that lie close together on both sides support each other.

    Graduated assignment: a soft assignment, support by it, a harder assignment, and so on.

    Returns:
        The scores, 0 to 1, and the last soft assignment.
    """
    near = [_closeness(each.nodes) for each in (source, target)]
    scores, soft, own = alone, np.zeros_like(alone), sum(WEIGHTS.values())
    for turn in range(ROUNDS):
        soft = _soft_assignment(scores, allowed, sharpness=10.0 + 6.0 * turn)
        support = near[0] @ soft @ near[1]
        peak = np.sqrt(support.max(1, keepdims=True, initial=0.0) * support.max(0, keepdims=True, initial=0.0))
        scores = (own * alone + CONTEXT * np.minimum(support / np.maximum(peak, 1e-12), 1.0)) / (own + CONTEXT)
    return scores, soft


def node_fit(source: Node, target: Node, widths: Widths) -> Fit:
    """How the shapes of two nodes fit; of a virtual one, every part."""
    if not source.fused and not target.fused:
        return shape_fit(source.shape, target.shape, widths)
    if (source.fused and target.fused) or not source.shape or len(source.shape) != len(target.shape):
        return Fit(0.0)
    found = [shape_fit(old, new, widths) for old, new in _paired_parts(source, target, widths)]
    if not found or any(fit.reading != "as stored" for fit in found):
        return Fit(0.0)
    return Fit(sum(fit.score for fit in found) / len(found))


def source_sizes(source: Node, target: Node, widths: Widths) -> tuple[int, ...]:
    """How many rows of a fused source belong to each part of a virtual target."""
    return part_sizes(target.lengths, source.shape[0], widths.reverse)


def target_sizes(source: Node, target: Node, widths: Widths) -> tuple[int, ...]:
    """How many rows of a fused target belong to each part of a virtual source."""
    return part_sizes(source.lengths, target.shape[0], widths)


def _mean(tables: dict[str, Table]) -> Table:
    weights = [WEIGHTS[name] for name in tables]
    return np.asarray(
        sum(weight * table for weight, table in zip(weights, tables.values(), strict=True)) / sum(weights)
    )


def _paired_parts(source: Node, target: Node, widths: Widths) -> list[tuple[Shape, Shape]]:
    if source.fused:
        old, new = source.lengths, target_sizes(source, target, widths)
    else:
        old, new = source_sizes(source, target, widths), target.lengths
    if len(old) != len(new):
        return []
    return [((a, *source.shape[1:]), (b, *target.shape[1:])) for a, b in zip(old, new, strict=True)]


def _possible(source: Side, target: Side, names: dict[str, Table]) -> Mask:
    """Equally deep in repeated blocks, of kinds that go together, and not both virtual."""
    levels = [[len(node.patterns[0].chains) for node in each.nodes] for each in (source, target)]
    virtual = [[node.fused for node in each.nodes] for each in (source, target)]
    return np.asarray(np.equal.outer(*levels) & (names["kind"] > 0) & ~np.logical_and.outer(*virtual))


def _same_rank(source: Side, target: Side) -> Mask:
    """Both scalars, both vectors or both more than that, axes of size 1 left out."""
    ranks = [[min(2, sum(size > 1 for size in node.shape)) for node in each.nodes] for each in (source, target)]
    return np.asarray(np.equal.outer(*ranks))


def _fits(source: Side, target: Side, widths: Widths) -> tuple[tuple[Fit, ...], ...]:
    known: dict[Hashable, Fit] = {}

    def fit(a: Node, b: Node) -> Fit:
        key = (a.shape, a.lengths, b.shape, b.lengths)
        if key not in known:
            known[key] = node_fit(a, b, widths)
        return known[key]

    return tuple(tuple(fit(a, b) for b in target.nodes) for a in source.nodes)


def _closeness(nodes: Sequence[Node]) -> Table:
    """One over the number of nodes below the deepest module that holds both."""
    near = np.zeros((len(nodes), len(nodes)))
    for depth in range(max((len(node.path) for node in nodes), default=0)):
        codes: dict[Path, int] = {}
        group = np.array([codes.setdefault(n.path[:depth], len(codes)) if depth < len(n.path) else -1 for n in nodes])
        size = np.bincount(group + 1)[group + 1]
        same = (group[:, None] == group[None, :]) & (group >= 0)[:, None]
        near = np.where(same, 1.0 / size[:, None], near)
    return near


def _soft_assignment(scores: Table, allowed: Mask, sharpness: float) -> Table:
    """Rows and columns that sum to at most one, large where scores are."""
    peak = np.where(allowed, scores, 0.0).max(1, keepdims=True, initial=0.0)
    soft = np.where(allowed, np.exp(np.clip(sharpness * (scores - peak), -60.0, 0.0)), 0.0)
    for _ in range(10):
        soft = soft / (soft.sum(1, keepdims=True) + 1e-6)
        soft = soft / (soft.sum(0, keepdims=True) + 1e-6)
    return np.asarray(soft)
