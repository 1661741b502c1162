"""Which outputs of both models belong together, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE = 1_000_000
"""Numbers of an output that its scale is taken from."""

OUTLIER = 10.0
"""How far the largest deviation may lie above their lower quartile before outliers are suspected; 10 for noise."""


@dataclass(frozen=True, slots=True)
class OutputPair:
    """An output of the source and one of the target that are compared.

    Attributes:
        source: Place among the source's output tensors.
        target: Place among the target's.
    """

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Gap:
    """How far two outputs are apart, in units of the output's scale.

    Attributes:
        largest: The largest absolute difference.
        distance: The Euclidean norm of all differences.
    """

    largest: float
    distance: float


def real_floats(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Outputs as float64 numbers, complex ones as pairs; places are kept, what is not floating becomes empty."""
    return tuple(_float64(tensor) for tensor in outputs)


def paired(source: Sequence[Tensor], target: Sequence[Tensor]) -> tuple[OutputPair, ...]:
    """Outputs of the same shape, axes of size 1 left out: those that agree best belong together, then in order.

    Where no shape is equal, one that is longer along a single axis (a padded vocabulary) will do; the common part is
    compared. The pairing is decided on one draw and stands for all others.

    Example:
        >>> a, b = torch.randn(2, 3), torch.randn(2, 4)
        >>> paired([a, b], [b, a.unsqueeze(0)])
        (OutputPair(source=0, target=1), OutputPair(source=1, target=0))
    """
    for fits in (_same_shape, _common_part):
        options = [
            (gap(*common(ours, theirs)).largest, one, other)
            for one, ours in enumerate(source)
            for other, theirs in enumerate(target)
            if ours.numel() and theirs.numel() and fits(ours, theirs)
        ]
        chosen: list[OutputPair] = []
        for _, one, other in sorted(options, key=lambda option: (_nan_last(option[0]), abs(option[1] - option[2]))):
            if all(pair.source != one and pair.target != other for pair in chosen):
                chosen.append(OutputPair(one, other))
        if chosen:
            return tuple(sorted(chosen, key=lambda pair: pair.source))
    return ()


def common(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Two outputs in one shape, cut to what both have."""
    first, second = ours.squeeze(), theirs.squeeze()
    for axis, (one, other) in enumerate(zip(first.shape, second.shape, strict=True)):
        first, second = first.narrow(axis, 0, min(one, other)), second.narrow(axis, 0, min(one, other))
    return first, second.to(first.device)


def gap(ours: Tensor, theirs: Tensor) -> Gap:
    """How far two outputs of one shape are apart."""
    difference = (ours - theirs).detach()
    unit = scale(ours.detach())
    return Gap(float(difference.abs().max()) / unit, float(torch.linalg.vector_norm(difference)) / unit)


def scale(output: Tensor) -> float:
    """The size of an output's differences: the largest deviation from its median, unless few numbers make that up.

    Scores masked with -1e9 would otherwise hide every difference among the others.

    Example:
        >>> 1 < scale(torch.randn(1000).index_fill(0, torch.arange(300), -1e9)) < 20
        True
    """
    values = output.flatten()
    values = values[:: max(1, values.numel() // SAMPLE)]
    deviations = (values - values.median()).abs()
    deviations = deviations[deviations > 0]
    if not deviations.numel():
        return max(float(values.abs().max()), torch.finfo(torch.float64).tiny)
    quartile = float(deviations.kthvalue(1 + deviations.numel() // 4).values)
    return max(min(float(deviations.max()), OUTLIER * quartile), torch.finfo(torch.float64).tiny)


def _same_shape(ours: Tensor, theirs: Tensor) -> bool:
    return ours.squeeze().shape == theirs.squeeze().shape


def _common_part(ours: Tensor, theirs: Tensor) -> bool:
    first, second = ours.squeeze().shape, theirs.squeeze().shape
    return len(first) == len(second) and sum(one != other for one, other in zip(first, second, strict=True)) == 1


def _nan_last(value: float) -> float:
    return value if value == value else float("inf")


def _float64(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return torch.view_as_real(tensor).double()
    return tensor.double() if tensor.is_floating_point() else tensor.new_zeros(0, dtype=torch.float64)
