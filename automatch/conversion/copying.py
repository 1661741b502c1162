"""Bytes from file to file, in the kernel where the system can."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeAlias

from automatch.errors import CheckpointError
from automatch.interruption import let_through

Told: TypeAlias = Callable[[int], None]
"""Is told how many bytes more are written."""

STRETCH = 64 * 2**20
"""Bytes a call: enough to lose nothing to the calls, few enough to report progress and to be interrupted."""

BUFFER = 2**20
"""Bytes that pass through memory at once where the kernel does not copy."""

PIECE = 256 * 1024
"""Bytes that are written at once: for more, systems look for larger stretches of memory, which can take far longer."""

_CANNOT = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
"""What kernels and file systems answer that cannot copy between these two files; none says that the disk is full."""


def copy_range(source: int, start: int, target: int, place: int, count: int, told: Told) -> None:
    """Copy bytes from one open file to another.

    Args:
        source: Descriptor that is read.
        start: The first byte to read.
        target: Descriptor that is written.
        place: Where the first byte goes.
        count: How many.
        told: Is told after every stretch how many bytes it had.

    Raises:
        CheckpointError: The source ends too early.
        OSError: The system refuses.
    """
    while count:
        done = _copied(source, start, target, place, min(count, STRETCH))
        if not done:
            raise CheckpointError(f"the file ended at byte {start}, before {count} more; was it changed meanwhile?")
        start, place, count = start + done, place + done, count - done
        told(done)


def _copied(source: int, start: int, target: int, place: int, count: int) -> int:
    # Some file systems answer 0 where they cannot, so that only a read tells the end of the file.
    return _in_kernel(source, start, target, place, count) or _in_memory(source, start, target, place, count)


def _in_kernel(source: int, start: int, target: int, place: int, count: int) -> int:
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, target, count, start, place)
    except OSError as error:
        let_through(error)
        if error.errno not in _CANNOT:
            raise
        return 0


def _in_memory(source: int, start: int, target: int, place: int, count: int) -> int:
    chunk = os.pread(source, min(count, BUFFER), start)
    write_at(target, place, memoryview(chunk))
    return len(chunk)


def write_at(target: int, place: int, content: memoryview) -> None:
    """Write all of a buffer at a place of an open file.

    Raises:
        OSError: The system refuses.
    """
    while content:
        done = os.pwrite(target, content[:PIECE], place)
        content, place = content[done:], place + done
