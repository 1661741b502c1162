"""Where the operators of two models differ, they are named with their constants, and no weight is suspected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.prove import prove_conversion
from automatch.prove.divergence import Divergence
from automatch.prove.parting import parting
from tests.prove.test_divergence import FAULTS, found

WIDTH, HEADS, WORDS = 16, 2, 13


class Layers(nn.Module):
    """A residual network around a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + self.second(self.function(self.first(x)))
        return x


class Gated(nn.Module):
    """A gated network around a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.gate, self.up, self.down = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(self.function(self.gate(x)) * self.up(x))
        return out


class Attention(nn.Module):
    """Attention whose scores go through a function."""

    def __init__(self, mixed: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.mixed = mixed
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (make(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for make in (self.q, self.k, self.v))
        out: Tensor = x + self.o(self.mixed(q, k, v).transpose(1, 2).flatten(2))
        return out


class Embedded(nn.Module):
    """Words whose embedding is multiplied before a norm."""

    def __init__(self, factor: float, first: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.norm, self.factor, self.first = nn.LayerNorm(WIDTH), factor, first

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids)
        h = h * self.factor if self.factor != 1 else h
        out: Tensor = self.head(self.norm(h) if self.first else h + self.norm(h))
        return out


class Normed(nn.Module):
    """A norm between two products."""

    def __init__(self, norm: Callable[[Tensor], Tensor], norm_weight: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), norm
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.norm(self.first(x)) * self.weight)
        return out


class Convolved(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, between: Callable[[Tensor], Tensor] | None = None, **how: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, **how)
        self.between = between or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.between(self.first(x)))
        return out


def rms(eps: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def layer(eps: float) -> Callable[[Tensor], Tensor]:
    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        out: Tensor = centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        return out

    return norm


def fused(eps: float) -> Callable[[Tensor], Tensor]:
    return lambda x: F.rms_norm(x, (WIDTH,), None, eps)


def fused_layer(eps: float) -> Callable[[Tensor], Tensor]:
    return lambda x: F.layer_norm(x, (WIDTH,), None, None, eps)


def by_hand_gelu(x: Tensor) -> Tensor:
    out: Tensor = 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))
    return out


def scored(
    change: Callable[[Tensor], Tensor] = lambda s: s, causal: bool = False
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = change(q @ k.transpose(-1, -2))
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(mask, -torch.inf)
        out: Tensor = scores.softmax(-1) @ v
        return out

    return mixed


def whole(causal: bool = False) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def capped(cap: float) -> Callable[[Tensor], Tensor]:
    return lambda s: cap * torch.tanh(s / cap)


ROOT = (WIDTH // HEADS) ** 0.5
Make = Callable[[], nn.Module]


def turned(base: float) -> Callable[[Tensor], Tensor]:
    """Channels multiplied by a table of positions."""

    def function(x: Tensor) -> Tensor:
        out: Tensor = x * (torch.arange(7)[:, None] * base ** -(torch.arange(WIDTH) / WIDTH)).cos().double()
        return out

    return function


def halves_or_pairs(halves: bool) -> Callable[[Tensor], Tensor]:
    """The same numbers in two layouts."""

    def function(x: Tensor) -> Tensor:
        angles = torch.arange(7)[:, None] * 9.0 ** -torch.arange(WIDTH // 2)
        table = torch.cat([angles, angles], -1) if halves else angles.repeat_interleave(2, -1)
        out: Tensor = x * table.cos().double()
        return out

    return function


PAIRS: list[tuple[str, Make, Make, str]] = [
    ("gelu and relu", lambda: Layers(F.relu), lambda: Layers(F.gelu), "gelu(approximate='none') here, relu there"),
    (
        "gelu by tanh",
        lambda: Layers(F.gelu),
        lambda: Layers(lambda x: F.gelu(x, approximate="tanh")),
        "gelu(approximate='tanh') here, gelu(approximate='none') there",
    ),
    ("gelu by hand", lambda: Layers(F.gelu), lambda: Layers(by_hand_gelu), "tanh"),
    ("gelu by hand there", lambda: Layers(by_hand_gelu), lambda: Layers(F.gelu), "gelu(approximate='none') here"),
    ("silu and gelu", lambda: Layers(F.gelu), lambda: Layers(F.silu), "silu here, gelu(approximate='none') there"),
    ("a gate's", lambda: Gated(F.silu), lambda: Gated(F.gelu), "gelu(approximate='none') here, silu there"),
    ("relu in a gate", lambda: Gated(F.silu), lambda: Gated(F.relu), "relu here, silu there"),
    ("silu in a gate", lambda: Gated(F.relu), lambda: Gated(F.silu), "silu here, relu there"),
    ("relu here", lambda: Layers(F.gelu), lambda: Layers(F.relu), "relu here, gelu(approximate='none') there"),
    ("eps", lambda: Normed(fused(1e-6)), lambda: Normed(fused(1e-5)), "rms_norm(eps=1e-05) here, rms_norm(eps=1e-06)"),
    (
        "eps of layer norms",
        lambda: Normed(fused_layer(1e-6)),
        lambda: Normed(fused_layer(1e-5)),
        "layer_norm(eps=1e-05) here, layer_norm(eps=1e-06) there",
    ),
    (
        "eps by hand here",
        lambda: Normed(fused(1e-6)),
        lambda: Normed(rms(1e-5)),
        "1e-05 under its root) here, rms_norm(",
    ),
    ("eps by hand there", lambda: Normed(rms(1e-6)), lambda: Normed(fused(1e-5)), "1e-06 under its root) there"),
    ("eps by hand", lambda: Normed(rms(1e-6)), lambda: Normed(rms(1e-5)), "add(1e-05) here, add(1e-06) there"),
    (
        "layer norm by hand",
        lambda: Normed(layer(1e-6)),
        lambda: Normed(layer(1e-5)),
        "add(1e-05) here, add(1e-06) there",
    ),
    (
        "layer norm by hand here",
        lambda: Normed(fused_layer(1e-6)),
        lambda: Normed(layer(1e-5)),
        "1e-05 under its root) here",
    ),
    (
        "layer norm by hand there",
        lambda: Normed(layer(1e-6)),
        lambda: Normed(fused_layer(1e-5)),
        "1e-06 under its root) there",
    ),
    (
        "no mean taken off",
        lambda: Normed(fused_layer(1e-6)),
        lambda: Normed(fused(1e-6)),
        "rms_norm(eps=1e-06) here, layer_norm(",
    ),
    (
        "no scale there",
        lambda: Attention(scored()),
        lambda: Attention(whole()),
        "the scores are 0.3536 times the source's",
    ),
    (
        "no scale here",
        lambda: Attention(whole()),
        lambda: Attention(scored()),
        "the scores are 2.828 times the source's",
    ),
    (
        "a scaled query and no scale",
        lambda: Attention(lambda q, k, v: scored()(q / ROOT, k, v)),
        lambda: Attention(scored()),
        "the scores are 2.828 times the source's",
    ),
    (
        "no scale and causal",
        lambda: Attention(scored(causal=True)),
        lambda: Attention(whole(True)),
        "the scores are 0.3536",
    ),
    (
        "softcap",
        lambda: Attention(scored(capped(5.0))),
        lambda: Attention(scored(capped(3.0))),
        "div(3) here, div(5) there",
    ),
    ("no softcap", lambda: Attention(scored()), lambda: Attention(scored(capped(3.0))), "tanh"),
    ("no softcap here", lambda: Attention(scored(capped(3.0))), lambda: Attention(scored()), "tanh"),
    ("causal here", lambda: Attention(whole()), lambda: Attention(whole(True)), "causal"),
    ("causal there", lambda: Attention(whole(True)), lambda: Attention(whole()), "causal"),
    (
        "causal by hand",
        lambda: Attention(whole()),
        lambda: Attention(scored(lambda s: s / ROOT, True)),
        "masked_fill(-inf)",
    ),
    ("tables", lambda: Layers(turned(100.0)), lambda: Layers(turned(900.0)), "mul by a table of constants"),
    (
        "a leaky slope",
        lambda: Layers(lambda x: F.leaky_relu(x, 0.01)),
        lambda: Layers(lambda x: F.leaky_relu(x, 0.2)),
        "leaky_relu(negative_slope=0.2) here, leaky_relu(negative_slope=0.01) there",
    ),
    ("embeddings before a norm", lambda: Embedded(1, True), lambda: Embedded(4, True), "4 times the source's"),
    ("embeddings before a norm there", lambda: Embedded(4, True), lambda: Embedded(1, True), "0.25 times the source's"),
    ("embeddings before a sum", lambda: Embedded(1, False), lambda: Embedded(4, False), "4 times the source's"),
    (
        "dilation",
        lambda: Convolved(padding=1),
        lambda: Convolved(padding=2, dilation=2),
        "conv2d(padding=[2, 2], dilation=[2, 2]) here, conv2d(padding=[1, 1], dilation=[1, 1]) there",
    ),
    ("padding", lambda: Convolved(padding=1), lambda: Convolved(padding=1, padding_mode="reflect"), "conv2d"),
    ("padding there", lambda: Convolved(padding=1, padding_mode="replicate"), lambda: Convolved(padding=1), "conv2d"),
    (
        "groups of a norm",
        lambda: Convolved(lambda x: F.group_norm(x, 2)),
        lambda: Convolved(lambda x: F.group_norm(x, 4)),
        "group_norm(num_groups=4) here, group_norm(num_groups=2) there",
    ),
    (
        "another norm",
        lambda: Convolved(lambda x: F.group_norm(x, 1)),
        lambda: Convolved(F.instance_norm),
        "instance_norm",
    ),
    (
        "interpolation here",
        lambda: Convolved(lambda x: F.interpolate(x, scale_factor=2.0)),
        lambda: Convolved(lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")),
        "upsample_bilinear2d",
    ),
    (
        "interpolation there",
        lambda: Convolved(lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")),
        lambda: Convolved(lambda x: F.interpolate(x, scale_factor=2.0)),
        "upsample_nearest2d",
    ),
    (
        "eps of a batch norm",
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3), nn.Conv2d(8, 4, 3)),
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)),
        "mul(eps=1e-05) here, mul(eps=0.001) there",
    ),
]


def example(model: nn.Module) -> Tensor:
    if isinstance(model, Embedded):
        return torch.randint(0, WORDS, (2, 7))
    return torch.randn(2, 3, 8, 8) if isinstance(model, Convolved | nn.Sequential) else torch.randn(2, 7, WIDTH)


def parted(
    source: nn.Module, target: nn.Module, convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
) -> Divergence:
    source.eval(), target.eval()
    x = example(source)
    proof = prove_conversion(convert, source, target, x, x)
    assert proof.record.outcome == "differ"
    divergence = parting(proof.record, convert, source, target, x, x).divergence
    assert divergence is not None
    return divergence


@pytest.mark.parametrize(("source", "target", "said"), [row[1:] for row in PAIRS], ids=[row[0] for row in PAIRS])
def test_a_difference_of_operators_is_named_and_no_weight_is(source: Make, target: Make, said: str) -> None:
    divergence = parted(source(), target())
    assert divergence.weights == ()
    assert divergence.suspected == ()
    assert said in divergence.cause, divergence.sentences
    assert divergence.sentences[0] == divergence.cause
    assert divergence.cause.startswith("the operators differ: ")


@pytest.mark.parametrize("fault", [row[1] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_wrong_weight_is_no_difference_of_operators(fault: Any) -> None:
    assert found(fault).cause == ""


def test_a_table_in_another_layout_is_no_difference_of_operators() -> None:
    assert parted(Layers(halves_or_pairs(True)), Layers(halves_or_pairs(False))).cause == ""


def test_an_epsilon_is_seen_where_a_model_has_numbers_in_float32() -> None:
    class Coarse(nn.Module):
        def __init__(self, eps: float) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(WIDTH, WIDTH), rms(eps)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(30 * x * torch.tensor(0.1).double())
            out: Tensor = self.layer(torch.sin(100 * y))
            return out

    divergence = parted(Coarse(1e-6), Coarse(1e-5))
    assert "add(1e-05) here, add(1e-06) there" in divergence.cause


def test_a_weight_that_is_a_multiple_of_the_right_one_is_suspected_with_the_factor() -> None:
    def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**state, "q.weight": 2 * state["q.weight"], "q.bias": 2 * state["q.bias"]}

    divergence = parted(Attention(scored()), Attention(scored()), convert)
    assert divergence.cause == ""
    assert {"q.weight", "q.bias"} & {suspect.key for suspect in divergence.weights[:2]}
