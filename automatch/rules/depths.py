"""Numbers of layers, for formulas by which layers were sampled: `i * source_blocks // target_blocks`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from automatch.core.mapping import MappingRecord
from automatch.lift.keys import Keys
from automatch.rules.following import Column
from automatch.rules.naming import free_name
from automatch.rules.ruleset import Count, Side, Size
from automatch.rules.splitting import numbered, split

Located = tuple[int, str]
"""Which example, and a key there."""


@dataclass(slots=True)
class Depths:
    """Counts the numbers that keys have in a place, and names the counts that are used.

    Attributes:
        examples: The mappings that are learned from.
        made: The counts that were named, as sizes.
    """

    examples: Sequence[MappingRecord]
    made: dict[Count, Size] = field(default_factory=dict)
    _keys: dict[tuple[int, Side], Keys] = field(default_factory=dict)

    def column(self, side: Side, keys: Sequence[Located], place: int) -> Column:
        """How many numbers stand in one place of some keys, where their other numbers are the same."""
        found = []
        for example, key in keys:
            template, numbers = split(key)
            found.append(len(self._of(example, side).row(template, numbers, place)))
        return tuple(found)

    def name(self, side: Side, located: Located, place: int) -> str:
        """The name of the size that counts the numbers in a place; empty where the number is a part of a word."""
        starred = self._starred(side, located, place)
        if not starred:
            return ""
        reading = Count(side, starred)
        if reading not in self.made:
            words = starred.split(".")
            at = words.index("*")
            stem = next((re.sub(r"\W+", "_", word) for word in reversed(words[:at]) if not word.isdecimal()), "layers")
            taken = {size.name for size in self.made.values()}
            name = free_name(f"{side}_{stem}", taken)
            self.made[reading] = Size(name, (reading,), self.column(side, [located], place)[0])
        return self.made[reading].name

    def _of(self, example: int, side: Side) -> Keys:
        if (example, side) not in self._keys:
            record = self.examples[example]
            self._keys[example, side] = numbered((record.source if side == "source" else record.target).weights)
        return self._keys[example, side]

    def _starred(self, side: Side, located: Located, place: int) -> str:
        """The first key that counts the same blocks, with a star: one name for all parameters of a block."""
        example, key = located
        words = key.split(".")
        at = _word(words, place)
        if not words[at].isdecimal():
            return ""
        wanted = self.column(side, [located], place)
        for other in self._of(example, side).weights:
            parts = other.split(".")
            alike = len(parts) > at and parts[:at] == words[:at] and parts[at].isdecimal()
            if alike and self.column(side, [(example, other)], place) == wanted:
                return ".".join([*words[:at], "*", *parts[at + 1 :]])
        return ""


def _word(words: Sequence[str], place: int) -> int:
    """Which word holds the number of a place."""
    done = 0
    for at, word in enumerate(words):
        done += len(split(word)[1])
        if done > place:
            return at
    raise IndexError(f"{'.'.join(words)} has no number {place}")
