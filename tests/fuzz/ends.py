"""Entries and heads: token tables, positions, patches, tied heads, and operators that do nothing."""
# mypy: disable-error-code="no-any-return,no-untyped-call"

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzz.dense import AddBias, write_linear
from tests.fuzz.layout import Affine, Layout, Leaf, Move, reshaped
from tests.fuzz.net import Continuous, Net, Patches, Tokens
from tests.fuzz.writer import Call, Op, Place, Ref, Writer


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """Rows of a table, found in one of several ways."""

    form: str
    table: Ref
    scale: float

    def __call__(self, ids: Tensor) -> Tensor:
        table = self.table()
        if self.form == "one_hot":
            rows = F.one_hot(ids, table.shape[0]).to(table.dtype) @ table
        else:
            rows = table[ids] if self.form == "index" else F.embedding(ids, table)
        return rows if self.scale == 1 else rows * self.scale


@dataclass(frozen=True, slots=True, eq=False)
class Positions:
    """Learned positions for a sequence [batch, length, width]."""

    form: str
    table: Ref

    def __call__(self, x: Tensor) -> Tensor:
        table = self.table()
        if self.form == "module":
            return F.embedding(torch.arange(x.shape[1]), table)
        return table[: x.shape[1]] if self.form == "slice" else table[:, : x.shape[1]]


@dataclass(frozen=True, slots=True, eq=False)
class Entrance:
    """From the input to the stream: the input's own map, then what is added to it."""

    main: Op
    segments: Op | None
    positions: Positions | None

    def __call__(self, x: Tensor, segments: Tensor | None) -> Tensor:
        y = self.main(x)
        if self.segments is not None:
            assert segments is not None, "this network takes a second id per token"
            y = y + self.segments(segments)
        return y if self.positions is None else y + self.positions(y)


@dataclass(frozen=True, slots=True, eq=False)
class PatchEmbedding:
    """Patches of 2 by 2 pixels of an image two pixels high, by convolution or by a linear map of their pixels."""

    form: str
    op: Op

    def __call__(self, x: Tensor) -> Tensor:
        if self.form == "conv":
            return self.op(x).flatten(2).transpose(1, 2)
        pixels = x.unflatten(3, (-1, 2))
        axes = (0, 3, 1, 2, 4) if self.form == "linear" else (0, 3, 2, 4, 1)
        return self.op(pixels.permute(axes).flatten(2))


@dataclass(frozen=True, slots=True, eq=False)
class TiedHead:
    """Logits by the token table."""

    table: Ref

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.table().T


@dataclass(frozen=True, slots=True)
class Nothing:
    """An operator that changes nothing."""

    form: str

    def __call__(self, x: Tensor) -> Tensor:
        if self.form == "reshape":
            return x.reshape(-1, x.shape[-1]).reshape(x.shape)
        if self.form == "add_zero":
            return x + 0
        return x.transpose(1, 2).transpose(1, 2) if self.form == "transpose_twice" else x.contiguous()


def write_nothing(w: Writer, place: Place, role: str) -> tuple[Op, ...]:
    """The style's operator that does nothing, if it has one."""
    form = w.pick("noops")
    if form == "none":
        return ()
    modules = {"dropout": nn.Dropout, "identity": nn.Identity}
    return (Call(w.module(place, role, modules[form](), {})) if form in modules else Nothing(form),)


def write_entrance(w: Writer, place: Place, net: Net) -> tuple[Entrance, Ref | None]:
    """The entry of a network on sequences, and the token table for a tied head."""
    entry, table, segments = net.entry, None, None
    assert isinstance(entry, Tokens | Continuous | Patches)
    if isinstance(entry, Tokens):
        main, table = _table(w, place, "tokens", entry.vocabulary, net)
        segments = _table(w, place, "segments", 2, net)[0] if entry.segments else None
    elif isinstance(entry, Continuous):
        leaves = Leaf("entry", (net.width, entry.channels)), Leaf("entry.b", (net.width,), "bias")
        main = write_linear(w, place, "entry", *leaves)
    else:
        main = _patches(w, place, net.width, entry)
    return Entrance(main, segments, _positions(w, place, entry.positions, net.width)), table


def _table(w: Writer, place: Place, name: str, rows: int, net: Net) -> tuple[Op, Ref]:
    layout: Layout = Leaf(name, (rows, net.width))
    # a scale that a tied head would have to undo is no longer a matter of style
    scaled = name == "tokens" and not net.tied and w.pick("embed_scale") == "yes"
    scale = net.width**0.5 if scaled else 1.0
    layout = Affine(layout, scale=1 / scale) if scaled else layout
    form = w.pick("lookup")
    if form != "module":
        table = w.parameter(place, name, layout)
        return Lookup(form, table, scale), table
    module = w.module(place, name, nn.Embedding(rows, net.width), {"weight": layout})
    table = Ref(module, "weight")
    return (Scaled(module, scale) if scaled else Call(module)), table


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """A registered module times a constant."""

    module: nn.Module
    scale: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x) * self.scale


def _positions(w: Writer, place: Place, rows: int, width: int) -> Positions | None:
    if not rows:
        return None
    layout, form = Leaf("positions", (rows, width)), w.pick("positions")
    if form == "module":
        return Positions(
            form, Ref(w.module(place, "positions", nn.Embedding(rows, width), {"weight": layout}), "weight")
        )
    stored = reshaped(layout, 1, rows, width) if form == "slice_3d" else layout
    return Positions(form, w.parameter(place, "positions", stored))


def _patches(w: Writer, place: Place, width: int, entry: Patches) -> Op:
    form = w.pick("patches")
    kernel, bias = Leaf("entry", (width, entry.channels, 2, 2)), Leaf("entry.b", (width,), "bias")
    if form == "conv":
        module = nn.Conv2d(entry.channels, width, 2, stride=2)
        return PatchEmbedding(form, Call(w.module(place, "entry", module, {"weight": kernel, "bias": bias})))
    pixels = (width, 4 * entry.channels)
    weight = reshaped(kernel, *pixels) if form == "linear" else Move(kernel, (0, 2, 3, 1), pixels)
    return PatchEmbedding(form, write_linear(w, place, "entry", weight, bias))


def write_head(w: Writer, place: Place, net: Net, table: Ref | None, is_source: bool) -> Op:
    """From the stream to the outputs, by a table of its own or by the tokens'."""
    bias = Leaf("head.b", (net.outputs,), "bias") if net.head_bias else None
    if not net.tied:
        return write_linear(w, place, "head", Leaf("head", (net.outputs, net.width)), bias)
    assert table is not None
    # two copies that happen to be equal cannot become one table: a source has two names for it at most
    form = w.pick("tied_head", **({"cloned": "named_twice"} if is_source else {}))
    leaf = Leaf("tokens", (net.outputs, net.width))
    if form == "cloned":
        return write_linear(w, place, "head", leaf, bias)
    if form == "named_twice":
        module = nn.Linear(net.width, net.outputs, bias=net.head_bias)
        shared = table()
        assert isinstance(shared, nn.Parameter), "a table is stored as a parameter"
        module.weight = shared
        return Call(w.module(place, "head", module, {"weight": leaf, "bias": bias}))
    head: Op = TiedHead(table)
    return head if bias is None else AddBias(head, w.parameter(place, "head_bias", bias))
