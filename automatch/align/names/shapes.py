"""Whether a weight of one shape can play the role of one of another shape, up to a consistent change of widths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from automatch.align.names.patterns import Pattern
from automatch.core.graph import Shape

SAME_SIZE = 0.5
"""Share of target patterns whose shape occurs on the source side from which both sides count as equally large."""
CLEARLY = 0.3
"""How much better a matrix of another size must fit transposed than as it is stored."""
Reading: TypeAlias = Literal["as stored", "transposed", "reshaped"]


@dataclass(frozen=True, slots=True)
class Widths:
    """How large what is `n` wide on the source side is on the target side.

    Attributes:
        same: Both sides are equally large; a change of size is then the exception that only an equal name excuses.
        seen: Pairs (source size, target size) with their support, 1 where neither size has another partner as often. The
            source's say counts more: a target size may stand for several source sizes.
    """

    same: bool
    seen: Mapping[tuple[int, int], float]

    def fit(self, source: int, target: int) -> float:
        """How well one size stands for the other, 0 to 1."""
        if self.same:
            return float(source == target)
        return self.seen.get((source, target), 0.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """How one shape fits another: 0 (not at all) to 1, and how it has to be read for that."""

    score: float
    reading: Reading = "as stored"


def are_same_size(source: Iterable[Pattern], target: Sequence[Pattern]) -> bool:
    """Whether the sides' shapes are by and large the same ones."""
    known = {_loose(pattern.shape) for pattern in source}
    return sum(_loose(pattern.shape) in known for pattern in target) >= SAME_SIZE * max(1, len(target))


def learn_widths(votes: Iterable[tuple[Shape, Shape, float]]) -> Widths:
    """Sizes that stand for each other, from shapes of weights that probably correspond, with how probably."""
    support: Counter[tuple[int, int]] = Counter()
    for source, target, weight in votes:
        for pair in _paired_sizes(_squeeze(source), _squeeze(target)):
            support[pair] += weight  # type: ignore[assignment]
    rows: dict[int, float] = {}
    columns: dict[int, float] = {}
    for (old, new), weight in support.items():
        rows[old] = max(rows.get(old, 0.0), weight)
        columns[new] = max(columns.get(new, 0.0), weight)
    seen = {(old, new): weight / rows[old] * (weight / columns[new]) ** 0.5 for (old, new), weight in support.items()}
    return Widths(same=False, seen=seen)


def shape_fit(source: Shape, target: Shape, widths: Widths) -> Fit:
    """How a source weight fits a target weight.

    Example:
        >>> shape_fit((8, 4, 1, 1), (8, 4), Widths(True, {})), shape_fit((8, 4), (4, 8), Widths(True, {})).reading
        (Fit(score=0.95, reading='as stored'), 'transposed')
    """
    if widths.same:
        return _exact_fit(source, target)
    a, b = _squeeze(source), _squeeze(target)
    if min(len(a), len(b)) < 2:
        return Fit(widths.fit(*a, *b) if len(a) == len(b) == 1 else float(a == b))
    kernel = 1.0 if source[2:] == target[2:] else 0.9 if len(source) > 2 and len(target) > 2 else 0.75
    straight = kernel * (widths.fit(a[0], b[0]) + widths.fit(a[1], b[1])) / 2
    turned = 0.7 * (widths.fit(a[0], b[1]) + widths.fit(a[1], b[0])) / 2 if len(a) == len(b) == 2 else 0.0
    return Fit(straight) if turned < straight + CLEARLY else Fit(turned, "transposed")


def part_sizes(parts: Sequence[int], whole: int, fit: Callable[[int, int], float], same: bool) -> tuple[int, ...]:
    """How many entries of a fused axis belong to each part; empty where the parts cannot make it up.

    Args:
        parts: Sizes of the parts on their own side.
        whole: Size of the fused axis on the other side.
        fit: How well a part's size stands for a size on the other side.
        same: Both sides are equally large.

    Example:
        >>> part_sizes((4096, 1024, 1024), 6144, lambda a, b: float(a == b), True)
        (4096, 1024, 1024)
        >>> part_sizes((4096, 1024, 1024), 2304, lambda a, b: float((a, b) == (4096, 768)), False)
        (768, 768, 768)
        >>> part_sizes((4096, 1024, 1024), 1152, lambda a, b: float((a, b) == (4096, 768)), False)
        (768, 192, 192)
    """
    total, count = sum(parts), len(parts)
    if same:
        return tuple(parts) if total == whole else ()
    equal = (whole // count,) * count if whole % count == 0 else ()
    scaled = tuple(part * whole // total for part in parts)
    if sum(scaled) != whole or any(part * whole % total for part in parts):
        return equal
    largest = max(range(count), key=lambda at: parts[at])
    if equal and fit(parts[largest], equal[largest]) > fit(parts[largest], scaled[largest]):
        return equal
    return scaled


def _exact_fit(source: Shape, target: Shape) -> Fit:
    if source == target:
        return Fit(1.0)
    if _squeeze(source) == _squeeze(target):
        return Fit(0.95)
    if len(source) == len(target) == 2 and source == target[::-1]:
        return Fit(0.8, "transposed")
    flattened = prod(source) == prod(target) and min(len(source), len(target)) >= 2 and source[0] == target[0]
    return Fit(0.7, "reshaped") if flattened and len(source) != len(target) else Fit(0.0)


def _paired_sizes(a: Shape, b: Shape) -> list[tuple[int, int]]:
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    return list(zip(a[:2], b[:2], strict=True)) if min(len(a), len(b)) >= 2 else []


def _squeeze(shape: Shape) -> Shape:
    """The shape without axes of size 1, but never without its first two axes if it has more."""
    return tuple(size for size in shape if size != 1)


def _loose(shape: Shape) -> tuple[int, ...]:
    return tuple(sorted(_squeeze(shape)))
