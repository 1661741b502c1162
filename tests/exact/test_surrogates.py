"""Stand-ins keep gradients alive while many weights are equal, and are alike for all spellings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.exact import surrogates
from automatch.exact.form import Recipe
from automatch.exact.gradients import side
from tests.exact.pairs import formed
from tests.support import Net, weight

X = weight(5, 6).double()


def by_hand(m: Net, x: Tensor) -> Tensor:
    x = m.c(x)
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * m.s  # type: ignore[no-any-return]


def by_variance(m: Net, x: Tensor) -> Tensor:
    x = m.c(x)
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, correction=0) + 1e-5) * m.s  # type: ignore[no-any-return]


SPELLINGS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "fused": lambda m, x: F.layer_norm(m.c(x), (4,), m.s),
    "by hand": by_hand,
    "by variance": by_variance,
    "as one group": lambda m, x: F.group_norm(m.c(x), 1, m.s),
}


def at_start(compute: Callable[[Net, Tensor], Tensor], smooth: bool = True) -> tuple[Tensor, Tensor]:
    """The outputs at equal fills, and the gradient of the contraction before the norm."""
    parts = {"c": nn.Linear(6, 4, bias=False), "o": nn.Linear(4, 3, bias=False)}
    net = Net(lambda m, x: m.o(compute(m, x)), **parts, s=torch.ones(4))
    one = side(formed(net, X, recipe=Recipe(smooth=smooth)))
    (output,) = one.outputs(one.fills())
    chance = torch.Generator().manual_seed(0)
    cotangent = torch.randn(output.shape, generator=chance, dtype=torch.float64)
    gradient = one.evaluated(one.fills()).gradients([cotangent])[0]
    assert gradient is not None
    return output, torch.tensor(gradient)


@pytest.mark.parametrize("case", SPELLINGS)
def test_a_layer_norm_has_one_stand_in_however_it_is_spelled(case: str) -> None:
    for ours, theirs in zip(at_start(SPELLINGS[case]), at_start(SPELLINGS["fused"]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", SPELLINGS)
def test_its_gradient_does_not_vanish_at_equal_fills(case: str) -> None:
    assert float(at_start(SPELLINGS[case])[1].abs().min()) > 1e-4


def test_without_the_stand_in_it_does() -> None:
    output, gradient = at_start(SPELLINGS["fused"], smooth=False)
    assert max(float(output.abs().max()), float(gradient.abs().max())) < 1e-9


def rms_by_hand(m: Net, x: Tensor) -> Tensor:
    x = m.c(x)
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6) ** -0.5 * m.s  # type: ignore[no-any-return]


def rms_by_length(m: Net, x: Tensor) -> Tensor:
    return F.normalize(m.c(x), dim=-1) * m.s  # type: ignore[no-any-return]


def test_an_rms_norm_by_hand_has_the_stand_in_of_the_fused_one() -> None:
    fused = at_start(lambda m, x: F.rms_norm(m.c(x), (4,), m.s, 1e-6))
    for ours, theirs in zip(at_start(rms_by_hand), fused, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_normalised_vector_keeps_its_gradient() -> None:
    assert float(at_start(rms_by_length)[1].abs().min()) > 1e-4


def test_topk_breaks_ties_alike_whatever_the_rounding() -> None:
    tied = torch.full((3, 8), 0.7, dtype=torch.float64)
    noisy = tied + 1e-15 * torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(surrogates.topk(tied, 3)[1], surrogates.topk(noisy, 3)[1])
    assert torch.equal(surrogates.argmax(tied, -1), surrogates.argmax(noisy, -1))
    assert torch.equal(surrogates.argsort(tied), surrogates.argsort(noisy))
    assert torch.equal(surrogates.sort(tied)[1], surrogates.argsort(tied))


def test_topk_of_different_values_is_topk() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for made, right in zip(surrogates.topk(x, 3), x.topk(3), strict=True):
        assert torch.equal(made, right)
    assert torch.equal(surrogates.argmin(x, -1), x.argmin(-1))


def test_a_unit_that_relu_would_kill_stays_alive() -> None:
    _, gradient = at_start(lambda m, x: F.relu(m.c(x) - 9) * m.s)
    assert float(gradient.abs().min()) > 0
