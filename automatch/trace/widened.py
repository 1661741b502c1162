"""Float64 wherever a model's own code asks for less: what a recorded program does throughout, and a run may do too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from automatch.trace.inputs import Inputs

_NARROW = (torch.float32, torch.float16, torch.bfloat16)


def wide_dtype(value: Any) -> Any:
    """Float64 in place of a narrower dtype that the model's code asks for; anything else as it is."""
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def wide(value: Any) -> Any:
    """A floating tensor in float64, itself where it is that; anything else as it is."""
    return value.detach().double() if isinstance(value, Tensor) and value.is_floating_point() else value


def wide_copy(tensor: Tensor) -> Tensor:
    """A copy with numbers of its own, in float64 where they are floating; a parameter if it was one."""
    copied = tensor.detach().clone()
    copied = copied.double() if copied.is_floating_point() else copied
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def widened(inputs: Inputs) -> Inputs:
    """Inputs in float64."""
    args, kwargs = pytree.tree_map(wide, (inputs.args, inputs.kwargs))
    return Inputs(args, kwargs, inputs.source)


class Widened(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch does not type it
    """Makes every operator that is asked for a narrower precision give float64."""

    def __init__(self) -> None:
        """Nothing is kept."""
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        args, kwargs = pytree.tree_map(wide_dtype, (args, dict(kwargs or {})))
        return func(*args, **kwargs)
