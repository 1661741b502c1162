"""What a checkpoint holds, as data: every tensor's name, shape and dtype, and the bytes of the files it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from automatch.checkpoint.dtypes import count_bytes
from automatch.core.expr import Expr
from automatch.core.graph import Shape, Weight


@dataclass(frozen=True, slots=True)
class Record:
    """Consecutive bytes of an archive that have one checksum, of which a block is all or a part.

    Attributes:
        name: What the archive calls it.
        offset: Where in the file its first byte lies.
        nbytes: How many bytes it has.
        crc: Their CRC-32; None where the archive was saved without.
    """

    name: str
    offset: int
    nbytes: int
    crc: int | None


@dataclass(frozen=True, slots=True)
class Stored:
    """One block of entries in a file: consecutive bytes, row by row.

    Attributes:
        name: What `Source` leaves of `Catalog.views` call it.
        shape: Its shape, as torch counts it.
        dtype: Its dtype as torch prints it, without the prefix; one of `automatch.checkpoint.dtypes`.
        file: The file that holds it.
        offset: Where in the file its first byte lies.
        record: What it is a part of that has a checksum; None in formats that have none.
    """

    name: str
    shape: Shape
    dtype: str
    file: Path
    offset: int
    record: Record | None = None

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return count_bytes(self.dtype, self.shape)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A checkpoint without its numbers.

    Attributes:
        path: What the user named.
        weights: Its tensors, in the order of the file or of the index; keys of one tensor are aliases where the format
            tells.
        views: For every key, aliases included, what it is made of: an expression of movements over blocks. Nearly
            always `Source(key, shape)`; a transposed tensor in a torch file is a permuted block, a tensor that several
            processes saved is a concatenation.
        stored: The blocks by name.
        files: Every file that was read for this catalog or holds one of the blocks, in order.
        notes: What a user should know (an entry that was chosen).
        metadata: Free text that its files carry, as far as they agree on it.
    """

    path: Path
    weights: tuple[Weight, ...]
    views: Mapping[str, Expr]
    stored: Mapping[str, Stored]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every key, aliases included."""
        return {key: weight.shape for weight in self.weights for key in weight.keys}
