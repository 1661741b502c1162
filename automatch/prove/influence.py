"""What each element of a weight does to the outputs, by one backward pass with random cotangents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from automatch.prove.outputs import Gap, scale
from automatch.prove.weights import SPREAD

MARGIN = 100.0
"""How many times the measured distance of the outputs an element must move them by."""

FLOOR = 1e-6
"""The least movement, in units of the output's scale, that counts at all.

A weight that no output sees (a key's bias under softmax) still gets a gradient of rounding errors: about 1e-16 of the
terms that cancel, or 1e-8 where a model computes its softmax in float32.
"""

NEARLY = 0.9
"""The share of living elements from which on further draws are worth while."""

TWIN = 1e-7
"""Relative difference under which two gradients count as equal."""


@dataclass(slots=True)
class Influence:
    """What the draws so far showed of one target tensor.

    Attributes:
        strength: For every element, how far it moves the outputs, in units of what would be enough; the most of all
            draws.
        first: Its gradient in the first draw.
        later: A random sum of its gradients in the other draws.
        draws: How many draws went in.
    """

    strength: Tensor
    first: Tensor
    later: Tensor
    draws: int = 1

    @property
    def alive(self) -> Tensor:
        """Which elements would have shown."""
        return self.strength > 1

    @property
    def nearly_whole(self) -> bool:
        """Whether so few elements are missing that chance may have hidden them."""
        alive = float(self.alive.double().mean()) if self.alive.numel() else 1.0
        return NEARLY <= alive < 1


@dataclass(slots=True)
class Ledger:
    """Influences of all target tensors, by their first key."""

    found: dict[str, Influence] = field(default_factory=dict)

    def add(self, gradients: Mapping[str, Tensor], values: Mapping[str, Tensor], enough: float, sign: float) -> None:
        """Enter one draw.

        Args:
            gradients: The gradient of every tensor.
            values: Their values in this draw.
            enough: How far an element must move the outputs to be seen.
            sign: A random factor of this draw.
        """
        for key, gradient in gradients.items():
            strength = gradient.abs() * disturbance(values[key]) / enough
            known = self.found.get(key)
            if known is None:
                self.found[key] = Influence(strength, gradient, torch.zeros_like(gradient))
                continue
            known.strength = torch.maximum(known.strength, strength)
            known.later = known.later + sign * gradient
            known.draws += 1


@torch.enable_grad()
def gradients(
    outputs: Sequence[Tensor], weights: Mapping[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """The gradient of a random combination of all outputs, each in units of its scale.

    A single element then moves the outputs by its gradient times its change, up to a random factor near 1: in the
    Euclidean norm over all outputs.

    Args:
        outputs: The compared outputs, still with their graph.
        weights: The tensors to differentiate by.
        generator: Where the cotangents come from.

    Raises:
        RuntimeError: Nothing can be differentiated.
    """
    total = torch.zeros((), dtype=torch.float64, device=outputs[0].device)
    for output in outputs:
        cotangent = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.device)
        total = total + (cotangent * output).sum() / scale(output.detach())
    found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {
        key: torch.zeros(tensor.shape, dtype=torch.float64) if gradient is None else gradient.detach().double().cpu()
        for (key, tensor), gradient in zip(weights.items(), found, strict=True)
    }


class DifferentiableStatistics(TorchFunctionMode):
    """Batch norm in evaluation as arithmetic, which unlike torch's own has gradients by its statistics."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.batch_norm and (spelled := _batch_norm(*args, **(kwargs or {}))) is not None:
            return spelled
        return func(*args, **(kwargs or {}))


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


def enough(gaps: Sequence[Gap]) -> float:
    """How far an element must move the outputs for a wrong value to have shown, in their scale."""
    return max(FLOOR, MARGIN * math.hypot(*(gap.distance for gap in gaps)))


def disturbance(values: Tensor) -> float:
    """The size of a typical wrong value: the spread of the tensor, or that of any drawn weight where it has none."""
    spread = float(values.detach().std()) if values.numel() > 1 else 0.0
    return spread if spread > 1e-9 else SPREAD * max(1.0, float(values.detach().abs().max()) if values.numel() else 1.0)


def told_apart(influence: Influence) -> Tensor:
    """Which living elements no other element of the same tensor could be exchanged with.

    Equal gradients in every draw mean that only the sum of two elements matters, as under inputs that are constant
    along an axis: then a mapping that permutes them would have passed.
    """
    places = influence.alive.flatten().nonzero().squeeze(1)
    apart = influence.alive.flatten().clone()
    first, later = (part.flatten()[places] for part in (influence.first, influence.later))
    order = first.argsort()
    twins = _equal(first[order[1:]], first[order[:-1]]) & _equal(later[order[1:]], later[order[:-1]])
    apart[places[order[1:][twins]]] = False
    apart[places[order[:-1][twins]]] = False
    return apart.reshape(influence.alive.shape)


def shifts(influence: Influence) -> bool:
    """Whether one number added along the first axis changes nothing, as before a layer norm or inside a softmax."""
    return influence.first.dim() > 0 and all(
        bool((part.sum(0).abs() <= TWIN * part.abs().sum(0)).all()) for part in (influence.first, influence.later)
    )


def interchangeable(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """For each tensor those others of its shape that have the same gradient everywhere: only their sum matters."""
    living = {key: part for key, part in ledger.found.items() if part.alive.numel() and bool(part.alive.any())}
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, part in living.items():
        groups.setdefault((tuple(part.first.shape), f"{float(part.first.abs().sum()):.5e}"), []).append(key)
    found: dict[str, tuple[str, ...]] = {}
    for keys in groups.values():
        for key in keys:
            others = tuple(other for other in keys if other != key and _same(living[key], living[other]))
            found |= {key: others} if others else {}
    return found


def _same(one: Influence, other: Influence) -> bool:
    size = float(one.first.abs().max())
    return all(
        bool((first - second).abs().max() <= TWIN * max(size, float(first.abs().max())))
        for first, second in ((one.first, other.first), (one.later, other.later))
    )


def _equal(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs() <= TWIN * torch.maximum(one.abs(), other.abs())
