"""Bytes sent to the disk while more of them are written, so that little is left to wait for at the end."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

AFTER = 64 * 2**20
"""Bytes after which the next lot is sent."""


class Flusher:
    """A file that is written: sent to its disk in the background, a lot at a time, and the rest at the end.

    Leaving the block waits until all is on the disk, and raises what the system refused.

    Attributes:
        target: Descriptor of the file.
    """

    def __init__(self, path: Path) -> None:
        """Open a file that is there already."""
        self.target = os.open(path, os.O_RDWR)
        self._waiting = 0
        self._sent: Future[None] | None = None
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def told(self, count: int) -> None:
        """Hear that so many bytes more are written."""
        self._waiting += count
        busy = self._sent is not None and not self._sent.done()
        if self._waiting < AFTER or busy:
            return
        if self._sent is not None:
            self._sent.result()
        self._sent, self._waiting = self._pool.submit(os.fdatasync, self.target), 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        try:
            if kind is None:
                self._settle()
        finally:
            os.close(self.target)

    def _settle(self) -> None:
        if self._sent is not None:
            self._sent.result()
        os.fsync(self.target)
