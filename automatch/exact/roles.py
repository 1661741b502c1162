"""What values a leaf starts from, by what reads it: the same for every spelling of an operator.

Before anything is known, all elements of a leaf hold one value. It must not depend on how the leaf is stored, and a
network of such values should neither die nor explode: a factor of a contraction starts at one over its fan-in, so that
the contraction is a mean; a scale starts at one; a bias at zero, which also lets a bias that one side lacks change
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import fx

from automatch.exact.form import Form, Leaf
from automatch.exact.normalise import shape_of
from automatch.exact.ops import CONTRACTIONS
from automatch.exact.reading import as_read
from automatch.exact.tolerance import held_once
from automatch.trace.program import name_of

Kind: TypeAlias = Literal["factor", "scale", "bias", "positive", "other"]

_NEUTRAL: dict[Kind, float] = {"factor": 0.1, "scale": 1.0, "bias": 0.0, "positive": 1.0, "other": 0.5}
_FLAT = 0.1
_ASIDE = {False: 0.5, True: 0.01}
"""What starting values are multiplied by to be others at which two spellings agree as well, for `flat` ones and not."""
_POSITIVE = frozenset("rsqrt sqrt log reciprocal".split())
_NORMS = frozenset("layer_norm rms_norm group_norm native_layer_norm native_group_norm".split())
_RANKS: tuple[Kind, ...] = ("factor", "positive", "scale", "bias", "other")
"""Where an element has several readers, the first of these decides what it starts from."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a leaf is to its readers.

    Attributes:
        kind: Factor of a contraction, scale, bias, something that must be positive, or none of these.
        fan_in: How many products a contraction sums, for a factor; else 1.
        flat: Whether it starts from the same value as every other leaf, biases left out.
    """

    kind: Kind
    fan_in: int = 1
    flat: bool = False

    @property
    def fill(self) -> float:
        """The value that all its elements start from."""
        if self.flat and self.kind != "bias":
            return _FLAT
        return 1 / self.fan_in if self.kind == "factor" else _NEUTRAL[self.kind]

    @property
    def other_fill(self) -> float:
        """Another such value, at which two programs of one function agree as well.

        Factors are smaller, all by one ratio; what one side may lack stays neutral. Where all values are alike and a
        network of them explodes, so that two gates are both open, it does not explode at these.
        """
        return self.fill * (_ASIDE[self.flat] if self.flat or self.kind == "factor" else 1.0)

    def on_scale(self, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard noise on the scale that keeps activations in bounds."""
        match self.kind:
            case "factor":
                return noise / sqrt(self.fan_in)
            case "scale":
                return 1 + 0.3 * noise
            case "positive":
                return np.abs(noise) * 0.5 + 0.5
            case "bias":
                return 0.3 * noise
            case "other":
                return 0.5 * noise


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """The roles of one leaf's elements.

    Attributes:
        kinds: The roles that occur.
        part: By element, the place of its role in `kinds`; one number for all where they have one role.
        read: By element, whether any operator reads it; rows of a table that no index names are not read.
    """

    kinds: tuple[Role, ...]
    part: NDArray[np.int16]
    read: NDArray[np.bool_]

    @property
    def only(self) -> Role | None:
        """The role that all elements have, where they have one."""
        return self.kinds[int(self.part[0])] if len(self.part) and self.part.strides == (0,) else None

    def of(self, feature: Callable[[Role], float]) -> NDArray[np.float64]:
        """A number by element; not to be written to."""
        if self.only is not None:
            return np.broadcast_to(np.float64(feature(self.only)), self.part.shape)
        by_kind = np.array([feature(role) for role in self.kinds], np.float64)
        found: NDArray[np.float64] = by_kind[self.part]
        return found

    def draw(self, chance: np.random.Generator) -> NDArray[np.float64]:
        """Generic values."""
        noise = chance.standard_normal(len(self.part))
        if self.only is not None:
            return self.only.on_scale(noise)
        values = np.zeros(len(noise))
        for number, role in enumerate(self.kinds):
            chosen = self.part == number
            values[chosen] = role.on_scale(noise[chosen])
        return values


def roles(form: Form) -> tuple[Roles, ...]:
    """The roles of every leaf's elements."""
    return tuple(_of_leaf(form, leaf, readers) for leaf, readers in zip(form.leaves, form.readers, strict=True))


def _of_leaf(form: Form, leaf: Leaf, readers: tuple[tuple[fx.Node, int], ...]) -> Roles:
    """Which part of a fused or stacked weight plays which role is told by what reads that part."""
    part = np.zeros(leaf.size, np.int16)
    found: list[Role] = [Role("other", flat=form.recipe.flat)]
    rank = np.full(leaf.size, len(_RANKS), np.int8)
    for reader, place in readers:
        if place >= len(reader.all_input_nodes):
            continue
        operand = reader.all_input_nodes[place]
        role = replace(_use(form, operand, reader, place), flat=form.recipe.flat)
        index = as_read(form, leaf, operand)
        elements = np.arange(leaf.size) if index is None else _distinct(index, leaf.size)
        elements = elements[rank[elements] > _RANKS.index(role.kind)]
        if role not in found:
            found.append(role)
        part[elements] = found.index(role)
        rank[elements] = _RANKS.index(role.kind)
    return Roles(tuple(found), held_once(part), held_once(rank < len(_RANKS)))


def _distinct(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    seen = np.zeros(size, bool)
    seen[index.reshape(-1)] = True
    return np.flatnonzero(seen)


def _use(form: Form, operand: fx.Node, reader: fx.Node, place: int) -> Role:
    name = name_of(reader)
    if name in CONTRACTIONS:
        return _in_contraction(reader, place)
    if name in _POSITIVE or (name == "pow" and place == 0 and not float(_number(reader.args[1])).is_integer()):
        return Role("positive")
    if name in _NORMS and place:
        return Role("scale" if place == 1 else "bias")
    flat = sum(size > 1 for size in shape_of(operand) or ()) <= 1
    if name in ("add", "sub", "addcmul") and (flat or _on_channels(form, operand, reader)):
        return Role("bias")
    others = [item for item in reader.all_input_nodes if item not in form.static and item not in form.held]
    return Role("scale" if flat and others and name == "mul" else "other")


def _on_channels(form: Form, operand: fx.Node, reader: fx.Node) -> bool:
    """Whether a term lies along the output channels of the einsum that it is added to: a bias by head, or by expert."""
    made = next((item for item in reader.all_input_nodes if item is not operand), operand)
    shape, held = shape_of(operand) or (), [item in form.held for item in made.all_input_nodes]
    left, _, right = str(made.args[0]).replace(" ", "").partition("->") if name_of(made) == "einsum" else ("", "", "")
    terms = left.split(",")
    if "." in left or held.count(True) != 1 or len(held) != len(terms) or len(shape) > len(right):
        return False
    letters = terms[held.index(True)]
    return all(size == 1 or letter in letters for size, letter in zip(shape[::-1], right[::-1], strict=False))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 1.0


def _in_contraction(reader: fx.Node, place: int) -> Role:
    name, operands = name_of(reader), reader.all_input_nodes
    shapes = [shape_of(item) or () for item in operands]
    if name in ("addmm", "baddbmm"):
        return Role("bias") if place == 0 else Role("factor", shapes[1][-1])
    if name == "einsum":
        return Role("factor", _einsum_length(str(reader.args[0]), shapes))
    if name in ("matmul", "mm", "bmm"):
        return Role("factor", shapes[0][-1])
    if place == 2:
        return Role("bias")
    weight = shapes[1] if len(shapes) > 1 else (1, 1)
    if name.startswith("conv_transpose"):
        return Role("factor", weight[0])
    return Role("factor", prod(weight[1:]))


def _einsum_length(equation: str, shapes: list[tuple[int, ...]]) -> int:
    left, _, right = equation.replace(" ", "").partition("->")
    sizes = {
        letter: size
        for term, shape in zip(left.split(","), shapes, strict=False)
        for letter, size in zip(term.replace("...", ""), shape[-len(term.replace("...", "")) :], strict=False)
    }
    return max(1, prod(size for letter, size in sizes.items() if letter not in right))
