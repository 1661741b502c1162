"""Room for a model's numbers in float64: one piece of memory, or a file where they do not fit into memory.

A proof takes a model block by block, forwards and then backwards, and holds one gradient at a time. So numbers that do
not fit may lie in a file that is mapped into memory: the operating system keeps those blocks at hand that are in use
and writes out the others.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable

import torch
from torch import Tensor

from automatch.core.memory import available
from automatch.interruption import let_through
from automatch.prove.weights import wide_like
from automatch.trace.weights import identity

SMALL = 4 * 1024 * 1024
"""Numbers of a tensor below which the C library would keep its memory when it is freed."""

NEEDED = 1.5
"""Bytes that a run with gradients takes, in units of the bytes of a model in float64."""

WORTH = 10_000_000
"""Numbers below which nobody asks how much memory is left."""

BYTES = torch.float64.itemsize


class Room:
    """Memory for the float64 numbers of a model, in one piece.

    A C library keeps pieces of less than 32 MiB for later when they are freed, and with them most of a model; one large
    piece goes back to the operating system at once. Numbers that do not fit into memory have their piece in a temporary
    file, all of them; the file has no name any more, and goes with its last reader.

    Example:
        >>> room = Room([torch.ones(2, 3)])
        >>> room.like(torch.ones(2, 3)).dtype, room.mapped
        (torch.float64, False)
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Take what all tensors need that are small; what all need, where that does not fit into memory."""
        sizes = {identity(tensor): tensor.numel() for tensor in tensors if _is_dense(tensor)}
        whole = sum(sizes.values())
        piece = None if _fits(whole) else _in_a_file(whole)
        self.mapped = piece is not None
        small = sum(size for size in sizes.values() if size < SMALL)
        self.piece = torch.empty(small, dtype=torch.float64) if piece is None else piece
        self.taken = 0

    def takes(self, tensor: Tensor) -> bool:
        """Whether a tensor's numbers have their place in the piece."""
        return _is_dense(tensor) and (self.mapped or tensor.numel() < SMALL)

    def like(self, tensor: Tensor) -> Tensor:
        """Room for one tensor's numbers, laid out as it is."""
        if not self.takes(tensor) or self.taken + tensor.numel() > self.piece.numel():
            return wide_like(tensor)
        start, self.taken = self.taken, self.taken + tensor.numel()
        # `data`, so that a write to one is none to its neighbours in autograd's eyes
        return self.piece.as_strided(tensor.shape, tensor.stride(), start).data


def _fits(count: int) -> bool:
    """Whether so many numbers fit into memory, as far as that is known."""
    free = available() if count >= WORTH else None
    return free is None or NEEDED * BYTES * count <= free


def _in_a_file(count: int) -> Tensor | None:
    """Numbers in a file that is mapped into memory; None where the disk has no room for them."""
    try:
        with tempfile.NamedTemporaryFile(prefix="automatch-") as file:
            # a hole that the disk cannot fill later would end the process
            os.posix_fallocate(file.fileno(), 0, count * BYTES)
            return torch.from_file(file.name, shared=True, size=count, dtype=torch.float64)
    except (OSError, RuntimeError, AttributeError) as error:  # some systems have no such call, or no second handle
        let_through(error)
        return None


def _is_dense(tensor: Tensor) -> bool:
    dense = tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.is_floating_point() and tensor.is_cpu and dense
