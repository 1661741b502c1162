"""Content for inputs of which only the shape is given: tensors on the meta device, for models that hold numbers.

Both sides get the same content where their inputs correspond: by name, by what they are to their models, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from automatch.inputs.draws import padded_mask, row_numbers
from automatch.inputs.plan import same_kind
from automatch.inputs.uses import Use, both
from automatch.interruption import let_through
from automatch.trace.inputs import Inputs, derived, fitted, leaf_paths, normalise
from automatch.trace.isolate import duplicate, stand_in

LARGEST_STEP = 1000
"""What whole numbers that count something (steps, times) stay below."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One side and what it is to be called with.

    Attributes:
        model: The model.
        inputs: Its inputs; tensors on the meta device are shapes without content.
        uses: What each input is to the model, by argument path.
    """

    model: nn.Module
    inputs: Inputs
    uses: Mapping[str, Use]


FLAGS = 4
"""Rows of a table up to which they are flags rather than words."""


def is_blank(model: nn.Module, inputs: Inputs) -> bool:
    """Whether an input has a shape and no content, for a model that holds numbers."""
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return False
    return any(map(_blank, pytree.tree_leaves((inputs.args, inputs.kwargs))))


def provisional(inputs: Inputs) -> Inputs:
    """Content that nearly every model takes, for recording: noise, the first row of every table, all of a mask."""
    generator = torch.Generator().manual_seed(0)

    def some(leaf: Any) -> Any:
        if not _blank(leaf):
            return leaf
        if leaf.is_floating_point() or leaf.is_complex():
            return _noise(leaf, generator)
        return torch.ones(leaf.shape, dtype=leaf.dtype) if leaf.dtype == torch.bool else _zeros(leaf)

    args, kwargs = pytree.tree_map(some, (inputs.args, inputs.kwargs))
    return replace(inputs, args=args, kwargs=kwargs)


def with_content(model: nn.Module, given: object) -> object:
    """Inputs in the form in which they were given, with provisional content in place of bare shapes."""
    found = derived(model) if given is None else normalise(given)
    if found is None or not is_blank(model, found):
        return given
    made = provisional(found)
    return made.args, made.kwargs


def filled(source: Asked, target: Asked, seed: int = 0) -> tuple[Inputs, Inputs]:
    """Both sides' inputs with content in place of bare shapes; what both can be run on.

    Args:
        source: The source and its inputs.
        target: The target and its inputs.
        seed: Where the content comes from.
    """
    for masks in ("padded", "opposite", "whole"):
        made = _filled(source, target, seed, masks)
        if all(map(works, (source.model, target.model), made)):
            return made
    return provisional(source.inputs), provisional(target.inputs)


def works(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a model takes inputs, and gives finite numbers for them."""
    try:
        given = fitted(model, inputs)
        args, kwargs = pytree.tree_map_only(Tensor, duplicate, (given.args, given.kwargs))
        with stand_in(model, duplicate) as copied:
            outputs = copied(*args, **kwargs)
    except Exception as error:  # the model's own code raises whatever it likes; then the inputs are not for it
        let_through(error)
        return False
    return all(bool(output.isfinite().all()) for output in outputs if output.is_floating_point())


def _filled(source: Asked, target: Asked, seed: int, masks: str) -> tuple[Inputs, Inputs]:
    generator = torch.Generator().manual_seed(seed)
    sides = [_Leaves.of(source), _Leaves.of(target)]
    ours, theirs = (list(side.leaves) for side in sides)
    for one, other in _partners(*sides):
        if _blank(ours[one]) and _blank(theirs[other]):
            use = both(sides[0].use(one), sides[1].use(other))
            ours[one] = _content(ours[one], use, generator, masks)
        if _blank(theirs[other]):
            theirs[other] = _arranged_like(ours[one], theirs[other])
        elif _blank(ours[one]):
            ours[one] = _arranged_like(theirs[other], ours[one])
    for side, leaves in zip(sides, (ours, theirs), strict=True):
        for place, leaf in enumerate(leaves):
            if _blank(leaf):
                leaves[place] = _alone(leaf, side.use(place), generator)
    return sides[0].with_leaves(ours), sides[1].with_leaves(theirs)


@dataclass(frozen=True, slots=True)
class _Leaves:
    """One side's inputs taken apart."""

    asked: Asked
    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    spec: pytree.TreeSpec

    @staticmethod
    def of(asked: Asked) -> _Leaves:
        leaves, spec = pytree.tree_flatten((asked.inputs.args, asked.inputs.kwargs))
        return _Leaves(asked, tuple(leaves), leaf_paths(asked.model, asked.inputs), spec)

    def use(self, place: int) -> Use:
        return self.asked.uses.get(self.names[place], Use())

    def with_leaves(self, leaves: list[Any]) -> Inputs:
        args, kwargs = self.spec.unflatten(leaves)
        return replace(self.asked.inputs, args=args, kwargs=kwargs)


def _partners(ours: _Leaves, theirs: _Leaves) -> Iterator[tuple[int, int]]:
    """Inputs of both sides that hold the same content, a bare shape on one side at least."""
    taken: set[int] = set()
    for other in sorted(range(len(theirs.leaves)), key=lambda place: theirs.names[place] not in ours.names):
        leaf = theirs.leaves[other]
        fits = [
            (ours.names[one] != theirs.names[other], ours.use(one).kind != theirs.use(other).kind, one)
            for one, mine in enumerate(ours.leaves)
            if one not in taken and isinstance(mine, Tensor) and isinstance(leaf, Tensor) and same_kind(mine, leaf)
        ]
        if not fits:
            continue
        one = min(fits)[-1]
        taken.add(one)
        if _blank(ours.leaves[one]) or _blank(leaf):
            yield one, other


def _arranged_like(content: Tensor, blank: Tensor) -> Tensor:
    """Content in the shape and dtype of another input, axes moved to where its sizes are."""
    plain, wanted = content.squeeze(), [size for size in blank.shape if size != 1]
    axes = next(order for order in permutations(range(plain.dim())) if [plain.shape[axis] for axis in order] == wanted)
    return plain.permute(axes).reshape(blank.shape).to(blank.dtype)


def _alone(leaf: Tensor, use: Use, generator: torch.Generator) -> Tensor:
    """Content for an input that the other side does not have: what changes nothing, where that is known.

    A mask that leaves nothing out; the first row of a table of so few that they are flags (token types).
    """
    if use.kind == "rows" and use.high <= FLAGS:
        return _zeros(leaf)
    return _content(leaf, use, generator, "whole")


def _content(leaf: Tensor, use: Use, generator: torch.Generator, masks: str) -> Tensor:
    shape = tuple(leaf.shape)
    if leaf.is_complex() or (leaf.is_floating_point() and use.kind != "mask"):
        return _noise(leaf, generator)
    if use.kind == "mask" or leaf.dtype == torch.bool:
        mask = torch.ones(shape, dtype=torch.bool) if masks == "whole" else padded_mask(shape, generator)
        return (~mask if masks == "opposite" else mask).to(leaf.dtype)
    if use.kind == "positions" and (shape[-1:] or (1,))[0] > 1:
        counted = torch.arange(shape[-1]).expand(shape) + use.low
        return (counted % use.high if use.high else counted).to(leaf.dtype)
    if use.high:
        return row_numbers(shape, use, generator).to(leaf.dtype)
    high = LARGEST_STEP if use.kind == "positions" else 2 + max(shape, default=1)
    return torch.randint(1, min(high, torch.iinfo(leaf.dtype).max), shape, generator=generator).to(leaf.dtype)


def _noise(leaf: Tensor, generator: torch.Generator) -> Tensor:
    wide = torch.complex128 if leaf.is_complex() else torch.float64
    return torch.randn(leaf.shape, generator=generator, dtype=wide).to(leaf.dtype)


def _zeros(leaf: Tensor) -> Tensor:
    return torch.zeros(leaf.shape, dtype=leaf.dtype)


def _blank(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_meta
