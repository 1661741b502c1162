"""The bytes of a shard: ranges copied, everything else made tile by tile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from automatch.checkpoint.catalog import Stored
from automatch.checkpoint.digests import DIGESTS, listed, sha256
from automatch.checkpoint.dtypes import BY_NAME
from automatch.checkpoint.reading import Files
from automatch.conversion.copying import Told, copy_range
from automatch.conversion.flushing import Flusher
from automatch.conversion.plan import SHORTEST, Item, Plan
from automatch.conversion.runs import find_runs
from automatch.conversion.shards import Shard
from automatch.core.expr import sources
from automatch.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from automatch.conversion.regions import Box

TILE = 16 * 2**20
"""Bytes of a tile: what is read, and what is written, of a tensor at once. Larger ones are no faster."""


def create(shard: Shard, path: Path) -> None:
    """Make a shard's file with its header and its full size, numbers still to come."""
    with path.open("wb") as file:
        file.write(shard.header)
        file.truncate(shard.size)


def write_items(plan: Plan, shard: Shard, items: Iterable[Item], path: Path, files: Files, told: Told) -> None:
    """Write tensors into a shard's file, down to the disk.

    Raises:
        CheckpointError: A source ends too early.
        OSError: The system refuses.
    """
    with Flusher(path) as flusher:
        heard = _both(flusher.told, told)
        for item in items:
            _write(plan, item, flusher.target, shard.offsets[item.key], files, heard)


def seal(shard: Shard, path: Path) -> None:
    """Put the digests of its tensors into a shard's file that is otherwise complete, where there is room for them.

    Raises:
        CheckpointError: The file cannot be read.
        OSError: The system refuses.
    """
    if DIGESTS not in shard.metadata:
        return
    with Files() as files:
        blocks = [Stored(item.key, item.shape, item.dtype, path, shard.offsets[item.key]) for item in shard.items]
        found = {block.name: sha256(block, files) for block in blocks}
    sealed = shard.with_metadata({**shard.metadata, DIGESTS: listed(found)})
    with path.open("r+b") as file:
        file.write(sealed.header)


def _both(first: Told, second: Told) -> Told:
    def told(count: int) -> None:
        first(count)
        second(count)

    return told


def _write(plan: Plan, item: Item, target: int, offset: int, files: Files, told: Told) -> None:
    if not item.nbytes:
        return
    for key in sources(item.expr):
        files.verify(plan.catalog.stored[key])
    if item.kind == "moved":
        _copy(plan, item, target, offset, files, told)
    else:
        _compute(plan, item, target, offset, files, told)


def _copy(plan: Plan, item: Item, target: int, offset: int, files: Files, told: Told) -> None:
    size = BY_NAME[item.dtype].size
    # Found again, because the runs of all tensors together could be more than memory is for.
    runs = find_runs(item.expr, SHORTEST // size)
    assert runs is not None, item.key
    blocks = [plan.catalog.stored[key] for key in runs.keys]
    for which, start, count in zip(runs.which.tolist(), runs.starts.tolist(), runs.counts.tolist(), strict=True):
        block = blocks[which]
        try:
            copy_range(files.fd(block.file), block.offset + start * size, target, offset, count * size, told)
        except CheckpointError as error:
            raise CheckpointError(f"{block.file}: {error}") from error
        offset += count * size


def _compute(plan: Plan, item: Item, target: int, offset: int, files: Files, told: Told) -> None:
    # Torch is needed from here on alone: a conversion that only moves bytes does not pay for its import.
    from automatch.conversion.making import make_tiles
    from automatch.conversion.tiles import write_box

    def write(box: Box, tensor: Tensor) -> None:
        write_box(target, offset, item.shape, box, tensor)
        told(tensor.nbytes)

    make_tiles(item, plan.catalog.stored, files, TILE, write)
