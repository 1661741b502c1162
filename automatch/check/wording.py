"""The text of an expression as something to compare: which keys stand in it, and what it leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingABC
from dataclasses import replace
from hashlib import sha256

from automatch.core.expr import Affine, Constant, Expr, Gather, Resize, children
from automatch.core.expr_json import to_json
from automatch.core.expr_rewrite import with_sources

DIGITS = 12

_WORD = re.compile(r"[\w.]+")


def form_of(expr: Expr) -> str:
    """What is done to the sources, whatever their names, as a few digits; empty where the text says all of it.

    Text counts the indices of a gather, leaves out how axes are resized, and rounds factors.

    Example:
        >>> from automatch.core.expr import Source
        >>> form_of(Affine(Source("norm", (4,)), shift=1.0))
        ''
        >>> form_of(Resize(Source("table", (8, 4)), (4, 4), ("leading", "keep")))
        'e7951dfe1409'
    """
    if _says_all(expr):
        return ""
    nameless = to_json(with_sources(expr, lambda leaf: replace(leaf, key="w")))
    return sha256(json.dumps(nameless, sort_keys=True).encode()).hexdigest()[:DIGITS]


def keys_in(text: str, names: MappingABC[str, str]) -> tuple[str, ...]:
    """The keys of `names` that stand in the text of an expression, in order of first use.

    Example:
        >>> keys_in("cat(a.weight.T, b.weight[0:2])", {"a.weight": "a.weight", "b.weight": "b.weight"})
        ('a.weight', 'b.weight')
    """
    found = (_key(word.group(), names) for word in _WORD.finditer(text))
    return tuple(dict.fromkeys(key for key in found if key is not None))


def with_keys(text: str, names: MappingABC[str, str]) -> str:
    """The text with other keys in the places of those that `names` has.

    Example:
        >>> with_keys("head.weight.T", {"head.weight": "embed.weight"})
        'embed.weight.T'
    """

    def renamed(word: re.Match[str]) -> str:
        key = _key(word.group(), names)
        return word.group() if key is None else names[key] + word.group().removeprefix(key)

    return _WORD.sub(renamed, text)


def _key(word: str, names: MappingABC[str, str]) -> str | None:
    """The longest key that a word begins with; a method such as `.T` may follow it."""
    while word and word not in names:
        word = word.rpartition(".")[0]
    return word or None


def _says_all(expr: Expr) -> bool:
    rounded = any(float(f"{value:.6g}") != value for value in _numbers(expr))
    return not rounded and not isinstance(expr, Gather | Resize) and all(map(_says_all, children(expr)))


def _numbers(expr: Expr) -> Iterator[float]:
    if isinstance(expr, Constant):
        yield expr.value
    if isinstance(expr, Affine):
        yield from (expr.scale, expr.shift)
