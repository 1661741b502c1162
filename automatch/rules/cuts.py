"""Where weights are cut into parts, and which target weight takes each part: what tells the ends of slices.

Of a fused `qkv` the key's part starts where the query's ends, and that is as long as the target's query weight, however
many heads there are. No number of an example has to be explained for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from automatch.rules.folding import Group
from automatch.rules.slots import Cut, Slot
from automatch.rules.terms import Term

Site: TypeAlias = tuple[int, Term, int, int]
"""What is cut: in which example, along which axis, in how many groups."""


@dataclass(frozen=True, slots=True)
class Part:
    """Entries between two neighbouring cuts.

    Attributes:
        length: How many, in all groups together.
        taker: The pattern of the target keys that take exactly these, and the axis that is as long; None where no
            target weight is.
    """

    length: int
    taker: tuple[str, int] | None


@dataclass(slots=True)
class Cuts:
    """All the cuts of the examples.

    Attributes:
        bounds: For what is cut (in which example, along which axis, in how many groups), the bounds of all slices.
        takers: For a slice, the target keys that are just that.
    """

    bounds: dict[Site, set[int]] = field(default_factory=dict)
    takers: dict[tuple[Site, int, int], tuple[str, int]] = field(default_factory=dict)

    def add(self, group: Group, rows: Sequence[tuple[Slot, ...]]) -> None:
        """Note the slices of a group's entries.

        Args:
            group: The group.
            rows: For every entry, its slots.
        """
        for seen, row in zip(group.seen, rows, strict=True):
            for slot in row:
                if slot.cut is None:
                    continue
                site = _site(slot.cut, seen.example)
                self.bounds.setdefault(site, {0, slot.cut.length}).update((slot.start, slot.stop))
                if slot.target_axis is not None:
                    self.takers.setdefault((site, slot.start, slot.stop), (group.target, slot.target_axis))

    def before(self, cut: Cut, place: int, example: int) -> tuple[Part, ...]:
        """The parts of what is cut that lie before a place, which is counted as the cut is."""
        return tuple(part for end, part in self._parts(cut, example) if end <= place)

    def count(self, cut: Cut, example: int) -> int:
        """The number of parts, if all are equally long; else 0."""
        parts = [part.length for _, part in self._parts(cut, example)]
        return len(parts) if len(set(parts)) == 1 else 0

    def _parts(self, cut: Cut, example: int) -> list[tuple[int, Part]]:
        site = _site(cut, example)
        return [
            (stop, Part((stop - start) * cut.groups, self.takers.get((site, start, stop))))
            for start, stop in pairwise(sorted(self.bounds[site]))
        ]


def _site(cut: Cut, example: int) -> Site:
    return example, cut.of, cut.axis, cut.groups
