"""Values recognised by their content: which numbers of one side's steps the other side computes, whatever their layout.

Weights are random and in float64, so two numbers that agree to eight digits are the same number: a value is known by
the set of its entries, and no name, shape or order is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from math import isfinite, prod

import torch
from torch import Tensor

from automatch.prove.steps import Step

CLOSE = 1e-8
"""Two numbers closer than this, in units of their tensor's size, are the same; float64 keeps spellings within 1e-11."""

COARSE = 2e-6
"""The same where a model has numbers in float32."""

NEARLY = 0.9995
"""The share of a value's entries that must be known; one in thousands may be lost to rounding."""

SAMPLE = 16_384
"""Entries of a large value that are looked up: as many as tell a share of one in thousands."""

FEW = 16
"""A value with fewer entries than this that tell anything is not recognised by its form alone."""

EVEN = 0.95
"""Nor is one whose entries are almost all of one size: its form is that of any other such."""

APART = 1e-3
"""How far from one a factor is, at least, that makes a value a multiple of another."""

CROWDED = 1.0
"""Numbers times closeness, above which so many are known that a wrong one has a neighbour by chance."""


MOST_AXES = 5
"""Values with more axes are compared in their order alone."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one side computes.

    Attributes:
        values: All its numbers, sorted.
        forms: Its values, by what stays of each when it is multiplied by a number.
        close: How close two numbers must be to be the same.
    """

    values: Tensor
    forms: Mapping[tuple[int, ...], tuple[Tensor, ...]]
    close: float

    def share(self, value: Tensor) -> float:
        """The share of a value's telling entries that are known; 1 where none of them tells anything."""
        return self._share(telling(value))

    def has(self, value: Tensor) -> bool:
        """Whether a value is known, or a multiple of it is."""
        return self.holds(telling(value))

    def holds(self, entries: Tensor) -> bool:
        """`has`, of the telling entries of a value."""
        crowded = self.close * self.values.numel() > CROWDED
        if not crowded and self._share(entries) >= NEARLY:
            return True
        alike = [other for near in around(form_of(entries, self.close)) for other in self.forms.get(near, ())]
        return any(self._is_multiple(entries, telling(other)) for other in alike)

    def _share(self, entries: Tensor) -> float:
        if not entries.numel() or not self.values.numel():
            return float(not entries.numel())
        return float(self._among(_sample(entries)).double().mean())

    def _is_multiple(self, entries: Tensor, other: Tensor) -> bool:
        """Whether entries are those of another value times a factor that people put into weights.

        Next to one it is another epsilon. Two moments alone would not do: what attention adds to a stream moves them by
        less than numbers in float32 do.
        """
        factor = _size(entries) / _size(other)
        if 100 * self.close < abs(factor - 1) <= APART:
            return False
        wanted = entries.sort().values
        return any(self._same(sign * factor * other.sort(descending=sign < 0).values, wanted) for sign in (1, -1))

    def _same(self, entries: Tensor, wanted: Tensor) -> bool:
        return float(((entries - wanted).abs() <= self._near(wanted)).double().mean()) >= NEARLY

    def _near(self, entries: Tensor) -> Tensor:
        return self.close * (entries.abs() + entries.abs().median())

    def _among(self, entries: Tensor) -> Tensor:
        after = torch.searchsorted(self.values, entries).clamp(max=len(self.values) - 1)
        nearest = torch.minimum(
            (self.values[after] - entries).abs(), (self.values[(after - 1).clamp(min=0)] - entries).abs()
        )
        return nearest <= self._near(entries)


def known(steps: Iterable[Step], close: float) -> Known:
    """What a side's steps compute, all together."""
    parts: list[Tensor] = []
    forms: dict[tuple[int, ...], tuple[Tensor, ...]] = {}
    for step in steps:
        parts.append(telling(step.value))
        form = form_of(parts[-1], close)
        forms |= {form: (*forms.get(form, ()), step.value)} if form else {}
    values = _sorted(torch.cat(parts)) if parts else torch.zeros(0, dtype=torch.float64)
    return Known(values, forms, close)


def _sorted(values: Tensor) -> Tensor:
    """Numbers in ascending order, in place; torch would keep their places as well, and takes four times as long."""
    values.numpy().sort()
    return values


def _sample(entries: Tensor) -> Tensor:
    """Some entries that stand for all, where there are many: each of them is looked up among millions."""
    if entries.numel() <= 4 * SAMPLE:
        return entries
    return entries[torch.randint(entries.numel(), (SAMPLE,), generator=torch.Generator().manual_seed(0))]


def _size(entries: Tensor) -> float:
    return float(entries.square().mean().sqrt())


def telling(value: Tensor) -> Tensor:
    """The entries of a value that say something: neither infinite, nor zero or one, nor next to nothing.

    Example:
        >>> telling(torch.tensor([0.0, 1.0, -1.0, 0.3, torch.inf, 0.7])).tolist()
        [0.30000001192092896, 0.699999988079071]
    """
    entries = value[value.isfinite() & (value != 0) & (value.abs() != 1)]
    if not entries.numel():
        return entries
    return entries[entries.abs() > 1e-6 * entries.abs().median()]


def apart(one: Tensor, other: Tensor) -> float | None:
    """The largest difference of two values, both sorted, in units of the first one's size; None where none is had."""
    first, second = one[one.isfinite()], other[other.isfinite()]
    if first.numel() != second.numel() or not first.numel():
        return None
    size = float((first - first.mean()).abs().max()) or float(first.abs().max()) or 1.0
    return float((first.sort().values - second.sort().values).abs().max()) / size


def same_content(one: Tensor, other: Tensor, close: float) -> bool:
    """Whether two values hold the same numbers, in whatever order."""
    if one.numel() != other.numel() or not one.numel():
        return False
    sums = [(float(value.nan_to_num(0, 0, 0).square().sum()), float(value.isfinite().sum())) for value in (one, other)]
    return abs(sums[0][0] - sums[1][0]) <= 10 * close * max(sums[0][0], 1e-300) and sums[0][1] == sums[1][1]


def same_order(one: Tensor, other: Tensor, close: float) -> bool:
    """Whether two values hold the same numbers in the same order."""
    if one.numel() != other.numel() or not one.numel():
        return False
    scale = float(one.abs().nan_to_num(0, 0, 0).median())
    return bool(torch.isclose(one, other, rtol=close, atol=close * scale).all())


def ordered(steps: Iterable[Step], close: float) -> frozenset[tuple[int, int]]:
    """Marks of values, by which one is known that has the same numbers in the same order."""
    return frozenset(mark for step in steps if (mark := _mark(step.value, close)) is not None)


def same_layout(one: Step, other: Step, close: float) -> bool:
    """Whether two steps hold the same numbers in the same order, but for axes of other sizes that change places."""
    if same_order(one.value, other.value, close):
        return True
    mine, theirs = ([size for size in step.shape if size > 1] for step in (one, other))
    whole = prod(mine) == one.value.numel() and prod(theirs) == other.value.numel()
    if not whole or sorted(mine) != sorted(theirs) or len(mine) > MOST_AXES:
        return False
    whole_axes = other.value.reshape(theirs)
    turned = (
        whole_axes.permute(axes).flatten() for axes in permutations(range(len(theirs))) if _fits(axes, theirs, mine)
    )
    return any(same_order(one.value, view, close) for view in turned)


def _fits(axes: Sequence[int], old: Sequence[int], new: Sequence[int]) -> bool:
    """Whether axes in this order have the new sizes, those of one size still in their order."""
    kept = all(
        a < b for a, b in pairwise(sorted(axes, key=lambda axis: (old[axis], axes.index(axis)))) if old[a] == old[b]
    )
    return [old[axis] for axis in axes] == list(new) and kept


def times(one: Tensor, other: Tensor, close: float) -> float | None:
    """By what one value must be multiplied to hold the numbers of another; None where it is no multiple."""
    mine, theirs = telling(one), telling(other)
    form = form_of(mine, close)
    if mine.numel() != theirs.numel() or form_of(theirs, close) not in around(form):
        return None
    factor = float((theirs.square().mean() / mine.square().mean()).sqrt())
    kept, turned = (
        float((sign * factor * mine.sort(descending=sign < 0).values - theirs.sort().values).abs().max())
        for sign in (1, -1)
    )
    return factor if kept <= turned else -factor


def has_order(marks: frozenset[tuple[int, int]], value: Tensor, close: float) -> bool:
    """Whether a value of the same numbers in the same order is among those marked."""
    mark = _mark(value, close)
    return mark is not None and any((mark[0], mark[1] + step) in marks for step in (0, -1, 1))


def _mark(value: Tensor, close: float) -> tuple[int, int] | None:
    finite = value.nan_to_num(0, 0, 0)
    size = float(finite.square().sum().sqrt())
    if value.numel() < FEW or not 0 < size < float("inf"):
        return None
    along = torch.linspace(1.0, 30.0, value.numel(), dtype=torch.float64).sin()
    return value.numel(), round(float((finite * along).sum()) / size / (10 * close))


def form_of(entries: Tensor, close: float) -> tuple[int, ...]:
    """Moments of a value in units of its size, as whole numbers of a width that rounding stays within."""
    if entries.numel() < FEW:
        return ()
    size = entries.abs() / entries.square().mean().sqrt()
    moments = (float(size.mean()), float(size.square().square().mean().sqrt()))
    if not all(map(isfinite, moments)) or moments[0] > EVEN:
        return ()
    return (entries.numel(), *(round(moment / (10 * close)) for moment in moments))


def around(form: tuple[int, ...]) -> Sequence[tuple[int, ...]]:
    """A form, and those that rounding could have made of it."""
    if not form:
        return ()
    count, first, second = form
    return [(count, first + i, second + j) for i in (0, -1, 1) for j in (0, -1, 1)]
