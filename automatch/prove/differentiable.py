"""How a model is run for gradients: the values stay the same, and every weight has a gradient that is small to hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from automatch.trace.weights import Identity, identity


class Differentiable(TorchFunctionMode):
    """What a run for gradients does otherwise: the values stay the same.

    1. Batch norm in evaluation is arithmetic, which unlike torch's own has gradients by its statistics.
    2. Rows are looked up in a leaf of their own, whose gradient holds these rows alone.

    Attributes:
        tables: By the identity of a tensor that rows were looked up in, what the lookups read in its place.
    """

    def __init__(self) -> None:
        """No table was read yet."""
        super().__init__()
        self.tables: dict[Identity, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.batch_norm and (spelled := _batch_norm(*args, **(kwargs or {}))) is not None:
            return spelled
        if func is functional.embedding:
            return self._lookup(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _lookup(
        self,
        rows: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Tensor:
        if not (weight.is_leaf and weight.requires_grad) or max_norm is not None or scale_grad_by_freq:
            return functional.embedding(rows, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
        mark = identity(weight)
        if mark not in self.tables:
            self.tables[mark] = weight.detach().requires_grad_()
        return functional.embedding(rows, self.tables[mark], padding_idx, sparse=True)


def _batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if training or mean is None or variance is None:
        return None
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    normed = (x - mean.reshape(shape)) * (variance.reshape(shape) + eps).rsqrt()
    scaled = normed if weight is None else normed * weight.reshape(shape)
    return scaled if bias is None else scaled + bias.reshape(shape)
