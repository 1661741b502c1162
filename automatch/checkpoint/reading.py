"""Bytes from files by place: few files open at a time, every short read noticed."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Self

from automatch.checkpoint.catalog import Record, Stored
from automatch.errors import CheckpointError
from automatch.interruption import let_through

_MOST = 64
_STRETCH = 4 * 1024 * 1024
"""Bytes that are held against a checksum at a time."""


class Files:
    """Files open for reading, the least recently used closed when there are too many. For one thread.

    Attributes:
        bytes_read: How many bytes `read_into` has read.
        checks: Whether `verify` looks at checksums.

    Example:
        >>> memory = bytearray(5)
        >>> with Files() as files:
        ...     files.read_into(Path(__file__), 3, memoryview(memory))
        ...     memory, files.bytes_read
        (bytearray(b'Bytes'), 5)
    """

    def __init__(self, most: int = _MOST, checks: bool = True) -> None:
        """Nothing is open yet.

        Args:
            most: How many files may be open at a time.
            checks: Whether `verify` looks at checksums.
        """
        self.bytes_read = 0
        self.checks = checks
        self._verified: set[tuple[Path, Record]] = set()
        self._most = most
        self._open: OrderedDict[Path, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def fd(self, path: Path) -> int:
        """The descriptor of a file, good until the next call.

        Raises:
            CheckpointError: It cannot be opened.
        """
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        while len(self._open) >= self._most:
            os.close(self._open.popitem(last=False)[1])
        try:
            self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            let_through(error)
            raise _unreadable(path, error) from error
        return self._open[path]

    def verify(self, block: Stored) -> None:
        """Hold a block's bytes, and all that share its checksum, against it: once, and only if there is one.

        What is read here is what is read again at once, by then from the system's memory.

        Raises:
            CheckpointError: They are other bytes than when they were saved, or the file ends too early.
        """
        record = block.record
        if not self.checks or record is None or record.crc is None or (block.file, record) in self._verified:
            return
        if self.crc(block.file, record) != record.crc:
            raise CheckpointError(
                f"{block.file}: {record.name}, which holds {block.name}, does not have the checksum that the archive "
                "says: its bytes are not those that were saved.\n"
                "Next: fetch the file again. --no-checksums (checksums=False) reads it as it is."
            )
        self._verified.add((block.file, record))

    def crc(self, path: Path, record: Record) -> int:
        """The CRC-32 of a record's bytes as they are; they do not count as read.

        Raises:
            CheckpointError: The file cannot be read, or ends too early.
        """
        memory, crc, counted = bytearray(min(_STRETCH, record.nbytes)), 0, self.bytes_read
        for start in range(0, record.nbytes, _STRETCH):
            part = memoryview(memory)[: min(_STRETCH, record.nbytes - start)]
            self.read_into(path, record.offset + start, part)
            crc = zlib.crc32(part, crc)
        self.bytes_read = counted
        return crc

    def read_into(self, path: Path, offset: int, memory: memoryview) -> None:
        """Fill memory with a file's bytes from a place on.

        Raises:
            CheckpointError: The file cannot be read, or ends too early.
        """
        memory = memory.cast("B") if memory.nbytes else memory[:0]
        descriptor, done = self.fd(path), 0
        while done < len(memory):
            try:
                count = os.preadv(descriptor, [memory[done:]], offset + done)
            except OSError as error:
                let_through(error)
                raise _unreadable(path, error) from error
            if not count:
                raise CheckpointError(
                    f"{path}: this file ends at byte {offset + done}, {len(memory) - done} bytes early.\n"
                    "Next: fetch it again; it was complete when it was opened, so leave it alone meanwhile."
                )
            done += count
        self.bytes_read += done


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read: {error.strerror or error}")
