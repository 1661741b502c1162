"""Whether the numbers of a checkpoint are those that were written: digests in safetensors, checksums in archives."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from automatch.checkpoint.catalog import Catalog, Stored
from automatch.checkpoint.open import open_checkpoint
from automatch.checkpoint.reading import Files
from automatch.checkpoint.safetensors_header import read_header
from automatch.errors import CheckpointError

DIGESTS = "automatch.sha256"
"""What the metadata of a safetensors file calls the digests of its tensors."""

UNKNOWN = "0" * 64
"""Stands for a digest until the tensor is written; digests are as long."""

_STRETCH = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verified:
    """What holding a checkpoint against its digests and checksums showed.

    Attributes:
        sound: Tensors whose bytes are those that were written.
        damaged: Tensors whose bytes are not, or that are not there any more, each with the file.
        unchecked: Tensors of which nothing tells.
    """

    sound: tuple[str, ...]
    damaged: tuple[str, ...]
    unchecked: tuple[str, ...]


def verify(checkpoint: str | os.PathLike[str], *, entry: str | None = None) -> Verified:
    """Hold every tensor of a checkpoint against the digest, or the checksum, that was written with it.

    Files that `convert(..., digests=True)` wrote carry a SHA-256 of each tensor, archives of `torch.save` a CRC-32.

    Args:
        checkpoint: Anything that `convert` reads.
        entry: Which entry of a file of `torch.save` is meant, where there are several.

    Raises:
        CheckpointError: It is no checkpoint, or its header or directory is damaged.
    """
    catalog = open_checkpoint(checkpoint, entry=entry)
    told = {file: _told(file) for file in dict.fromkeys(block.file for block in catalog.stored.values())}
    sound, unchecked = [], []
    damaged = [
        f"{name} is missing in {file}" for file, found in told.items() for name in _missing(file, found, catalog)
    ]
    with Files() as files:
        for name, block in catalog.stored.items():
            same = _is_sound(block, told[block.file], files)
            if same is None:
                unchecked.append(name)
            elif same:
                sound.append(name)
            else:
                damaged.append(f"{name} in {block.file}")
    return Verified(tuple(sound), tuple(damaged), tuple(unchecked))


def listed(digests: Mapping[str, str]) -> str:
    """Digests by key, as the metadata of a file has them.

    Example:
        >>> listed({"b": "01", "a": "00"})
        '{"a":"00","b":"01"}'
    """
    return json.dumps(dict(sorted(digests.items())), separators=(",", ":"))


def sha256(block: Stored, files: Files) -> str:
    """The digest of a block's bytes, in hexadecimal."""
    found, memory = hashlib.sha256(), bytearray(min(_STRETCH, block.nbytes))
    for start in range(0, block.nbytes, _STRETCH):
        part = memoryview(memory)[: min(_STRETCH, block.nbytes - start)]
        files.read_into(block.file, block.offset + start, part)
        found.update(part)
    return found.hexdigest()


def _told(file: Path) -> Mapping[str, str]:
    """The digests that a file carries."""
    text = read_header(file).metadata.get(DIGESTS, "") if file.suffix == ".safetensors" else ""
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CheckpointError(f"{file}: the digests in its metadata cannot be read; the file is damaged.")
    return found


def _missing(file: Path, told: Mapping[str, str], catalog: Catalog) -> list[str]:
    held = {name for name, block in catalog.stored.items() if block.file == file}
    return [f"{name}, which is missing in {file}" for name in told if name not in held]


def _is_sound(block: Stored, told: Mapping[str, str], files: Files) -> bool | None:
    """Whether a block is as it was written; None where nothing tells."""
    if block.name in told:
        return sha256(block, files) == told[block.name]
    if not block.nbytes:
        return True
    if block.record is None or block.record.crc is None:
        return None
    return files.crc(block.file, block.record) == block.record.crc
