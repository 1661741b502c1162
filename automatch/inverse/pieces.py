"""Pieces: a known value, and which part of a tensor it is.

The part is a box in a view of the tensor, a shape with the same entries in row-major order. A view keeps apart what a
reshape would mix up: in a `qkv` whose heads take turns, the queries are a box of its view `[heads, 3, ...]`. The sizes
of a view are called its digits, because an entry's place is a number written with them. Digits can be split and merged
without moving an entry, so a piece can be followed through any reshape; no list of entries is ever made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise, product
from math import prod
from operator import mul
from typing import TypeAlias

import numpy as np

from automatch.core.expr import Expr, Gather
from automatch.core.graph import Shape
from automatch.inverse.building import cut
from automatch.synthesize.build import permute, reshape

Range: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[Range, ...]

MOST = 4096
"""More pieces than this of one tensor are not told apart."""


class ScatteredError(Exception):
    """A tensor is scattered over others in more than `MOST` pieces."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A value and the box that it fills.

    Attributes:
        value: What stands in the box; its shape is the box's sizes.
        view: The shape under which the tensor is seen.
        box: For every axis of the view, the first place and the end, excluded.
        rounds: Whether the value undoes arithmetic, so that its last bits are not to be relied on.
    """

    value: Expr
    view: Shape
    box: Box
    rounds: bool = False

    @property
    def size(self) -> int:
        """How many entries it has."""
        return volume(self.box)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the tensor."""
        return self.size == prod(self.view)


def whole(value: Expr) -> Piece:
    """All of a tensor."""
    return Piece(value, value.shape, tuple((0, size) for size in value.shape))


def sizes(box: Box) -> Shape:
    """The shape of a box."""
    return tuple(stop - start for start, stop in box)


def volume(box: Box) -> int:
    """How many entries a box has."""
    return prod(sizes(box))


def permuted(pieces: Iterable[Piece], shape: Shape, axes: tuple[int, ...]) -> Iterator[Piece]:
    """Pieces of `Permute(of, axes)`, which has that shape, as pieces of `of`."""
    back = [axes.index(axis) for axis in range(len(axes))]
    for piece in aligned(pieces, shape):
        groups = _digits(piece.view, shape)
        order = tuple(digit for axis in back for digit in range(*groups[axis]))
        view, box = tuple(piece.view[digit] for digit in order), tuple(piece.box[digit] for digit in order)
        yield Piece(permute(piece.value, order), view, box, piece.rounds)


def shifted(pieces: Iterable[Piece], shape: Shape, axis: int, shift: int, size: int) -> Iterator[Piece]:
    """Aligned pieces of a tensor of that shape as pieces of one with `size` entries along an axis.

    What stands at place x along the axis stands at `x + shift` there; what falls outside is left out.
    """
    for piece in pieces:
        first, stop = _digits(piece.view, shape)[axis]
        yield from _shifted(piece, first, stop, shift, size)


def _shifted(piece: Piece, first: int, stop: int, shift: int, size: int) -> Iterator[Piece]:
    """The same, for the axis that is written with the digits `first` to `stop`."""
    piece, stop = _merged(piece, first, stop)
    if first == stop:
        piece, stop = _with_unit_digit(piece, first), first + 1
    inner = prod(piece.view[first + 1 : stop])
    if shift % inner or size % inner:
        for single in _singles(piece, first):
            yield from _shifted(single, first, stop, shift, size)
        return
    by = shift // inner
    start, end = piece.box[first]
    low, high = max(start + by, 0), min(end + by, size // inner)
    if low < high:
        value = cut(piece.value, first, low - by - start, high - by - start)
        view = (*piece.view[:first], size // inner, *piece.view[first + 1 :])
        yield Piece(value, view, _with_range(piece.box, first, (low, high)), piece.rounds)


def gathered(pieces: Iterable[Piece], size: int, index: Sequence[int]) -> Iterator[Piece]:
    """Pieces of `Gather(of, shape, index)` as pieces of `of`, which has that size; of repeats, the first counts."""
    for piece in pieces:
        places = np.arange(prod(piece.view)).reshape(piece.view)[tuple(slice(*each) for each in piece.box)]
        taken, order = np.unique(np.asarray(index, dtype=np.int64)[places.reshape(-1)], return_index=True)
        flat = reshape(piece.value, (piece.size,))
        in_order = np.array_equal(order, np.arange(piece.size))
        sorted_out = flat if in_order else Gather(flat, (len(order),), tuple(map(int, order)))
        breaks = [0, *(int(place) + 1 for place in np.flatnonzero(np.diff(taken) != 1)), len(taken)]
        for start, stop in pairwise(breaks):
            begin = int(taken[start])
            box = ((begin, begin + stop - start),)
            yield Piece(cut(sorted_out, 0, start, stop), (size,), box, piece.rounds)


def aligned(pieces: Iterable[Piece], shape: Shape) -> Iterator[Piece]:
    """The same pieces, split where they must be for every axis of a shape to have digits of its own."""
    for piece in pieces:
        merged, _ = _merged(piece, 0, len(piece.view))
        marks = _strides(merged.view) | _strides(shape)
        if _is_chain(marks):
            yield from _refined(merged, marks)
        else:
            yield from aligned(_singles(merged, 0), shape)


def on_one_grid(pieces: Iterable[Piece], shape: Shape) -> list[Piece]:
    """Pieces of a tensor of that shape, all under the coarsest view that suits them all and keeps its axes apart."""
    apart = few(_tidied(piece, shape) for piece in aligned(pieces, shape))
    marks = _strides(shape).union(*(_strides(piece.view) for piece in apart))
    if not _is_chain(marks):
        apart = few(each for piece in apart for each in _straightened(piece, shape))
        marks = _strides(shape)
    return few(each for piece in apart for each in _refined(piece, marks))


def few(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces as a list.

    Raises:
        ScatteredError: They are more than `MOST`.
    """
    found = list(islice(pieces, MOST + 1))
    if len(found) > MOST:
        raise ScatteredError
    return found


def _tidied(piece: Piece, shape: Shape) -> Piece:
    """An aligned piece with as few digits for each axis as will do."""
    for first, stop in reversed(_digits(piece.view, shape)):
        piece, _ = _merged(piece, first, stop)
    return piece


def _straightened(piece: Piece, shape: Shape) -> Iterator[Piece]:
    """A tidy piece as pieces that are a range of every axis."""
    strewn = [first for first, stop in _digits(piece.view, shape) if stop - first > 1]
    if not strewn:
        yield piece
        return
    for single in _singles(piece, strewn[0]):
        yield from _straightened(_tidied(single, shape), shape)


def _singles(piece: Piece, digit: int) -> Iterator[Piece]:
    """The piece cut into its places along a digit."""
    start, stop = piece.box[digit]
    for place in range(start, stop):
        value = cut(piece.value, digit, place - start, place - start + 1)
        yield Piece(value, piece.view, _with_range(piece.box, digit, (place, place + 1)), piece.rounds)


def _merged(piece: Piece, first: int, stop: int) -> tuple[Piece, int]:
    """The piece with as few digits from `first` to `stop` as will do, and where those then stop.

    Two digits become one where the box is then still a range: it has all of the inner one, or one of the outer.
    """
    view, box = list[int](), list[Range]()
    for size, (start, end) in zip(piece.view[first:stop], piece.box[first:stop], strict=True):
        if box and ((start, end) == (0, size) or box[-1][1] - box[-1][0] == 1):
            low, high = box.pop()
            box.append((low * size + start, (high - 1) * size + end))
            view.append(view.pop() * size)
        else:
            box.append((start, end))
            view.append(size)
    new = (*piece.box[:first], *box, *piece.box[stop:])
    seen = (*piece.view[:first], *view, *piece.view[stop:])
    return Piece(reshape(piece.value, sizes(new)), seen, new, piece.rounds), first + len(view)


def _refined(piece: Piece, marks: set[int]) -> Iterator[Piece]:
    """The piece with its digits split at these strides, a chain that holds its own; a range may fall in pieces."""
    choices, inner = list[list[tuple[Range, Box]]](), 1
    for size, (start, stop) in zip(reversed(piece.view), reversed(piece.box), strict=True):
        digits = _ratios({mark for mark in marks if inner <= mark <= inner * size})
        choices.insert(0, list(_boxes(start, stop, digits)))
        inner *= size
    for choice in product(*choices):
        value = piece.value
        for digit, ((start, stop), _) in enumerate(choice):
            offset = piece.box[digit][0]
            value = cut(value, digit, start - offset, stop - offset)
        box = tuple(each for _, part in choice for each in part)
        yield Piece(reshape(value, sizes(box)), _ratios(marks), box, piece.rounds)


def _boxes(start: int, stop: int, digits: Shape) -> Iterator[tuple[Range, Box]]:
    """The range `start` to `stop` of numbers as boxes of their digits, in order, each with the range that it is."""
    if len(digits) < 2:
        yield (start, stop), ((start, stop),) * len(digits)
        return
    inner = prod(digits[1:])
    first, last = -(-start // inner), stop // inner
    if first > last:
        yield from _within(start, stop, digits)
        return
    yield from _within(start, first * inner, digits)
    if first < last:
        yield (first * inner, last * inner), ((first, last), *((0, size) for size in digits[1:]))
    yield from _within(last * inner, stop, digits)


def _within(start: int, stop: int, digits: Shape) -> Iterator[tuple[Range, Box]]:
    """The same for a range, maybe empty, in which the first digit does not change."""
    if start == stop:
        return
    inner = prod(digits[1:])
    digit = start // inner
    for (low, high), box in _boxes(start - digit * inner, stop - digit * inner, digits[1:]):
        yield (low + digit * inner, high + digit * inner), ((digit, digit + 1), *box)


def _digits(view: Shape, shape: Shape) -> list[Range]:
    """For every axis of a shape, the first of its digits and where they stop, in a view that is aligned with it."""
    found, place = list[Range](), 0
    for size in shape:
        first, reached = place, 1
        while reached < size:
            reached *= view[place]
            place += 1
        found.append((first, place))
    return found


def _strides(view: Shape) -> set[int]:
    """How far apart entries lie that differ by one in some digit, and the number of all entries."""
    return set(accumulate(reversed(view), mul, initial=1))


def _is_chain(marks: set[int]) -> bool:
    """Whether strides are those of one view: each divides the next."""
    return all(large % small == 0 for small, large in pairwise(sorted(marks)))


def _ratios(marks: set[int]) -> Shape:
    """The view of a chain of strides."""
    return tuple(large // small for small, large in pairwise(sorted(marks)))[::-1]


def _with_unit_digit(piece: Piece, place: int) -> Piece:
    """The piece with a digit that is always 0."""
    box = (*piece.box[:place], (0, 1), *piece.box[place:])
    return Piece(reshape(piece.value, sizes(box)), (*piece.view[:place], 1, *piece.view[place:]), box, piece.rounds)


def _with_range(box: Box, digit: int, new: Range) -> Box:
    return (*box[:digit], new, *box[digit + 1 :])
