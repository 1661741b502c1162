"""How a stored tensor is made of canonical weights: invertible movement, and shifts and scales by constants."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Weights: TypeAlias = dict[str, Tensor]
Shape: TypeAlias = tuple[int, ...]
Kind: TypeAlias = Literal["matrix", "bias", "gain", "variance"]


class Layout(ABC):
    """An invertible way to store canonical weights in one tensor."""

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """The stored tensor's."""

    @abstractmethod
    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Canonical weights -> the stored tensor."""

    @abstractmethod
    def unpack(self, stored: Tensor) -> Weights:
        """The stored tensor -> the canonical weights in it."""

    @abstractmethod
    def leaves(self) -> tuple[Leaf, ...]:
        """The canonical weights in it."""


@dataclass(frozen=True, slots=True)
class Leaf(Layout):
    """A canonical weight as it is; `kind` says how to draw it at random."""

    name: str
    size: Shape
    kind: Kind = "matrix"

    @property
    def shape(self) -> Shape:
        return self.size

    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        return weights[self.name]

    def unpack(self, stored: Tensor) -> Weights:
        return {self.name: stored}

    def leaves(self) -> tuple[Leaf, ...]:
        return (self,)


@dataclass(frozen=True, slots=True)
class Groups(Layout):
    """Parts cut into `count` equal groups of rows; each group of the first, of the second, ... then the next group.

    One group is plain concatenation.
    """

    parts: tuple[Layout, ...]
    count: int = 1

    @property
    def shape(self) -> Shape:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([part.pack(weights).unflatten(0, (self.count, -1)) for part in self.parts], 1).flatten(0, 1)

    def unpack(self, stored: Tensor) -> Weights:
        rows = [part.shape[0] // self.count for part in self.parts]
        pieces = stored.unflatten(0, (self.count, -1)).split(rows, dim=1)
        return _merged(part.unpack(piece.flatten(0, 1)) for part, piece in zip(self.parts, pieces, strict=True))

    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(leaf for part in self.parts for leaf in part.leaves())


@dataclass(frozen=True, slots=True)
class Stack(Layout):
    """The layers' weights of one role along a new first axis."""

    parts: tuple[Layout, ...]

    @property
    def shape(self) -> Shape:
        return (len(self.parts), *self.parts[0].shape)

    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([part.pack(weights) for part in self.parts])

    def unpack(self, stored: Tensor) -> Weights:
        return _merged(part.unpack(piece) for part, piece in zip(self.parts, stored, strict=True))

    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(leaf for part in self.parts for leaf in part.leaves())


@dataclass(frozen=True, slots=True)
class Move(Layout):
    """Axes permuted, then another shape."""

    of: Layout
    axes: Shape
    size: Shape

    @property
    def shape(self) -> Shape:
        return self.size

    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        return self.of.pack(weights).permute(self.axes).reshape(self.size)

    def unpack(self, stored: Tensor) -> Weights:
        moved = stored.reshape([self.of.shape[axis] for axis in self.axes])
        return self.of.unpack(moved.permute([self.axes.index(axis) for axis in range(len(self.axes))]))

    def leaves(self) -> tuple[Leaf, ...]:
        return self.of.leaves()


@dataclass(frozen=True, slots=True)
class Affine(Layout):
    """Every number times `scale`, plus `shift`."""

    of: Layout
    scale: float = 1.0
    shift: float = 0.0

    @property
    def shape(self) -> Shape:
        return self.of.shape

    def pack(self, weights: Mapping[str, Tensor]) -> Tensor:
        return self.of.pack(weights) * self.scale + self.shift

    def unpack(self, stored: Tensor) -> Weights:
        return self.of.unpack((stored - self.shift) / self.scale)

    def leaves(self) -> tuple[Leaf, ...]:
        return self.of.leaves()


def transposed(of: Layout) -> Move:
    """A matrix stored the other way round."""
    return Move(of, (1, 0), of.shape[::-1])


def reshaped(of: Layout, *shape: int) -> Move:
    """The same numbers in another shape."""
    assert prod(shape) == prod(of.shape), f"{of.shape} does not fit {shape}"
    return Move(of, tuple(range(len(of.shape))), shape)


def halves_to_pairs(of: Layout, heads: int) -> Move:
    """Rows of each head reordered from two halves to neighbouring pairs."""
    rows, *rest = of.shape
    split = reshaped(of, heads, 2, rows // heads // 2, *rest)
    return Move(split, (0, 2, 1, *range(3, 3 + len(rest))), of.shape)


def drawn(leaves: tuple[Leaf, ...], seed: int) -> Weights:
    """Generic values for canonical weights, in float64; the same for the same names and seed."""
    generator = torch.Generator().manual_seed(seed)
    return {leaf.name: _drawn(leaf, generator) for leaf in sorted(set(leaves), key=lambda leaf: leaf.name)}


def _drawn(leaf: Leaf, generator: torch.Generator) -> Tensor:
    noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
    match leaf.kind:
        case "matrix":
            return 0.3 * noise
        case "bias":
            return 0.2 * noise
        case "gain":
            return 1 + 0.2 * noise
        case "variance":
            return (0.3 * noise).exp()


def _merged(parts: Iterable[Weights]) -> Weights:
    merged: Weights = {}
    for part in parts:
        merged |= part
    return merged
