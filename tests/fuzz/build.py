"""A network and a style become a model."""
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from tests.fuzz.attend import write_attention
from tests.fuzz.convolve import write_convolution, write_stem
from tests.fuzz.dense import write_feed, write_linear, write_norm, write_recurrence
from tests.fuzz.ends import Entrance, write_entrance, write_head, write_nothing
from tests.fuzz.layout import Leaf
from tests.fuzz.net import Attention, Convolution, FeedForward, Net, Part, Stem
from tests.fuzz.style import Style
from tests.fuzz.writer import Box, Call, Chain, Op, Place, Writer, Written, in_box


class Root(Box):
    """The outermost module: one input, perhaps a second id per token."""

    whole: Callable[[Tensor, Tensor | None], Tensor]

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        return self.whole(x, segments)


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """Everything."""

    entrance: Entrance
    body: Op

    def __call__(self, x: Tensor, segments: Tensor | None) -> Tensor:
        return self.body(self.entrance(x, segments))


@dataclass(frozen=True, slots=True, eq=False)
class WholeConvolutional:
    """Everything, on signals and images: the mean over all places is what the head sees."""

    stem: Op
    blocks: Op
    head: Op
    last: bool

    def __call__(self, x: Tensor, segments: Tensor | None) -> Tensor:
        y = self.blocks(self.stem(x.movedim(1, -1) if self.last else x))
        return self.head(y.flatten(1, -2).mean(1) if self.last else y.flatten(2).mean(2))


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """A model inside a model."""

    module: nn.Module

    def __call__(self, x: Tensor, segments: Tensor | None) -> Tensor:
        return self.module(x, segments)


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """A branch added to the stream; the norm before the branch or after the sum."""

    branch: Op
    norm: Op
    norm_first: bool
    branch_first: bool

    def __call__(self, x: Tensor) -> Tensor:
        y = self.branch(self.norm(x) if self.norm_first else x)
        total = y + x if self.branch_first else x + y
        return total if self.norm_first else self.norm(total)


def write(net: Net, style: Style, is_source: bool) -> Written:
    """The network in this style, its weights still zero."""
    root = Root()
    w = Writer(style, root, net.depth)
    place = Place(root)
    root.whole = _convolutional(w, place, net) if isinstance(net.entry, Stem) else _sequential(w, place, net, is_source)
    if w.pick("wrapped") == "no":
        return w.finish(root)
    outer = Root()
    outer.add_module(w.name(place.at("wrapped")), root)
    outer.whole = Passed(root)
    return w.finish(outer)


def _sequential(w: Writer, place: Place, net: Net, is_source: bool) -> Whole:
    entrance, table = write_entrance(w, place, net)
    ops = [*write_nothing(w, place, "after_entry"), *_blocks(w, place, net)]
    if net.final_norm:
        ops.append(_norm(w, place, "final_norm", "final", net))
    return Whole(entrance, Chain((*ops, write_head(w, place, net, table, is_source))))


def _convolutional(w: Writer, place: Place, net: Net) -> WholeConvolutional:
    assert isinstance(net.entry, Stem)
    stem = write_stem(w, place, net.width, net.norm, net.entry)
    blocks = Chain(tuple(_blocks(w, place, net)))
    bias = Leaf("head.b", (net.outputs,), "bias") if net.head_bias else None
    head = write_linear(w, place, "head", Leaf("head", (net.outputs, net.width)), bias)
    return WholeConvolutional(stem, blocks, head, w.pick("channels") == "last")


def _blocks(w: Writer, place: Place, net: Net) -> list[Op]:
    """The blocks: boxes in a list, boxes or bare weights side by side, or one tensor per role for all."""
    layers = w.pick("layers")
    if layers == "stacked":
        inside = w.inside(place, "blocks")
        ops = [_block(w, Place(inside.box, f"{inside.role}.block", layer), net, layer) for layer in range(net.depth)]
        return ops if inside.box is place.box else [in_box(inside, place, Chain(tuple(ops)))]
    if layers == "unrolled":
        places = [w.inside(place, f"block{layer}") for layer in range(net.depth)]
        return [in_box(inside, place, _block(w, inside, net, layer)) for layer, inside in enumerate(places)]
    boxes = [Box() for _ in range(net.depth)]
    place.box.add_module(w.name(place.at("blocks")), nn.ModuleList(boxes))
    for layer, box in enumerate(boxes):
        box.operator = _block(w, Place(box, ".block"), net, layer)
    return [Call(box) for box in boxes]


def _block(w: Writer, place: Place, net: Net, layer: int) -> Op:
    return Chain(tuple(_part(w, place, f"{layer}.{number}", net, part) for number, part in enumerate(net.parts)))


def _part(w: Writer, place: Place, at: str, net: Net, part: Part) -> Op:
    role = at.split(".")[1]
    inside = w.inside(place, f"part{role}")
    if isinstance(part, Convolution):
        return in_box(inside, place, write_convolution(w, inside, at, net.width, net.norm, part))
    norm = _norm(w, place, f"norm{role}", f"{at}.norm", net)
    branch = in_box(inside, place, _branch(w, inside, at, net.width, part))
    after = write_nothing(w, place, f"after{role}")
    return Residual(Chain((branch, *after)) if after else branch, norm, net.norm_first, w.pick("residual") == "f+x")


def _branch(w: Writer, place: Place, at: str, width: int, part: Part) -> Op:
    match part:
        case Attention():
            return write_attention(w, place, at, width, part)
        case FeedForward():
            return write_feed(w, place, at, width, part)
        case _:
            return write_recurrence(w, place, at, width)


def _norm(w: Writer, place: Place, role: str, at: str, net: Net) -> Op:
    gain = Leaf(f"{at}.w", (net.width,), "gain")
    return write_norm(w, place, role, gain, Leaf(f"{at}.b", (net.width,), "bias") if net.norm == "layer" else None)
