"""Which entries of a tensor this process holds, and tensors cut into boxes of consecutive entries."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import Tensor

from automatch.conversion.regions import Box, whole
from automatch.core.graph import Shape
from automatch.errors import AutomatchError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def cut(shape: Shape, most: int) -> Iterator[Box]:
    """Boxes that cover a tensor in ascending order, each of consecutive entries.

    Args:
        shape: The tensor's shape.
        most: How many entries a box may have.

    Example:
        >>> list(cut((3, 4), 8))
        [((0, 2), (0, 4)), ((2, 3), (0, 4))]
        >>> list(cut((2, 4), 3))
        [((0, 1), (0, 3)), ((0, 1), (3, 4)), ((1, 2), (0, 3)), ((1, 2), (3, 4))]
    """
    if prod(shape) <= most:
        yield whole(shape)
        return
    row = prod(shape[1:])
    if row > most:
        yield from (((at, at + 1), *inner) for at in range(shape[0]) for inner in cut(shape[1:], most))
        return
    step = most // row
    yield from (((at, min(at + step, shape[0])), *whole(shape[1:])) for at in range(0, shape[0], step))


def local_part(tensor: Tensor) -> tuple[Box, Tensor]:
    """What this process holds of a tensor.

    Args:
        tensor: A tensor, or a `DTensor` that several processes share.

    Returns:
        The box of the whole tensor's entries that are here, and the memory they are in.

    Raises:
        AutomatchError: It is a sum that is still to be taken, or the entries here are no box.
    """
    if not dist.is_available():
        return whole(tuple(tensor.shape)), tensor
    from torch.distributed.tensor import DTensor

    return _shard(tensor) if isinstance(tensor, DTensor) else (whole(tuple(tensor.shape)), tensor)


def _shard(tensor: DTensor) -> tuple[Box, Tensor]:
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    if any(placement.is_partial() for placement in tensor.placements) or not _in_one_piece(tensor):
        raise AutomatchError(
            f"placed as {tensor.placements}, where no process holds a box of its entries; shard or replicate it"
        )
    sizes, offsets = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    # A process outside the mesh holds nothing, and has no offsets.
    offsets = offsets or (0,) * len(sizes)
    return tuple((start, start + size) for start, size in zip(offsets, sizes, strict=True)), tensor.to_local()


def _in_one_piece(tensor: DTensor) -> bool:
    """Whether every process holds consecutive entries along every axis.

    A strided shard, which FSDP makes of an axis that is sharded already, takes one stretch out of each of
    `split_factor` parts. That is a single stretch where the placements after it choose one of these parts.
    """
    axes = [getattr(placement, "dim", None) for placement in tensor.placements]
    sizes = tensor.device_mesh.shape
    for place, placement in enumerate(tensor.placements):
        chosen = prod(
            size for size, axis in zip(sizes[place + 1 :], axes[place + 1 :], strict=True) if axis == axes[place]
        )
        if getattr(placement, "split_factor", 1) not in (1, chosen):
            return False
    return True
