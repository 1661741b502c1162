"""Memory that was freed, given back to the operating system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

WORTH = 1_000_000
"""Numbers that were let go, from which on it pays to give their memory back."""


def give_back(numbers: int) -> None:
    """Return freed memory where the C library would keep it for later.

    glibc keeps what lay between blocks that are still in use: after a model in float64 was let go, most of its size.
    Elsewhere nothing is done, nor is it where few numbers were let go.
    """
    trim = _trim() if numbers >= WORTH else None
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """The function of the C library that does it; None where it has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
