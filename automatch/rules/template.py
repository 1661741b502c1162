"""State-dict keys as words and numbers: `blocks.3.ffn.0.weight` is `blocks.{}.ffn.{}.weight` with 3 and 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
)


@dataclass(frozen=True, slots=True)
class Template:
    """A key without its numbers.

    Attributes:
        words: What stands between the dots; None in the place of a number.
    """

    words: tuple[str | None, ...]

    @property
    def text(self) -> str:
        """The key with `{}` in the places of its numbers."""
        return ".".join("{}" if word is None else word for word in self.words)

    def fill(self, values: Sequence[object]) -> str:
        """The key with these values in the places of its numbers.

        Example:
            >>> split("blocks.3.ffn.0.weight")[0].fill(["{i}", 0])
            'blocks.{i}.ffn.0.weight'
        """
        remaining = iter(values)
        return ".".join(str(next(remaining)) if word is None else word for word in self.words)


def split(key: str) -> tuple[Template, tuple[int, ...]]:
    """A key's template and its numbers, in order.

    Example:
        >>> split("layer1.0.conv.weight")
        (Template(words=('layer1', None, 'conv', 'weight')), (0,))
    """
    words = key.split(".")
    numeric = [word.isascii() and word.isdecimal() and word == str(int(word)) for word in words]
    template = Template(tuple(None if is_number else word for word, is_number in zip(words, numeric, strict=True)))
    return template, tuple(int(word) for word, is_number in zip(words, numeric, strict=True) if is_number)


def rename(expr: Expr, new_name: Callable[[str], str]) -> Expr:
    """The same expression over sources of other names, asked for left to right."""
    match expr:
        case Source(key=key, shape=shape):
            return Source(new_name(key), shape)
        case Constant():
            return expr
        case Concat(parts=parts) | Sum(parts=parts) | Product(parts=parts):
            return replace(expr, parts=tuple(rename(part, new_name) for part in parts))
        case Slice(of=of) | Permute(of=of) | Reshape(of=of) | Gather(of=of) | Affine(of=of):
            return replace(expr, of=rename(of, new_name))
        case Elementwise(of=of) | Reduce(of=of) | Resize(of=of):
            return replace(expr, of=rename(of, new_name))
        case _:
            assert_never(expr)
