"""The sizes in an expression, at full size.

The twin's expression is walked from the sources, whose full sizes are known, to the target, whose full size is known
too. Where an axis is cut into factors or parts, each takes a size that the recordings pair with the twin's
(`automatch.lift.pairs`), and together they must make up the axis. What fits everywhere is a reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise, product
from math import prod
from typing import assert_never

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Gather,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
)
from automatch.core.graph import Shape
from automatch.lift.keys import Keys
from automatch.lift.numbered import Form, masked
from automatch.lift.pairs import Pairs
from automatch.lift.rules import NotCovered
from automatch.lift.splits import TRUSTS, Trust, Wanted, blocks, factors, fits, partners, terms

MOST = 512
"""More readings of one expression than that are not looked at."""

Site = tuple[Expr, int]
"""Where slices are taken: of what (masked), along which axis."""

Choice = tuple[Site, Shape, Shape]
"""How a site was cut at full size: the site, the shape of what is cut, the bounds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An expression at full size, and how the sites in it are cut."""

    expr: Expr
    choices: frozenset[Choice] = frozenset()


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known of sizes.

    Attributes:
        pairs: What numbers become.
        keys: The full-size source's keys.
        sites: For every site, all the bounds at which the twin's mapping cuts it.
        trust: What sizes may become; see `automatch.lift.splits`.
    """

    pairs: Pairs
    keys: Keys
    sites: Mapping[Site, tuple[int, ...]] = field(default_factory=dict)
    trust: Trust = "seen"


def readings(form: Form, shape: Shape, sizes: Sizes) -> list[Reading]:
    """All expressions of a shape that a twin's expression may be at full size.

    Where no sizes that the recordings show fit, sizes that stay what they are in the twin are tried as well.

    Raises:
        NotCovered: There are none, or far too many, or an operator has no full-size form.
    """
    for trust in TRUSTS:
        found = _distinct(_read(form, shape, replace(sizes, trust=trust)))
        if found:
            return found
    raise NotCovered(f"no sizes fit: its twin has shape {list(form.op.shape)}, it has {list(shape)}")


def _distinct(found: Iterator[Reading]) -> list[Reading]:
    kept: dict[Reading, None] = {}
    for reading in found:
        kept[reading] = None
        if len(kept) > MOST:
            raise NotCovered("its sizes can be read in very many ways: choose sizes for the twins that all differ")
    return list(kept)


def _read(form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    return (reading for reading in _any_shape(form, want, sizes) if fits(reading.expr.shape, want))


def _any_shape(form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    match form.op:
        case Source():
            return iter([_source(form, sizes)])
        case Constant() as op:
            return _constant(op, want, sizes)
        case Concat() as op:
            return _concat(op, form, want, sizes)
        case Slice() as op:
            return _slice(op, form, want, sizes)
        case Permute() as op:
            return _permute(op, form, want, sizes)
        case Reshape() as op:
            return _reshape(op, form, want, sizes)
        case Affine() | Elementwise() | Reduce() | Sum() | Product() as op:
            return _arithmetic(op, form, want, sizes)
        case Gather():
            raise NotCovered("the twin gathers its entries one by one, and nothing tells which they are at full size")
        case Resize():
            raise NotCovered("the twin's weight is resized, which is not exact")
        case _:
            assert_never(form.op)


def _source(form: Form, sizes: Sizes) -> Reading:
    shape = sizes.keys.shape(form.key)
    if shape is None:
        raise NotCovered(f"it would be made of {form.key}, which the full-size source does not have")
    if len(shape) != len(form.op.shape):
        raise NotCovered(f"{form.key} has shape {list(shape)}, its twin {list(form.op.shape)}: not of one rank")
    return Reading(Source(form.key, shape))


def _constant(op: Constant, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    if len(want) != len(op.shape):
        return
    choices = [
        sorted(partners(sizes.pairs, size, sizes.trust)) if known is None else [known]
        for size, known in zip(op.shape, want, strict=True)
    ]
    for value in sizes.pairs.number(op.value):
        yield from (Reading(Constant(value, shape)) for shape in product(*choices))


def _permute(op: Permute, form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    if len(want) != len(op.axes):
        return
    inner = tuple(want[op.axes.index(axis)] for axis in range(len(op.axes)))
    for of in _read(form.parts[0], inner, sizes):
        yield replace(of, expr=Permute(of.expr, op.axes))


def _reshape(op: Reshape, form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    if len(want) != len(op.shape):
        return
    paired = blocks(op.of.shape, op.shape)
    for of in _read(form.parts[0], _before(op, want, paired), sizes):
        options = [
            list(factors(sizes.pairs, op.shape[new], prod(of.expr.shape[old]), want[new], sizes.trust))
            for old, new in paired
        ]
        for found in product(*options):
            shape = tuple(size for block in found for size in block)
            yield of if shape == of.expr.shape else replace(of, expr=Reshape(of.expr, shape))


def _before(op: Reshape, want: Wanted, paired: list[tuple[slice, slice]]) -> Wanted:
    """What is known of the shape before a reshape."""
    before: list[int | None] = [None] * len(op.of.shape)
    for old, new in paired:
        known = [size for size in want[new] if size is not None]
        if old.stop - old.start == 1 and len(known) == new.stop - new.start:
            before[old.start] = prod(known)
    return tuple(before)


def _slice(op: Slice, form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    if len(want) != len(op.shape):
        return
    inner = (*want[: op.axis], None, *want[op.axis + 1 :])
    for of in _read(form.parts[0], inner, sizes):
        if form.index is None:
            yield from _part(op, of, sizes)
        else:
            yield from _entry(op, form.index, of, want[op.axis], sizes)


def _part(op: Slice, of: Reading, sizes: Sizes) -> Iterator[Reading]:
    """A part of an axis that is cut into parts: all of them together must make up the axis."""
    site = (masked(op.of), op.axis)
    size, whole = op.of.shape[op.axis], of.expr.shape[op.axis]
    small = sorted({0, size, op.start, op.stop, *sizes.sites.get(site, ())})
    lengths = tuple(stop - start for start, stop in pairwise(small))
    for found in terms(sizes.pairs, lengths, whole, sizes.trust):
        bounds = dict(zip(small, accumulate(found, initial=0), strict=True))
        start, stop = bounds[op.start], bounds[op.stop]
        if start == stop:
            continue
        taken = of.expr if (start, stop) == (0, whole) else Slice(of.expr, op.axis, start, stop)
        yield Reading(taken, of.choices | {(site, of.expr.shape, tuple(bounds.values()))})


def _entry(op: Slice, index: int, of: Reading, want: int | None, sizes: Sizes) -> Iterator[Reading]:
    """One entry of a stack: as many lie before it as its number says."""
    length = op.stop - op.start
    whole = of.expr.shape[op.axis]
    lengths = {want} if want else partners(sizes.pairs, length, sizes.trust)
    for full in sorted(lengths):
        if (index + 1) * full > whole or (op.of.shape[op.axis] % length == 0 and whole % full):
            continue
        yield replace(of, expr=Slice(of.expr, op.axis, index * full, (index + 1) * full))


def _arithmetic(
    op: Affine | Elementwise | Reduce | Sum | Product, form: Form, want: Wanted, sizes: Sizes
) -> Iterator[Reading]:
    match op:
        case Affine(scale=scale, shift=shift):
            numbers = list(product(sizes.pairs.number(scale), sizes.pairs.number(shift)))
            for of in _read(form.parts[0], want, sizes):
                yield from (replace(of, expr=Affine(of.expr, *pair)) for pair in numbers)
        case Elementwise(function=function):
            for of in _read(form.parts[0], want, sizes):
                yield replace(of, expr=Elementwise(of.expr, function))
        case Reduce(kind=kind, axes=axes, keepdim=keepdim):
            for of in _read(form.parts[0], (None,) * len(op.of.shape), sizes):
                yield replace(of, expr=Reduce(of.expr, kind, axes, keepdim))
        case Sum() | Product():
            yield from _together(op, form, want, sizes)


def _together(op: Sum | Product, form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    """Parts that broadcast against each other: an axis of one entry in the twin has one at full size."""
    options = []
    for part in form.parts:
        inner = want[len(want) - len(part.op.shape) :] if len(part.op.shape) <= len(want) else ()
        known = tuple(1 if size == 1 else full for size, full in zip(part.op.shape, inner, strict=False))
        options.append(list(_read(part, known, sizes)))
    for found in product(*options):
        choices = frozenset[Choice]().union(*(reading.choices for reading in found))
        yield Reading(type(op)(tuple(reading.expr for reading in found)), choices)


def _concat(op: Concat, form: Form, want: Wanted, sizes: Sizes) -> Iterator[Reading]:
    if len(want) != len(op.shape):
        return
    inner = (*want[: op.axis], None, *want[op.axis + 1 :])
    filled = [place for place, part in enumerate(form.parts) if isinstance(part.op, Constant)]
    if not filled:
        options = [list(_read(part, inner, sizes)) for part in form.parts]
        chosen = _in_step(options) if form.running else _one_each(options, op.axis, want[op.axis])
        yield from (_joined(found, op.axis) for found in chosen)
        return
    yield from _padded(op, form, want, sizes, filled)


def _in_step(options: list[list[Reading]]) -> Iterator[tuple[Reading, ...]]:
    """The same reading of all parts, which differ in numbers only."""
    if len({len(option) for option in options}) == 1:
        yield from zip(*options, strict=True)


def _one_each(options: list[list[Reading]], axis: int, total: int | None) -> Iterator[tuple[Reading, ...]]:
    """A reading of each part, such that they can be joined."""
    chosen: list[tuple[Reading, ...]] = [()]
    for option in options:
        chosen = [
            (*found, reading)
            for found in chosen
            for reading in option
            if not found or _beside(found[0].expr.shape, reading.expr.shape, axis)
        ]
        if total is not None:
            chosen = [found for found in chosen if sum(each.expr.shape[axis] for each in found) <= total]
        if len(chosen) > MOST:
            raise NotCovered("its parts can be read in very many ways: choose sizes for the twins that all differ")
    yield from chosen


def _beside(one: Shape, other: Shape, axis: int) -> bool:
    return (one[:axis], one[axis + 1 :]) == (other[:axis], other[axis + 1 :])


def _padded(op: Concat, form: Form, want: Wanted, sizes: Sizes, filled: list[int]) -> Iterator[Reading]:
    """Parts some of which are filled with a constant: these are as wide as the others, and fill what is left."""
    axis = op.axis
    inner = (*want[:axis], None, *want[axis + 1 :])
    moved = [list(_read(part, inner, sizes)) for place, part in enumerate(form.parts) if place not in filled]
    constants = [form.parts[place].op for place in filled]
    lengths = tuple(constant.shape[axis] for constant in constants)
    for found in _one_each(moved, axis, want[axis]):
        beside: Wanted = found[0].expr.shape if found else want
        taken = sum(reading.expr.shape[axis] for reading in found)
        total = want[axis]
        left = _lengths(lengths, None if total is None else total - taken, sizes)
        for full in left:
            shapes = [(*beside[:axis], length, *beside[axis + 1 :]) for length in full]
            yield from _filled(form, found, shapes, filled, axis, sizes)


def _lengths(small: Shape, total: int | None, sizes: Sizes) -> Iterator[Shape]:
    if total is not None:
        return terms(sizes.pairs, small, total, sizes.trust)
    return product(*(sorted(partners(sizes.pairs, length, sizes.trust)) for length in small))


def _filled(
    form: Form, found: tuple[Reading, ...], shapes: list[Wanted], filled: list[int], axis: int, sizes: Sizes
) -> Iterator[Reading]:
    """The parts with constants of these shapes in their places; one without an entry is left out."""
    for constants in product(*(_one(form.parts[p], shape, sizes) for p, shape in zip(filled, shapes, strict=True))):
        moved, still = iter(found), iter(constants)
        parts = [next(still) if place in filled else next(moved) for place in range(len(form.parts))]
        kept = tuple(part for part in parts if part.expr.shape[axis])
        if kept:
            yield _joined(kept, axis)


def _one(form: Form, shape: Wanted, sizes: Sizes) -> list[Reading]:
    return list(_read(form, shape, sizes))


def _joined(found: tuple[Reading, ...], axis: int) -> Reading:
    choices = frozenset[Choice]().union(*(reading.choices for reading in found))
    if len(found) == 1:
        return Reading(found[0].expr, choices)
    return Reading(Concat(tuple(reading.expr for reading in found), axis), choices)
