"""Signatures: what the outputs say about every element of every leaf.

The loss is a random linear form of the outputs, the same on both sides: outputs correspond element by element, so no
symmetry of theirs has to be broken. Its gradient at an element says how that element acts on the outputs, whatever it
is called, however it is stored and however the operators between are spelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automatch.exact.form import Form
from automatch.exact.roles import Role, Roles, roles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One program's elements in one flat order: leaf after leaf, each row-major.

    Attributes:
        form: The program as a function of its leaves.
        roles: By leaf.
        starts: Where each leaf begins; one more than there are leaves.
        leaf: By element, its leaf.
        unknown: By element, whether it is a floating-point number that some operator reads.
    """

    form: Form
    roles: tuple[Roles, ...]
    starts: Ints
    leaf: Ints
    unknown: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many elements there are."""
        return int(self.starts[-1])

    def by_role(self, feature: Callable[[Role], float]) -> Floats:
        """A number by element, from its role."""
        parts = [one.of(feature) for one in self.roles]
        return np.concatenate(parts) if parts else np.zeros(0)

    def draw(self, seed: int) -> Floats:
        """Generic values for every element."""
        chance = np.random.default_rng(seed)
        parts = [one.draw(chance) for one in self.roles]
        return np.concatenate(parts) if parts else np.zeros(0)

    def tensors(self, values: Floats, track: bool = True) -> list[Tensor]:
        """The leaf values that a flat vector holds; integers are the model's own."""
        made = []
        for index, leaf in enumerate(self.form.leaves):
            if leaf.floating:
                part = values[self.starts[index] : self.starts[index + 1]]
                made.append(torch.tensor(part.reshape(leaf.shape), dtype=torch.float64, requires_grad=track))
            else:
                made.append(self.form.program.values[leaf.weights[0]])
        return made

    def outputs(self, values: Floats) -> tuple[Tensor, ...]:
        """The outputs, without gradients."""
        with torch.no_grad():
            return self.form.run(self.tensors(values, track=False))

    def gradients(self, values: Floats, cotangents: Sequence[Sequence[Tensor]]) -> Floats:
        """One row a cotangent, one column an element; zero where nothing depends on it."""
        leaves = self.tensors(values)
        wanted = [index for index, leaf in enumerate(leaves) if leaf.requires_grad]
        outputs = [aligned(output) for output in self.form.run(leaves)]
        rows = np.zeros((len(cotangents), self.size))
        for row, weights in enumerate(cotangents):
            found = _gradients(outputs, weights, [leaves[index] for index in wanted])
            for index, gradient in zip(wanted, found, strict=True):
                if gradient is not None:
                    rows[row, self.starts[index] : self.starts[index + 1]] = gradient.reshape(-1).numpy()
        return rows


def _gradients(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], leaves: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    parts = [
        (leading(output, tuple(weight.shape)) * weight).sum()
        for output, weight in zip(outputs, cotangents, strict=True)
        if output.requires_grad
    ]
    if not parts:
        return [None] * len(leaves)
    return torch.autograd.grad(sum(parts[1:], start=parts[0]), leaves, retain_graph=True, allow_unused=True)


def side(form: Form) -> Side:
    """Number the elements of a form."""
    sizes = [leaf.size for leaf in form.leaves]
    starts = np.cumsum([0, *sizes]).astype(np.int64)
    numbers = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    found = roles(form)
    unknown = [one.read & leaf.floating for one, leaf in zip(found, form.leaves, strict=True)]
    return Side(form, found, starts, numbers, np.concatenate(unknown) if unknown else np.zeros(0, bool))


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
