"""Several things to read, and all that is wrong with them said at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from automatch.errors import AutomatchError

T = TypeVar("T")


def gathered(steps: Sequence[Callable[[], T]]) -> list[T]:
    """What every step gives.

    Raises:
        AutomatchError: Steps failed; one that fails alone raises its own error, several are reported together.

    Example:
        >>> gathered([lambda: 1, lambda: 2])
        [1, 2]
    """
    found: list[T] = []
    errors: list[AutomatchError] = []
    for step in steps:
        try:
            found.append(step())
        except AutomatchError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise AutomatchError("\n".join([f"{len(errors)} things are wrong:", *(f"{error}" for error in errors)]))
    return found
