"""Convolutions with norms over channels, with the channels first or last in the stream."""
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.dense import EPS, write_activation, write_linear
from tests.fuzz.layout import Leaf, reshaped
from tests.fuzz.net import Convolution, Stem
from tests.fuzz.writer import Call, Chain, Op, Place, Ref, Writer

GROUPS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """A convolution by function that keeps the size."""

    weight: Ref
    bias: Ref | None
    groups: int

    def __call__(self, x: Tensor) -> Tensor:
        weight = self.weight()
        conv = F.conv1d if weight.ndim == 3 else F.conv2d
        bias = None if self.bias is None else self.bias()
        return conv(x, weight, bias, padding=weight.shape[-1] // 2, groups=self.groups)


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """An operator on channels first, within a stream of channels last."""

    op: Op

    def __call__(self, x: Tensor) -> Tensor:
        return self.op(x.movedim(-1, 1)).movedim(1, -1)


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """Batch norm in evaluation, by function or by hand."""

    form: str
    gain: Ref
    bias: Ref
    mean: Ref
    variance: Ref

    def __call__(self, x: Tensor) -> Tensor:
        gain, bias, mean, variance = (ref() for ref in (self.gain, self.bias, self.mean, self.variance))
        if self.form == "function":
            return F.batch_norm(x, mean, variance, gain, bias, eps=EPS)
        shape = (-1,) + (1,) * (x.ndim - 2)
        gain, bias, mean, variance = (part.view(shape) for part in (gain, bias, mean, variance))
        return (x - mean) * torch.rsqrt(variance + EPS) * gain + bias


@dataclass(frozen=True, slots=True, eq=False)
class GroupNorm:
    """Group norm by function or by hand."""

    form: str
    gain: Ref
    bias: Ref

    def __call__(self, x: Tensor) -> Tensor:
        if self.form == "function":
            return F.group_norm(x, GROUPS, self.gain(), self.bias(), EPS)
        grouped = x.reshape(x.shape[0], GROUPS, -1)
        spread = grouped.var(-1, keepdim=True, unbiased=False)
        normed = ((grouped - grouped.mean(-1, keepdim=True)) * torch.rsqrt(spread + EPS)).view(x.shape)
        shape = (-1,) + (1,) * (x.ndim - 2)
        return normed * self.gain().view(shape) + self.bias().view(shape)


@dataclass(frozen=True, slots=True, eq=False)
class ConvResidual:
    """A convolutional branch added to the stream, then an activation."""

    branch: Op
    activation: Op
    branch_first: bool

    def __call__(self, x: Tensor) -> Tensor:
        return self.activation(self.branch(x) + x if self.branch_first else x + self.branch(x))


def write_stem(w: Writer, place: Place, width: int, norm: str, spec: Stem) -> Op:
    """The entry of a convolutional network."""
    size = (width, spec.channels, *(3,) * spec.dims)
    conv = _conv(w, place, "stem", Leaf("stem", size), None, 1)
    normed = _channel_norm(w, place, "stem_norm", "stem.norm", width, norm, spec.dims)
    return Chain((conv, normed, write_activation(w, place, "stem_act", "relu")))


def write_convolution(w: Writer, place: Place, at: str, width: int, norm: str, spec: Convolution) -> Op:
    """A residual block; `at` begins its canonical names."""
    groups = width if spec.depthwise else 1
    sizes = [(width, width // groups, *(3,) * spec.dims), (width, width, *(1 if spec.depthwise else 3,) * spec.dims)]
    ops: list[Op] = []
    for name, size, count in zip(("one", "two"), sizes, (groups, 1), strict=True):
        bias = Leaf(f"{at}.{name}.b", (width,), "bias") if spec.bias else None
        ops.append(_conv(w, place, name, Leaf(f"{at}.{name}", size), bias, count))
        ops.append(_channel_norm(w, place, f"{name}_norm", f"{at}.{name}.norm", width, norm, spec.dims))
    ops.insert(2, write_activation(w, place, "act", "relu"))
    after = write_activation(w, place, "act_after", "relu")
    return ConvResidual(Chain(tuple(ops)), after, w.pick("residual") == "f+x")


def _conv(w: Writer, place: Place, role: str, weight: Leaf, bias: Leaf | None, groups: int) -> Op:
    last = w.pick("channels") == "last"
    if last and groups == 1 and weight.shape[-1] == 1:
        w.features.add("pointwise=linear")
        return write_linear(w, place, role, reshaped(weight, *weight.shape[:2]), bias)
    if w.pick("convolution", **({"module": "function"} if place.stacked else {})) == "module":
        kind = nn.Conv1d if len(weight.shape) == 3 else nn.Conv2d
        kernel = weight.shape[-1]
        args = (weight.shape[1] * groups, weight.shape[0], kernel)
        module = kind(*args, padding=kernel // 2, groups=groups, bias=bias is not None)
        op: Op = Call(w.module(place, role, module, {"weight": weight, "bias": bias}))
    else:
        offset = None if bias is None else w.parameter(place, f"{role}_bias", bias)
        op = Conv(w.parameter(place, role, weight), offset, groups)
    return Moved(op) if last else op


def _channel_norm(w: Writer, place: Place, role: str, at: str, width: int, norm: str, dims: int) -> Op:
    gain, bias = Leaf(f"{at}.w", (width,), "gain"), Leaf(f"{at}.b", (width,), "bias")
    mean, variance = Leaf(f"{at}.mean", (width,), "bias"), Leaf(f"{at}.var", (width,), "variance")
    form = w.pick("channel_norm", **({"module": "function"} if place.stacked else {}))
    if form == "module":
        weights = {"weight": gain, "bias": bias}
        batch = nn.BatchNorm1d if dims == 1 else nn.BatchNorm2d
        module = batch(width, eps=EPS) if norm == "batch" else nn.GroupNorm(GROUPS, width, eps=EPS)
        weights |= {"running_mean": mean, "running_var": variance} if norm == "batch" else {}
        op: Op = Call(w.module(place, role, module, dict(weights)))
    else:
        refs = w.parameter(place, role, gain), w.parameter(place, f"{role}_bias", bias)
        op = GroupNorm(form, *refs)
        if norm == "batch":
            statistics = {"mean": mean, "var": variance}
            op = BatchNorm(form, *refs, *(w.parameter(place, f"{role}_{k}", s, True) for k, s in statistics.items()))
    return Moved(op) if w.pick("channels") == "last" else op
