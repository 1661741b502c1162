"""Fresh, generic numbers for a model's weights, in float64.

Generic means: no two weights are equal, none is trivial, and the scale is one at which activations neither vanish nor
blow up. What kind of number a weight takes is read off its present values, never off its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from automatch.trace.weights import Identity, identity

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


def state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state dict, themselves and not copies."""
    found = model.state_dict(keep_vars=True)
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Fresh numbers for a model's weights: the same whenever they are asked for, in whatever order.

    Attributes:
        tensors: The state dict that they are for.
        places: Where each of its tensors comes in it.
        parameters: Those that are parameters.
        kept: Those that keep their values.
        seed: Decides the numbers.
        manner: How they are drawn.
        natures: What kind of numbers tensors hold, as far as it was asked for.
    """

    tensors: Mapping[str, Tensor]
    places: Mapping[Identity, int]
    parameters: frozenset[Identity]
    kept: frozenset[Identity]
    seed: int
    manner: Manner
    natures: dict[Identity, Nature] = field(default_factory=dict)

    @staticmethod
    def of(model: nn.Module, keep: Collection[str], seed: int = 0, manner: Manner = Manner()) -> Drawing:
        """Fresh numbers for all of a model's state but some keys; tied ones stay tied."""
        tensors = state(model)
        places = {mark: place for place, mark in enumerate(dict.fromkeys(map(identity, tensors.values())))}
        parameters = frozenset(identity(parameter) for parameter in model.parameters())
        kept = frozenset(identity(tensor) for key, tensor in tensors.items() if key in keep)
        return Drawing(tensors, places, parameters, kept, seed, manner)

    def again(self, seed: int, manner: Manner) -> Drawing:
        """Other numbers for the same weights."""
        return replace(self, seed=seed, manner=manner)

    def fresh(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        """New numbers for a tensor in float64, on its device; a copy of those that it has, where it keeps them.

        Args:
            tensor: The tensor.
            out: Where to put them; None for new memory.
        """
        out = wide_like(tensor) if out is None else out
        mark = identity(tensor)
        drawn = mark in self.places and mark not in self.kept
        if not drawn or not (tensor.is_floating_point() or tensor.is_complex()):
            return out.copy_(tensor.detach())
        generator = torch.Generator().manual_seed(self.seed * _APART + self.places[mark])
        values = tensor.detach().cpu()
        if mark not in self.natures:
            self.natures[mark] = nature(values, mark in self.parameters)
        return _drawn(self.natures[mark], values, generator, self.manner, out)


_APART = 1_000_003
"""Between the seeds of two draws: more than a model has tensors."""


def wide(tensor: Tensor) -> Tensor:
    """A tensor in float64 (or complex128), itself where it is that, or holds whole numbers."""
    return tensor.to(wide_dtype(tensor))


def wide_like(tensor: Tensor) -> Tensor:
    """Room for a tensor's numbers in float64, laid out as it is."""
    return torch.empty_like(tensor, dtype=wide_dtype(tensor), requires_grad=False).detach()


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Float64, or complex128, in place of a narrower dtype."""
    if tensor.is_complex():
        return torch.complex128
    return torch.float64 if tensor.is_floating_point() else tensor.dtype


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
    """New numbers for a weight in float64, of the kind that its present ones are (`nature`).

    Noise is drawn in float32, which is generic enough and many times as fast.

    Example:
        >>> drawn = fresh(torch.ones(1000), torch.Generator().manual_seed(0), True)
        >>> bool((drawn.mean() - 1).abs() < 0.05), bool((drawn.std() - 0.2).abs() < 0.05)
        (True, True)
    """
    return _drawn(nature(values, is_parameter), values, generator, manner, wide_like(values))


@dataclass(frozen=True, slots=True)
class Nature:
    """What kind of numbers a weight holds.

    Attributes:
        kind: How it is drawn anew.
        size: The mean of a variance and of numbers of one sign; the standard deviation of all others.
    """

    kind: Literal["kept", "variance", "one sign", "noise"]
    size: float = 0.0


def nature(values: Tensor, is_parameter: bool) -> Nature:
    """What kind of numbers a weight holds.

    1. A buffer with infinities, or of zeros mixed with ones, is a mask: kept.
    2. A buffer without negative values is a variance: stays positive, around its mean.
    3. A vector of one sign (a norm's scale, ones), or a tensor of one sign whose values differ: around its mean.
    4. Everything else: normal noise, the smaller the more inputs add up.

    Example:
        >>> nature(torch.full((3,), 2.0), True), nature(torch.tensor([-1.0, 2.0]), True)
        (Nature(kind='one sign', size=2.0), Nature(kind='noise', size=0.2))
    """
    if values.numel() == 0:
        return Nature("kept")
    if values.is_floating_point() and _has_both_signs(values) and (is_parameter or not _is_mask(values)):
        return Nature("noise", _noise_scale(values))
    if not is_parameter and _is_mask(values):
        return Nature("kept")
    if values.is_complex():
        return Nature("noise", SPREAD)
    mean = float(values.mean(dtype=torch.float64))
    if not is_parameter and bool((values >= 0).all()) and mean > 0:
        return Nature("variance", mean)
    return Nature("one sign", mean) if _is_one_signed(values) else Nature("noise", _noise_scale(values))


def _drawn(kind: Nature, values: Tensor, generator: torch.Generator, manner: Manner, out: Tensor) -> Tensor:
    """New numbers of a kind, put where they belong."""
    if kind.kind == "kept":
        return out.copy_(values)
    if kind.kind == "variance":
        return out.copy_(kind.size * (0.5 + torch.rand(values.shape, generator=generator).double()))
    dtype = torch.complex64 if values.is_complex() else torch.float32
    noise = torch.randn(values.shape, generator=generator, dtype=dtype)
    if kind.kind == "noise":
        scale = kind.size * manner.temper
        return torch.mul(noise, scale, out=out) if out.is_cpu else out.copy_(noise * scale)
    drawn = kind.size * (1 + SPREAD * noise.double())
    if manner.flipped:
        drawn *= torch.randint(0, 2, values.shape, generator=generator) * 2 - 1
    return out.copy_(drawn)


def _noise_scale(values: Tensor) -> float:
    if values.dim() < 2:
        return SPREAD
    # Which axis is summed over is not known: a transposed layout is off by the ratio of both sizes, stacked experts by
    # more, which the second bound catches.
    fan = min(values.numel() / values.shape[0], 4 * values.numel() ** 0.5)
    return min(SPREAD, 1.5 / float(fan**0.5))


def _has_both_signs(values: Tensor) -> bool:
    """Whether the first few numbers show it, as they mostly do: then the others need not be looked at."""
    few = values[(0,) * (values.dim() - 1)][:_FEW] if values.dim() and values.numel() else values
    if not few.numel():
        return False
    low, high = torch.aminmax(few)
    return bool(low < 0) and bool(high > 0)


_FEW = 64


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
