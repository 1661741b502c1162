"""Whether a weight of one shape can play the role of one of another shape, up to a consistent change of widths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal, TypeAlias

from automatch.core.graph import Shape

CLEARLY = 0.3
"""How much better a matrix of another size must fit transposed than as it is stored."""
Reading: TypeAlias = Literal["as stored", "transposed", "reshaped"]


@dataclass(frozen=True, slots=True)
class Widths:
    """How large what is `n` wide on the source side is on the target side.

    Attributes:
        same: Both sides are equally large; a change of size is then the exception that only an equal name excuses.
        seen: Where they are not, pairs (source size, target size) with their support: 1 where neither size has another
            partner. The source's say counts more, since one target size may stand for several source sizes.
    """

    same: bool
    seen: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def fit(self, source: int, target: int) -> float:
        """How well one size stands for the other, 0 to 1."""
        return float(source == target) if self.same else self.seen.get((source, target), 0.0)

    @property
    def reverse(self) -> Widths:
        """The change from the target side to the source side."""
        return Widths(self.same, {(new, old): support for (old, new), support in self.seen.items()})


@dataclass(frozen=True, slots=True)
class Fit:
    """How well one shape fits another, 0 to 1, and how the source has to be read for that."""

    score: float
    reading: Reading = "as stored"


def loose(shape: Shape) -> tuple[int, ...]:
    """What two ways of storing the same weight have in common: the sizes, without ones and order."""
    return tuple(sorted(_squeeze(shape)))


def learn_widths(votes: Iterable[tuple[Shape, Shape, float]]) -> Widths:
    """Sizes that stand for each other, from shapes of weights that probably correspond and how probably.

    Example:
        >>> learn_widths([((8, 8), (4, 4), 1.0), ((32, 8), (16, 4), 1.0)]).fit(8, 4)
        1.0
    """
    support: defaultdict[tuple[int, int], float] = defaultdict(float)
    rows: defaultdict[int, float] = defaultdict(float)
    columns: defaultdict[int, float] = defaultdict(float)
    for source, target, weight in votes:
        for pair in _paired_sizes(_squeeze(source), _squeeze(target)):
            support[pair] += weight
    for (old, new), weight in support.items():
        rows[old] = max(rows[old], weight)
        columns[new] = max(columns[new], weight)
    return Widths(False, {(a, b): n / rows[a] * (n / columns[b]) ** 0.5 for (a, b), n in support.items()})


def shape_fit(source: Shape, target: Shape, widths: Widths) -> Fit:
    """How a source weight fits a target weight.

    Example:
        >>> shape_fit((8, 4, 1, 1), (8, 4), Widths(True)), shape_fit((8, 4), (4, 8), Widths(True)).reading
        (Fit(score=0.95, reading='as stored'), 'transposed')
    """
    if widths.same:
        return _exact_fit(source, target)
    a, b = _squeeze(source), _squeeze(target)
    if min(len(a), len(b)) < 2:
        return Fit(widths.fit(*a, *b) if len(a) == len(b) == 1 else float(a == b))
    kernel = 1.0 if source[2:] == target[2:] else 0.9 if len(source) > 2 and len(target) > 2 else 0.75
    straight = kernel * (widths.fit(a[0], b[0]) + widths.fit(a[1], b[1])) / 2
    turned = 0.7 * (widths.fit(a[0], b[1]) + widths.fit(a[1], b[0])) / 2 if len(source) == len(target) == 2 else 0.0
    return Fit(straight) if turned < straight + CLEARLY else Fit(turned, "transposed")


def part_sizes(parts: Sequence[int], whole: int, widths: Widths) -> tuple[int, ...]:
    """How many entries of a fused axis belong to each part; empty where the parts cannot make it up.

    Example:
        >>> part_sizes((4096, 1024, 1024), 6144, Widths(True))
        (4096, 1024, 1024)
        >>> narrower = Widths(False, {(4096, 768): 1.0})
        >>> part_sizes((4096, 1024, 1024), 2304, narrower), part_sizes((4096, 1024, 1024), 1152, narrower)
        ((768, 768, 768), (768, 192, 192))
    """
    total, count = sum(parts), len(parts)
    if widths.same:
        return tuple(parts) if total == whole else ()
    equal = (whole // count,) * count if whole % count == 0 else ()
    if any(part * whole % total for part in parts):
        return equal
    scaled = tuple(part * whole // total for part in parts)
    largest = max(range(count), key=lambda at: parts[at])
    if equal and widths.fit(parts[largest], equal[largest]) > widths.fit(parts[largest], scaled[largest]):
        return equal
    return scaled


def _exact_fit(source: Shape, target: Shape) -> Fit:
    if source == target:
        return Fit(1.0)
    if _squeeze(source) == _squeeze(target):
        return Fit(0.95)
    if len(source) == len(target) == 2 and source == target[::-1]:
        return Fit(0.8, "transposed")
    flattened = len(source) != len(target) and min(len(source), len(target)) >= 2 and source[0] == target[0]
    return Fit(0.7, "reshaped") if flattened and prod(source) == prod(target) else Fit(0.0)


def _paired_sizes(a: Shape, b: Shape) -> list[tuple[int, int]]:
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    return list(zip(a[:2], b[:2], strict=True)) if min(len(a), len(b)) >= 2 else []


def _squeeze(shape: Shape) -> Shape:
    """The shape without axes of size 1."""
    return tuple(size for size in shape if size != 1)
