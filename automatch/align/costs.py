"""What it costs to say that two candidates play the same role.

The weights were found by trial on pairs of real models; `docs/architecture.md` says which of them carry the result.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import log

import numpy as np

from automatch.align.anchors import likeness
from automatch.align.assignment import FORBIDDEN, Costs, Match, assign
from automatch.align.candidates import Candidate
from automatch.align.norms import NormPlace
from automatch.align.twins import count_twins
from automatch.align.use_graph import UseGraph

_FORWARD = 3.0
_BACKWARD = 3.0
_CROSSED = 2.0
_DEPENDENT = 2.0
_LANES = 2.0
_POSITION = 1.0
_DISPLACED = 2.0
_BRANCH = 4.0
_WIDTHS = 1.0
_ROWS = 0.3
_NEARER = 2.0
_FARTHER = 0.5
_OUTPUT = 1.5
_FIXED = 1.0
_INPUTS = 3.0
_NEIGHBOUR = 1.0
_WORDS = 0.02
_ROUNDS = 2


@dataclass
class WidthMap:
    """Which source width became which target width, by how often pairs that are sure say so."""

    counts: defaultdict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def note(self, source: int, target: int, times: int = 1) -> None:
        """Record one more pair of widths."""
        self.counts[source][target] += times

    def agrees(self, source: int, target: int) -> bool:
        """Whether two widths are equal or known to correspond."""
        return source == target or self.counts[source][target] > 0

    def is_silent(self) -> bool:
        """Whether nothing was recorded yet."""
        return not self.counts


def cost(source: Candidate, target: Candidate, widths: WidthMap) -> float:
    """The cost of pairing two candidates; `FORBIDDEN` where their kinds differ."""
    if source.kind != target.kind:
        return FORBIDDEN
    shared = len(source.words & target.words) / max(1, len(source.words | target.words))
    order = _POSITION * abs(source.position - target.position) - _WORDS * shared
    if is_displaced(source, target):
        return order + _DISPLACED + _BRANCH * (source.norm != _moved(target))
    total = order + _FORWARD * (1 - likeness(source.forward, target.forward))
    fixed = source.kind == "embedding" and not (source.backward and target.backward)
    total += _FIXED if fixed else _BACKWARD * (1 - likeness(source.backward, target.backward))
    total += _CROSSED * (source.crossed != target.crossed)
    total += _LANES * (source.lanes != target.lanes)
    total += _DEPENDENT * (source.dependent is not None and source.dependent != target.dependent)
    total += _width_cost(source, target, widths) + _distance_cost(source, target)
    return total + (0.0 if fixed else _inputs_cost(source, target))


def is_displaced(source: Candidate, target: Candidate) -> bool:
    """Whether one is a norm on the residual stream and the other a norm on a branch (post-norm against pre-norm)."""
    return source.norm is not None and target.norm is not None and source.norm.on_stream != target.norm.on_stream


def _moved(candidate: Candidate) -> NormPlace | None:
    return None if candidate.norm is None else replace(candidate.norm, on_stream=not candidate.norm.on_stream)


def _width_cost(source: Candidate, target: Candidate, widths: WidthMap) -> float:
    pairs = list(zip(source.widths, target.widths, strict=False))
    if widths.is_silent() or len(source.widths) != len(target.widths):
        return 0.0
    total = _WIDTHS * sum(not widths.agrees(a, b) for a, b in pairs)
    if source.kind in ("embedding", "add with a weight") and pairs:
        total += _ROWS * abs(log((pairs[0][0] + 1) / (pairs[0][1] + 1)))
    return total


def _distance_cost(source: Candidate, target: Candidate) -> float:
    """Nearness to the inputs tells stems apart, nearness to the outputs heads; one of the two agreeing is enough."""
    if source.reach is None or target.reach is None:
        return 0.0
    apart = sorted(min(2, abs(a - b)) for a, b in zip(source.reach, target.reach, strict=True))
    total = _NEARER * apart[0] + _FARTHER * apart[1]
    return total + _OUTPUT * (("output" in source.forward) != ("output" in target.forward))


def _inputs_cost(source: Candidate, target: Candidate) -> float:
    joint = source.inputs | target.inputs
    return _INPUTS * (1 - len(source.inputs & target.inputs) / len(joint)) if joint else 0.0


def pair(
    graphs: tuple[UseGraph, UseGraph],
    sources: Sequence[Candidate],
    targets: Sequence[Candidate],
    widths: WidthMap,
    refusal: float,
) -> tuple[Match, ...]:
    """Pair candidates of two regions; after each round, pairs whose neighbours were paired too get cheaper."""
    if not sources or not targets:
        return ()
    base = np.array([[cost(source, target, widths) for target in targets] for source in sources])
    matches = assign(base, refusal)
    before = [_neighbours(graph, side) for graph, side in zip(graphs, (sources, targets), strict=True)]
    for _ in range(_ROUNDS):
        matches = assign(_with_neighbours(base, matches, sources, targets, before), refusal)
    twins = count_twins(sources, before[0]), count_twins(targets, before[1])
    return tuple(replace(match, twins=max(twins[0][match.source], twins[1][match.target])) for match in matches)


def _with_neighbours(
    base: Costs,
    matches: Sequence[Match],
    sources: Sequence[Candidate],
    targets: Sequence[Candidate],
    near: Sequence[dict[int, tuple[frozenset[int], frozenset[int]]]],
) -> Costs:
    partners: defaultdict[int, set[int]] = defaultdict(set)
    for match in matches:
        partners[sources[match.source].slot.landmark].add(targets[match.target].slot.landmark)
    costs = base.copy()
    for i, source in enumerate(sources):
        for j, target in enumerate(targets):
            if base[i, j] >= FORBIDDEN:
                continue
            sides = zip(near[0][source.slot.landmark], near[1][target.slot.landmark], strict=True)
            agreeing = sum(any(partners[s] & ours for s in theirs) for theirs, ours in sides if theirs and ours)
            costs[i, j] -= _NEIGHBOUR * agreeing
    return costs


def _neighbours(graph: UseGraph, side: Sequence[Candidate]) -> dict[int, tuple[frozenset[int], frozenset[int]]]:
    """For every candidate's landmark, the nearest other candidates before and after it."""
    ours = {candidate.slot.landmark for candidate in side}
    return {index: (_nearest(graph, index, ours, False), _nearest(graph, index, ours, True)) for index in ours}


def _nearest(graph: UseGraph, start: int, ours: set[int], ahead: bool) -> frozenset[int]:
    found: set[int] = set()
    seen: set[int] = set()
    todo = [start]
    region = graph.places.get(start)
    while todo:
        index = todo.pop()
        steps = (
            [reader.index for reader, _ in graph.readers(index)]
            if ahead
            else [edge.source for edge in graph.landmarks[index].ins]
        )
        for step in steps:
            if step in seen or graph.places.get(step) != region:
                continue
            seen.add(step)
            if step in ours:
                found.add(step)
            else:
                todo.append(step)
    return frozenset(found)
