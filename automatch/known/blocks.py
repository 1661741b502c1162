"""The order of keys of a known side: module by module, as a state dict lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"\d+")


def in_blocks(keys: Sequence[str]) -> list[str]:
    """Keys with those of one numbered block together, blocks by number, all else in the order of first mention.

    Example:
        >>> in_blocks(["l.0.a", "l.1.a", "l.10.a", "head", "l.0.b", "l.1.b"])
        ['l.0.a', 'l.0.b', 'l.1.a', 'l.1.b', 'l.10.a', 'head']
    """
    return [key for _, key in _sorted([(key, key) for key in keys])]


def _sorted(rest: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Sort by what is left of each key: group by the text before the first number, then by the number."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for left, key in rest:
        number = _NUMBER.search(left)
        groups.setdefault(left if number is None else left[: number.start()], []).append((left, key))
    found: list[tuple[str, str]] = []
    for members in groups.values():
        numbered: dict[int, list[tuple[str, str]]] = {}
        for left, key in members:
            number = _NUMBER.search(left)
            if number is None:
                found.append((left, key))
                continue
            numbered.setdefault(int(number.group()), []).append((left[number.end() :], key))
        for value in sorted(numbered):
            found.extend(_sorted(numbered[value]))
    return found
