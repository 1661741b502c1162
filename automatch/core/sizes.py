"""Whole numbers that a model carries beside its weights: head counts, widths, depths, by the path where they stand.

A path is `config.num_heads` for what a configuration says, `layers.3.attn.num_heads` for what a module says. Where the
number is the same whatever a layer's number is, a star takes its place: `layers.*.attn.num_heads`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, TypeGuard

Sizes: TypeAlias = tuple[tuple[str, int], ...]

_IDENTIFIERS = {"id", "ids", "idx", "index"}
"""Last words of names of numbers that count nothing."""

_DEEPEST = 4


def of_config(config: Mapping[object, object], path: str = "config") -> Iterator[tuple[str, int]]:
    """The whole numbers in a configuration, those of configurations within it included.

    Example:
        >>> dict(of_config({"num_heads": 4, "eps": 1e-5, "vision": {"width": 8}, "pad_token_id": 3}))
        {'config.num_heads': 4, 'config.vision.width': 8}
    """
    for name, value in config.items():
        here = f"{path}.{name}"
        if isinstance(value, Mapping) and here.count(".") < _DEEPEST:
            yield from of_config(value, here)
        elif is_size(value, str(name)):
            yield here, value


def is_size(value: object, name: str) -> TypeGuard[int]:
    """Whether a named value may be a size: a whole number above 0 that is not there to identify something."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return False
    return name.split("_")[-1] not in _IDENTIFIERS and name.isidentifier() and not name.startswith("_")


def folded(sizes: Mapping[str, int]) -> Sizes:
    """Sizes with stars in the places of numbers that they do not depend on, sorted.

    Example:
        >>> folded({"layers.0.heads": 4, "layers.1.heads": 4, "stages.0.heads": 2, "stages.1.heads": 8})
        (('layers.*.heads', 4), ('stages.0.heads', 2), ('stages.1.heads', 8))
    """
    groups: dict[str, dict[tuple[str, ...], int]] = {}
    for path, value in sizes.items():
        words = path.split(".")
        pattern = ".".join("*" if word.isdecimal() else word for word in words)
        groups.setdefault(pattern, {})[tuple(word for word in words if word.isdecimal())] = value
    found = {_filled(pattern, row): value for pattern, rows in groups.items() for row, value in _starred(rows).items()}
    return tuple(sorted(found.items()))


def _starred(rows: dict[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    for place in range(len(next(iter(rows)))):
        starred = {(*row[:place], "*", *row[place + 1 :]): value for row, value in rows.items()}
        if all(starred[(*row[:place], "*", *row[place + 1 :])] == value for row, value in rows.items()):
            rows = starred
    return rows


def _filled(pattern: str, row: tuple[str, ...]) -> str:
    remaining = iter(row)
    return ".".join(next(remaining) if word == "*" else word for word in pattern.split("."))
