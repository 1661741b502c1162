"""Which axes of weights are indexed, told from names and shapes alone: what changes size for a reason of its own.

A wider or narrower stream changes the outputs of one weight and the inputs of others by one ratio. Inputs whose ratio
no outputs of a weight before share are fed by the caller, and outputs whose ratio no inputs of one behind share are
read by it. What comes before is told by numbers in names that are otherwise equal, by words for a model's two ends
(`in`, `out`), and last by the order of keys, where they have one of their own.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Literal

from automatch.align.names.vocabulary import resemblance, tokens, vocabulary
from automatch.core.alignment import Assignment, Entries, Indexed, Piece
from automatch.core.graph import Shape, Weight

_PLACES = frozenset(("wpe", "pe"))
"""Short for tables of positions."""

_TELLING = ("position", "relative", "embedding")
_SURE = 0.75
_CONVOLVED = 4
"""Axes of a kernel that slides over pictures."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A weight of another size: its shapes in the source and in the target, as the same axes."""

    assignment: Assignment
    old: Shape
    new: Shape
    place: int

    @property
    def name(self) -> tuple[str, tuple[int, ...]]:
        """The key with holes for its numbers, and these."""
        words = self.assignment.target.split(".")
        numbers = tuple(int(word) for word in words if word.isdecimal())
        return ".".join("{}" if word.isdecimal() else word for word in words), numbers

    @property
    def is_matrix(self) -> bool:
        return self.assignment.form == "matrix" and len(self.new) > 1

    def ratio(self, axis: int) -> float:
        return self.new[axis] / self.old[axis] if self.old[axis] else 1.0

    def is_beside(self, words: Literal["before", "after"]) -> bool:
        """Whether its name says that it stands at the model's beginning, or at its end."""
        said = vocabulary().before if words == "before" else vocabulary().after
        return any(word in said for part in self.assignment.target.split(".") for word in tokens(part))


def with_indexed(
    assignments: Sequence[Assignment], source: Iterable[Weight], target: Sequence[Weight], ordered: bool = True
) -> tuple[Assignment, ...]:
    """The same assignments, told which axes of the target's weights are indexed.

    Args:
        assignments: One for every target weight, in the target's order.
        source: The source's weights.
        target: The target's, in order.
        ordered: Whether the target's keys are in an order of their own, rather than sorted.

    Example:
        >>> from automatch.core.alignment import Piece
        >>> from automatch.core.mapping import Evidence
        >>> old = [Weight("conv_in.weight", (8, 4, 3, 3), "float32")]
        >>> new = [Weight("conv_in.weight", (8, 9, 3, 3), "float32")]
        >>> pieces = (Piece("conv_in.weight"),)
        >>> found = Assignment("conv_in.weight", "structural", Evidence("names"), pieces, form="matrix")
        >>> with_indexed([found], old, new)[0].indexed
        (Indexed(axis=1, entries='inputs', grids=((), ())),)
    """
    old, new = ({weight.name: weight.shape for weight in side} for side in (source, target))
    changes = [_change(each, old, new, place) for place, each in enumerate(assignments)]
    if all(change is None or change.old == change.new for change in changes):
        return tuple(assignments)
    some = [change for change in changes if change is not None]
    makers = _Ends.of([(each, each.ratio(0 if each.is_matrix else -1)) for each in some], "after", ordered)
    readers = _Ends.of([(each, each.ratio(1)) for each in some if each.is_matrix], "before", ordered)
    named = _Names.of(target)
    found = {change: tuple(_indexed(change, makers, readers, named)) for change in some}
    rows = {(each.old[0], each.new[0]) for each, axes in found.items() if Indexed(0, "rows") in axes}
    return tuple(
        assignment if change is None else replace(assignment, indexed=found[change] or _beside(change, rows))
        for assignment, change in zip(assignments, changes, strict=True)
    )


def _change(assignment: Assignment, old: Mapping[str, Shape], new: Mapping[str, Shape], place: int) -> _Change | None:
    """What became of what fills a weight; None where its axes are others."""
    after = new[assignment.target]
    shapes = [_piece_shape(piece, old) for piece in assignment.pieces]
    if not shapes or any(len(shape) != len(after) for shape in shapes) or not after:
        return None
    return _Change(assignment, (sum(shape[0] for shape in shapes), *shapes[0][1:]), after, place)


def _piece_shape(piece: Piece, old: Mapping[str, Shape]) -> Shape:
    """The shape of what is taken of a source; none where it is none, or is seen in another shape."""
    if piece.source is None or piece.view.shape is not None:
        return ()
    shape = list(old[piece.source])
    for region in piece.view.regions:
        shape[region.axis] = (region.stop - region.start) * region.groups
    return tuple(shape[axis] for axis in piece.view.axes or range(len(shape)))


def _indexed(change: _Change, makers: _Ends, readers: _Ends, named: _Names) -> Iterator[Indexed]:
    old, new, form = change.old, change.new, change.assignment.form
    rows = named.rows(change.assignment.target, old[-2], new[-2]) if len(new) > 1 else "rows"
    listed = form == "other" and len(new) == 3 and new[0] == old[0] == 1
    if form == "table" or listed or rows != "rows":
        yield Indexed(0, rows)
        return
    if change.is_matrix and old[1] != new[1] and not makers.before(change, change.ratio(1)):
        yield Indexed(1, "inputs")
    if change.is_matrix and old[0] != new[0] and not readers.behind(change, change.ratio(0)):
        yield Indexed(0, "rows")


def _beside(change: _Change, rows: Container[tuple[int, int]]) -> tuple[Indexed, ...]:
    """What a vector's entries are that are as many as the rows of some table or last product: a bias for each."""
    is_bias = change.assignment.form == "vector" and (change.old[0], change.new[0]) in rows
    return (Indexed(0, "rows"),) if is_bias else ()


@dataclass(frozen=True, slots=True)
class _Ends:
    """Which weights change one of their axes, by the ratio by which they do.

    Attributes:
        places: For every ratio, the first and the last place of one.
        numbers: For every ratio and name without numbers, the lowest and the highest numbers of one.
        ordered: Whether places tell anything.
    """

    places: Mapping[float, tuple[int, int]]
    numbers: Mapping[tuple[float, str], tuple[tuple[int, ...], tuple[int, ...]]]
    ordered: bool

    @staticmethod
    def of(ratios: Iterable[tuple[_Change, float]], other: Literal["before", "after"], ordered: bool) -> _Ends:
        """Those of some weights, without those whose names say that they stand at the other end of the model."""
        places: dict[float, tuple[int, int]] = {}
        numbers: dict[tuple[float, str], tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for change, ratio in ratios:
            if change.is_beside(other):
                continue
            name, own = change.name
            first, last = places.get(ratio, (change.place, change.place))
            places[ratio] = min(first, change.place), max(last, change.place)
            low, high = numbers.get((ratio, name), (own, own))
            numbers[ratio, name] = min(low, own), max(high, own)
        return _Ends(places, numbers, ordered)

    def before(self, change: _Change, ratio: float) -> bool:
        """Whether one of them comes before a weight."""
        name, own = change.name
        if ratio in self.places and (not self.ordered or self.places[ratio][0] < change.place):
            return True
        return self.numbers.get((ratio, name), (own, own))[0] < own

    def behind(self, change: _Change, ratio: float) -> bool:
        """Whether one of them comes behind a weight."""
        name, own = change.name
        if ratio in self.places and (not self.ordered or self.places[ratio][1] > change.place):
            return True
        return self.numbers.get((ratio, name), (own, own))[1] > own


@dataclass(frozen=True, slots=True)
class _Names:
    """What names and shapes of the target tell of a weight.

    Attributes:
        ranks: For every module, how many axes its weights have at most, those of its submodules included.
        counts: For every module, how many weights it has.
    """

    ranks: Mapping[str, int]
    counts: Mapping[str, int]

    @staticmethod
    def of(weights: Sequence[Weight]) -> _Names:
        ranks: dict[str, int] = {}
        counts: dict[str, int] = {}
        for weight in weights:
            for module in _modules(weight.name):
                ranks[module] = max(ranks.get(module, 0), len(weight.shape))
                counts[module] = counts.get(module, 0) + 1
        return _Names(ranks, counts)

    def rows(self, key: str, old: int, new: int) -> Entries:
        """What the rows of a table stand for."""
        *modules, leaf = key.split(".")
        own = (
            modules[-1] if leaf in ("weight", "bias") and modules else leaf
        )  # what lies around it has other weights too
        words = tokens(own)
        said = {kind for kind in _TELLING for word in words if resemblance(word, kind) >= _SURE}
        if "relative" in said and (said > {"relative"} or "bias" in words):
            return "relative"
        if _PLACES.isdisjoint(words) and not {"position", "embedding"} <= said:
            return "rows"
        beside = next((module for module in _modules(key) if self.counts[module] > 1), "")
        picture = self.ranks[beside] >= _CONVOLVED or any(_is_square(old - n) and _is_square(new - n) for n in (1, 2))
        return "grid" if picture else "positions"


def _modules(key: str) -> Iterator[str]:
    """The modules that a weight lies in, the innermost first."""
    while key:
        key = key.rpartition(".")[0]
        yield key


def _is_square(number: int) -> bool:
    return number > 0 and isqrt(number) ** 2 == number
