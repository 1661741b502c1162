"""Self-attention in every spelling."""
# mypy: disable-error-code="no-any-return,no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.dense import fused, write_linear, write_norm
from tests.fuzz.layout import Layout, Leaf, halves_to_pairs
from tests.fuzz.net import Attention
from tests.fuzz.writer import Op, Place, Ref, Writer

Heads: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Queries, keys and values [batch, length, heads, head width] from maps of their own; kv may be one map."""

    maps: tuple[Op, ...]
    head_width: int

    def __call__(self, x: Tensor) -> Heads:
        first, *others = (op(x) for op in self.maps)
        rest = others if len(others) == 2 else others[0].chunk(2, dim=-1)
        q, k, v = (y.unflatten(-1, (-1, self.head_width)) for y in (first, *rest))
        return q, k, v


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The same from one map: three blocks of rows, or rows of q, k and v in turn by group of heads or by unit."""

    op: Op
    order: str
    spec: Attention

    def __call__(self, x: Tensor) -> Heads:
        y, spec, wide = self.op(x), self.spec, self.spec.head_width
        if self.order == "units":
            q, k, v = y.unflatten(-1, (spec.heads, wide, 3)).unbind(-1)
            return q, k, v
        if self.order == "groups":
            shared = spec.heads // spec.kv_heads
            y = y.unflatten(-1, (spec.kv_heads, shared + 2, wide))
            return y[..., :shared, :].flatten(2, 3), y[..., shared, :], y[..., shared + 1, :]
        parts = y.split([spec.heads * wide, spec.kv_heads * wide, spec.kv_heads * wide], dim=-1)
        q, k, v = (part.unflatten(-1, (-1, wide)) for part in parts)
        return q, k, v


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """Rotary positions on [batch, heads, length, head width]."""

    form: str
    head_width: int
    table: Ref | None

    def __call__(self, x: Tensor) -> Tensor:
        table = angles(x.shape[2], self.head_width) if self.table is None else self.table()[: x.shape[2]]
        cos, sin = table.cos().to(x.dtype), table.sin().to(x.dtype)
        if self.form == "halves":
            a, b = x.chunk(2, dim=-1)
            return x * torch.cat([cos, cos], -1) + torch.cat([-b, a], -1) * torch.cat([sin, sin], -1)
        if self.form == "complex":
            turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.complex(cos, sin)
            return torch.view_as_real(turned).flatten(-2)
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def angles(length: int, head_width: int) -> Tensor:
    """Rotary angles [length, head_width / 2], in float64."""
    rates = 100.0 ** -(torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    return torch.outer(torch.arange(length, dtype=torch.float64), rates)


@dataclass(frozen=True, slots=True)
class Core:
    """Attention proper: [batch, heads, length, head width], keys and values perhaps with fewer heads."""

    form: str
    scale: str
    mask: str
    repeat: str
    causal: bool

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        factor = q.shape[-1] ** -0.5
        shared = q.shape[1] // k.shape[1]
        if shared > 1 and self.repeat != "enable_gqa":
            k, v = (self._repeated(part, shared) for part in (k, v))
        if self.scale == "q":
            q, factor = q * factor, 1.0
        if self.form == "sdpa":
            return self._fused(q, k, v, factor)
        scores = self._masked(self._scores(q, k, factor))
        weights = scores.softmax(-1)
        return torch.einsum("bhqk,bhkd->bhqd", weights, v) if self.form == "einsum" else weights @ v

    def _repeated(self, x: Tensor, count: int) -> Tensor:
        if self.repeat == "repeat_interleave":
            return x.repeat_interleave(count, dim=1)
        return x[:, :, None].expand(-1, -1, count, -1, -1).flatten(1, 2)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, factor: float) -> Tensor:
        scale = None if self.scale == "scores" else factor
        gqa = self.repeat == "enable_gqa"
        if not self.causal or self.mask == "flag":
            return F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=scale, enable_gqa=gqa)
        mask = ~future(q)
        given = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf) if self.mask == "added" else mask
        return F.scaled_dot_product_attention(q, k, v, given, scale=scale, enable_gqa=gqa)

    def _scores(self, q: Tensor, k: Tensor, factor: float) -> Tensor:
        if self.form == "einsum":
            return torch.einsum("bhqd,bhkd->bhqk", q, k) * factor
        if self.form == "softmax":
            products = q @ k.transpose(-2, -1)
            return products / (1 / factor) if self.scale == "scores" else products * factor
        a, b = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
        zeros = torch.zeros(a.shape[0], a.shape[1], b.shape[2], dtype=q.dtype)
        return torch.baddbmm(zeros, a, b, beta=0, alpha=factor).view(*q.shape[:2], *zeros.shape[1:])

    def _masked(self, scores: Tensor) -> Tensor:
        if not self.causal:
            return scores
        later = future(scores)
        if self.mask == "added":
            return scores + torch.zeros_like(later, dtype=scores.dtype).masked_fill(later, -torch.inf)
        return scores.masked_fill(later, -torch.inf)


def future(x: Tensor) -> Tensor:
    """Which keys come after a query, [length, length]."""
    return torch.ones(x.shape[2], x.shape[2], dtype=torch.bool).triu(1)


@dataclass(frozen=True, slots=True, eq=False)
class SelfAttention:
    """Projections, norms and rotary positions of queries and keys, attention, and the projection back."""

    project: Split | Joined
    norms: tuple[Op, ...]
    rotary: Rotary | None
    core: Core
    out: Op

    def __call__(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x)
        if self.norms:
            q, k = (norm(part) for norm, part in zip(self.norms, (q, k), strict=True))
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        return self.out(self.core(q, k, v).transpose(1, 2).flatten(2))


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Self-attention by `nn.MultiheadAttention`."""

    module: nn.Module
    causal: bool

    def __call__(self, x: Tensor) -> Tensor:
        later = future(x[:, None]) if self.causal else None
        return self.module(x, x, x, attn_mask=later, need_weights=False)[0]


@dataclass(frozen=True, slots=True)
class Projections:
    """The layouts of one attention's weights and biases."""

    q: tuple[Layout, Layout | None]
    k: tuple[Layout, Layout | None]
    v: tuple[Layout, Layout | None]
    out: tuple[Layout, Layout | None]


def write_attention(w: Writer, place: Place, at: str, width: int, spec: Attention) -> Op:
    """Self-attention; `at` begins its canonical names."""
    turns = w.pick("rotary") if spec.rotary else "none"
    paired = turns in ("pairs", "complex")
    layouts = _projections(at, width, spec, paired)
    form = w.pick("attention", **({} if _stock(spec, width) and not place.stacked else {"module": "sdpa"}))
    if form == "module":
        return _stock_module(w, place, width, spec, layouts)
    project = _project(w, place, spec, layouts)
    norms: tuple[Op, ...] = ()
    if spec.qk_norm:
        gains = {name: Leaf(f"{at}.{name}.norm", (spec.head_width,), "gain") for name in "qk"}
        stored = {name: halves_to_pairs(gain, 1) if paired else gain for name, gain in gains.items()}
        norms = tuple(write_norm(w, place, f"{name}_norm", gain, None) for name, gain in stored.items())
    rotary = _rotary(w, place, spec, turns) if spec.rotary else None
    return SelfAttention(project, norms, rotary, _core(w, spec, form), write_linear(w, place, "out", *layouts.out))


def _projections(at: str, width: int, spec: Attention, paired: bool) -> Projections:
    def rows(name: str, heads: int, turned: bool) -> tuple[Layout, Layout | None]:
        count = heads * spec.head_width
        weight: Layout = Leaf(f"{at}.{name}", (count, width))
        bias: Layout | None = Leaf(f"{at}.{name}.b", (count,), "bias") if spec.bias else None
        if turned:
            weight, bias = halves_to_pairs(weight, heads), halves_to_pairs(bias, heads) if bias else None
        return weight, bias

    out = Leaf(f"{at}.out", (width, spec.heads * spec.head_width))
    return Projections(
        rows("q", spec.heads, paired),
        rows("k", spec.kv_heads, paired),
        rows("v", spec.kv_heads, False),
        (out, Leaf(f"{at}.out.b", (width,), "bias") if spec.out_bias else None),
    )


def _project(w: Writer, place: Place, spec: Attention, p: Projections) -> Split | Joined:
    order = w.pick("projections", **({"units": "groups"} if spec.heads != spec.kv_heads else {}))
    if order == "split":
        maps = {"q": p.q, "k": p.k, "v": p.v}
    elif order == "kv_joined":
        maps = {"q": p.q, "kv": fused((p.k, p.v))}
    else:
        count = {"joined": 1, "groups": spec.kv_heads, "units": spec.heads * spec.head_width}[order]
        return Joined(write_linear(w, place, "qkv", *fused((p.q, p.k, p.v), count)), order, spec)
    ops = tuple(write_linear(w, place, name, *layouts) for name, layouts in maps.items())
    return Split(ops, spec.head_width)


def _rotary(w: Writer, place: Place, spec: Attention, form: str) -> Rotary:
    buffered = w.pick("tables") == "buffer"
    table = w.table(place, "angles", angles(16, spec.head_width)) if buffered else None
    return Rotary(form, spec.head_width, table)


def _core(w: Writer, spec: Attention, form: str) -> Core:
    mask = w.pick("mask") if spec.causal else "flag"
    by_hand = {} if form == "sdpa" else {"enable_gqa": "expand"}
    repeat = w.pick("repeat", **by_hand) if spec.heads != spec.kv_heads else "expand"
    return Core(form, w.pick("scale"), mask, repeat, spec.causal)


def _stock(spec: Attention, width: int) -> bool:
    plain = spec.heads == spec.kv_heads and not spec.rotary and not spec.qk_norm
    return plain and spec.heads * spec.head_width == width and spec.bias == spec.out_bias


def _stock_module(w: Writer, place: Place, width: int, spec: Attention, p: Projections) -> Op:
    weight, bias = fused((p.q, p.k, p.v))
    module = nn.MultiheadAttention(width, spec.heads, bias=spec.bias, batch_first=True)
    w.module(place, "attention", module, {"in_proj_weight": weight, "in_proj_bias": bias})
    out: nn.Module = module.out_proj
    w.owned(out, {"weight": p.out[0], "bias": p.out[1]})
    return Stock(module, spec.causal)
