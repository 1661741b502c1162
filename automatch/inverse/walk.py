"""A target weight's expression, walked from the weight that is known down to the sources that are sought."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from math import prod
from typing import TypeAlias, assert_never

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
    sources,
)
from automatch.core.graph import Shape
from automatch.inverse import pieces as move
from automatch.inverse.building import UNDONE, cut, is_exact, spelled_out, unscaled, without_function
from automatch.inverse.pieces import Piece, ScatteredError, few
from automatch.synthesize.build import reshape


@dataclass(frozen=True, slots=True)
class Held:
    """A piece of a source weight is known."""

    key: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Lost:
    """What source weights went into does not tell them; why, as words that come before "in X"."""

    keys: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Knot:
    """A sum or product is known; a part of it can be told once all others are."""

    expr: Sum | Product
    pieces: tuple[Piece, ...]


News: TypeAlias = Held | Lost | Knot


def walk(expr: Expr, pieces: list[Piece]) -> Iterator[News]:
    """What pieces of an expression's value tell of its sources.

    Constants, and entries that repeat others, tell nothing and are passed over.

    Args:
        expr: The expression.
        pieces: What is known of its value.

    Example:
        >>> known = Source("fused", (6,))
        >>> for news in walk(Concat((Source("a", (2,)), Source("b", (4,)))), [move.whole(known)]):
        ...     print(news.key, news.piece.value)
        a Slice(of=Source(key='fused', shape=(6,)), axis=0, start=0, stop=2)
        b Slice(of=Source(key='fused', shape=(6,)), axis=0, start=2, stop=6)
    """
    if not pieces or not prod(expr.shape):
        return
    match expr:
        case Source(key=key):
            yield from (Held(key, piece) for piece in pieces)
        case Constant():
            return
        case Sum() | Product():
            yield Knot(expr, tuple(pieces))
        case Concat() | Slice() | Permute() | Reshape() | Gather():
            yield from _walk_movement(expr, pieces)
        case Resize(of=of, fits=fits):
            lost = "cubic" in fits
            yield from [Lost(sources(of), "interpolated")] if lost else walk(spelled_out(expr), pieces)
        case Affine() | Elementwise() | Reduce():
            yield from _walk_arithmetic(expr, pieces)
        case _:
            assert_never(expr)


def _walk_movement(expr: Concat | Slice | Permute | Reshape | Gather, pieces: list[Piece]) -> Iterator[News]:
    try:
        inside = _moved_back(expr, pieces)
    except ScatteredError:
        yield Lost(sources(expr), f"scattered, in more than {move.MOST:,} pieces,")
        return
    for part, its_pieces in inside:
        yield from walk(part, its_pieces)


def _moved_back(
    expr: Concat | Slice | Permute | Reshape | Gather, pieces: list[Piece]
) -> list[tuple[Expr, list[Piece]]]:
    """What pieces of a movement's result are of what it moves."""
    match expr:
        case Concat(parts=parts, axis=axis):
            together = few(move.aligned(pieces, expr.shape))
            starts = accumulate((part.shape[axis] for part in parts), initial=0)
            shifts = ((part, -start, part.shape[axis]) for part, start in zip(parts, starts, strict=False))
            return [
                (part, few(move.shifted(together, expr.shape, axis, by, size)))
                for part, by, size in shifts
                if size and not isinstance(part, Constant)
            ]
        case Slice(of=of, axis=axis, start=start):
            together = few(move.aligned(pieces, expr.shape))
            return [(of, few(move.shifted(together, expr.shape, axis, start, of.shape[axis])))]
        case Permute(of=of, axes=axes):
            return [(of, few(move.permuted(pieces, expr.shape, axes)))]
        case Reshape(of=of):
            return [(of, pieces)]
        case Gather(of=of, index=index):
            return [(of, few(move.gathered(pieces, prod(of.shape), index)))]
        case _:
            assert_never(expr)


def _walk_arithmetic(expr: Affine | Elementwise | Reduce, pieces: list[Piece]) -> Iterator[News]:
    match expr:
        case Affine(of=of, scale=0.0):
            yield Lost(sources(of), "multiplied by 0")
        case Affine(of=of, scale=scale, shift=shift):
            exact = is_exact(scale, shift)
            yield from walk(of, _undone(pieces, lambda value: unscaled(value, scale, shift), exact))
        case Elementwise(of=of, function=function) if function not in UNDONE:
            yield Lost(sources(of), f"known but for the sign ({function})")
        case Elementwise(of=of, function=function):
            yield from walk(of, _undone(pieces, lambda value: without_function(value, function), False))
        case Reduce(of=of, kind=kind):
            yield Lost(sources(of), f"reduced to a {kind}")
        case _:
            assert_never(expr)


def _undone(pieces: list[Piece], undo: Callable[[Expr], Expr], exact: bool) -> list[Piece]:
    return [Piece(undo(each.value), each.view, each.box, each.rounds or not exact) for each in pieces]


def untied(knot: Knot, known: Mapping[str, Expr], recover: Callable[[Expr], Expr]) -> list[News] | None:
    """What a sum or product tells once all its parts but one are known; None as long as they are not.

    Args:
        knot: The sum or product.
        known: The source keys that are known.
        recover: Gives an expression over such keys as one over what is known.
    """
    unknown = [part for part in knot.expr.parts if not all(key in known for key in sources(part))]
    if len(unknown) != 1:
        return None if unknown else []
    (sought,) = unknown
    others = [recover(part) for part in knot.expr.parts if part is not sought]
    divides = isinstance(knot.expr, Product)
    if divides and any(isinstance(each, Constant) and each.value == 0.0 for each in others):
        return [Lost(sources(sought), "multiplied by 0")]
    if sought.shape == knot.expr.shape and all(isinstance(each, Constant) for each in others):
        pieces = list(knot.pieces)
    elif len(knot.pieces) == 1 and knot.pieces[0].is_whole:
        pieces = [move.whole(reshape(knot.pieces[0].value, knot.expr.shape))]
    else:
        return None
    left = _undone(pieces, lambda value: reduce(_divided if divides else _subtracted, others, value), exact=False)
    return list(walk(sought, [_before_broadcast(piece, sought.shape) for piece in left]))


def _subtracted(value: Expr, other: Expr) -> Expr:
    if isinstance(other, Constant):
        return unscaled(value, 1.0, other.value)
    return Sum((value, Affine(other, -1.0)))


def _divided(value: Expr, other: Expr) -> Expr:
    if isinstance(other, Constant):
        return unscaled(value, other.value, 0.0)
    return Product((value, Elementwise(other, "reciprocal")))


def _before_broadcast(piece: Piece, shape: Shape) -> Piece:
    """A whole sum or product without what was repeated along axes to fit the other parts."""
    if prod(shape) == prod(piece.view):
        return piece
    value = piece.value
    for axis, size in enumerate((1,) * (len(value.shape) - len(shape)) + shape):
        value = cut(value, axis, 0, size)
    return Piece(reshape(value, shape), shape, tuple((0, size) for size in shape), piece.rounds)
