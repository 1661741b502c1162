"""Memory that was freed, given back to the operating system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Return freed memory where the C library would keep it for later.

    glibc keeps what lay between blocks that are still in use: after a model in float64 was let go, most of its size.
    Elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
