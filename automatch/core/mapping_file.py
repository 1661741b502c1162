"""A mapping in a file, or in whatever form a caller has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, TypeAlias

from automatch.core.files import replacing
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_json import dumps, loads
from automatch.errors import MappingError, MappingFormatError
from automatch.interruption import let_through


class HasRecord(Protocol):
    """Anything that carries a mapping's data, such as `automatch.mapping.Mapping`."""

    @property
    def record(self) -> MappingRecord:
        """The data."""


MappingLike: TypeAlias = MappingRecord | HasRecord | str | os.PathLike[str]
"""What a caller may hand over as a mapping: the data, what carries it, or the path of its file."""


def as_record(mapping: MappingLike) -> MappingRecord:
    """The data of a mapping that is given in any form.

    Raises:
        MappingFormatError: It is a path, and the file is no mapping.
    """
    if isinstance(mapping, str | os.PathLike):
        return read(mapping)
    return mapping if isinstance(mapping, MappingRecord) else mapping.record


def read_text(path: str | os.PathLike[str], kind: str) -> str:
    """The text of a file.

    Raises:
        MappingFormatError: There is no such file, or it is not text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MappingFormatError(f"{path}: there is no such file ({kind} expected)") from None
    except UnicodeDecodeError:
        raise MappingFormatError(f"{path}: not text ({kind} expected, which is JSON)") from None
    except OSError as error:
        let_through(error)
        raise MappingFormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def read(path: str | os.PathLike[str]) -> MappingRecord:
    """Read a mapping file.

    Raises:
        MappingFormatError: The file is missing, damaged, of another kind or of another version.
    """
    return loads(read_text(path, "mapping file"), os.fspath(path))


def write(record: MappingRecord, path: str | os.PathLike[str]) -> None:
    """Write a mapping file; it appears whole or not at all.

    Raises:
        MappingError: The folder does not exist, or the file cannot be written.
    """
    content = dumps(record)
    with replacing(path, MappingError) as temporary:
        temporary.write_bytes(content.encode())
