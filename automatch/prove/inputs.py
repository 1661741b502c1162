"""The same fresh content for both models: inputs paired by the values of the examples, then drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from automatch.trace.inputs import Inputs, leaf_paths

Call: TypeAlias = "tuple[tuple[Any, ...], dict[str, Any]]"
Cut: TypeAlias = "tuple[int, int] | None"
"""A size of an axis, and the smaller one that takes its place."""

PERMUTED = 4
"""Axes of more than one entry up to which every order of them is tried."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """What an input of the target is made of.

    Attributes:
        target: Place among the target's leaves.
        origin: For each of its elements, the place among all elements of the source's inputs; -1 where it has none
            and keeps its value.
    """

    target: int
    origin: Tensor


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
    """

    source: tuple[Any, ...]
    target: tuple[Any, ...]
    shapes: tuple[pytree.TreeSpec, pytree.TreeSpec]
    pairings: tuple[Pairing, ...]
    free: Mapping[int, Tensor]
    loose: tuple[str, ...]


def plan(source: tuple[nn.Module, Inputs], target: tuple[nn.Module, Inputs]) -> Plan:
    """Pair the tensors of both sides' example inputs by their values.

    1. An input that has the values of one of the source's, its axes in whatever order: of several, one that is not
       taken, at best of the same name, else in order.
    2. An input whose every value occurs once among those of the source (a concatenation, an image cut to patches).
    """
    ours, our_shape = pytree.tree_flatten((source[1].args, source[1].kwargs))
    theirs, their_shape = pytree.tree_flatten((target[1].args, target[1].kwargs))
    our_names, their_names = leaf_paths(*source), leaf_paths(*target)
    direct = _direct(ours, theirs, our_names, their_names)
    used = {place for place, _ in direct.values()}
    spare = [place for place in _starts(ours) if place not in used]
    pairings = [Pairing(place, origin) for place, (_, origin) in direct.items()]
    for place in (place for place in _tensors(theirs) if place not in direct):
        origin = _gathered(_flat(ours), _places(ours, spare), theirs[place])
        pairings += [] if origin is None else [Pairing(place, origin)]
    reached = _reached(ours, pairings)
    fed = {pairing.target for pairing in pairings}
    loose = [f"{our_names[place]} of the source" for place in _tensors(ours) if place not in reached]
    loose += [f"{their_names[place]} of the target" for place in _tensors(theirs) if place not in fed]
    return Plan(tuple(ours), tuple(theirs), (our_shape, their_shape), tuple(pairings), reached, tuple(loose))


def _direct(
    ours: Sequence[Any], theirs: Sequence[Any], our_names: Sequence[str], their_names: Sequence[str]
) -> dict[int, tuple[int, Tensor]]:
    """For inputs of the target that are one of the source's, axes in whatever order: which, and where from."""
    starts, found = _starts(ours), dict[int, tuple[int, Tensor]]()
    for place in _tensors(theirs):
        used = {other for other, _ in found.values()}
        fits = [
            # what feeds one input of the source may feed two of the target, but only where no other is left
            ((other in used, our_names[other] != their_names[place], other), origin + start)
            for other, start in starts.items()
            if (origin := _arranged(ours[other], theirs[place])) is not None
        ]
        if fits:
            best, origin = min(fits, key=lambda fit: fit[0])
            found[place] = best[2], origin
    return found


def _reached(ours: Sequence[Any], pairings: Sequence[Pairing]) -> dict[int, Tensor]:
    """For leaves of the source that the target has, whole or in part: which elements of them."""
    starts = _starts(ours)
    mask = torch.zeros(1 + sum(ours[place].numel() for place in starts), dtype=torch.bool)
    for pairing in pairings:
        mask[pairing.origin.flatten()] = True  # -1, which is nothing, marks the last place
    found = {
        place: mask[start : start + ours[place].numel()].reshape(ours[place].shape) for place, start in starts.items()
    }
    return {place: part for place, part in found.items() if bool(part.any())}


def drawn(made: Plan, generator: torch.Generator | None, cut: Cut = None) -> tuple[Call, Call]:
    """What to call both models with.

    Args:
        made: The plan.
        generator: Where fresh content comes from; None gives the examples.
        cut: An axis size to shorten, in all inputs of both sides.
    """
    ours = [
        _fresh(leaf, made.free[place], generator) if generator is not None and place in made.free else leaf
        for place, leaf in enumerate(made.source)
    ]
    theirs = list(made.target)
    flat = _flat(ours)
    for pairing in made.pairings:
        like = theirs[pairing.target]
        content = flat[pairing.origin.clamp(min=0)].to(like)
        theirs[pairing.target] = torch.where(pairing.origin.to(like.device) < 0, like, content)
    first, second = made.shapes
    return (
        own(first.unflatten([_shortened(leaf, cut) for leaf in ours])),
        own(second.unflatten([_shortened(leaf, cut) for leaf in theirs])),
    )


def cuts(made: Plan) -> tuple[tuple[int, int], ...]:
    """Axis sizes that may be a length, each with smaller ones to try; axes after the first come first."""
    shapes = [made.source[place].shape for place in made.free]
    sizes = [size for shape in shapes for size in (*shape[1:], *shape[:1]) if size > 2]
    tried = [
        (size, shorter)
        for size in dict.fromkeys(sizes)
        for shorter in dict.fromkeys((size - 1, size - 2, size // 2))
        if shorter > 1
    ]
    return tuple(cut for cut in tried if _is_consistent(made, cut))


def _is_consistent(made: Plan, cut: Cut) -> bool:
    """Whether shortening both sides leaves the same content."""
    starts = _starts(made.source)
    left = [
        _shortened(_indices(made.source[place]) + starts[place], cut)[_shortened(reached, cut)]
        for place, reached in made.free.items()
    ]
    fed = torch.unique(torch.cat([_shortened(pairing.origin, cut).flatten() for pairing in made.pairings]))
    return torch.equal(torch.cat(left).sort().values, fed[fed >= 0])


def _starts(leaves: Sequence[object]) -> dict[int, int]:
    """Where each real tensor begins in the flat list of all elements."""
    starts: dict[int, int] = {}
    count = 0
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and not leaf.is_complex():
            starts[place] = count
            count += leaf.numel()
    return starts


def _flat(leaves: Sequence[Any]) -> Tensor:
    parts = [leaves[place].detach().cpu().double().flatten() for place in _starts(leaves)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _indices(leaf: Tensor) -> Tensor:
    return torch.arange(leaf.numel()).reshape(leaf.shape)


def _arranged(ours: Tensor, theirs: Tensor) -> Tensor | None:
    """For each element of one tensor the place in another of the same values; None where there is no such order."""
    if ours.numel() != theirs.numel() or ours.is_floating_point() != theirs.is_floating_point() or theirs.is_complex():
        return None
    content, wanted, places = ours.detach().cpu().squeeze(), theirs.detach().cpu().squeeze(), _indices(ours).squeeze()
    orders = list(permutations(range(content.dim()))) if content.dim() <= PERMUTED else [tuple(range(content.dim()))]
    for axes in orders:
        moved = content.permute(axes)
        if moved.shape == wanted.shape and _equal(moved, wanted):
            return places.permute(axes).reshape(theirs.shape)
    return _indices(ours).reshape(theirs.shape) if _equal(content.flatten(), wanted.flatten()) else None


def _places(ours: Sequence[Any], spare: Sequence[int]) -> Tensor:
    """Places of all elements of some leaves in the flat list."""
    starts = _starts(ours)
    return torch.cat([torch.zeros(0).long(), *(_indices(ours[at]).flatten() + starts[at] for at in spare)])


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


def _fresh(leaf: Tensor, reached: Tensor, generator: torch.Generator) -> Tensor:
    """New content of the same kind: whole numbers from the same range, floats of the same mean and spread."""
    if not _is_free(leaf):
        return leaf
    if not leaf.is_floating_point():
        fresh = _fresh_numbers(leaf, generator)
    else:
        fresh = leaf.mean() + _spread(leaf) * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype).to(leaf)
    return torch.where(reached.to(leaf.device), fresh, leaf)


def _spread(leaf: Tensor) -> float:
    spread = float(leaf.std()) if leaf.numel() > 1 else 0.0
    if spread > 1e-6:
        return spread
    mean = abs(float(leaf.mean()))
    return 0.3 * mean if mean > 0 else 1.0


def _fresh_numbers(leaf: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers anew; the smallest and the largest stay where they are: they may mark padding or an end."""
    low, high = leaf.min(), leaf.max()
    if int(high) - int(low) < 2:
        return leaf
    others = torch.randint(int(low) + 1, int(high), leaf.shape, generator=generator).to(leaf)
    return torch.where((leaf == low) | (leaf == high), leaf, others)


def _is_free(leaf: Tensor) -> bool:
    """Whether an input is content, rather than a mask.

    Zeros and ones are a mask where they are whole numbers, or floats of both kinds. Floats that are all ones are not
    kept: under constant content, weights whose columns were exchanged give equal outputs.
    """
    if leaf.dtype == torch.bool or leaf.numel() == 0 or not bool(torch.isfinite(leaf).all()):
        return False
    binary = bool(((leaf == 0) | (leaf == 1)).all())
    constant = bool((leaf == leaf.flatten()[0]).all())
    return not binary or (constant and leaf.is_floating_point())


def _shortened(leaf: Any, cut: Cut) -> Any:
    if cut is None or not isinstance(leaf, Tensor):
        return leaf
    for axis, size in enumerate(leaf.shape):
        if size == cut[0]:
            leaf = leaf.narrow(axis, 0, cut[1])
    return leaf


def own(call: Any) -> Call:
    """The same with tensors that a forward may write to."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), call)
    return args, kwargs


def _tensors(leaves: Sequence[object]) -> list[int]:
    return [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
