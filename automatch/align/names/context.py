"""Similarity in context: pairs that lie close together on both sides support each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automatch.align.names.features import Mask, Side
from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path
from automatch.align.names.wording import Table

SUPPORT = 0.19
"""Share of the surroundings in a similarity."""
ROUNDS = 6


def in_context(alone: Table, allowed: Mask, source: Side, target: Side) -> tuple[Table, Table]:
    """Similarities with their surroundings, 0 to 1, and the last soft assignment.

    Graduated assignment: a soft assignment, support by it, a harder assignment, and so on.
    """
    near = _closeness(source.nodes), _closeness(target.nodes)
    scores, soft = alone, np.zeros_like(alone)
    for turn in range(ROUNDS):
        soft = _soft_assignment(scores, allowed, sharpness=10.0 + 6.0 * turn)
        support = near[0] @ soft @ near[1]
        peak = np.sqrt(support.max(1, keepdims=True, initial=0.0) * support.max(0, keepdims=True, initial=0.0))
        scores = (1.0 - SUPPORT) * alone + SUPPORT * np.minimum(support / np.maximum(peak, 1e-12), 1.0)
    return scores, soft


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
