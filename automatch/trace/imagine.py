"""A meta model on imagined CPU tensors: the same code runs, on shapes without numbers, in no memory.

Code that makes tensors without naming a device mixes CPU and meta, which torch refuses. Where everything is on an
imagined CPU it does not, and nothing is materialised either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from automatch.trace.inputs import Inputs
from automatch.trace.isolate import stand_in


@contextmanager
def imagined(model: nn.Module, inputs: Inputs) -> Iterator[tuple[FakeTensorMode, nn.Module, Inputs]]:
    """A stand-in whose meta tensors are imagined CPU tensors, and inputs to match; real tensors are shared."""
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())

    def imagine(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_meta:
            return value
        with mode:
            tensor = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="cpu")
        return nn.Parameter(tensor, value.requires_grad) if isinstance(value, nn.Parameter) else tensor

    with stand_in(model, imagine) as copied:
        args, kwargs = pytree.tree_map(imagine, (inputs.args, inputs.kwargs))
        yield mode, copied, replace(inputs, args=args, kwargs=kwargs)
