"""Whether numbers that no draw reaches were made in less than float64: they alone let two right models differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from automatch.trace.weights import identity

WIDE = (torch.float64, torch.complex128)


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Notes whether an operator of a float64 run takes or makes numbers in another precision.

    Attributes:
        narrow: Whether one did.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.narrow = False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        self.narrow = self.narrow or any(map(_is_narrow, pytree.tree_leaves((args, kwargs, made))))
        return made


def has_narrow_constants(model: nn.Module, kept: Collection[str]) -> bool:
    """Whether a model has buffers in less than float64 that keep their values: kept ones, and those not in its state.

    Example:
        >>> has_narrow_constants(nn.BatchNorm1d(3), ())
        False
    """
    drawn = {identity(tensor) for key, tensor in model.state_dict(keep_vars=True).items() if key not in kept}
    return any(_is_narrow(buffer) and identity(buffer) not in drawn for buffer in model.buffers())


def _is_narrow(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.numel() > 0
        and (value.is_floating_point() or value.is_complex())
        and value.dtype not in WIDE
    )
