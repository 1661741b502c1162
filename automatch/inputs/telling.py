"""Inputs that cannot tell: what is wrong with the examples, and what to give instead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from automatch.inputs.content import FLAGS
from automatch.inputs.plan import Plan, same_kind
from automatch.inputs.uses import Use

Names: TypeAlias = "tuple[Sequence[str], Sequence[str]]"
"""The argument paths of the source's inputs and of the target's."""


def remarks(
    made: Plan,
    names: Names,
    uses: tuple[Mapping[str, Use], Mapping[str, Use]],
    given: tuple[Collection[int], Collection[int]],
) -> Iterator[str]:
    """What of both sides' inputs cannot tell right weights from wrong ones, a sentence each.

    Args:
        made: The inputs of both sides, as the caller gives them, paired.
        names: The argument paths of both sides' inputs.
        uses: What the inputs of both are to them, by argument path.
        given: Places of those whose content the caller gave.
    """
    fed = {pairing.target for pairing in made.pairings}
    for place, (name, leaf) in enumerate(zip(names[0], made.source, strict=True)):
        if place not in given[0]:
            continue
        use = made.uses.get(place) or uses[0].get(name, Use())
        yield from _remark(f"the source's {name}", leaf, use, shared=place in made.free)
    for place, (name, leaf) in enumerate(zip(names[1], made.target, strict=True)):
        if place not in fed and place in given[1]:
            yield from _remark(f"the target's {name}", leaf, uses[1].get(name, Use()), shared=False)
    yield from _alike([leaf if place in given[0] else None for place, leaf in enumerate(made.source)], names[0])


def _remark(name: str, leaf: Any, use: Use, shared: bool) -> Iterator[str]:
    if not isinstance(leaf, Tensor) or leaf.is_complex() or leaf.is_meta or leaf.dim() == 0 or not leaf.numel():
        return
    said = _fault(leaf, use)
    if said:
        kept = "other content was drawn beside it" if shared else "it was kept: the other side has no such input"
        yield f"{name} {said}; {kept}"


def _alike(leaves: Sequence[Any], names: Sequence[str]) -> Iterator[str]:
    """Inputs of one side that hold the same content: which of the other side's is which, only names can tell."""
    for place, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor) or leaf.dtype == torch.bool or leaf.dim() < 2:
            continue
        for other in range(place):
            held = leaves[other]
            varied = isinstance(held, Tensor) and held.numel() > 1 and bool((held != held.flatten()[0]).any())
            if varied and held.dtype == leaf.dtype and torch.equal(held, leaf):
                both = f"{names[other]} and {names[place]}"
                yield f"the source's {both} hold the same content: which is which was told by name and order"


def _fault(leaf: Tensor, use: Use) -> str:
    """Why an input tells little, and what would tell more; empty where nothing is wrong with it."""
    first = leaf.flatten()[0]
    constant, number = bool((leaf == first).all()) and leaf.numel() > 1, f"{first.item():g}"
    binary = bool(((leaf == 0) | (leaf == 1)).all())
    whole = not leaf.is_floating_point()
    if constant and (leaf.dtype == torch.bool or (binary and use.kind == "mask")):
        return f"is a mask of {number} everywhere: what it leaves out is never seen; mask the end of some rows"
    if use.kind == "mask":
        return ""
    if constant and use.high:
        return f"is {number} everywhere: all its rows but one go unseen; give numbers from {use.low} to {use.high - 1}"
    if constant:
        return f"is {number} everywhere: exchanged weights would not show; give random numbers"
    if whole and use.kind == "rows" and leaf.dim() > 1 and leaf.shape[1] == 1:
        return "holds a single token: attention over one says nothing of queries and keys; give six or more"
    alike = leaf.dim() > 1 and leaf.shape[0] > 1 and bool((leaf == leaf[:1]).all())
    if alike and (use.kind == "content" or (use.kind == "rows" and use.high > FLAGS)):
        return f"holds {leaf.shape[0]} batch items that are alike: give items that differ"
    return ""


def conflict(made: Plan, names: Names, uses: tuple[Mapping[str, Use], Mapping[str, Use]]) -> str:
    """Inputs of both sides that should hold the same content and do not, as a message; empty where there are none.

    An input should, where neither it nor another of its kind and sizes has a partner on the other side. Masks are left
    out (what one side keeps, the other may leave out), and so are positions that are counted from elsewhere.

    Args:
        made: The inputs of both sides, paired.
        names: The argument paths of both sides' inputs.
        uses: What the inputs of both are to them, by argument path.
    """
    fed = {pairing.target for pairing in made.pairings}
    ours = [place for place, leaf in enumerate(made.source) if isinstance(leaf, Tensor) and place not in made.free]
    theirs = [place for place, leaf in enumerate(made.target) if isinstance(leaf, Tensor) and place not in fed]
    lines = []
    for one in ours:
        for other in theirs:
            both = uses[0].get(names[0][one], Use()), uses[1].get(names[1][other], Use())
            if _should_agree(made.source[one], made.target[other], both):
                shapes = f"{list(made.source[one].shape)} and {list(made.target[other].shape)}"
                lines.append(f"{names[0][one]} of the source and {names[1][other]} of the target, {shapes}")
    if not lines:
        return ""
    told = "\n".join(f"  {line}" for line in lines)
    return (
        "both models must be run on the same content, but these inputs of one kind do not hold it:\n"
        f"{told}\nNext: give both sides the same tensors, or their shapes alone."
    )


def _should_agree(one: Tensor, other: Tensor, both: tuple[Use, Use]) -> bool:
    if one.is_meta or other.is_meta or not one.numel():
        return False
    words = all(use.kind == "rows" and use.high > FLAGS for use in both)
    if not same_kind(one, other):
        return words and one.dim() == other.dim()  # texts of other lengths
    if one.dtype == torch.bool or any(use.kind == "mask" for use in both):
        return False
    named = all(use.high > 2 for use in both)  # of more than two rows: no flags
    if not named and (_is_binary(one) or _is_binary(other)):
        return False
    if one.is_floating_point() or one.shape != other.shape or one.dim() == 0:
        return True
    moved = other.to(one.dtype) - one
    counts = bool((one.diff(dim=-1) == 1).all()) and bool((moved == moved.flatten()[0]).all())
    # a table with as many rows more is one whose positions are counted from there
    as_tables = both[1].high - both[0].high == int(moved.flatten()[0])
    return not (counts and (as_tables or any(use.kind == "positions" for use in both)))


def _is_binary(leaf: Tensor) -> bool:
    constant = bool((leaf == leaf.flatten()[0]).all())
    return bool(((leaf == 0) | (leaf == 1)).all()) and not (constant and leaf.is_floating_point())
