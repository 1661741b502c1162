"""Registers weights in a tree of modules under made-up names, and remembers how each stored tensor is made.

Operators are frozen dataclasses, not closures: they refer to modules by object, so that a deep copy of a model computes
with its own weights.
"""
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import torch
from torch import Tensor, nn

from tests.fuzz.layout import Layout, Leaf, Stack, Weights
from tests.fuzz.style import Style

Op: TypeAlias = Callable[[Tensor], Tensor]

# Words that mean something elsewhere: names are drawn from here for any role, so they mislead as often as they help.
WORDS = tuple(
    (
        "query key value gate up down norm1 norm2 attn ffn mlp proj fc1 fc2 in_proj out_proj embed wte wpe ln_f "
        "head lm_head dense conv bn1 bn2 scale shift gamma beta w1 w2 w3 kernel table stem body block inner outer "
        "alpha core mix pre post left right first last a b c x y z tok pos seg final main side extra layer unit "
        "stage cell step net model base"
    ).split()
)


class Box(nn.Module):
    """A module whose forward is the operator given to it once its weights are registered."""

    operator: Op

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x)


@dataclass(frozen=True, slots=True, eq=False)
class Ref:
    """A stored tensor by its owner and name, or one layer of it."""

    owner: nn.Module
    name: str
    layer: int | None = None

    def __call__(self) -> Tensor:
        stored: Tensor = getattr(self.owner, self.name)
        return stored if self.layer is None else stored[self.layer]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A registered module as an operator."""

    module: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.module(x)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Operators one after another."""

    ops: tuple[Op, ...]

    def __call__(self, x: Tensor) -> Tensor:
        for op in self.ops:
            x = op(x)
        return x


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next weights go: the box, the path of the role, and the layer if layers are stacked in one tensor."""

    box: Box
    role: str = ""
    layer: int | None = None

    @property
    def stacked(self) -> bool:
        """Whether one tensor holds all layers, so that modules cannot own the weights."""
        return self.layer is not None

    def at(self, role: str) -> Place:
        """The same box, a longer role."""
        return Place(self.box, f"{self.role}.{role}", self.layer)


@dataclass(slots=True)
class Writer:
    """Writes one model in one style."""

    style: Style
    root: Box
    depth: int
    features: set[str] = field(default_factory=set)
    _stored: list[tuple[nn.Module, str, Layout]] = field(default_factory=list)
    _stacks: dict[tuple[int, str], list[Layout]] = field(default_factory=dict)
    _words: dict[str, str] = field(default_factory=dict)

    def pick(self, choice: str, **instead: str) -> str:
        """The style's choice, or what stands in for it here (`module="function"`); it is counted as used."""
        value: str = getattr(self.style, choice)
        value = instead.get(value, value)
        self.features.add(f"{choice}={value}")
        return value

    def parameter(self, place: Place, role: str, layout: Layout, buffer: bool = False) -> Ref:
        """A tensor of its own; the layers' are stacked where the place says so."""
        name = self.name(place.at(role))
        if place.layer is None:
            return self._registered(place.box, name, layout, buffer)
        layers = self._stacks.setdefault((id(place.box), name), [])
        layers.append(layout)
        if len(layers) == self.depth:
            self._registered(place.box, name, Stack(tuple(layers)), buffer)
        return Ref(place.box, name, place.layer)

    def table(self, place: Place, role: str, values: Tensor) -> Ref:
        """A constant that is not in the state dict."""
        name = self.name(place.at(role)) + (f"_{place.layer}" if place.stacked else "")
        place.box.register_buffer(name, values, persistent=False)
        return Ref(place.box, name)

    def module(self, place: Place, role: str, module: nn.Module, weights: dict[str, Layout | None]) -> nn.Module:
        """A stock module with its weights by attribute."""
        name = self.name(place.at(role)) + (f"_{place.layer}" if place.stacked else "")
        place.box.add_module(name, module)
        self.owned(module, weights)
        return module

    def owned(self, module: nn.Module, weights: dict[str, Layout | None]) -> None:
        """Weights of a module that is registered already."""
        self._stored += [(module, key, layout) for key, layout in weights.items() if layout is not None]

    def inside(self, place: Place, role: str) -> Place:
        """A box of its own inside this one, if the style nests."""
        if place.stacked or self.pick("nesting") == "flat":
            return place.at(role)
        box = Box()
        place.box.add_module(self.name(place.at(role)), box)
        return Place(box, f"{place.role}.{role}")

    def name(self, place: Place) -> str:
        """A word for a role: the same for the same role, different for different ones."""
        if place.role not in self._words:
            words = Random(self.style.names).sample(WORDS, len(WORDS))
            count = len(self._words)
            self._words[place.role] = words[count % len(words)] + "_" * (count // len(words))
        return self._words[place.role]

    def finish(self, outermost: nn.Module) -> Written:
        """The model, in evaluation mode, its registrations in the style's order."""
        _reorder(outermost, self.pick("order"), Random(self.style.names))
        paths = {module: path for path, module in outermost.named_modules()}
        stored = ((f"{paths[owner]}.{name}".lstrip("."), layout) for owner, name, layout in self._stored)
        return Written(outermost.eval(), tuple(stored), frozenset(self.features))

    def _registered(self, box: Box, name: str, layout: Layout, buffer: bool) -> Ref:
        assert not hasattr(box, name), f"{name} is there already"
        if buffer:
            box.register_buffer(name, torch.zeros(layout.shape))
        else:
            box.register_parameter(name, nn.Parameter(torch.zeros(layout.shape)))
        self._stored.append((box, name, layout))
        return Ref(box, name)


@dataclass(frozen=True, slots=True)
class Written:
    """A model, its stored tensors by key, and the choices that were used."""

    module: nn.Module
    stored: tuple[tuple[str, Layout], ...]
    features: frozenset[str]

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The canonical weights."""
        return tuple(dict.fromkeys(leaf for _, layout in self.stored for leaf in layout.leaves()))

    def from_canonical(self, weights: Weights) -> Weights:
        """Canonical weights -> state dict; without counters, which do nothing."""
        return {key: layout.pack(weights).clone() for key, layout in self.stored}

    def to_canonical(self, state: Weights) -> Weights:
        """State dict -> canonical weights, in float64."""
        weights: Weights = {}
        for key, layout in self.stored:
            weights |= layout.unpack(state[key].double())
        return weights


def in_box(place: Place, outer: Place, op: Op) -> Op:
    """The operator as the box's forward, if the place has a box of its own."""
    if place.box is outer.box:
        return op
    place.box.operator = op
    return Call(place.box)


def _reorder(module: nn.Module, order: str, random: Random) -> None:
    boxes = [box for box in module.modules() if isinstance(box, Box)]
    for registered in (registry for box in boxes for registry in (box._parameters, box._modules, box._buffers)):
        items = list(registered.items())
        if order == "shuffled":
            random.shuffle(items)
        registered.clear()
        registered.update(reversed(items) if order == "reversed" else items)  # type: ignore[arg-type]
