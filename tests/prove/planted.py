"""Two spellings of one small decoder, the right conversion by hand, and faults to plant into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, WORDS, LENGTH, LAYERS, COND = 16, 2, 11, 7, 3, 5
HALF = WIDTH // HEADS // 2

Weights = dict[str, Tensor]


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, WORDS, (2, LENGTH), generator=generator), torch.randn(2, COND, generator=generator)


def _angles() -> Tensor:
    return torch.arange(LENGTH, dtype=torch.float64)[:, None] * 10.0 ** -torch.arange(HALF, dtype=torch.float64)


class OldNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return y * self.weight


class OldBlock(nn.Module):
    """Fused q|k|v and gate|up, attention by hand, halves rotated, scale and shift from products of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = OldNorm(), OldNorm()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale, self.shift = nn.Linear(COND, WIDTH), nn.Linear(COND, WIDTH)
        self.gate_up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def turned(self, x: Tensor) -> Tensor:
        cos, sin = (torch.cat([part, part], -1) for part in (_angles().cos(), _angles().sin()))
        one, other = x.chunk(2, -1)
        return x * cos + torch.cat([-other, one], -1) * sin

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        y = self.first(h)
        y = y * (1 + self.scale(c)[:, None]) + self.shift(c)[:, None]
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(y).chunk(3, -1))
        scores = self.turned(q) @ self.turned(k).transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(mask, -torch.inf).softmax(-1) @ v
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.second(h)).chunk(2, -1)
        out: Tensor = h + self.down(F.silu(gate) * up)
        return out


class NewNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (WIDTH,), 1 + self.weight, 1e-6)


class NewBlock(nn.Module):
    """The same with products of their own, fused attention, pairs rotated, and scale|shift in one product."""

    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2 = NewNorm(), NewNorm()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.mod = nn.Linear(COND, 2 * WIDTH)
        self.w1, self.w3, self.w2 = (
            nn.Linear(WIDTH, 2 * WIDTH),
            nn.Linear(WIDTH, 2 * WIDTH),
            nn.Linear(2 * WIDTH, WIDTH),
        )

    def turned(self, x: Tensor) -> Tensor:
        cos, sin = _angles().cos(), _angles().sin()
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.mod(c).unsqueeze(1).chunk(2, -1)
        y = self.n1(h) * (scale + 1) + shift
        q, k, v = (make(y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for make in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True)
        h = h + self.o(mixed.transpose(1, 2).flatten(2))
        y = self.n2(h)
        out: Tensor = h + self.w2(self.w3(y) * F.silu(self.w1(y)))
        return out


class Decoder(nn.Module):
    def __init__(self, block: Callable[[], nn.Module], norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(block() for _ in range(LAYERS))
        self.norm = norm()
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, ids: Tensor, c: Tensor) -> Tensor:
        h = self.embed(ids)
        for layer in self.layers:
            h = layer(h, c)
        logits: Tensor = self.head(self.norm(h))
        return logits


def old() -> Decoder:
    return Decoder(OldBlock, OldNorm)


def new() -> Decoder:
    return Decoder(NewBlock, NewNorm)


def pairwise(rows: Tensor) -> Tensor:
    """Rows of heads whose halves rotate together, put so that neighbours do."""
    return rows.reshape(HEADS, 2, HALF, -1).transpose(1, 2).reshape(rows.shape)


def converted(state: Mapping[str, Tensor]) -> Weights:
    """The right conversion."""
    made = {key: state[key] for key in ("embed.weight", "head.weight")}
    made["norm.weight"] = state["norm.weight"] - 1
    for i in range(LAYERS):
        at = f"layers.{i}."
        made[f"{at}n1.weight"], made[f"{at}n2.weight"] = (state[f"{at}{n}.weight"] - 1 for n in ("first", "second"))
        for kind in ("weight", "bias"):
            q, k, v = state[f"{at}qkv.{kind}"].chunk(3)
            gate, up = state[f"{at}gate_up.{kind}"].chunk(2)
            parts = {"q": pairwise(q), "k": pairwise(k), "v": v, "w1": gate, "w3": up}
            parts |= {"o": state[f"{at}out.{kind}"], "w2": state[f"{at}down.{kind}"]}
            parts["mod"] = torch.cat([state[f"{at}scale.{kind}"], state[f"{at}shift.{kind}"]])
            made |= {f"{at}{name}.{kind}": part for name, part in parts.items()}
    return made


Fault = Callable[[Weights], object]


def exchanged(one: str, other: str) -> Fault:
    def plant(made: Weights) -> None:
        for kind in ("weight", "bias"):
            first, second = f"{one}.{kind}", f"{other}.{kind}"
            if first in made:
                made[first], made[second] = made[second], made[first]

    return plant


def changed(module: str, change: Callable[[Tensor], Tensor], *kinds: str) -> Fault:
    def plant(made: Weights) -> None:
        for kind in kinds or ("weight", "bias"):
            made[f"{module}.{kind}"] = change(made[f"{module}.{kind}"])

    return plant


def taken(key: str, other: str) -> Fault:
    return lambda made: made.update({key: made[other]})


def halves(rows: Tensor) -> Tensor:
    return torch.cat(rows.chunk(2)[::-1])


def unpaired(rows: Tensor) -> Tensor:
    """`pairwise` undone: the rotary layout of the other model."""
    return rows.reshape(HEADS, HALF, 2, -1).transpose(1, 2).reshape(rows.shape)
