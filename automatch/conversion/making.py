"""Tensors, or boxes of them, made from the bytes of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from automatch.checkpoint.catalog import Stored
from automatch.checkpoint.dtypes import BY_NAME
from automatch.checkpoint.reading import Files
from automatch.conversion.boxes import compute_box, result_dtype
from automatch.conversion.plan import Item
from automatch.conversion.reads import BoxReader, torch_dtype
from automatch.conversion.regions import Box
from automatch.conversion.tiles import tiles
from automatch.core.expr import source_leaves
from automatch.errors import MappingError
from automatch.interruption import let_through


def make_box(item: Item, box: Box, stored: Mapping[str, Stored], files: Files) -> Tensor:
    """The entries of an item's tensor in a box, in its dtype, contiguous; only what they need is read.

    Args:
        item: What is made.
        box: First entry and the entry after the last, along every axis.
        stored: The blocks that its expression reads.
        files: The open files.

    Raises:
        CheckpointError: A file ends too early.
        MappingError: The dtypes do not allow the arithmetic.
    """
    return _maker(item, stored, files)(box)


def make_tiles(
    item: Item, stored: Mapping[str, Stored], files: Files, budget: int, use: Callable[[Box, Tensor], object]
) -> None:
    """Make an item's tensor in boxes of at most `budget` bytes, in ascending order, and hand over each.

    They are handed over, and not given back, so that one is gone before the next is made.
    """
    make = _maker(item, stored, files)
    for box in tiles(item.expr, BY_NAME[item.dtype].size, budget):
        use(box, make(box))


def _maker(item: Item, stored: Mapping[str, Stored], files: Files) -> Callable[[Box], Tensor]:
    """What makes boxes of an item: what holds for all of them is found once."""
    wanted = torch_dtype(item.dtype)
    dtypes = {leaf.key: torch_dtype(stored[leaf.key].dtype) for leaf in source_leaves(item.expr)}
    result, working = result_dtype(item.expr, dtypes, wanted)
    # A cast rounds once, from what the arithmetic gave.
    final = wanted if item.kind == "computed" else result
    read = BoxReader(files, stored).read

    def make(box: Box) -> Tensor:
        try:
            return compute_box(item.expr, box, read, working=working).to(final).contiguous()
        except RuntimeError as error:
            let_through(error)
            raise MappingError(f"{item.key} cannot be computed: {error}") from error

    return make
