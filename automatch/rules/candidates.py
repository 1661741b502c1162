"""Where a number of an example may come from: what the models carry, and the sizes of axes.

Every candidate is a reading that gives the number for all keys of a group; which of them is meant, one example does
not always tell. The better ones come first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from automatch.core.mapping import MappingRecord
from automatch.rules.folding import Group
from automatch.rules.following import Column
from automatch.rules.measure import Measure
from automatch.rules.pattern import Pattern, parse
from automatch.rules.ruleset import Axis, Carried, Reading
from automatch.rules.terms import keys

_LENGTHS = {
    "max",
    "position",
    "positions",
    "seq",
    "len",
    "length",
    "lengths",
    "context",
    "ctx",
    "cached",
    "vocab",
    "sample",
}
"""Words in names of how long inputs may be, which are not meant where something else has the same value."""

_DEPTHS = {"layer", "layers", "depth", "depths", "block", "blocks", "stage", "stages"}
"""Words in names of numbers of layers, which are no size of a weight."""

Side = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reading, and how likely one would mean it.

    Attributes:
        reading: The reading.
        rank: 0 for what a configuration says, 1 for a module around the weights, 2 for an axis of the target weight,
            3 for one of a source weight, 4 for one of a weight beside the target.
    """

    reading: Reading
    rank: int


class Candidates:
    """The readings of some examples.

    Args:
        examples: The mappings that rules are learned from.
    """

    def __init__(self, examples: Sequence[MappingRecord]) -> None:
        """Index the examples' sizes."""
        self.measures = [Measure(record.source, record.target) for record in examples]
        self._carried: dict[Side, list[tuple[str, int]]] = {
            "source": list(examples[0].source.sizes),
            "target": list(examples[0].target.sizes),
        }
        self._keys = {"source": self.measures[0].source.weights, "target": self.measures[0].target.weights}

    def singles(self, values: Column, group: Group, *, beside: bool = False, axes: bool = True) -> list[Candidate]:
        """The readings that give a number for every key of a group, best first.

        Args:
            values: The number, key by key.
            group: The keys.
            beside: Whether sizes of weights beside the target are looked at.
            axes: Whether sizes of axes are looked at, rather than only what the models carry.
        """
        found = [*self._of_sides(values, group), *(self._of_axes(values, group, beside) if axes else ())]
        kept = [each for each in found if self.column(each.reading, group) == values]
        return pruned(sorted(dict.fromkeys(kept), key=lambda each: each.rank))

    def column(self, reading: Reading, group: Group) -> Column | None:
        """What a reading gives for every key of a group; None where it gives nothing for some."""
        found: list[int] = []
        for seen, words in zip(group.seen, group.words, strict=True):
            values = self.measures[seen.example].read(reading, words)
            if len(values) != 1:
                return None
            found.append(values[0])
        return tuple(found)

    def pool(self, group: Group) -> list[tuple[Candidate, Column]]:
        """Every reading that has to do with a group, and what it gives."""
        every = [*self._of_sides(None, group), *self._of_axes(None, group, False)]
        found = [(each, self.column(each.reading, group)) for each in dict.fromkeys(every)]
        kept = [(each, column) for each, column in found if column is not None and min(column) > 1]
        return sorted(kept, key=lambda pair: pair[0].rank)

    def _of_sides(self, values: Column | None, group: Group) -> Iterator[Candidate]:
        relevant = {"source": _sources(group), "target": (group.seen[0].entry.target,)}
        for side in SIDES:
            for path, value in self._carried[side]:
                if _DEPTHS & set(path.rsplit(".", 1)[-1].split("_")):
                    continue
                rank = self._rank(side, path, relevant[side])
                if rank is None or (values is not None and value not in values and group.seen[0].example == 0):
                    continue
                yield from (Candidate(Carried(side, pattern), rank) for pattern in _with_variables(path, group))

    def _rank(self, side: Side, path: str, relevant: Sequence[str]) -> int | None:
        """How near a carried number is; None where it belongs to modules that have nothing to do with the weights."""
        owner = path.split(".")[:-1]
        if any(_under(owner, key.split(".")) for key in relevant):
            return 1
        elsewhere = any(_under(owner, key.split(".")) for key in self._keys[side])
        return None if elsewhere else 0

    def _of_axes(self, values: Column | None, group: Group, beside: bool) -> Iterator[Candidate]:
        target = parse(group.target)
        shape = group.seen[0].entry.shape
        yield from (Candidate(Axis("target", target, axis), 2) for axis in range(len(shape)))
        for pattern in () if group.term is None else dict.fromkeys(keys(group.term)):
            yield from (Candidate(Axis("source", anywhere(pattern, group), axis), 3) for axis in range(4))
        for pattern in self._beside(group) if beside and values is not None else ():
            yield from (Candidate(Axis("target", pattern, axis), 4) for axis in range(2))

    def _beside(self, group: Group) -> Iterator[Pattern]:
        """Patterns of the target weights in modules beside the group's."""
        own, shown = group.seen[0].entry.target.split("."), group.target.split(".")
        stem = len(own) - 2
        for key in self._keys["target"] if stem > 0 else ():
            words = key.split(".")
            if words[:stem] == own[:stem] and len(words) == len(own) and words[-1] == own[-1] and words != own:
                yield parse(".".join([*shown[:stem], *words[stem:]]))


def anywhere(pattern: Pattern, group: Group) -> Pattern:
    """A source's pattern with stars for numbers that more than a group's variables decide.

    Example:
        >>> group = Group("h.{i}.w", None, (), ({"i": "0"},))
        >>> str(anywhere(parse("layers.{i * depth // 4}.w.{i}"), group))
        'layers.*.w.{i}'
    """
    known = set(group.words[0])
    pieces = ("*" if not set(Pattern((piece,)).variables) <= known else piece for piece in pattern.pieces)
    return parse("".join(piece if isinstance(piece, str) else str(Pattern((piece,))) for piece in pieces))


def pruned(found: list[Candidate]) -> list[Candidate]:
    """Candidates without those that say the same again, or that others are more likely than.

    A module repeats what the configuration says under the same name; lengths of inputs are meant only where nothing
    else has the value.
    """
    kept: dict[object, Candidate] = {}
    for each in found:
        reading = each.reading
        name = str(reading.path).rsplit(".", 1)[-1] if isinstance(reading, Carried) else reading
        kept.setdefault((reading.side, name) if isinstance(reading, Carried) else reading, each)
    likely = [each for each in kept.values() if not is_length(each.reading)]
    return likely or list(kept.values())


def is_length(reading: Reading) -> bool:
    """Whether a reading says how long inputs may be, to judge by its name."""
    return isinstance(reading, Carried) and speaks_of_length(str(reading.path).rsplit(".", 1)[-1])


def speaks_of_length(name: str) -> bool:
    """Whether a name has a word for how long inputs may be."""
    return bool(_LENGTHS & set(name.split("_")))


def _sources(group: Group) -> tuple[str, ...]:
    return group.seen[0].entry.sources


def _under(owner: Sequence[str], key: Sequence[str]) -> bool:
    """Whether a module (stars for numbers) is around a key; the model itself is around all."""
    return len(owner) < len(key) and all(mine in ("*", word) for mine, word in zip(owner, key, strict=False))


def _with_variables(path: str, group: Group) -> Iterator[Pattern]:
    """A path as it is, and with variables of a group in the places of its numbers."""
    words = path.split(".")
    names = [f"{{{name}}}" for name, value in group.words[0].items() if value.isdecimal()]
    options = [[word, *names] if word.isdecimal() else [word] for word in words]
    for chosen in product(*options):
        yield parse(".".join(chosen))
