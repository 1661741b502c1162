"""Sums over axes, with the same bits however a tensor is cut into parts."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from automatch.core.expr import Reduction


def reduced(x: Tensor, kind: Reduction, axes: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Axes summed up; every entry of the result has the same bits whatever is computed beside it."""
    if kind == "sum" and not is_fractional(x):
        return x.sum(axes, keepdim)
    x = as_fractional(x)
    if kind == "norm":
        return _total(x.abs().square(), axes, keepdim).sqrt()
    total = _total(x, axes, keepdim)
    return total if kind == "sum" else total / prod(x.shape[axis] for axis in axes)


def _total(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """A sum in pairs: torch's own depends on the number of threads and on what lies beside the entries."""
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    lines = x.permute(*axes, *kept).reshape(prod(x.shape[axis] for axis in axes), *(x.shape[axis] for axis in kept))
    while len(lines) > 1:
        half = len(lines) // 2
        paired = lines[:half] + lines[half : 2 * half]
        lines = torch.cat([paired, lines[2 * half :]]) if len(lines) % 2 else paired
    total = lines.sum(0)  # of one line, or none
    return total.reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)]) if keepdim else total


def is_fractional(x: Tensor) -> bool:
    """Whether its numbers need not be whole."""
    return x.is_floating_point() or x.is_complex()


def as_fractional(x: Tensor) -> Tensor:
    """A mean, a root, an exponential of whole numbers is not whole."""
    return x if is_fractional(x) else x.to(torch.get_default_dtype())
