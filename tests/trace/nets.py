"""Small models of many kinds, for the tests of tracing."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attn(x, x, x, need_weights=False)[0]
        return out


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(x)
        y.relu_()
        y[:, 1:3] = x[:, :2]
        y[:, 0] = 3.0
        return y + 1


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes = nn.Linear(4, 4)
        self.no = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.yes(x) if x.sum() > 0 else self.no(x)
        return out


class SizeFromData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        count = int(x.sum().item())
        out: Tensor = torch.zeros(count, 4) + self.proj(x)[:1]
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.unused = nn.Linear(2, 2)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.out(self.embed(ids))
        return out


class KeywordsOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, *, left: Tensor, right: Tensor, twice: bool = True) -> dict[str, Any]:
        total = self.proj(left) + right
        return {"total": total * 2 if twice else total, "parts": (left, {"count": 3, "right": right.abs()})}


class Cache:
    """A container that torch knows nothing about."""

    def __init__(self, keys: list[Tensor]) -> None:
        self.keys = keys
        self.length = 3


@dataclass
class Output:
    last: Tensor
    cache: Cache
    none: None = None


class WithCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Output:
        keys = self.key(x)
        return Output(keys + x, Cache([keys, keys * 2]))


class Regions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            x = self.proj(x) * self.scale
        with torch.no_grad():
            shift = x.mean(-1, keepdim=True)
        with torch.enable_grad():
            x = x - shift
        return torch.einsum("bi,oi->bo", x, self.proj.weight)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4))
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


class NoDevice(nn.Module):
    """Makes tensors without naming a device: on the meta device this mixes devices."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x + torch.arange(4.0))
        return out


class Restless(nn.Module):
    """Its forward writes to all that it can reach, and draws random numbers."""

    plain: Tensor
    calls: Tensor

    def __init__(self, *, branch: bool = False, uncopyable: bool = False) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.plain = torch.zeros(4)
        self.count = 0
        self.last: Tensor | None = None
        self.branch = branch
        if uncopyable:
            self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.calls.add_(1)
        self.proj.bias.add_(1)
        if not hasattr(self, "lock"):
            self.plain.add_(1)
        x.add_(1)
        self.last = x
        if self.branch and x.sum() > 0:
            x = x * 2
        out: Tensor = self.proj(x) + torch.randn(4)
        return out
