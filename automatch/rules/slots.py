"""The places in a term where a size stands, and what building the term tells of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, TypeAlias

from automatch.core.graph import Shape
from automatch.lift.splits import blocks
from automatch.rules.build import Scope, shape_of
from automatch.rules.formula import Formula, Number
from automatch.rules.terms import (
    Bound,
    Call,
    Fill,
    Fit,
    Index,
    Join,
    Key,
    Rotary,
    Scale,
    Term,
    View,
    children,
    own_formulas,
)

Kind: TypeAlias = Literal["start", "stop", "single", "view", "parts", "first", "fill", "power"]
"""What a size is for: an end of a slice, a single entry, an axis of a reshape, a number of heads or groups, the first
entries of a head, an axis of a fill or a resize, the base of a power."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a slice is taken.

    A slice of a reshape is seen as one of what was reshaped: of `qkv.reshape(groups, -1, 2, width)[:, 3:5]` in every
    group of rows those from 6 on, up to 10.

    Attributes:
        of: Of what, with the keys and sizes of the models at hand.
        axis: Along which axis.
        length: How long it is in each group.
        groups: How many groups the axis is cut into before that.
        unit: How many entries of the axis one entry of the slice is.
        at: The reshape's axis that the slice is taken along; None where it is not of a reshape.
        outer: The reshape's axes that count the groups.
        inner: The reshape's axes that make a unit.
    """

    of: Term
    axis: int
    length: int
    groups: int = 1
    unit: int = 1
    at: int | None = None
    outer: tuple[int, ...] = ()
    inner: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """One size in a term.

    Attributes:
        kind: What it is for.
        value: What it is in the models at hand.
        node: Which operator of the term it belongs to, counted in reading order.
        target_axis: The axis of the target weight that has this size by construction; None where there is none. For
            the end of a slice: the axis that is as long as the slice in all groups together.
        source_axis: The axis of the one source weight that has this size by construction; None where there is none.
        cut: For the end of a slice, where it is taken.
        start: For the end of a slice, its first entry, counted as the cut is.
        stop: For the end of a slice, the entry after its last, counted as the cut is.
        share: How many parts of this size make up the target's axis, where it is one of several equal parts.
    """

    kind: Kind
    value: int
    node: int = 0
    target_axis: int | None = None
    source_axis: int | None = None
    cut: Cut | None = None
    start: int = 0
    stop: int = 0
    share: int = 1


def slots(term: Term, scope: Scope) -> tuple[Slot, ...]:
    """The sizes in a term, in the order of `automatch.rules.terms.formulas`.

    Args:
        term: A term whose formulas are numbers.
        scope: What it is built for.
    """
    found = (slot for node, (each, last) in enumerate(_walk(term, True)) for slot in _own(each, node, last, scope))
    joined = _joined(term, scope)
    return tuple(_of_joined(slot, joined) for slot in found)


def _joined(term: Term, scope: Scope) -> dict[int, tuple[Join, int]]:
    """Fills and resizes that the target is joined of, by their place in reading order, with how many are as long."""
    if not isinstance(term, Join) or term.kind != "cat" or term.each:
        return {}
    lengths = [shape_of(part, scope)[term.axis] for part in term.parts]
    equal = len(lengths) if len(set(lengths)) == 1 else 0
    found: dict[int, tuple[Join, int]] = {}
    node = 1
    for part in term.parts:
        if isinstance(part, Fill | Fit):
            found[node] = (term, equal)
        node += sum(1 for _ in _walk(part, False))
    return found


def _of_joined(slot: Slot, joined: Mapping[int, tuple[Join, int]]) -> Slot:
    """A size of a part that the target is joined of: the target's own, or an equal share of it."""
    if slot.kind != "fill" or slot.node not in joined or slot.target_axis is None:
        return slot
    join, equal = joined[slot.node]
    if slot.target_axis != join.axis:
        return slot
    return replace(slot, share=equal) if equal else replace(slot, target_axis=None)


def _walk(term: Term, last: bool) -> Iterator[tuple[Term, bool]]:
    """Every operator, and whether what it makes has the target's shape: nothing after it changes that."""
    yield term, last
    keeps = last and isinstance(term, Rotary | Scale | Call)
    joins = last and isinstance(term, Join) and term.kind == "cat" and not term.each
    for child in children(term):
        # parts that are filled or resized have the target's sizes off the axis: see `_of_joined`
        yield from _walk(child, keeps or (joins and isinstance(child, Fill | Fit)))


def _own(term: Term, node: int, last: bool, scope: Scope) -> Iterator[Slot]:
    values = [_value(formula) for formula in own_formulas(term)]
    match term:
        case Index(of=of, bounds=bounds):
            for bound in bounds:
                gone = sum(each.single and each.axis < bound.axis for each in bounds)
                yield from _ends(bound, of, node, bound.axis - gone if last else None, scope)
        case View():
            yield from _sizes(term, values, node, last, scope)
        case Rotary(first=first):
            kinds: list[Kind] = ["parts", "first"] if first is not None else ["parts"]
            yield from (Slot(kind, value, node) for kind, value in zip(kinds, values, strict=True))
        case Join():
            yield from (Slot("parts", value, node) for value in values)
        case Scale():
            yield from (Slot("power", value, node) for value in values)
        case Fill() | Fit():
            yield from (Slot("fill", value, node, axis if last else None) for axis, value in enumerate(values))
        case _:
            return


def _value(formula: Formula | None) -> int:
    return formula.value if isinstance(formula, Number) else 0


def _ends(bound: Bound, of: Term, node: int, target_axis: int | None, scope: Scope) -> Iterator[Slot]:
    start = _value(bound.start)
    if bound.single:
        yield Slot("single", start, node)
        return
    shape = shape_of(of, scope)
    cut = _cut(of, bound.axis, shape, scope)
    stop = shape[bound.axis] if bound.stop is None else _value(bound.stop)
    ends = (start * cut.unit, stop * cut.unit)
    if cut.at is not None:
        target_axis = _taken(cut, ends[1] - ends[0], scope)
    if bound.start is not None:
        yield Slot("start", start, node, target_axis, None, cut, *ends)
    if bound.stop is not None:
        yield Slot("stop", stop, node, target_axis, None, cut, *ends)


def _cut(of: Term, axis: int, shape: Shape, scope: Scope) -> Cut:
    """Where a slice is taken; of a reshape that cuts one axis into several, along that axis."""
    before = shape_of(of.of, scope) if isinstance(of, View) else ()
    if not isinstance(of, View) or 0 in before or 0 in shape:
        return Cut(of, axis, shape[axis])
    old, new = next((old, new) for old, new in blocks(before, shape) if new.start <= axis < new.stop)
    if old.stop - old.start != 1 or new.stop - new.start == 1:
        return Cut(of, axis, shape[axis])
    outer, inner = range(new.start, axis), range(axis + 1, new.stop)
    groups, unit = (prod(shape[each] for each in axes) for axes in (outer, inner))
    return Cut(of.of, old.start, shape[axis] * unit, groups, unit, axis, tuple(outer), tuple(inner))


def _taken(cut: Cut, length: int, scope: Scope) -> int | None:
    """The axis of the target weight that is as long as a slice in all groups together, its other axes unchanged."""
    shape = shape_of(cut.of, scope)
    taken = (*shape[: cut.axis], length * cut.groups, *shape[cut.axis + 1 :])
    return cut.axis if taken == scope.shape else None


def _sizes(term: View, values: list[int], node: int, last: bool, scope: Scope) -> Iterator[Slot]:
    same = _unchanged(shape_of(term.of, scope), tuple(values)) if isinstance(term.of, Key) else {}
    for axis, value in enumerate(values):
        yield Slot("view", value, node, axis if last else None, same.get(axis))


def _unchanged(old: Shape, new: Shape) -> dict[int, int]:
    """The axes of a reshaped tensor that are axes of the tensor before, and which."""
    if 0 in old or 0 in new:
        return {}
    pairs = ((one, other) for one, other in blocks(old, new))
    return {b.start: a.start for a, b in pairs if a.stop - a.start == 1 and b.stop - b.start == 1}
