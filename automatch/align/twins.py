"""Candidates that nothing but their order tells apart: the experts of a mixture, two equal branches.

Colour refinement (Weisfeiler and Leman, 1968) on one side's region: candidates start with their features as colour and
take on the colours of their neighbours, round by round. Those that end with one colour are twins.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

from automatch.align.candidates import Candidate

_ROUNDS = 4
Near: TypeAlias = Mapping[int, tuple[frozenset[int], frozenset[int]]]


def count_twins(side: Sequence[Candidate], near: Near) -> list[int]:
    """For every candidate, how many others of its side are its twins.

    Args:
        side: The candidates of one region of one side.
        near: For every candidate's landmark, the nearest other candidates' landmarks before and after it.
    """
    colours = _numbered([_features(candidate) for candidate in side])
    for _ in range(_ROUNDS):
        of_landmark: defaultdict[int, list[int]] = defaultdict(list)
        for candidate, colour in zip(side, colours, strict=True):
            of_landmark[candidate.slot.landmark].append(colour)
        colours = _numbered(
            [
                (colour, *(_around(of_landmark, group) for group in near[candidate.slot.landmark]))
                for candidate, colour in zip(side, colours, strict=True)
            ]
        )
    counts = Counter(colours)
    return [counts[colour] - 1 for colour in colours]


def _features(candidate: Candidate) -> Hashable:
    """Everything that tells a role, but not the order in the block and not the names."""
    anchors = [tuple(sorted(anchors.items())) for anchors in (candidate.forward, candidate.backward)]
    told = (candidate.crossed, candidate.lanes, candidate.dependent, candidate.widths, candidate.reach)
    return (candidate.kind, *anchors, *told, candidate.inputs, candidate.norm)


def _around(of_landmark: Mapping[int, list[int]], group: frozenset[int]) -> Hashable:
    return tuple(sorted(colour for index in group for colour in of_landmark.get(index, [])))


def _numbered(colours: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(colour, len(numbers)) for colour in colours]
