"""From influences to what was shown of each target weight, as numbers and as a sentence."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

from torch import Tensor, nn

from automatch.core.mapping import Shown
from automatch.prove.influence import Influence, Ledger, interchangeable
from automatch.prove.weights import state
from automatch.trace.weights import identity


def verdicts(
    target: nn.Module,
    keys: Collection[str],
    ledger: Ledger,
    mute: Mapping[str, str],
) -> dict[str, Shown]:
    """What was shown of every mapped key of the target, tied ones like their first.

    Args:
        target: The caller's model, for its keys and ties.
        keys: The keys that the mapping determines.
        ledger: The influences of all draws.
        mute: Keys of which no run says anything, and why.
    """
    tensors = state(target)
    first: dict[object, str] = {}
    for key, tensor in tensors.items():
        first.setdefault(identity(tensor), key)
    twins = interchangeable(ledger)
    found: dict[str, Shown] = {}
    for key in keys:
        tensor, main = tensors[key], first[identity(tensors[key])]
        if key in mute:
            found[key] = Shown(0, tensor.numel(), mute[key])
        elif main not in ledger.found:
            found[key] = Shown(0, tensor.numel(), _without_gradient(tensor))
        else:
            found[key] = _shown(ledger.found[main], twins.get(main, ()))
    return found


def unshown(target: nn.Module, keys: Collection[str], why: str) -> dict[str, Shown]:
    """That nothing is shown of any mapped key: the outputs agree, but ...

    Args:
        target: The caller's model.
        keys: The keys that the mapping determines.
        why: What follows "the outputs agree, ".
    """
    tensors = state(target)
    return {key: Shown(0, tensors[key].numel(), f"the outputs agree, {why}") for key in keys}


def _without_gradient(tensor: Tensor) -> str:
    if not tensor.is_floating_point():
        return "a run cannot show whole numbers: they are not disturbed"
    return "its influence could not be measured: no gradient reaches it"


def _shown(influence: Influence, twins: tuple[str, ...]) -> Shown:
    apart, alive = influence.apart, influence.alive
    seen, living, total = int(apart.sum()), int(alive.sum()), alive.numel()
    if seen == total:
        free = f"; only its sum with {', '.join(twins)} matters: how it is split is a free choice" if twins else ""
        shift = "; one number added to all of them would not, which changes no output" if influence.shifts else ""
        return Shown(seen, total, f"every element would have shown, had it been wrong{shift}{free}")
    if not living:
        return Shown(0, total, "no output can tell: changing it changes none of them")
    if seen == living:
        return Shown(seen, total, f"{_share(apart)} would have shown; no output can tell the rest on these inputs")
    return Shown(
        seen, total, f"{_share(apart)} would have shown; {living - seen:,} more could be exchanged without a change"
    )


def _share(mask: Tensor) -> str:
    """How much of a weight a mask covers: whole rows where it is rows, else a percentage.

    Example:
        >>> import torch
        >>> _share(torch.tensor([[True, True], [False, False]])), _share(torch.tensor([[True, False]]))
        ('1 of 2 rows', '50% of its elements')
    """
    rows = mask.flatten(1) if mask.dim() > 1 else mask.unsqueeze(1)
    if mask.dim() > 1 and bool((rows.all(1) == rows.any(1)).all()):
        return f"{int(rows.all(1).sum()):,} of {prod(mask.shape[:1]):,} rows"
    percent = 100 * int(mask.sum()) / mask.numel()
    return (
        f"{percent:.0f}% of its elements" if 1 <= percent <= 99 else f"{int(mask.sum()):,} of {mask.numel():,} elements"
    )
