"""Models of several blocks in two spellings each, whose layouts inside a block no structure tells."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtures.decoder import Llama, LlamaConfig
from fixtures.twins_dense import FusedDecoder

WORDS, WIDTH, BLOCKS = 23, 12, 3
IDS = torch.tensor([[5, 3, 8, 1, 9, 2, 17], [7, 2, 4, 6, 1, 3, 11]])

_CONFIG = LlamaConfig(vocabulary=WORDS, dim=32, ffn_dim=40, heads=4, kv_heads=2, layers=BLOCKS)


def split_decoder() -> nn.Module:
    """Projections of their own; rotary positions in halves."""
    return Llama(_CONFIG)


def fused_decoder() -> nn.Module:
    """One projection, by key-value head; rotary positions in pairs."""
    return FusedDecoder(_CONFIG)


class Net(nn.Module):
    """Blocks that add to a stream."""

    def __init__(self, block: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.words, self.blocks = nn.Embedding(WORDS, WIDTH), nn.ModuleList(block() for _ in range(BLOCKS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.words(ids)
        for block in self.blocks:
            h = h + block(h)
        made: Tensor = self.head(self.norm(h))
        return made


class Straight(nn.Module):
    """A norm and two products."""

    def __init__(self, act: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.norm, self.act = nn.LayerNorm(WIDTH), act
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        made: Tensor = self.down(self.act(self.up(self.norm(h))))
        return made


class Shuffled(nn.Module):
    """The same, of which the first product is stored transposed and its units are shuffled and turned round."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.first, self.shift = nn.Parameter(torch.randn(WIDTH, 4 * WIDTH)), nn.Parameter(torch.randn(4 * WIDTH))
        self.second = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        hidden = F.gelu(self.norm(h) @ self.first + self.shift)
        turned = hidden.reshape(*hidden.shape[:-1], 3, -1).transpose(-1, -2).flatten(-2).flip(-1)
        made: Tensor = self.second(turned)
        return made


class Experts(nn.Module):
    """Experts of their own, all of which are mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.route = nn.Linear(WIDTH, 3)
        self.ups = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(3))
        self.downs = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH, bias=False) for _ in range(3))

    def forward(self, h: Tensor) -> Tensor:
        shares = self.route(h).softmax(-1)
        made = [down(F.silu(up(h))) for up, down in zip(self.ups, self.downs, strict=True)]
        mixed: Tensor = (torch.stack(made, -1) * shares[..., None, :]).sum(-1)
        return mixed


class Stacked(nn.Module):
    """The same in stacks, in which the last expert comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 3)
        self.up = nn.Parameter(torch.randn(3, WIDTH, 2 * WIDTH))
        self.down = nn.Parameter(torch.randn(3, 2 * WIDTH, WIDTH))

    def forward(self, h: Tensor) -> Tensor:
        shares = self.router(h).softmax(-1).flip(-1)
        hidden = F.silu(torch.einsum("bsi,eih->bseh", h, self.up))
        made: Tensor = (torch.einsum("bseh,eho->bseo", hidden, self.down) * shares[..., None]).sum(-2)
        return made
