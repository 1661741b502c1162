"""Fresh, generic numbers for a model's weights, in a float64 stand-in that keeps ties.

Generic means: no two weights are equal, none is trivial, and the scale is one at which activations neither vanish nor
blow up. What kind of number a weight takes is read off its present values, never off its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from automatch.trace.isolate import stand_in
from automatch.trace.weights import identity

SPREAD = 0.2
"""Standard deviation of a drawn weight that few inputs add up with, and the relative spread of one-signed weights."""

FAINT = 0.05
"""One-signed weights below this mean are drawn as plain noise: at 1e-6, a layer scale would hide its whole branch."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How weights are drawn.

    Attributes:
        flipped: Whether weights of one sign (norm scales) are drawn with both, which shows more and may leave the
            domain of a logarithm or a root.
        temper: A factor on every spread, for models that blow up.
    """

    flipped: bool = False
    temper: float = 1.0


@contextmanager
def double_stand_in(model: nn.Module) -> Iterator[nn.Module]:
    """A stand-in with float64 copies of parameters and buffers, tied where they were; the model is left as it is.

    Raises:
        TypeError: The model cannot be copied.
    """
    made: dict[object, Tensor] = {}

    def replaced(tensor: Tensor) -> Tensor:
        return made.setdefault(identity(tensor), _double(tensor))

    with stand_in(model, replaced) as copied:
        yield copied


def state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state dict, themselves and not copies."""
    found = model.state_dict(keep_vars=True)
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def redraw(model: nn.Module, keep: Collection[str], generator: torch.Generator, manner: Manner) -> None:
    """Draw every weight of a stand-in afresh, except those keys that keep their values; tied ones stay tied."""
    parameters = {identity(parameter) for parameter in model.parameters()}
    kept = {identity(tensor) for key, tensor in state(model).items() if key in keep}
    for mark, tensor in {identity(tensor): tensor for tensor in state(model).values()}.items():
        if mark in kept or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        with torch.no_grad():
            tensor.copy_(fresh(tensor.detach().cpu(), generator, mark in parameters, manner))


def tables(model: nn.Module, others: Callable[[str], bool]) -> tuple[str, ...]:
    """Keys of float buffers that look like constants of the model's code: their values are not trivial.

    A batch norm's statistics are weights, whatever their values, and so is a buffer of ones or zeros.

    Args:
        model: The model.
        others: Which keys to leave out.
    """
    statistics = {
        identity(tensor)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for tensor in module.buffers(recurse=False)
    }
    parameters = {identity(parameter) for parameter in model.parameters()}
    return tuple(
        key
        for key, tensor in state(model).items()
        if identity(tensor) not in parameters | statistics and not others(key) and _is_table(tensor.detach())
    )


def fresh(values: Tensor, generator: torch.Generator, is_parameter: bool, manner: Manner = Manner()) -> Tensor:
    """New numbers for a weight, of the kind that its present ones are.

    1. A buffer with infinities, or of zeros mixed with ones, is a mask: kept.
    2. A buffer without negative values is a variance: stays positive, around its mean.
    3. A vector of one sign (a norm's scale, ones), or a tensor of one sign whose values differ: around its mean.
    4. Everything else: normal noise, the smaller the more inputs add up.

    Example:
        >>> drawn = fresh(torch.ones(1000), torch.Generator().manual_seed(0), True)
        >>> bool((drawn.mean() - 1).abs() < 0.05), bool((drawn.std() - 0.2).abs() < 0.05)
        (True, True)
    """
    if values.numel() == 0 or (not is_parameter and _is_mask(values)):
        return values
    noise = torch.randn(values.shape, generator=generator, dtype=values.dtype)
    if values.is_complex():
        return SPREAD * manner.temper * noise
    mean = values.mean()
    if not is_parameter and bool((values >= 0).all()) and bool(mean > 0):
        return mean * (0.5 + torch.rand(values.shape, generator=generator, dtype=values.dtype))
    if _is_one_signed(values):
        drawn = mean * (1 + SPREAD * noise)
        signs = torch.randint(0, 2, values.shape, generator=generator) * 2 - 1
        return drawn * signs if manner.flipped else drawn
    return _noise_scale(values) * manner.temper * noise


def _noise_scale(values: Tensor) -> float:
    if values.dim() < 2:
        return SPREAD
    # Which axis is summed over is not known: a transposed layout is off by the ratio of both sizes, stacked experts by
    # more, which the second bound catches.
    fan = min(values.numel() / values.shape[0], 4 * values.numel() ** 0.5)
    return min(SPREAD, 1.5 / float(fan**0.5))


def _is_one_signed(values: Tensor) -> bool:
    if not (bool((values > 0).all()) or bool((values < 0).all())) or bool(values.mean().abs() < FAINT):
        return False
    return values.squeeze().dim() < 2 or bool((values != values.flatten()[0]).any())


def _is_mask(values: Tensor) -> bool:
    if not bool(torch.isfinite(values).all()):
        return True
    ones = values == 1
    return bool((ones | (values == 0)).all()) and bool(ones.any()) and not bool(ones.all())


def _is_table(values: Tensor) -> bool:
    if not values.is_floating_point() and not values.is_complex():
        return False
    return values.numel() > 0 and bool((values != values.flatten()[0]).any())


def _double(tensor: Tensor) -> Tensor:
    dtype = tensor.dtype
    if dtype.is_floating_point:
        dtype = torch.float64
    elif dtype.is_complex:
        dtype = torch.complex128
    copied = tensor.detach().to(dtype, copy=True)
    return nn.Parameter(copied, requires_grad=False) if isinstance(tensor, nn.Parameter) else copied


def load(target: nn.Module, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copy weights into a stand-in; gives the keys that tied keys contradict, which hold other values in the end."""
    tensors = state(target)
    with torch.no_grad():
        for key, value in weights.items():
            tensors[key].copy_(value)
        return tuple(key for key, value in weights.items() if not torch.equal(tensors[key], value.to(tensors[key])))
