"""Which input of one model is which of the other's: paired by the values of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from automatch.inputs.uses import Use, both
from automatch.trace.inputs import Inputs, leaf_paths

Call: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"

PERMUTED = 4
"""Axes of more than one entry up to which every order of them is tried."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """What an input of the target is made of.

    Attributes:
        target: Place among the target's leaves.
        origin: For each of its elements, the place among all elements of the source's inputs; -1 where it has none
            and keeps its value.
        leaf: The leaf of the source that it holds whole, axes in whatever order; None where it is put together.
        axes: That order: the places of the source's axes of more than one entry; None where only the flat order is
            the same.
    """

    target: int
    origin: Tensor
    leaf: int | None = None
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The example inputs of both sides, taken apart, and which of them belong together.

    Attributes:
        source: Leaves of the source's `(args, kwargs)`.
        target: Leaves of the target's.
        shapes: How each side's leaves are put together again.
        pairings: Inputs of the target that hold content of the source's.
        free: Leaves of the source whose content may be drawn anew, with those elements that the target has as well.
        loose: Names of tensor inputs that have no partner; they keep their example values.
        uses: What leaves of the source are to the models that read them, where that is known.
        kept: Leaves of the source that keep their example values: a model does not run on others.
        names: The argument paths of the source's leaves.
    """

    source: tuple[Any, ...]
    target: tuple[Any, ...]
    shapes: tuple[pytree.TreeSpec, pytree.TreeSpec]
    pairings: tuple[Pairing, ...]
    free: Mapping[int, Tensor]
    loose: tuple[str, ...]
    uses: Mapping[int, Use] = field(default_factory=dict)
    kept: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()


def plan(
    source: tuple[nn.Module, Inputs],
    target: tuple[nn.Module, Inputs],
    uses: tuple[Mapping[str, Use], Mapping[str, Use]] = ({}, {}),
) -> Plan:
    """Pair the tensors of both sides' example inputs by their values.

    Args:
        source: The source and its inputs.
        target: The target and its inputs.
        uses: What the inputs of both are to them, by argument path.

    1. An input that has the values of one of the source's, its axes in whatever order: of several, one that is not
       taken, at best of the same name, else in order.
    2. An input whose every value occurs once among those of the source (a concatenation, an image cut to patches).
    """
    ours, our_shape = pytree.tree_flatten((source[1].args, source[1].kwargs))
    theirs, their_shape = pytree.tree_flatten((target[1].args, target[1].kwargs))
    our_names, their_names = leaf_paths(*source), leaf_paths(*target)
    direct = _direct(ours, theirs, our_names, their_names)
    used = {pairing.leaf for pairing in direct.values()}
    spare = [place for place in starts(ours) if place not in used]
    pairings = list(direct.values())
    for place in (place for place in _tensors(theirs) if place not in direct):
        origin = _gathered(flat(ours), _places(ours, spare), theirs[place])
        pairings += [] if origin is None else [Pairing(place, origin)]
    free = reached(ours, pairings)
    fed = {pairing.target for pairing in pairings}
    loose = [f"{our_names[place]} of the source" for place in _tensors(ours) if place not in free]
    loose += [f"{their_names[place]} of the target" for place in _tensors(theirs) if place not in fed]
    known = _uses(pairings, {place: uses[0].get(our_names[place]) for place in free}, their_names, uses[1])
    specs = our_shape, their_shape
    return Plan(tuple(ours), tuple(theirs), specs, tuple(pairings), free, tuple(loose), known, names=tuple(our_names))


def _uses(
    pairings: Sequence[Pairing],
    ours: Mapping[int, Use | None],
    their_names: Sequence[str],
    theirs: Mapping[str, Use],
) -> dict[int, Use]:
    """What each leaf of the source is to both models."""
    found = {place: use for place, use in ours.items() if use is not None}
    for pairing in pairings:
        other = theirs.get(their_names[pairing.target])
        if pairing.leaf is not None and other is not None:
            found[pairing.leaf] = both(found[pairing.leaf], other) if pairing.leaf in found else other
    return found


def _direct(
    ours: Sequence[Any], theirs: Sequence[Any], our_names: Sequence[str], their_names: Sequence[str]
) -> dict[int, Pairing]:
    """For inputs of the target that are one of the source's, axes in whatever order: which, and where from."""
    first, found = starts(ours), dict[int, Pairing]()
    for place in _tensors(theirs):
        used = {pairing.leaf for pairing in found.values()}
        fits = [
            # what feeds one input of the source may feed two of the target, but only where no other is left
            ((other in used, our_names[other] != their_names[place], other), order)
            for other in first
            if (order := arranged(ours[other], theirs[place])) is not None
        ]
        if fits:
            (_, _, leaf), (origin, axes) = min(fits, key=lambda fit: fit[0])
            found[place] = Pairing(place, origin + first[leaf], leaf, axes)
    return found


def reached(ours: Sequence[Any], pairings: Sequence[Pairing]) -> dict[int, Tensor]:
    """For leaves of the source that the target has, whole or in part: which elements of them."""
    first = starts(ours)
    mask = torch.zeros(1 + sum(ours[place].numel() for place in first), dtype=torch.bool)
    for pairing in pairings:
        mask[pairing.origin.flatten()] = True  # -1, which is nothing, marks the last place
    found = {
        place: mask[start : start + ours[place].numel()].reshape(ours[place].shape) for place, start in first.items()
    }
    return {place: part for place, part in found.items() if bool(part.any())}


def starts(leaves: Sequence[object]) -> dict[int, int]:
    """Where each real tensor begins in the flat list of all elements."""
    found: dict[int, int] = {}
    count = 0
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and not leaf.is_complex():
            found[place] = count
            count += leaf.numel()
    return found


def flat(leaves: Sequence[Any]) -> Tensor:
    """All elements of all real tensors in one row, in float64."""
    parts = [leaves[place].detach().cpu().double().flatten() for place in starts(leaves)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def indices(leaf: Tensor) -> Tensor:
    """The place of every element of a tensor in its own flat order."""
    return torch.arange(leaf.numel()).reshape(leaf.shape)


def arranged(ours: Tensor, theirs: Tensor) -> tuple[Tensor, tuple[int, ...] | None] | None:
    """For each element of one tensor the place in another of the same values, and the order of axes behind that.

    None where there is no such order.
    """
    if ours.numel() != theirs.numel() or ours.is_floating_point() != theirs.is_floating_point() or theirs.is_complex():
        return None
    content, wanted, places = ours.detach().cpu().squeeze(), theirs.detach().cpu().squeeze(), indices(ours).squeeze()
    orders = list(permutations(range(content.dim()))) if content.dim() <= PERMUTED else [tuple(range(content.dim()))]
    for axes in orders:
        moved = content.permute(axes)
        if moved.shape == wanted.shape and _equal(moved, wanted):
            return places.permute(axes).reshape(theirs.shape), axes
    return (indices(ours).reshape(theirs.shape), None) if _equal(content.flatten(), wanted.flatten()) else None


def same_kind(one: Tensor, other: Tensor) -> bool:
    """Whether two inputs may hold the same content: numbers of one kind, axes of the same sizes in whatever order.

    Example:
        >>> same_kind(torch.zeros(2, 3, 1), torch.ones(3, 2)), same_kind(torch.zeros(2), torch.ones(2).long())
        (True, False)
    """
    kinds = [(leaf.is_floating_point(), leaf.dtype == torch.bool, leaf.is_complex()) for leaf in (one, other)]
    sizes = [sorted(size for size in leaf.shape if size != 1) for leaf in (one, other)]
    return kinds[0] == kinds[1] and sizes[0] == sizes[1]


def _places(ours: Sequence[Any], spare: Sequence[int]) -> Tensor:
    """Places of all elements of some leaves in the flat list."""
    first = starts(ours)
    return torch.cat([torch.zeros(0).long(), *(indices(ours[at]).flatten() + first[at] for at in spare)])


def _gathered(flat: Tensor, places: Tensor, theirs: Tensor) -> Tensor | None:
    """Where each value of an input comes from, if all do but zeros and ones, and each from one place only."""
    if not theirs.is_floating_point() or not places.numel() or not theirs.numel():
        return None
    values, order = flat[places].sort()
    wanted = theirs.detach().cpu().double().flatten()
    found = torch.searchsorted(values, wanted).clamp(max=len(values) - 1)
    following = values[(found + 1).clamp(max=len(values) - 1)]
    single = (found == len(values) - 1) | (following != values[found])
    filler = (wanted == 0) | (wanted == 1)
    if not bool(((values[found] == wanted) & single | filler).all()) or bool(filler.all()):
        return None
    return torch.where(filler, -1, places[order[found]]).reshape(theirs.shape)


def _equal(one: Tensor, other: Tensor) -> bool:
    # equal up to the dtype of the narrower one
    return torch.equal(one.to(other.dtype), other) or torch.equal(one, other.to(one.dtype))


def _tensors(leaves: Sequence[object]) -> list[int]:
    return [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
