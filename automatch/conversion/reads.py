"""Boxes of stored blocks, read from their files."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from automatch.checkpoint.catalog import Stored
from automatch.checkpoint.dtypes import BY_NAME
from automatch.conversion.regions import WASTE, Box, extents, run_length, run_starts
from automatch.core.expr import Source
from automatch.core.graph import Shape

_PAGE = 4096
"""Bytes that the system reads from a disk in any case."""


class ReadsBytes(Protocol):
    """Where bytes come from; `automatch.checkpoint.reading.Files` is one."""

    def read_into(self, path: Path, offset: int, memory: memoryview, /) -> None:
        """Fill memory with a file's bytes from a place on."""


class BoxReader:
    """Reads boxes of blocks that lie row by row in files."""

    def __init__(self, files: ReadsBytes, stored: Mapping[str, Stored]) -> None:
        """Nothing is read yet.

        Args:
            files: The open files.
            stored: The blocks by name.
        """
        self._files, self._stored = files, stored

    def read(self, source: Source, box: Box) -> Tensor:
        """Read a box.

        Args:
            source: The block, in any shape that has its number of entries.
            box: Which entries.

        Returns:
            The entries in memory of their own; a view of it where it was quicker to read more than they are.

        Raises:
            CheckpointError: The file ends too early.
        """
        block = self._stored[source.key]
        assert prod(source.shape) == prod(block.shape), source
        size = BY_NAME[block.dtype].size
        read = widened(source.shape, box, size)
        memory = torch.empty(prod(extents(read)) * size, dtype=torch.uint8)
        view, step = memory.numpy().data, run_length(source.shape, read) * size
        for place, offset in enumerate((run_starts(source.shape, read) * size + block.offset).tolist()):
            self._files.read_into(block.file, offset, view[place * step : (place + 1) * step])
        found = memory.view(torch_dtype(block.dtype)).view(extents(read))
        for axis, ((start, stop), (first, _)) in enumerate(zip(box, read, strict=True)):
            found = found.narrow(axis, start - first, stop - start)
        return found


def widened(shape: Shape, box: Box, itemsize: int) -> Box:
    """The box to read for a box: one with longer runs, if they are short and little else comes with them.

    Example:
        >>> widened((1000, 4), ((0, 1000), (0, 2)), 2), widened((1000, 4), ((0, 1000), (0, 1)), 2)
        (((0, 1000), (0, 4)), ((0, 1000), (0, 1)))
    """
    wider = list(box)
    for axis in reversed(range(len(shape))):
        alone = prod(extents(tuple(wider[:axis]))) == 1
        if alone or run_length(shape, tuple(wider)) * itemsize >= _PAGE:
            break
        wider[axis] = (0, shape[axis])
        if prod(extents(tuple(wider))) > WASTE * prod(extents(box)):
            wider[axis] = box[axis]
            break
    return tuple(wider)


def torch_dtype(name: str) -> torch.dtype:
    """A dtype of a file as torch has it; bytes, where torch has none."""
    found = getattr(torch, name, torch.uint8)
    assert isinstance(found, torch.dtype), name
    return found
