"""Names for sizes."""

from __future__ import annotations

from collections.abc import Collection


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number where it is taken.

    Example:
        >>> free_name("heads", ()), free_name("heads", ("heads", "heads_2"))
        ('heads', 'heads_3')
    """
    further = (f"{name}_{number}" for number in range(2, len(taken) + 2))
    return next(free for free in (name, *further) if free not in taken)
