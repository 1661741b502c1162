"""Pair the inputs of two models by rank, type and what they feed."""

from __future__ import annotations

import numpy as np

from automatch.align.assignment import assign
from automatch.align.use_graph import UseGraph
from automatch.core.landmarks import Landmark

_ORDER = 0.1


def pair_inputs(source: UseGraph, target: UseGraph) -> tuple[dict[int, str], dict[int, str]]:
    """Names that paired inputs share, by landmark index, for both sides; an input without a partner keeps its own."""
    ours, theirs = _inputs(source), _inputs(target)
    names_source = {mark.index: f"the source's input {mark.label}" for mark in ours}
    names_target = {mark.index: f"input {mark.label}" for mark in theirs}
    costs = np.array([[_cost(source, target, a, b, i - j) for j, b in enumerate(theirs)] for i, a in enumerate(ours)])
    for match in assign(costs.reshape(len(ours), len(theirs)), refusal=50.0):
        names_source[ours[match.source].index] = names_target[theirs[match.target].index]
    return names_source, names_target


def paired_widths(
    source: UseGraph, target: UseGraph, names: tuple[dict[int, str], dict[int, str]]
) -> list[tuple[int, int]]:
    """Sizes of paired inputs that may be widths: the second and the last axis."""
    partner = {name: index for index, name in names[1].items()}
    shapes = [
        (source.landmarks[index].shape, target.landmarks[partner[name]].shape)
        for index, name in names[0].items()
        if name in partner
    ]
    return [(a[axis], b[axis]) for a, b in shapes if len(a) > 1 and len(b) > 1 for axis in (1, -1)]


def _inputs(graph: UseGraph) -> list[Landmark]:
    return [mark for mark in graph.landmarks if mark.kind == "input" and graph.readers(mark.index)]


def _cost(source: UseGraph, target: UseGraph, a: Landmark, b: Landmark, order: int) -> float:
    feeds_a = {reader.kind for reader, _ in source.readers(a.index)}
    feeds_b = {reader.kind for reader, _ in target.readers(b.index)}
    apart = 1 - len(feeds_a & feeds_b) / max(1, len(feeds_a | feeds_b))
    same_width = a.shape[-1:] == b.shape[-1:]
    return abs(len(a.shape) - len(b.shape)) + 2 * apart - 0.5 * same_width + _ORDER * abs(order) + 1
