"""What is left over on both sides, put together in order: keys with the same last words and the same shape.

Implementations list their blocks in the order in which these run. Where two leftovers of one side have partners of the
other in the same order, that is what one would try first; it is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

from automatch.core.graph import Shape

Left = tuple[str, Shape]
"""A key and its shape."""


def in_order(source: Sequence[Left], target: Sequence[Left]) -> dict[str, str]:
    """Source keys for target keys, in order.

    Args:
        source: Source keys that nothing uses, in state-dict order.
        target: Target keys without a source, in state-dict order.

    Returns:
        By target key, the source key that stands in its place in the longest common run of last words and shapes.

    Example:
        >>> old = [("out.0.norm.weight", (4,)), ("out.0.fc.weight", (4, 2))]
        >>> new = [("up.1.norm.weight", (4,)), ("up.1.fc.weight", (4, 2))]
        >>> in_order(old, new)
        {'up.1.norm.weight': 'out.0.norm.weight', 'up.1.fc.weight': 'out.0.fc.weight'}
    """
    found: dict[str, str] = {}
    for words in (4, 3, 2, 1):
        ours = [each for each in source if each[0] not in set(found.values())]
        theirs = [each for each in target if each[0] not in found]
        found |= _round(ours, theirs, words)
    return found


def _round(source: Sequence[Left], target: Sequence[Left], words: int) -> Mapping[str, str]:
    mine, wanted = [_mark(each, words) for each in source], [_mark(each, words) for each in target]
    blocks = SequenceMatcher(None, mine, wanted, autojunk=False).get_matching_blocks()
    return {target[b + n][0]: source[a + n][0] for a, b, size in blocks for n in range(size)}


def _mark(left: Left, words: int) -> tuple[str, Shape]:
    key, shape = left
    return ".".join(re.sub(r"\d+", "#", key).split(".")[-words:]), shape
