"""Two functions are told apart before anything is searched; one function in two spellings never is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.exact import readings
from automatch.exact.budget import Budget
from automatch.exact.form import Recipe
from automatch.exact.readings import Readings, could_agree
from automatch.trace.program import Program
from tests.exact.pairs import plain
from tests.support import Net, weight

X = weight(2, 6)
IMAGES = weight(1, 3, 8, 8)


def block(act: Callable[[Tensor], Tensor]) -> Program:
    return plain(Net(lambda m, x: x + m.b(act(m.a(x))), a=nn.Linear(6, 9), b=nn.Linear(9, 6)), X)


def fused() -> Program:
    """The same block: one matrix holds both weights, one of them transposed."""

    def compute(m: Net, x: Tensor) -> Tensor:
        first, second = m.w[:, :6], m.w[:, 6:]
        hidden = x @ first.t() + m.s
        return x + F.gelu(hidden) @ second + m.t  # type: ignore[no-any-return]

    return plain(Net(compute, w=weight(9, 12), s=weight(9), t=weight(6)), X)


class Gated(nn.Module):
    """Convolutions that are wide enough to explode where all weights are a tenth; gated, or not."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(size, 64, 3, padding=1) for size in (3, 64, 64))
        self.gate = nn.Linear(64, 64) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
            if self.gate is not None:
                x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        return x


def test_one_function_in_another_layout_may_agree() -> None:
    assert could_agree(block(F.gelu), fused())


@pytest.mark.parametrize("act", [F.relu, F.silu, torch.tanh])
def test_another_activation_does_not_agree(act: Callable[[Tensor], Tensor]) -> None:
    assert not could_agree(block(F.gelu), block(act))


def test_a_gate_that_is_open_because_a_network_explodes_is_seen() -> None:
    one, other = plain(Gated(False), IMAGES), plain(Gated(True), IMAGES)
    ours, theirs = (Readings(*pair).pairing(Recipe(flat=True)) for pair in ((one, one), (one, other)))
    assert ours.agree
    assert not theirs.agree
    assert not could_agree(one, other)


def test_uses_are_read_apart_only_where_a_weight_has_several() -> None:
    once = Readings(block(F.gelu), block(F.gelu))
    assert once.allows(Recipe())
    assert not once.allows(Recipe(by_use=True))
    assert Readings(block(F.gelu), fused()).allows(Recipe(by_use=True))


def test_what_is_not_known_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = block(F.gelu), block(F.relu)
    assert could_agree(one, other, Budget(-1.0, 0.0))
    monkeypatch.setattr(readings, "LARGEST", 10)
    assert could_agree(one, other)
