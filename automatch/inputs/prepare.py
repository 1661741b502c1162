"""From what the caller gives to what both models are run on, with all that is wrong with it said once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from automatch.errors import AutomatchError, InputsWarning
from automatch.inputs.content import Asked, filled, is_blank, with_content, works
from automatch.inputs.draws import drawn, has_masks
from automatch.inputs.lengths import longer, several_tokens
from automatch.inputs.plan import Plan, plan
from automatch.inputs.telling import conflict, remarks
from automatch.inputs.uses import Use, uses
from automatch.trace.inputs import GIVEN, Inputs, leaf_paths
from automatch.trace.recordings import Both, Recordings, both

Uses = Mapping[str, Use]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What both models are run on.

    Attributes:
        source: The source's example inputs, with content.
        target: The target's.
        plan: How both belong together; several tokens stand where the examples have one and both models take more.
        remarks: What of the examples cannot tell, a sentence each.
        conflict: Why both sides cannot be run on them; empty where they can.
    """

    source: Inputs
    target: Inputs
    plan: Plan
    remarks: tuple[str, ...] = ()
    conflict: str = ""


def prepare(
    source: tuple[nn.Module, Inputs],
    target: tuple[nn.Module, Inputs],
    known: tuple[Uses, Uses] | None = None,
    recordings: Both | None = None,
) -> Prepared:
    """Fill, pair and judge the inputs of both sides. Neither model is changed; both hold numbers.

    Args:
        source: The source and its inputs; tensors on the meta device are shapes, to be filled.
        target: The target and its inputs.
        known: What the inputs of both are to them, by argument path; None reads it off their graphs.
        recordings: What was recorded of both already.
    """
    if known is None:
        first, second = recordings or both(source[0], target[0])
        known = uses_of(first, source[1]), uses_of(second, target[1])
    ours, theirs = source[1], target[1]
    given = frozenset(_contents(source[1])), frozenset(_contents(target[1]))
    if is_blank(*source) or is_blank(*target):
        ours, theirs = filled(Asked(source[0], ours, known[0]), Asked(target[0], theirs, known[1]))
    ours, theirs = distinct(ours), distinct(theirs)
    made = plan((source[0], ours), (target[0], theirs), known)
    names = leaf_paths(source[0], ours), leaf_paths(target[0], theirs)
    wrong = conflict(made, names, known)
    told = (*_unlike(ours, theirs), *remarks(made, names, known, given))
    if not wrong:
        made = _as_taken(source[0], target[0], made)
    several = None if wrong else several_tokens(made)
    if several is not None and _both_work(source[0], target[0], several):
        made = several
    return Prepared(ours, theirs, made, told, wrong)


def _contents(inputs: Inputs) -> Iterator[int]:
    """Places of the inputs whose content somebody gave; it is not drawn here, so it may be spoken of."""
    for place, leaf in enumerate(pytree.tree_leaves((inputs.args, inputs.kwargs))):
        if isinstance(leaf, Tensor) and not leaf.is_meta:
            yield place


def _unlike(ours: Inputs, theirs: Inputs) -> tuple[str, ...]:
    """That one side's inputs are the caller's and the other's are not, where they do not fit together."""
    if ours.source == theirs.source or GIVEN not in (ours.source, theirs.source):
        return ()
    return (f"the source runs on {ours.source} and the target on {theirs.source}, which may not belong together",)


def uses_of(recordings: Recordings, inputs: Inputs) -> Uses:
    """What a model's inputs are to it; nothing where a single one is plain floats, or it cannot be traced."""
    leaves = [leaf for leaf in pytree.tree_leaves((inputs.args, inputs.kwargs)) if isinstance(leaf, Tensor)]
    if len(leaves) < 2 and all(leaf.is_floating_point() for leaf in leaves):
        return {}
    try:
        return uses(recordings.graph(with_content(recordings.model, (inputs.args, inputs.kwargs))))
    except AutomatchError:  # inputs that a model refuses, or code that cannot be recorded, are reported elsewhere
        return {}


def warn(made: Prepared, stacklevel: int) -> None:
    """Warn of what cannot tell, at the caller's line."""
    for remark in made.remarks:
        warnings.warn(remark, InputsWarning, stacklevel=stacklevel)


def searched(made: Prepared, source: nn.Module, target: nn.Module, seed: int = 0) -> tuple[Inputs, Inputs]:
    """Inputs to search on: fresh content, padded masks, texts of another length, where both models take them.

    A proof is run on the length of the examples and on others; so more than one length speaks of what is found.
    """
    words = any(use.kind == "rows" for use in made.plan.uses.values())
    lengths = [grown for _, _, grown in longer(made.plan)[:1]] if words else []
    for tried in (*lengths, made.plan):
        for padded in (True, False) if has_masks(tried) else (False,):
            calls = drawn(tried, torch.Generator().manual_seed(seed + 71), padded=padded)
            ours, theirs = (Inputs(*call) for call in calls)
            if works(source, ours) and works(target, theirs):
                return ours, theirs
    return made.source, made.target


def distinct(inputs: Inputs) -> Inputs:
    """Inputs of which no tensor is given twice: a recorder takes one that is for one input."""
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or id(leaf) not in seen:
            seen.add(id(leaf))
            return leaf
        return leaf.clone()

    args, kwargs = pytree.tree_map(own, (inputs.args, inputs.kwargs))
    return replace(inputs, args=args, kwargs=kwargs)


def _as_taken(source: nn.Module, target: nn.Module, made: Plan) -> Plan:
    """The plan with those inputs kept as they are on which a model does not run otherwise (sorted boxes, a domain)."""
    whole = frozenset(place for place in made.free if not made.source[place].is_floating_point())
    if not made.free or _both_work(source, target, made):
        return made
    for kept in (whole, frozenset(made.free)):
        tried = replace(made, kept=kept)
        if kept and _both_work(source, target, tried):
            return tried
    return made  # not for the inputs' sake


def _both_work(source: nn.Module, target: nn.Module, made: Plan) -> bool:
    ours, theirs = drawn(made, torch.Generator().manual_seed(1))
    return works(source, Inputs(*ours)) and works(target, Inputs(*theirs))
