"""How much of every source weight a mapping uses, held against the twin's: what was used once must be used once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from math import prod

from automatch.core.expr import Affine, Elementwise, Expr, Permute, Reshape, Slice, Source, children
from automatch.lift.keys import Keys, fill, split

Shares = dict[str, Fraction | None]
"""For every source key, how many times all of its entries are read; None where that cannot be told."""


def shares(exprs: Iterable[Expr], keys: Keys) -> Shares:
    """How many times over expressions read each source weight.

    Example:
        >>> from automatch.core.graph import Weight
        >>> from automatch.lift.keys import keys_of
        >>> w = Source("w", (4, 2))
        >>> shares([Slice(w, 0, 0, 1), Slice(w, 0, 1, 4)], keys_of([Weight("w", (4, 2), "float32")]))
        {'w': Fraction(1, 1)}
    """
    taken: Shares = dict.fromkeys(keys.weights, Fraction(0))
    for expr in exprs:
        for leaf, count in _taken(expr, None):
            key = _first(leaf.key, keys)
            before = taken[key]
            size = prod(leaf.shape)
            taken[key] = None if before is None or count is None or not size else before + Fraction(count, size)
    return {key: taken[_first(key, keys)] for key in taken}


def misused(twin: Shares, full: Shares) -> Iterator[tuple[str, str]]:
    """Full-size source keys that are read more or less often than all of their pattern are in the twin, and how."""
    patterns: defaultdict[str, set[Fraction | None]] = defaultdict(set)
    for key, share in twin.items():
        patterns[split(key)[0]].add(share)
    usual = {pattern: _only(seen) for pattern, seen in patterns.items()}
    for key, share in full.items():
        expected = usual.get(split(key)[0])
        if expected is not None and share is not None and share != expected:
            yield key, f"its entries are read {_times(share)} at full size, but {_times(expected)} in the twin"


def _only(seen: set[Fraction | None]) -> Fraction | None:
    """The whole number of times that all keys of a pattern are read; None where they differ or are read in part."""
    found = next(iter(seen))
    return found if len(seen) == 1 and found is not None and found.denominator == 1 else None


def _times(share: Fraction) -> str:
    return {Fraction(0): "never", Fraction(1): "once"}.get(share, f"{float(share):.4g} times")


def _taken(expr: Expr, count: int | None) -> Iterator[tuple[Source, int | None]]:
    """Every mention of a source, and how many of its entries are taken; None where that cannot be told."""
    if isinstance(expr, Source):
        yield expr, prod(expr.shape) if count is None else count
    elif isinstance(expr, Slice | Reshape | Permute | Affine | Elementwise):
        yield from _taken(expr.of, prod(expr.shape) if count is None else count)
    elif count is None:
        for child in children(expr):
            yield from _taken(child, None)
    else:  # a part of something joined: which entries it holds is not followed
        yield from ((leaf, None) for child in children(expr) for leaf, _ in _taken(child, None))


def _first(key: str, keys: Keys) -> str:
    """The name by which a tied weight is known."""
    return keys.weights[key].name


def by_pattern(problems: Mapping[str, str]) -> list[str]:
    """Lines of problems, keys of one pattern with the same problem in one.

    Example:
        >>> by_pattern({"layers.2.w": "no source", "layers.3.w": "no source", "head": "no sizes fit"})
        ['layers.{2..3}.w: no source', 'head: no sizes fit']
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for key, problem in problems.items():
        groups.setdefault((split(key)[0], problem), []).append(key)
    return [f"{_together(keys)}: {problem}" for (_, problem), keys in groups.items()]


def _together(keys: list[str]) -> str:
    """Keys of one pattern, with ranges in the places of their numbers where that names just them."""
    pattern, _ = split(keys[0])
    columns = [sorted(set(column)) for column in zip(*(split(key)[1] for key in keys), strict=True)]
    if prod(map(len, columns)) != len(keys):
        return ", ".join(keys)
    return fill(pattern, [_range(column) for column in columns])


def _range(numbers: list[int]) -> str:
    first, last = numbers[0], numbers[-1]
    if last - first + 1 != len(numbers):
        return f"{{{', '.join(map(str, numbers))}}}"
    return str(first) if first == last else f"{{{first}..{last}}}"
