"""How the parts of a number grow when the number does: factors of a product, terms of a sum, blocks of a reshape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal, TypeAlias, get_args

from automatch.core.graph import Shape
from automatch.lift.pairs import Pairs

Wanted = tuple[int | None, ...]
"""A shape of which not every size is known."""


Trust: TypeAlias = Literal["seen", "same"]
"""What a size may become: what the recordings show of it, or of two factors of it (`seen`); or else itself (`same`)."""

TRUSTS: tuple[Trust, ...] = get_args(Trust)


def partners(pairs: Pairs, small: int, trust: Trust) -> frozenset[int]:
    """What a size may become. Ones stay ones, and twos may stay twos (halves, pairs), whatever else 2 is."""
    if small == 1:
        return frozenset({1})
    found = pairs.size(small) | pairs.products(small)
    return found if found and small > 2 and trust != "same" else found | {small}


def factors(pairs: Pairs, small: Shape, total: int, wanted: Wanted, trust: Trust) -> Iterator[Shape]:
    """The sizes that the factors of a product may have at full size.

    Example:
        >>> pairs = Pairs({4: frozenset({32}), 8: frozenset({64, 128})}, {})
        >>> list(factors(pairs, (4, 2, 8), 8192, (None,) * 3, "seen"))
        [(32, 2, 128)]
    """
    open_places = [place for place, size in enumerate(small) if size != 1]
    if len(open_places) <= 1:
        full = [1] * len(small)
        for place in open_places:
            full[place] = total
        found = tuple(full)
        if prod(found) == total and fits(found, wanted):
            yield found
        return
    yield from _factors(pairs, small, total, wanted, trust, _spare(pairs, small, trust))


def _factors(
    pairs: Pairs, small: Shape, total: int, wanted: Wanted, trust: Trust, spare: int | None
) -> Iterator[Shape]:
    choices = [sorted(_choices(partners(pairs, size, trust), want)) for size, want in zip(small, wanted, strict=True)]
    if spare is None:
        yield from (found for found in _combined(choices, total) if prod(found) == total)
        return
    choices[spare] = [1]
    seen: set[Shape] = set()
    for found in _combined(choices, total):
        full = (*found[:spare], total // prod(found), *found[spare + 1 :])
        if fits(full, wanted) and full not in seen:
            seen.add(full)
            yield full


def _spare(pairs: Pairs, small: Shape, trust: Trust) -> int | None:
    """The place of the one size that the recordings do not know; it takes what the others leave."""
    known = (pairs.size(size) or (trust == "seen" and pairs.products(size)) for size in small)
    free = [place for place, (size, seen) in enumerate(zip(small, known, strict=True)) if size > 2 and not seen]
    return free[0] if len(free) == 1 else None


def _choices(found: frozenset[int], want: int | None) -> frozenset[int]:
    return found if want is None else found & {want} or frozenset({want})


def _combined(choices: Sequence[Sequence[int]], total: int) -> Iterator[Shape]:
    """All choices whose product divides the total."""
    if not choices:
        yield ()
        return
    for first in choices[0]:
        if first and total % first == 0:
            yield from ((first, *rest) for rest in _combined(choices[1:], total // first))


def terms(pairs: Pairs, small: Shape, total: int, trust: Trust) -> Iterator[Shape]:
    """The sizes that the terms of a sum may have at full size; one that the recordings do not know is what is left.

    Example:
        >>> pairs = Pairs({24: frozenset({4096}), 8: frozenset({64, 1024})}, {})
        >>> list(terms(pairs, (24, 8, 8), 6144, "seen"))
        [(4096, 1024, 1024)]
        >>> list(terms(pairs, (24, 5), 5000, "seen"))
        [(4096, 904)]
    """
    if len(small) == 1:
        yield (total,)
        return
    seen: set[Shape] = set()
    equal = len(set(small)) == 1 and total % len(small) == 0
    shares = [(total // len(small),) * len(small)] if equal else []
    for found in (*shares, *_terms(pairs, small, total, trust)):
        if found not in seen:
            seen.add(found)
            yield found


def _terms(pairs: Pairs, small: Shape, total: int, trust: Trust) -> Iterator[Shape]:
    spare = _spare(pairs, small, trust)
    choices = [sorted(partners(pairs, size, trust)) for size in small]
    if spare is not None:
        choices[spare] = [0]
    for found in _summed(choices, total):
        left = total - sum(found)
        if spare is not None:
            yield (*found[:spare], left, *found[spare + 1 :])
        elif not left:
            yield found


def _summed(choices: Sequence[Sequence[int]], total: int) -> Iterator[Shape]:
    """All choices whose sum is at most the total."""
    if not choices:
        yield ()
        return
    for first in choices[0]:
        if first <= total:
            yield from ((first, *rest) for rest in _summed(choices[1:], total - first))


def blocks(old: Shape, new: Shape) -> list[tuple[slice, slice]]:
    """Which axes of a reshaped tensor hold the entries of which axes before: the smallest runs of equal products.

    Example:
        >>> blocks((12, 8), (3, 4, 8))
        [(slice(0, 1, None), slice(0, 2, None)), (slice(1, 2, None), slice(2, 3, None))]
    """
    found: list[tuple[slice, slice]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        a, b = i + 1, j + 1
        while prod(old[i:a]) != prod(new[j:b]):
            if prod(old[i:a]) < prod(new[j:b]):
                a += 1
            else:
                b += 1
        found.append((slice(i, a), slice(j, b)))
        i, j = a, b
    if i < len(old) or j < len(new):  # ones
        found.append((slice(i, len(old)), slice(j, len(new))))
    return found


def fits(shape: Shape, wanted: Wanted) -> bool:
    """Whether a shape has all sizes that are known."""
    return len(shape) == len(wanted) and all(want in (None, size) for size, want in zip(shape, wanted, strict=True))
