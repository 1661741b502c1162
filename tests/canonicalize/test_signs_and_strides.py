"""What a careless reading of strides, signs and expansions would get silently wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import automatch
from automatch.canonicalize import to_landmarks
from automatch.core.landmarks import Landmark
from automatch.trace import trace


class Shifted(nn.Module):
    """A product and a vector that is subtracted from it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.back = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight - self.back


class Expanded(nn.Module):
    """A weight that is expanded to a further axis, then permuted, before it meets the data."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(4, 8))
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.project(self.queries.expand(2, 4, 8).transpose(0, 1))
        return projected + x


class Strided(nn.Module):
    """A gated product whose gate and value interleave channel by channel, or follow each other."""

    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.both = nn.Linear(4, 16)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        both = self.both(x)
        gate, value = (both[..., ::2], both[..., 1::2]) if self.interleaved else both.tensor_split(2, dim=-1)
        gated: Tensor = self.out(nn.functional.silu(gate) * value)
        return gated


def landmarks(model: nn.Module, x: Tensor) -> list[Landmark]:
    return list(to_landmarks(trace(model, (x,))).landmarks)


def test_a_subtracted_vector_is_a_bias_with_its_sign() -> None:
    (product,) = [mark for mark in landmarks(Shifted(), torch.randn(3, 6)) if mark.kind == "contraction"]
    bias = product.use("bias")
    assert bias is not None
    assert bias.view.scale == -1.0


def test_a_subtracted_vector_is_negated_for_a_linear_layer() -> None:
    source, target, x = Shifted(), nn.Linear(6, 4), torch.randn(3, 6)
    mapping = automatch.match(source, target, source_inputs=(x,), target_inputs=(x,))
    target.load_state_dict(mapping.apply(source.state_dict()))
    assert torch.allclose(target(x), source(x), atol=1e-6)


def test_an_expanded_and_permuted_weight_is_lowered() -> None:
    kinds = [mark.kind for mark in landmarks(Expanded(), torch.randn(4, 2, 8))]
    assert "embedding" in kinds


def test_interleaved_and_consecutive_gates_are_told_apart() -> None:
    source, target, x = Strided(True), Strided(False), torch.randn(3, 4)
    mapping = automatch.match(source, target, source_inputs=(x,), target_inputs=(x,))
    target.load_state_dict(mapping.apply(source.state_dict()))
    assert torch.allclose(target(x), source(x), atol=1e-6)
