"""Small models to prove mappings between, and mappings written as functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.core.expr import Expr, Source
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side, Status
from automatch.trace.weights import of_module

WIDTH, HEADS, WORDS, LENGTH = 8, 2, 12, 6


def tokens() -> Tensor:
    """Two rows of words, of which the last three never occur."""
    return torch.randint(0, WORDS - 3, (2, LENGTH), generator=torch.Generator().manual_seed(0))


class Norm(nn.Module):
    """A root-mean-square norm that stores its scale less one, or as it is."""

    def __init__(self, less_one: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH) if less_one else torch.ones(WIDTH))
        self.shift = 1.0 if less_one else 0.0

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (WIDTH,)) * (self.shift + self.weight)


class Split(nn.Module):
    """A causal transformer with everything in tensors of its own."""

    def __init__(self, layers: int = 2, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(nn.ModuleDict(self._block()) for _ in range(layers))
        self.norm = Norm(less_one=False)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def _block(self) -> dict[str, nn.Module]:
        square = {name: nn.Linear(WIDTH, WIDTH) for name in ("q", "k", "v", "o")}
        wide = {name: nn.Linear(WIDTH, 2 * WIDTH) for name in ("gate", "up")}
        return {**square, **wide, "down": nn.Linear(2 * WIDTH, WIDTH), "n1": Norm(False), "n2": Norm(False)}

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for b in self.layers:
            assert isinstance(b, nn.ModuleDict)
            y = b["n1"](h)
            q, k, v = (b[name](y).unflatten(-1, (HEADS, -1)).transpose(1, 2) for name in ("q", "k", "v"))
            h = h + b["o"](F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
            y = b["n2"](h)
            h = h + b["down"](F.silu(b["gate"](y)) * b["up"](y))
        logits: Tensor = self.head(self.norm(h))
        return logits


class Fused(nn.Module):
    """The same with q, k, v in one tensor, up before gate in another, and norms that store their scale less one."""

    def __init__(self, layers: int = 2, tied: bool = False) -> None:
        super().__init__()
        self.wte = nn.Embedding(WORDS, WIDTH)
        self.h = nn.ModuleList(nn.ModuleDict(self._block()) for _ in range(layers))
        self.ln = Norm(less_one=True)
        self.out = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.out.weight = self.wte.weight

    def _block(self) -> dict[str, nn.Module]:
        return {
            "qkv": nn.Linear(WIDTH, 3 * WIDTH),
            "proj": nn.Linear(WIDTH, WIDTH),
            "fc": nn.Linear(WIDTH, 4 * WIDTH),
            "fc2": nn.Linear(2 * WIDTH, WIDTH),
            "ln1": Norm(True),
            "ln2": Norm(True),
        }

    def forward(self, ids: Tensor) -> dict[str, Any]:
        h = self.wte(ids)
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        for b in self.h:
            assert isinstance(b, nn.ModuleDict)
            parts = b["qkv"](b["ln1"](h)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            scores = parts[0] @ parts[1].transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
            mixed = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ parts[2]
            h = h + b["proj"](mixed.transpose(1, 2).flatten(2))
            up, gate = b["fc"](b["ln2"](h)).chunk(2, -1)
            h = h + b["fc2"](up * F.silu(gate))
        return {"words": ids, "logits": self.out(self.ln(h))}


def fuse(state: Mapping[str, Tensor], layers: int = 2) -> dict[str, Tensor]:
    """The right conversion of a `Split` into a `Fused`."""
    made = {
        "wte.weight": state["embed.weight"],
        "ln.weight": state["norm.weight"] - 1,
        "out.weight": state["head.weight"],
    }
    for i in range(layers):
        old, new = f"layers.{i}.", f"h.{i}."
        for kind in ("weight", "bias"):
            made[f"{new}qkv.{kind}"] = torch.cat([state[f"{old}{name}.{kind}"] for name in "qkv"])
            made[f"{new}fc.{kind}"] = torch.cat([state[f"{old}up.{kind}"], state[f"{old}gate.{kind}"]])
            made[f"{new}proj.{kind}"] = state[f"{old}o.{kind}"]
            made[f"{new}fc2.{kind}"] = state[f"{old}down.{kind}"]
        made[f"{new}ln1.weight"], made[f"{new}ln2.weight"] = (state[f"{old}n{n}.weight"] - 1 for n in (1, 2))
    return made


def record(
    source: nn.Module, target: nn.Module, exprs: Mapping[str, Expr | str | None], status: Status
) -> MappingRecord:
    """A mapping of two models; a text is a source key, None is unmapped."""
    ours, theirs = (Side(type(m).__name__, "export", of_module(m).weights) for m in (source, target))
    have = {key: tuple(value.shape) for key, value in source.state_dict().items()}
    entries = []
    for key, value in target.state_dict().items():
        given = exprs[key]
        made = Source(given, have[given]) if isinstance(given, str) else given
        said: Status = "unmapped" if made is None else status
        entries.append(
            Entry(key, tuple(value.shape), str(value.dtype).removeprefix("torch."), said, made, Evidence("structure"))
        )
    return MappingRecord(ours, theirs, tuple(entries))
