"""Which groups of keys hold for some layers only: a first dense layer among experts, a last block without a part."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from automatch.rules.folding import Group

Place = tuple[int, str]
"""Which example, and the text before a number."""

_NUMBER = re.compile(r"\d+")


def partial(groups: Sequence[Group]) -> set[str]:
    """The target patterns of groups whose variables do not take all the numbers that keys have in their place.

    Args:
        groups: All groups of a mapping, or of several.
    """
    every: dict[Place, set[str]] = {}
    for group in groups:
        for place, number in _numbers(group):
            every.setdefault(place, set()).add(number)
    return {group.target for group in groups if _lacks(group, every)}


def _numbers(group: Group) -> list[tuple[Place, str]]:
    return [
        ((seen.example, seen.entry.target[: number.start()]), number.group())
        for seen in group.seen
        for number in _NUMBER.finditer(seen.entry.target)
    ]


def _lacks(group: Group, every: Mapping[Place, set[str]]) -> bool:
    own: dict[Place, set[str]] = {}
    for place, number in _numbers(group):
        own.setdefault(place, set()).add(number)
    # A number that is written out says by itself which keys are meant.
    varying = {place for place, numbers in own.items() if len(numbers) > 1}
    return any(own[place] != every[place] for place in varying)
