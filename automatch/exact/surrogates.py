"""Stand-ins for operators whose gradient vanishes while many weights still hold the same value.

A layer norm of equal channels is zero whatever its input, and so is its gradient. While colours are sought, 1/sqrt(v)
becomes a smooth bounded function of v that is nowhere flat, and the mean is taken off by half only. Both programs get
the same stand-ins, in the fused and in the hand-written spellings alike, so elements that play the same role still have
equal gradients. Nothing is proved on a stand-in.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from automatch.trace.program import name_of

_KEPT = 0.5  # how much of the mean is taken off
Call: TypeAlias = tuple[Any, tuple[Any, ...], dict[str, Any]]
"""A function, its positional arguments and its keyword arguments."""


def damped(v: Tensor) -> Tensor:
    """The stand-in for `v ** -0.5`: it tames large values without making the norm flat anywhere."""
    return (1 + v) ** -0.45


def layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    """The stand-in for `torch.nn.functional.layer_norm`."""
    axes = tuple(range(-len(shape), 0))
    centred = x - _KEPT * x.mean(axes, keepdim=True)
    return _affine(centred * damped((centred * centred).mean(axes, keepdim=True) + eps), weight, bias)


def rms_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """The stand-in for `torch.nn.functional.rms_norm`."""
    axes = tuple(range(-len(shape), 0))
    return _affine(x * damped((x * x).mean(axes, keepdim=True) + (eps or 0.0)), weight, None)


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *_: Any
) -> Tensor:
    """The stand-in for `torch.nn.functional.group_norm`."""
    grouped = x.reshape(x.shape[0], groups, -1)
    centred = grouped - _KEPT * grouped.mean(-1, keepdim=True)
    normed = (centred * damped((centred * centred).mean(-1, keepdim=True) + eps)).reshape(x.shape)
    axes = (1, -1, *[1] * (x.dim() - 2))
    return _affine(normed, None if weight is None else weight.view(axes), None if bias is None else bias.view(axes))


def ramp(x: Tensor, *_: Any) -> Tensor:
    """The stand-in for `relu` and its clamped forms, so that no unit is dead."""
    smooth: Tensor = torch.nn.functional.softplus(x)
    return smooth


def part_mean(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Half a mean, where the mean is taken off the value that it is the mean of."""
    mean: Tensor = torch.ops.aten.mean.dim(x, *args, **kwargs)
    return _KEPT * mean


def variance(x: Tensor, axes: Any, keepdim: bool) -> Tensor:
    """The mean square of what is left when the mean is taken off by half."""
    centred = x - _KEPT * x.mean(axes, keepdim=True)
    return (centred * centred).mean(axes, keepdim=keepdim)


def root(v: Tensor) -> Tensor:
    """The stand-in for `v ** 0.5`, so that dividing by it is `damped`."""
    return 1 / damped(v)


def length(x: Tensor, axes: Any, keepdim: bool) -> Tensor:
    """The stand-in for the Euclidean norm."""
    return root((x * x).sum(axes, keepdim=keepdim))


def topk(x: Tensor, k: int, dim: int = -1, *rest: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """`topk` that breaks ties by place, and alike on both sides whatever the rounding."""
    order = torch.ops.aten.topk.default(_untied(x.detach(), dim), k, dim, *rest, **kwargs)[1]
    return x.gather(dim, order), order


def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """`argmax` that breaks ties by place."""
    return _untied(x.detach(), -1 if dim is None else dim).argmax(dim, keepdim)


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """`argmin` that breaks ties by place."""
    return _untied(x.detach(), -1 if dim is None else dim).argmin(dim, keepdim)


def sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """`sort` that breaks ties by place."""
    order = _untied(x.detach(), dim).argsort(dim, descending)
    return x.gather(dim, order), order


def argsort(x: Tensor, dim: int = -1, descending: bool = False) -> Tensor:
    """`argsort` that breaks ties by place."""
    return _untied(x.detach(), dim).argsort(dim, descending)


def _untied(x: Tensor, dim: int) -> Tensor:
    """The same values, ties broken by a fixed irregular number for every place."""
    last = x.movedim(dim, -1)
    tags = torch.cos(torch.arange(last.numel(), dtype=x.dtype) * 1.37).reshape(last.shape)
    return (last + 1e-7 * (last.abs().amax() + 1e-30) * tags).movedim(-1, dim)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def substitute(node: fx.Node) -> Call | None:
    """The call that stands in for a recorded one; None where it stays as it is."""
    name, args, kwargs = name_of(node), node.args, dict(node.kwargs)
    if name in _WHOLE:
        kwargs.pop("cudnn_enable", None)
        kwargs.pop("stable", None)
        return _WHOLE[name], args, kwargs
    if name in ("relu", "relu6") or (name in ("clamp", "clamp_min", "hardtanh", "threshold") and _from_zero(node)):
        return ramp, args[:1], {}
    if name == "rsqrt" or (name == "pow" and _is(args[1], -0.5)):
        return damped, args[:1], {}
    if name == "sqrt" or (name == "pow" and _is(args[1], 0.5)):
        return root, args[:1], {}
    if name == "mean" and len(args) > 1 and _is_taken_off(node):
        return part_mean, args, kwargs
    if name in ("var", "std", "linalg_vector_norm", "norm"):
        return _spread(name, args, kwargs)
    return None


_WHOLE: dict[str, Any] = {
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "topk": topk,
    "argmax": argmax,
    "argmin": argmin,
    "sort": sort,
    "argsort": argsort,
}


def _spread(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    if name in ("var", "std"):
        axes = args[1] if len(args) > 1 else kwargs.get("dim")
        keepdim = kwargs.get("keepdim", args[3] if len(args) > 3 else False)
        if axes is None or isinstance(axes, bool):
            return None
        return (variance if name == "var" else _deviation), (args[0], axes, keepdim), {}
    power = args[1] if len(args) > 1 else kwargs.get("ord", kwargs.get("p", 2))
    axes = args[2] if len(args) > 2 else kwargs.get("dim")
    keepdim = args[3] if len(args) > 3 else kwargs.get("keepdim", False)
    return (length, (args[0], axes, keepdim), {}) if axes is not None and _is(power, 2) else None


def _deviation(x: Tensor, axes: Any, keepdim: bool) -> Tensor:
    return root(variance(x, axes, keepdim))


def _is(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value == number


def _from_zero(node: fx.Node) -> bool:
    low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min", node.kwargs.get("min_val"))
    return _is(low, 0.0)


def _is_taken_off(node: fx.Node) -> bool:
    """Whether a mean is subtracted from what it is the mean of."""
    return any(name_of(user) == "sub" and user.args[0] is node.args[0] and user.args[1] is node for user in node.users)
