"""What `torch.save` wrote -> its containers and tensors without numbers, and where in the file the numbers lie.

Nothing is executed: the pickle goes through the unpickler of `torch.load(weights_only=True)`, which builds tensors and
containers and nothing else. Tensors get storages on the meta device, so that no number is read.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

import torch
from torch._weights_only_unpickler import Unpickler
from torch.storage import TypedStorage, UntypedStorage

from automatch.checkpoint.catalog import Record
from automatch.interruption import let_through

ZIP = b"PK\x03\x04"

_LOCAL_HEADER = 30  # bytes of a zip record's header in front of its name
_ENCRYPTED = 1
# Constructors without type annotations.
_UNTYPED: Callable[..., UntypedStorage] = UntypedStorage
_TYPED: Callable[..., object] = TypedStorage
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how torch's old format begins


_File: TypeAlias = "io.BufferedReader[Window]"


class Damaged(ValueError):
    """What is wrong with an archive, for a caller that knows its name."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An unpickled file without its numbers.

    Attributes:
        content: What was saved; its tensors are on the meta device.
        regions: Where the storages of these tensors lie in the file.
    """

    content: object
    regions: Mapping[int, Record]
    storages: tuple[UntypedStorage, ...]  # kept, because `regions` knows them by their addresses

    def region(self, tensor: torch.Tensor) -> Record | None:
        """Where a tensor's storage lies; None where it has none in the file."""
        return self.regions.get(tensor.untyped_storage()._cdata)


class Window(io.RawIOBase):
    """A part of an open file as a file, read by place: the descriptor's own position stays."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        """Bytes `offset` to `offset + length` of the file."""
        self._descriptor, self._offset, self._length, self._at = descriptor, offset, length, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, to: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted as `io.IOBase.seek` does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if base + to < 0:
            raise ValueError(f"there is nothing at {base + to}")
        self._at = base + to
        return self._at

    def readinto(self, memory: Any) -> int:
        """Fill what of the memory the part's bytes fill."""
        room = max(0, min(len(memory), self._length - self._at))
        count = os.preadv(self._descriptor, [memoryview(memory)[:room]], self._offset + self._at)
        self._at += count
        return count


@dataclass(slots=True)
class _Storages:
    """The storages that a pickle speaks of, as they are met."""

    by_key: dict[str, UntypedStorage] = field(default_factory=dict)
    told: dict[str, tuple[int, int]] = field(default_factory=dict)  # the bytes it should have, and those of an entry

    def met(self, told: object) -> object:
        """The storage that a pickle's persistent id means, without numbers."""
        if not isinstance(told, tuple) or len(told) not in (5, 6) or any(told[5:]):
            raise Damaged(f"it speaks of a storage in a way that is not torch's ({str(told)[:80]})")
        _, kind, key, _, count = told[:5]
        dtype = torch.uint8 if kind is UntypedStorage else kind.dtype
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise Damaged(f"it speaks of a storage {key!r} of {count!r} entries")
        # Later on torch lets a storage on the meta device grow as a tensor wants it, so it is not asked for its size.
        nbytes = max(count * dtype.itemsize, self.told.get(key, (0, 0))[0])
        self.told[key] = (nbytes, dtype.itemsize)
        storage = self.by_key.setdefault(key, _UNTYPED(nbytes, device="meta"))
        return _TYPED(wrap_storage=storage, dtype=dtype, _internal=True)


class _Unpickler(Unpickler):
    """Torch's own, given storages without numbers."""

    def __init__(self, file: Any, met: Callable[[object], object]) -> None:
        super().__init__(file, encoding="utf-8")
        self._met = met

    def persistent_load(self, pid: object) -> object:
        return self._met(pid)


def read_archive(descriptor: int, offset: int, length: int) -> Archive:
    """Read what `torch.save` wrote into a part of a file.

    Args:
        descriptor: The open file; its position is left alone.
        offset: The part's first byte.
        length: The part's length in bytes.

    Raises:
        Damaged: The part is cut short, or contradicts itself.
        pickle.UnpicklingError: It holds more than tensors and containers.
        Exception: Whatever else a damaged pickle makes the unpickler stumble over.
    """
    with io.BufferedReader(Window(descriptor, offset, length)) as file:
        read = _read_zip if file.peek(len(ZIP)).startswith(ZIP) else _read_stream
        return read(file, offset, length)


def _unpickled(file: BinaryIO, met: Callable[[object], object]) -> Any:
    load: Callable[[], object] = _Unpickler(file, met).load
    try:
        with warnings.catch_warnings():
            # What comes of another pickle protocol or of rare kinds of tensors, the result or the exception says.
            warnings.simplefilter("ignore")
            return load()
    finally:
        # Sparse tensors are refused later; left here, they would be checked by the process's next torch.load.
        torch._utils._sparse_tensors_to_validate.clear()


def _no_storage(told: object) -> object:
    raise Damaged(f"it speaks of a storage where there is none ({str(told)[:80]})")


def _read_zip(file: _File, offset: int, length: int) -> Archive:
    """The format since torch 1.6: a zip archive with one pickle, and one record for every storage."""
    try:
        with zipfile.ZipFile(file) as archive:
            records = {record.filename: record for record in archive.infolist()}
            count = len(archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        let_through(error)
        raise Damaged(f"its zip directory cannot be read ({error})") from error
    if len(records) < count:
        raise Damaged("its zip directory names a record twice")
    root = next(iter(records), "").split("/")[0]
    if f"{root}/constants.pkl" in records:
        raise Damaged("it is a TorchScript program, not a state dict")
    if _content(file, records.get(f"{root}/byteorder"), length) not in (b"", b"little"):
        raise Damaged("it was saved on a machine that writes numbers the other way round")
    storages = _Storages()
    pickled = _content(file, records.get(f"{root}/data.pkl"), length)
    content = _unpickled(io.BytesIO(pickled), storages.met)
    regions: dict[int, Record] = {}
    for key, storage in storages.by_key.items():
        record = records.get(f"{root}/data/{key}")
        begin, nbytes = _place(file, record, length)
        if nbytes < storages.told[key][0]:
            raise Damaged(f"storage {key} should have {storages.told[key][0]} bytes, the file holds {nbytes}")
        crc = record.CRC if record is not None else 0
        regions[storage._cdata] = Record(f"{root}/data/{key}", offset + begin, nbytes, crc or None)
    return Archive(content, regions, tuple(storages.by_key.values()))


def _content(file: _File, record: zipfile.ZipInfo | None, length: int) -> bytes:
    """A small record's bytes; none where it is not there."""
    if record is None:
        return b""
    begin, nbytes = _place(file, record, length)
    file.seek(begin)
    content = file.read(nbytes)
    # A flipped bit in the pickle could give a weight another one's numbers. Torch may be told to write 0 for the sum.
    if record.CRC not in (0, zlib.crc32(content)):
        raise Damaged(f"{record.filename} does not have the checksum that the zip directory says")
    return content


def _place(file: _File, record: zipfile.ZipInfo | None, length: int) -> tuple[int, int]:
    """Where a record's bytes lie in the archive, and how many they are, checked against the archive's length."""
    if record is None:
        raise Damaged("a storage that its pickle speaks of is missing")
    if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
        raise Damaged(f"{record.filename} is compressed, which torch.save never does")
    file.seek(record.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(ZIP) or record.flag_bits & _ENCRYPTED:
        raise Damaged(f"{record.filename} is not where the zip directory says")
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    begin = record.header_offset + _LOCAL_HEADER + names
    if begin + record.file_size > length:
        raise Damaged(f"{record.filename} ends at byte {begin + record.file_size} of {length}")
    return begin, record.file_size


def _read_stream(file: _File, offset: int, length: int) -> Archive:
    """The format before torch 1.6: five pickles, then every storage's count of entries and bytes."""
    if _unpickled(file, _no_storage) != _MAGIC or _unpickled(file, _no_storage) != _PROTOCOL:
        raise Damaged("it does not begin as torch.save begins a file")
    system = _unpickled(file, _no_storage)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Damaged("it was saved on a machine that writes numbers the other way round")
    storages = _Storages()
    content = _unpickled(file, storages.met)
    keys = _unpickled(file, _no_storage)
    if not isinstance(keys, list) or set(storages.by_key) != set(keys) or len(keys) > len(set(keys)):
        raise Damaged("its list of storages is not that of its tensors")
    regions: dict[int, Record] = {}
    for key in keys:
        nbytes, width = storages.told[key]
        count = int.from_bytes(file.read(8), "little")
        if count * width != nbytes:
            raise Damaged(f"storage {key} should have {nbytes} bytes, the file holds {count * width}")
        regions[storages.by_key[key]._cdata] = Record(key, offset + file.tell(), nbytes, None)
        if file.seek(nbytes, os.SEEK_CUR) > length:
            raise Damaged(f"storage {key} ends at byte {file.tell()} of {length}")
    return Archive(content, regions, tuple(storages.by_key.values()))
