"""Signatures: what the outputs say about every element of every leaf.

The loss is a random linear form of the outputs, the same on both sides: outputs correspond element by element, so no
symmetry of theirs has to be broken. Its gradient at an element says how that element acts on the outputs, whatever it
is called, however it is stored and however the operators between are spelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from automatch.exact.form import Form
from automatch.exact.roles import Roles, roles
from automatch.exact.tolerance import Flags, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One program's elements in one flat order: leaf after leaf, each row-major.

    Attributes:
        form: The program as a function of its leaves.
        roles: By leaf.
        starts: Where each leaf begins; one more than there are leaves.
    """

    form: Form
    roles: tuple[Roles, ...]
    starts: Ints

    @property
    def size(self) -> int:
        """How many elements there are."""
        return int(self.starts[-1])

    def leaf_of(self, elements: Ints) -> Ints:
        """The leaves that elements lie in."""
        return np.searchsorted(self.starts, elements, side="right") - 1

    def unknown(self, leaf: int) -> Flags:
        """By element of a leaf, whether it is a floating-point number that some operator reads."""
        read = self.roles[leaf].read
        return read if self.form.leaves[leaf].floating else np.zeros(len(read), bool)

    def fills(self) -> Iterator[Floats]:
        """By leaf, the values that its elements start from."""
        return (one.of(lambda role: role.fill) for one in self.roles)

    def other_fills(self) -> Iterator[Floats]:
        """By leaf, other values that tell no two elements of one role apart."""
        return (one.of(lambda role: role.other_fill) for one in self.roles)

    def draws(self, seed: int) -> Iterator[Floats]:
        """By leaf, generic values for its elements."""
        chance = np.random.default_rng(seed)
        return (one.draw(chance) for one in self.roles)

    def tensors(self, values: Iterable[Floats], track: bool = True) -> list[Tensor]:
        """The leaves with these values, one array a leaf, which they keep; integers are the model's own."""
        made = []
        for leaf, part in zip(self.form.leaves, values, strict=True):
            if leaf.floating:
                held = np.require(part, np.float64, ["C", "W"]).reshape(leaf.shape)
                made.append(torch.from_numpy(held).requires_grad_(track))
            else:
                made.append(self.form.program.values[leaf.weights[0]])
        return made

    def outputs(self, values: Iterable[Floats]) -> tuple[Tensor, ...]:
        """The outputs, without gradients."""
        with torch.no_grad():
            return self.form.run(self.tensors(values, track=False))

    def evaluated(self, values: Iterable[Floats]) -> Evaluated:
        """The program run on these values, one array a leaf, ready for gradients."""
        leaves = self.tensors(values)
        return Evaluated(tuple(leaves), tuple(aligned(output) for output in self.form.run(leaves)))


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """A program that was run.

    Attributes:
        leaves: What it was run on.
        outputs: What came out, aligned.
    """

    leaves: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def gradients(self, cotangents: Sequence[Tensor]) -> list[Floats | None]:
        """By leaf, the gradient of the outputs' sum under these weights, flat; None where nothing depends on it."""
        found: list[Floats | None] = [None] * len(self.leaves)
        parts = [
            (leading(output, tuple(weight.shape)) * weight).sum()
            for output, weight in zip(self.outputs, cotangents, strict=True)
            if output.requires_grad
        ]
        wanted = [index for index, leaf in enumerate(self.leaves) if leaf.requires_grad]
        if not parts or not wanted:
            return found
        inputs = [self.leaves[index] for index in wanted]
        made = torch.autograd.grad(sum(parts[1:], start=parts[0]), inputs, retain_graph=True, allow_unused=True)
        for index, gradient in zip(wanted, made, strict=True):
            found[index] = None if gradient is None else gradient.reshape(-1).numpy()
        return found


def side(form: Form) -> Side:
    """Number the elements of a form."""
    starts = np.cumsum([0, *(leaf.size for leaf in form.leaves)]).astype(np.int64)
    return Side(form, roles(form), starts)


def aligned(output: Tensor) -> Tensor:
    """An output without its unit axes, in float64."""
    return output.squeeze().double() if output.dim() else output.double()


def leading(output: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first entries of an output along every axis."""
    return output[tuple(slice(0, size) for size in shape)]


def cotangents(shapes: Sequence[tuple[int, ...]], count: int, seed: int) -> list[list[Tensor]]:
    """Random weights for outputs of these shapes, `count` times."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in range(count)]
