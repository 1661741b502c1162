"""One axis of a tensor, fitted to another size: all of it, or a stretch of it alone.

An entry has the same bits whatever is computed beside it, so that a tensor may be made in parts.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias, assert_never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automatch.apply.reductions import as_fractional, reduced
from automatch.core.expr import Fit

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

SHARPNESS = -0.5
"""The parameter of cubic convolution at which it reproduces quadratics (Keys, "Cubic Convolution Interpolation", 1981).

Libraries differ: PIL and torch with antialiasing take -0.5, torch without it -0.75.
"""


def along(x: Tensor, axis: int, sizes: tuple[int, int], fit: Fit, first: int, bounds: tuple[int, int]) -> Tensor:
    """Entries of a fitted axis.

    Args:
        x: The tensor, or a stretch of it along the axis which holds all that the wanted entries are made of.
        axis: The axis.
        sizes: How many entries the axis has before and after.
        fit: How it is fitted.
        first: Where along the axis `x` begins.
        bounds: Which entries of the fitted axis are wanted, from (included) and to (excluded).

    Example:
        >>> along(torch.tensor([1.0, 2.0, 6.0]), 0, (3, 5), "mean", 0, (2, 5)).tolist()
        [6.0, 3.0, 3.0]
    """
    old, new = sizes
    start, stop = bounds
    match fit:
        case "keep" | "leading":
            return x.narrow(axis, start - first, stop - start)
        case "middle":
            return x.narrow(axis, (old - new) // 2 + start - first, stop - start)
        case "tile":
            return x.index_select(axis, torch.arange(start, stop, device=x.device) % old - first)
        case "pad":
            return _among_zeros(x, axis, stop - start, (new - old) // 2 + first - start)
        case "zeros":
            return _among_zeros(x, axis, stop - start, first - start)
        case "mean":
            return _with_mean(x, axis, old, first, bounds)
        case "cubic":
            return _cubic(x, axis, sizes, bounds)
        case _:
            assert_never(fit)


def _among_zeros(x: Tensor, axis: int, size: int, before: int) -> Tensor:
    """Zeros, and what lies within them of a tensor that begins so far along."""
    padded = x.new_zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]))
    first, last = max(before, 0), min(before + x.shape[axis], size)
    if first < last:
        padded.narrow(axis, first, last - first).copy_(x.narrow(axis, first - before, last - first))
    return padded


def _with_mean(x: Tensor, axis: int, old: int, first: int, bounds: tuple[int, int]) -> Tensor:
    start, stop = bounds
    kept = [x.narrow(axis, start - first, min(stop, old) - start)] if start < old else []
    if stop <= old:
        return kept[0]
    mean = reduced(x, "mean", (axis,), keepdim=True)
    invented = mean.expand(*x.shape[:axis], stop - max(start, old), *x.shape[axis + 1 :])
    return torch.cat([*kept, invented], axis)


def _cubic(x: Tensor, axis: int, sizes: tuple[int, int], bounds: tuple[int, int]) -> Tensor:
    """A weighted sum in a fixed order, tap by tap."""
    places, weights = _taps(*sizes)
    places, weights = places[bounds[0] : bounds[1]], weights[bounds[0] : bounds[1]]
    x = as_fractional(x)
    shape = [-1 if place == axis else 1 for place in range(x.dim())]
    total = x.new_zeros((*x.shape[:axis], len(places), *x.shape[axis + 1 :]))
    for place, weight in zip(places.T, weights.T, strict=True):
        chosen = x.index_select(axis, torch.from_numpy(place).to(x.device))
        total = total + chosen * torch.from_numpy(weight).to(chosen).view(shape)
    return total


@cache
def _taps(old: int, new: int) -> tuple[Ints, Floats]:
    """For every entry of a resampled axis the old ones that it is made of, [new, T], and their weights, [new, T].

    Where entries become fewer, the kernel is as much wider (antialiasing), as PIL does it.
    """
    step = old / new
    spread = max(step, 1.0)
    centre = (np.arange(new) + 0.5) * step
    lowest = np.maximum((centre - 2 * spread + 0.5).astype(np.int64), 0)
    beyond = np.minimum((centre + 2 * spread + 0.5).astype(np.int64), old)
    places = lowest[:, None] + np.arange(int((beyond - lowest).max()))
    weights = np.where(places < beyond[:, None], _kernel((places - centre[:, None] + 0.5) / spread), 0.0)
    return np.minimum(places, old - 1), weights / weights.sum(1, keepdims=True)


def _kernel(x: Floats) -> Floats:
    x, a = np.abs(x), SHARPNESS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    found: Floats = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return found
