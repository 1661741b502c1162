"""Constants that differ between two programs by a rounding become equal.

One side may compute its rotary table in float64 from frequencies that were rounded to float32, the other may hold the
table itself in float32. The two differ by 1e-7, which would drown the finer differences that tell elements apart. All
constants of both programs are sorted together, and each run of neighbours takes the value of its first member. Whatever
this does to a constant, it does alike on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automatch.exact.form import Form

_ROUNDING = 2e-6  # a float32 rounding, grown by an angle of a few dozen radians
_FLOOR = 1e-3  # below this, differences are measured absolutely


@dataclass(frozen=True, slots=True)
class _Constant:
    form: Form
    name: str
    value: Tensor
    flat: Tensor


def snap(forms: Sequence[Form]) -> None:
    """Make the constants of these forms equal where they nearly are; changes the forms' own copies."""
    found = [constant for form in forms for constant in _constants(form)]
    if not found:
        return
    joined = snapped(torch.cat([constant.flat for constant in found]).numpy())
    start = 0
    for constant in found:
        # a copy: complex numbers must not start in the middle of a pair
        stop = start + constant.flat.numel()
        setattr(constant.form.module, constant.name, _like(constant.value, torch.from_numpy(joined[start:stop].copy())))
        start = stop


def snapped(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every value replaced by the first of the run of near neighbours that it lies in.

    Example:
        >>> snapped(np.array([2.0, 1.0, 1.0000001])).tolist()
        [2.0, 1.0, 1.0]
    """
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    ordered = values[finite][order]
    apart = np.diff(ordered) > _ROUNDING * np.maximum(np.abs(ordered[1:]), _FLOOR)
    first = np.concatenate([[True], apart])
    moved = np.empty_like(ordered)
    moved[order] = ordered[first][np.cumsum(first) - 1] if len(ordered) else ordered
    result = values.copy()
    result[finite] = moved
    return result


def _constants(form: Form) -> list[_Constant]:
    found = []
    for name, value in form.module.named_buffers():
        if value.is_complex() or value.is_floating_point():
            parts = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
            found.append(_Constant(form, name, value, parts.reshape(-1).double()))
    return found


def _like(value: Tensor, flat: Tensor) -> Tensor:
    if value.is_complex():
        return torch.view_as_complex(flat.reshape(*value.shape, 2)).to(value.dtype)
    return flat.reshape(value.shape).to(value.dtype)
