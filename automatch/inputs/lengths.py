"""The same inputs in other lengths: shorter ones, cut from the examples, and longer ones, drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from automatch.core.graph import Shape
from automatch.inputs.draws import Cut, shortened
from automatch.inputs.plan import Pairing, Plan, indices, reached, starts

ENOUGH = 6
"""The length that takes the place of a single token."""


def cuts(made: Plan) -> tuple[tuple[int, int], ...]:
    """Axis sizes that may be a length, each with smaller ones to try; axes after the first come first."""
    tried = [
        (size, shorter)
        for size in _sizes(made)
        for shorter in dict.fromkeys((size - 1, size - 2, size // 2))
        if shorter > 1
    ]
    return tuple(cut for cut in tried if _is_consistent(made, cut))


def longer(made: Plan) -> tuple[tuple[int, int, Plan], ...]:
    """Axis sizes that may be a length, each with a larger one and the inputs of that size."""
    return _grown_to(made, [(size, size + max(1, size // 2)) for size in _sizes(made)])


def as_long_as(made: Plan, sizes: Collection[int]) -> tuple[tuple[int, int, Plan], ...]:
    """The inputs in each of these sizes, in the place of each smaller one that may be a length; longest first."""
    smaller = _sizes(made)
    return _grown_to(made, [(size, more) for more in sorted(sizes, reverse=True) for size in smaller if more > size])


def _grown_to(made: Plan, tried: Iterable[tuple[int, int]]) -> tuple[tuple[int, int, Plan], ...]:
    """Of pairs of a size and a larger one, those of which there are inputs, with them."""
    plans = [(size, more, _lengthened(made, partial(_resized, {size: more}))) for size, more in tried]
    return tuple((size, more, plan) for size, more, plan in plans if plan is not None)


def several_tokens(made: Plan) -> Plan | None:
    """The same inputs with several tokens in place of one; None where there is no axis that would hold them.

    Attention over a single token gives its value whatever queries and keys are.
    """
    return _lengthened(made, lambda shape: (*shape[:1], ENOUGH, *shape[2:]) if shape[1:2] == (1,) else shape)


def all_rows(made: Plan, most: int) -> Plan | None:
    """The same inputs with so many more batch items that every row of every table can be named in one draw.

    Args:
        made: The plan.
        most: How many numbers an input of row numbers may hold.

    Returns:
        The plan; None where the inputs name all rows already, or would hold too many numbers, or have no batch.
    """
    named = {place: use for place, use in made.uses.items() if use.kind == "rows" and place in made.free}
    wanted = [(made.source[place], use.high - use.low) for place, use in named.items()]
    short = [(leaf, -(-rows // leaf.numel())) for leaf, rows in wanted if leaf.dim() > 1 and rows > leaf.numel()]
    if not short:
        return None
    batch, times = short[0][0].shape[0], max(times for _, times in short)
    if any(leaf.numel() * times > most for leaf, _ in wanted):
        return None
    return _lengthened(made, lambda shape: (batch * times, *shape[1:]) if shape[:1] == (batch,) else shape)


def _sizes(made: Plan) -> list[int]:
    shapes = [made.source[place].shape for place in made.free]
    return list(dict.fromkeys(size for shape in shapes for size in (*shape[1:], *shape[:1]) if size > 2))


def _is_consistent(made: Plan, cut: Cut) -> bool:
    """Whether shortening both sides leaves the same content."""
    first = starts(made.source)
    left = [
        shortened(indices(made.source[place]) + first[place], cut)[shortened(part, cut)]
        for place, part in made.free.items()
    ]
    fed = torch.unique(torch.cat([shortened(pairing.origin, cut).flatten() for pairing in made.pairings]))
    return torch.equal(torch.cat(left).sort().values, fed[fed >= 0])


def _resized(sizes: Mapping[int, int], shape: Shape) -> Shape:
    """A shape with larger sizes in the place of others."""
    return tuple(sizes.get(size, size) for size in shape)


def _lengthened(made: Plan, grow: Callable[[Shape], Shape]) -> Plan | None:
    """A plan whose axes have other sizes; only where every tensor of both sides is one of the other's, or constant.

    Args:
        made: The plan.
        grow: Gives the new shape of an input.
    """
    fed = {pairing.target for pairing in made.pairings}
    loose = [leaf for place, leaf in enumerate(made.source) if place not in made.free]
    loose += [leaf for place, leaf in enumerate(made.target) if place not in fed]
    if not all(map(_constant, loose)) or any(pairing.leaf is None for pairing in made.pairings):
        return None
    ours, theirs = ([_grown(leaf, grow) for leaf in leaves] for leaves in (made.source, made.target))
    if all(_same_size(new, old) for new, old in zip(ours, made.source, strict=True)):
        return None
    first, pairings = starts(ours), list[Pairing]()
    for pairing in made.pairings:
        assert pairing.leaf is not None
        origin = _origin(made.source[pairing.leaf], pairing, ours[pairing.leaf], theirs[pairing.target])
        if origin is None:
            return None
        pairings.append(replace(pairing, origin=origin + first[pairing.leaf]))
    return replace(
        made,
        source=tuple(ours),
        target=tuple(theirs),
        pairings=tuple(pairings),
        free=reached(ours, pairings),
    )


def _origin(before: Tensor, pairing: Pairing, ours: Tensor, theirs: Tensor) -> Tensor | None:
    """Where the elements of a grown input come from: axes lie as they lay in the example."""
    places = indices(ours)
    if ours.shape == theirs.shape and pairing.axes == tuple(range(len(pairing.axes or ()))):
        return places
    units = [axis for axis, size in enumerate(before.shape) if size == 1]
    if pairing.axes is None or any(ours.shape[axis] != 1 for axis in units):
        return None
    moved = places.squeeze(units).permute(pairing.axes)
    return moved.reshape(theirs.shape) if moved.numel() == theirs.numel() else None


def _grown(leaf: Any, grow: Callable[[Shape], Shape]) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    for axis, (size, wanted) in enumerate(zip(leaf.shape, grow(tuple(leaf.shape)), strict=True)):
        if wanted != size:
            leaf = leaf.index_select(axis, torch.arange(wanted, device=leaf.device) % size)
    return leaf


def _constant(leaf: Any) -> bool:
    """Whether an input is of one number, as a mask that leaves nothing out: it has no content that must be shared."""
    return not isinstance(leaf, Tensor) or not leaf.numel() or bool((leaf == leaf.flatten()[0]).all())


def _same_size(one: Any, other: Any) -> bool:
    return not isinstance(one, Tensor) or bool(one.shape == other.shape)
