"""Expressions and the numbers in them that depend on layers: those of keys, and the starts of slices.

`masked` is the expression without them, `numbers` is the list of them, and `resolved` puts others in: a `Form`, which
names the full-size model's keys but has no sizes yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    children,
)
from automatch.lift.keys import Keys, Numbers, fill, split


@dataclass(frozen=True, slots=True)
class Column:
    """One number of an expression, by what it is.

    Attributes:
        pattern: The pattern of the key that it stands in; empty for the start of a slice.
        place: Its place among the key's numbers.
        first: The column of the key's first number.
        unit: For a slice, the length of the slice; 1 for a key.
    """

    pattern: str
    place: int
    first: int
    unit: int = 1


@dataclass(frozen=True, slots=True)
class Form:
    """An operator of a twin's expression, with the full-size model's numbers.

    Attributes:
        op: The operator as it stands in the twin: sizes are the twin's.
        parts: What it works on.
        key: For a source, the full-size model's key.
        index: For a slice that takes one entry of a stack, which one, in lengths of the slice; None for other slices.
        running: Whether the parts are of one kind, one for each number that the keys have in some place.
    """

    op: Expr
    parts: tuple[Form, ...] = ()
    key: str = ""
    index: int | None = None
    running: bool = False


def masked(expr: Expr) -> Expr:
    """The expression with patterns for keys, and slices that all start at 0.

    Example:
        >>> masked(Slice(Source("layers.3.qkv", (12, 4)), 0, 4, 8))
        Slice(of=Source(key='layers.{}.qkv', shape=(12, 4)), axis=0, start=0, stop=4)
    """
    match expr:
        case Source(key=key, shape=shape):
            return Source(split(key)[0], shape)
        case Constant():
            return expr
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return Slice(masked(of), axis, 0, stop - start)
        case Concat(parts=parts) | Sum(parts=parts) | Product(parts=parts):
            return replace(expr, parts=tuple(map(masked, parts)))
        case Permute(of=of) | Reshape(of=of) | Gather(of=of) | Affine(of=of):
            return replace(expr, of=masked(of))
        case Elementwise(of=of) | Reduce(of=of) | Resize(of=of):
            return replace(expr, of=masked(of))
        case _:
            assert_never(expr)


def numbers(expr: Expr) -> Numbers:
    """The numbers of an expression: a slice's start, then what is inside; the numbers of keys.

    Example:
        >>> numbers(Slice(Source("layers.3.qkv", (12, 4)), 0, 4, 8))
        (4, 3)
    """
    if isinstance(expr, Source):
        return split(expr.key)[1]
    inner = tuple(number for child in children(expr) for number in numbers(child))
    return (expr.start, *inner) if isinstance(expr, Slice) else inner


def columns(expr: Expr, first: int = 0) -> tuple[Column, ...]:
    """What each number of an expression is, in the order of `numbers`."""
    if isinstance(expr, Source):
        pattern, found = split(expr.key)
        return tuple(Column(pattern, place, first) for place in range(len(found)))
    own: list[Column] = [Column("", 0, first, expr.stop - expr.start)] if isinstance(expr, Slice) else []
    for child in children(expr):
        own.extend(columns(child, first + len(own)))
    return tuple(own)


def resolved(expr: Expr, full: Sequence[int | None], twin_keys: Keys, full_keys: Keys) -> Form:
    """The expression with other numbers.

    Args:
        expr: The twin's expression.
        full: The number for each column; None for the start of a slice that no layer moves.
        twin_keys: The keys of the twin's source.
        full_keys: The keys of the full-size source.
    """
    if isinstance(expr, Source):
        pattern, _ = split(expr.key)
        return Form(expr, key=fill(pattern, full))
    if isinstance(expr, Concat):
        return _joined(expr, full, twin_keys, full_keys)
    own = 1 if isinstance(expr, Slice) else 0
    parts = _parts(children(expr), full[own:], twin_keys, full_keys)
    return Form(expr, parts, index=full[0] if own else None)


def _parts(exprs: Sequence[Expr], full: Sequence[int | None], twin: Keys, large: Keys) -> tuple[Form, ...]:
    parts: list[Form] = []
    for part, part_numbers in _shared(exprs, full):
        parts.append(resolved(part, part_numbers, twin, large))
    return tuple(parts)


def _shared(exprs: Sequence[Expr], full: Sequence[int | None]) -> Iterator[tuple[Expr, Sequence[int | None]]]:
    """Each expression with its own numbers out of those of all."""
    done = 0
    for expr in exprs:
        count = len(numbers(expr))
        yield expr, full[done : done + count]
        done += count


def _joined(expr: Concat, full: Sequence[int | None], twin: Keys, large: Keys) -> Form:
    run = running(expr, twin)
    if run is None:
        return Form(expr, _parts(expr.parts, full, twin, large))
    period, moving = run
    block = expr.parts[:period]
    described = columns(Concat(block, expr.axis))
    first = list(full[: len(described)])
    rows = {place: _row(described[place], first, large) for place in moving}
    if len({len(row) for row in rows.values()}) != 1:
        return Form(expr, _parts(expr.parts, full, twin, large))
    turns = zip(*rows.values(), strict=True)
    parts: list[Form] = []
    for turn in turns:
        values = dict(zip(rows, turn, strict=True))
        parts.extend(_parts(block, [values.get(place, number) for place, number in enumerate(first)], twin, large))
    return Form(expr, tuple(parts), running=True)


def _row(column: Column, full: Sequence[int | None], keys: Keys) -> Numbers:
    """The numbers that stand in a key's place in the full-size model."""
    count = column.pattern.count("{}")
    own = tuple(number or 0 for number in full[column.first : column.first + count])
    return keys.row(column.pattern, own, column.place)


def running(expr: Concat, keys: Keys) -> tuple[int, tuple[int, ...]] | None:
    """Whether parts are joined over all the numbers that keys have in some place, as a stack of all experts is.

    Returns:
        How many parts make one turn, and the columns of a turn whose numbers change from turn to turn; None where it
        is no such thing.

    Example:
        >>> from automatch.core.graph import Weight
        >>> from automatch.lift.keys import keys_of
        >>> keys = keys_of([Weight(f"experts.{e}.w", (2,), "float32") for e in range(3)])
        >>> running(Concat(tuple(Source(f"experts.{e}.w", (2,)) for e in range(3))), keys)
        (1, (0,))
        >>> running(Concat(tuple(Source(f"experts.{e}.w", (2,)) for e in range(2))), keys)
    """
    count = len(expr.parts)
    shapes = [masked(part) for part in expr.parts]
    for period in (p for p in range(1, count // 2 + 1) if count % p == 0):
        if any(shape != shapes[place % period] for place, shape in enumerate(shapes)):
            continue
        turns = [_turn(expr.parts[start : start + period]) for start in range(0, count, period)]
        described = columns(Concat(expr.parts[:period], expr.axis))
        moving = tuple(place for place, values in enumerate(zip(*turns, strict=True)) if len(set(values)) > 1)
        rows = {place: tuple(turn[place] for turn in turns) for place in moving}
        if moving and all(
            described[place].pattern and _row(described[place], turns[0], keys) == row for place, row in rows.items()
        ):
            return period, moving
    return None


def _turn(parts: Sequence[Expr]) -> Numbers:
    return tuple(number for part in parts for number in numbers(part))
