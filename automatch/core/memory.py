"""Memory of the machine: how much of it is left, and what was freed given back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from automatch.interruption import let_through

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


def available() -> int | None:
    """Bytes that this process may still take; None where the system does not say.

    On Linux it is what the kernel could free without swapping, or less where a control group (a container, a batch
    job) allows less.
    """
    found = [*_left_in_all(), *_left_in_group()]
    return min(found) if found else None


def _left_in_all(table: Path = Path("/proc/meminfo")) -> list[int]:
    try:
        lines = table.read_text().splitlines()
    except OSError as error:
        let_through(error)
        return []
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]


def _left_in_group(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of this process's control group and of those around it leave (version 2)."""
    try:
        name = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration) as error:
        let_through(error)
        return []
    group = groups / name.strip("/")
    around = (group, *(parent for parent in group.parents if parent.is_relative_to(groups)))
    return [left for one in around if (left := _left(one)) is not None]


def _left(group: Path) -> int | None:
    """What a group's limit leaves; pages of files count as free."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        lines = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    except (OSError, ValueError) as error:
        let_through(error)
        return None
    files = sum(int(size) for name, size in lines if name in ("active_file", "inactive_file"))
    return None if limit == "max" else max(0, int(limit) - used + files)
