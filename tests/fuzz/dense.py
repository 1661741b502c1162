"""Linear maps, norms over the last axis, feed-forward networks and recurrence, each in every spelling."""
# mypy: disable-error-code="no-any-return,no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.layout import Affine, Groups, Layout, Leaf, reshaped, transposed
from tests.fuzz.net import FeedForward
from tests.fuzz.writer import Call, Op, Place, Ref, Writer

EPS = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A linear map of weights that are parameters of their own."""

    form: str
    weight: Ref
    bias: Ref | None

    def __call__(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias()
        if self.form == "addmm" and bias is not None:
            return torch.addmm(bias, x.reshape(-1, x.shape[-1]), self.weight()).view(*x.shape[:-1], -1)
        if self.form == "function":
            return F.linear(x, self.weight(), bias)
        y = torch.einsum("...i,oi->...o", x, self.weight()) if self.form == "einsum" else x @ self.weight()
        return y if bias is None else y + bias


@dataclass(frozen=True, slots=True, eq=False)
class Pointwise:
    """A linear map as a convolution of width 1."""

    conv: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class PointwiseFunction:
    """The same by function."""

    weight: Ref
    bias: Ref | None

    def __call__(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias()
        return F.conv1d(x.transpose(1, 2), self.weight(), bias).transpose(1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class AddBias:
    """A linear map whose bias is added outside of it."""

    of: Op
    bias: Ref

    def __call__(self, x: Tensor) -> Tensor:
        return self.of(x) + self.bias()


def write_linear(w: Writer, place: Place, role: str, weight: Layout, bias: Layout | None, conv: bool = False) -> Op:
    """A linear map on the last axis; `weight` is [out, in]."""
    if bias is not None and w.pick("bias") == "apart":
        inner = write_linear(w, place, role, weight, None, conv)
        return AddBias(inner, w.parameter(place, f"{role}_offset", bias))
    if conv:
        return _pointwise(w, place, role, weight, bias)
    form = w.pick(
        "linear", **({"module": "function"} if place.stacked else {}), **({} if bias else {"addmm": "in_out"})
    )
    if form == "module":
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        return Call(w.module(place, role, module, {"weight": weight, "bias": bias}))
    stored = transposed(weight) if form in ("in_out", "addmm") else weight
    offset = None if bias is None else w.parameter(place, f"{role}_bias", bias)
    return Linear(form, w.parameter(place, role, stored), offset)


def _pointwise(w: Writer, place: Place, role: str, weight: Layout, bias: Layout | None) -> Op:
    kernel = reshaped(weight, *weight.shape, 1)
    if place.stacked:
        offset = None if bias is None else w.parameter(place, f"{role}_bias", bias)
        return PointwiseFunction(w.parameter(place, role, kernel), offset)
    module = nn.Conv1d(weight.shape[1], weight.shape[0], 1, bias=bias is not None)
    return Pointwise(w.module(place, role, module, {"weight": kernel, "bias": bias}))


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """Layer norm or root-mean-square norm over the last axis, by function or by hand."""

    form: str
    gain: Ref
    plus: bool
    bias: Ref | None

    def __call__(self, x: Tensor) -> Tensor:
        gain = 1 + self.gain() if self.plus else self.gain()
        if self.bias is None:
            return self._rms(x, gain)
        if self.form == "function":
            return F.layer_norm(x, x.shape[-1:], gain, self.bias(), EPS)
        centred = x - x.mean(-1, keepdim=True)
        spread = x.var(-1, keepdim=True, unbiased=False) if self.form == "hand" else centred.pow(2).mean(-1, True)
        return self._divided(centred, spread) * gain + self.bias()

    def _rms(self, x: Tensor, gain: Tensor) -> Tensor:
        if self.form == "function":
            return F.rms_norm(x, x.shape[-1:], gain, EPS)
        return gain * self._divided(x, x.pow(2).mean(-1, keepdim=True))

    def _divided(self, x: Tensor, spread: Tensor) -> Tensor:
        return x * torch.rsqrt(spread + EPS) if self.form == "hand" else x / torch.sqrt(spread + EPS)


def write_norm(w: Writer, place: Place, role: str, gain: Layout, bias: Layout | None) -> Op:
    """A norm over the last axis; without a bias it does not centre."""
    plus = bias is None and w.pick("gain") == "1+w"
    form = w.pick("norm", **({"module": "function"} if place.stacked or plus else {}))
    if form == "module":
        width = gain.shape[0]
        module = nn.RMSNorm(width, eps=EPS) if bias is None else nn.LayerNorm(width, eps=EPS)
        return Call(w.module(place, role, module, {"weight": gain, "bias": bias}))
    offset = None if bias is None else w.parameter(place, f"{role}_bias", bias)
    return Norm(form, w.parameter(place, role, Affine(gain, shift=-1.0) if plus else gain), plus, offset)


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation by function or by hand."""

    name: str
    form: str

    def __call__(self, x: Tensor) -> Tensor:
        if self.name == "relu":
            return F.relu(x) if self.form == "function" else x.clamp(min=0)
        if self.name == "silu":
            return F.silu(x) if self.form == "function" else x * torch.sigmoid(x)
        return F.gelu(x) if self.form == "function" else x * 0.5 * (1 + torch.erf(x / 2**0.5))


def write_activation(w: Writer, place: Place, role: str, name: str) -> Op:
    """An activation."""
    form = w.pick("activation")
    modules = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
    return Call(w.module(place, role, modules[name](), {})) if form == "module" else Activation(name, form)


@dataclass(frozen=True, slots=True, eq=False)
class Gated:
    """A gated feed-forward network from two maps."""

    gate: Op
    up: Op
    activation: Op
    down: Op

    def __call__(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


@dataclass(frozen=True, slots=True, eq=False)
class FusedGated:
    """A gated feed-forward network from one map."""

    both: Op
    order: str
    activation: Op
    down: Op

    def __call__(self, x: Tensor) -> Tensor:
        y = self.both(x)
        if self.order == "interleaved":
            gate, up = y[..., ::2], y[..., 1::2]
        else:
            gate, up = y.chunk(2, dim=-1) if self.order == "gate_up" else reversed(y.chunk(2, dim=-1))
        return self.down(self.activation(gate) * up)


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """A feed-forward network."""

    up: Op
    activation: Op
    down: Op

    def __call__(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


def write_feed(w: Writer, place: Place, at: str, width: int, spec: FeedForward) -> Op:
    """A feed-forward network; `at` begins its canonical names."""
    conv = w.pick("feed_storage") == "conv"

    def leaves(name: str, rows: int, columns: int) -> tuple[Layout, Layout | None]:
        return Leaf(f"{at}.{name}", (rows, columns)), Leaf(f"{at}.{name}.b", (rows,), "bias") if spec.bias else None

    activation = write_activation(w, place, "act", spec.activation)
    up, down = leaves("up", spec.hidden, width), leaves("down", width, spec.hidden)
    if not spec.gated:
        first = write_linear(w, place, "up", *up, conv)
        return Plain(first, activation, write_linear(w, place, "down", *down, conv))
    gate, order = leaves("gate", spec.hidden, width), w.pick("gate")
    if order == "split":
        first, second = write_linear(w, place, "gate", *gate, conv), write_linear(w, place, "up", *up, conv)
        return Gated(first, second, activation, write_linear(w, place, "down", *down, conv))
    both = fused((up, gate) if order == "up_gate" else (gate, up), spec.hidden if order == "interleaved" else 1)
    first = write_linear(w, place, "both", *both, conv)
    return FusedGated(first, order, activation, write_linear(w, place, "down", *down, conv))


def fused(parts: tuple[tuple[Layout, Layout | None], ...], count: int = 1) -> tuple[Layout, Layout | None]:
    """Weights and biases of several maps joined alike."""
    biases = tuple(bias for _, bias in parts if bias is not None)
    return Groups(tuple(weight for weight, _ in parts), count), Groups(biases, count) if biases else None


@dataclass(frozen=True, slots=True, eq=False)
class Unrolled:
    """Recurrence as a loop."""

    into: Ref
    across: Ref
    into_bias: Ref
    across_bias: Ref

    def __call__(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for step in x.unbind(1):
            incoming = F.linear(step, self.into(), self.into_bias())
            state = torch.tanh(incoming + F.linear(state, self.across(), self.across_bias()))
            states.append(state)
        return torch.stack(states, dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Recurrent:
    """Recurrence by `nn.RNN`."""

    module: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x)[0]


def write_recurrence(w: Writer, place: Place, at: str, width: int) -> Op:
    """A recurrent layer."""
    matrices = [Leaf(f"{at}.{name}", (width, width)) for name in ("into", "across")]
    biases = [Leaf(f"{at}.{name}", (width,), "bias") for name in ("into.b", "across.b")]
    if w.pick("recurrence", **({"module": "loop"} if place.stacked else {})) == "loop":
        names = ("into", "across", "into_bias", "across_bias")
        into, across, *rest = (w.parameter(place, *each) for each in zip(names, matrices + biases, strict=True))
        return Unrolled(into, across, *rest)
    keys = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    module = nn.RNN(width, width, batch_first=True)
    return Recurrent(w.module(place, "rnn", module, dict(zip(keys, matrices + biases, strict=True))))
