"""State-dict keys as text and numbers, those inside words included: `block1.0.weight_ih_l2` has 1, 0 and 2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from automatch.core.graph import Weight
from automatch.lift.keys import Keys, Numbers, keys_of

_NUMBER = re.compile(r"(?<!\d)(0|[1-9]\d*)(?!\d)")


def split(key: str) -> tuple[str, Numbers]:
    """A key with `{}` in the places of its numbers, and the numbers.

    Example:
        >>> split("encoder.block1.0.norm.weight")
        ('encoder.block{}.{}.norm.weight', (1, 0))
    """
    return _NUMBER.sub("{}", key), tuple(int(number) for number in _NUMBER.findall(key))


def fill(template: str, numbers: Sequence[object]) -> str:
    """The key that a template and numbers stand for.

    Example:
        >>> fill("encoder.block{}.{}.norm.weight", ("{i + 1}", 0))
        'encoder.block{i + 1}.0.norm.weight'
    """
    literal = template.split("{}")
    return "".join(text + str(number) for text, number in zip(literal, (*numbers, ""), strict=True))


def numbered(weights: Iterable[Weight]) -> Keys:
    """The keys of these weights, with all their numbers."""
    return keys_of(weights, split)
