"""State-dict keys as words and numbers, and which numbers a model's keys have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from automatch.core.graph import Shape, Weight

Numbers = tuple[int, ...]
Splitter: TypeAlias = Callable[[str], tuple[str, Numbers]]


def split(key: str) -> tuple[str, Numbers]:
    """A key with `{}` in the places of its numbers, and the numbers.

    Example:
        >>> split("blocks.3.ffn.0.weight")
        ('blocks.{}.ffn.{}.weight', (3, 0))
    """
    words = key.split(".")
    numeric = [word.isascii() and word.isdecimal() and word == str(int(word)) for word in words]
    pattern = ".".join("{}" if number else word for word, number in zip(words, numeric, strict=True))
    return pattern, tuple(int(word) for word, number in zip(words, numeric, strict=True) if number)


def fill(pattern: str, numbers: Sequence[object]) -> str:
    """The key that a pattern and numbers stand for.

    Example:
        >>> fill("blocks.{}.ffn.{}.weight", (3, 0))
        'blocks.3.ffn.0.weight'
    """
    remaining = iter(numbers)
    return ".".join(str(next(remaining)) if word == "{}" else word for word in pattern.split("."))


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one model.

    Attributes:
        weights: For every key, tied ones included, the weight that it holds, in state-dict order.
        rows: For a pattern, a place in it and the other numbers, the numbers that stand in that place, ascending.
    """

    weights: Mapping[str, Weight]
    rows: Mapping[tuple[str, int, Numbers], Numbers]

    def shape(self, key: str) -> Shape | None:
        """The shape of a key's weight; None where there is no such key."""
        weight = self.weights.get(key)
        return None if weight is None else weight.shape

    def row(self, pattern: str, numbers: Numbers, place: int) -> Numbers:
        """The numbers that keys have in one place, where all their other numbers are these.

        Example:
            >>> keys = keys_of([Weight(f"layers.0.experts.{e}.w", (2,), "float32") for e in range(3)])
            >>> keys.row("layers.{}.experts.{}.w", (0, 7), 1)
            (0, 1, 2)
        """
        return self.rows.get((pattern, place, _others(numbers, place)), ())


def keys_of(weights: Iterable[Weight], split: Splitter = split) -> Keys:
    """The keys of these weights; `split` says what their numbers are."""
    named = {name: weight for weight in weights for name in weight.keys}
    rows: defaultdict[tuple[str, int, Numbers], list[int]] = defaultdict(list)
    for key in named:
        pattern, numbers = split(key)
        for place, number in enumerate(numbers):
            rows[pattern, place, _others(numbers, place)].append(number)
    return Keys(named, {row: tuple(sorted(numbers)) for row, numbers in rows.items()})


def _others(numbers: Numbers, place: int) -> Numbers:
    return (*numbers[:place], *numbers[place + 1 :])
