"""Whether two keys of a checkpoint hold the same values: what a model ties may be torn in a file."""

from __future__ import annotations

import hashlib

from automatch.checkpoint.catalog import Catalog, Stored
from automatch.checkpoint.reading import Files
from automatch.core.expr import Expr, Source

CHUNK = 16 * 1024 * 1024
"""Bytes that are compared at a time."""


def same_values(catalog: Catalog, one: str, other: str) -> bool:
    """Whether two keys of one shape and dtype hold the same bytes; their numbers are read only if they may differ.

    Args:
        catalog: The checkpoint.
        one: A key.
        other: Another.

    Raises:
        CheckpointError: A file cannot be read, or ends too early.
    """
    first, second = catalog.views[one], catalog.views[other]
    if first == second:
        return True
    with Files() as files:
        if isinstance(first, Source) and isinstance(second, Source):
            return _same_bytes(catalog.stored[first.key], catalog.stored[second.key], files)
        return _digest(catalog, one, first, files) == _digest(catalog, other, second, files)


def _same_bytes(one: Stored, other: Stored, files: Files) -> bool:
    if one.nbytes != other.nbytes:
        return False
    for start in range(0, one.nbytes, CHUNK):
        parts = [bytearray(min(CHUNK, one.nbytes - start)) for _ in range(2)]
        for block, part in zip((one, other), parts, strict=True):
            files.read_into(block.file, block.offset + start, memoryview(part))
        if parts[0] != parts[1]:
            return False
    return True


def _digest(catalog: Catalog, key: str, view: Expr, files: Files) -> bytes:
    """A hash of a tensor that does not lie in one piece."""
    import torch

    from automatch.conversion.making import make_tiles
    from automatch.conversion.plan import Item

    dtype = next(weight.dtype for weight in catalog.weights if key in weight.keys)
    found, item = hashlib.sha256(), Item(key, view.shape, dtype, view, "permuted")

    def take(_: object, made: torch.Tensor) -> None:
        found.update(made.reshape(-1).view(torch.uint8).numpy().tobytes())

    make_tiles(item, catalog.stored, files, CHUNK, take)
    return found.digest()
