"""Fresh content for both models: of the kind that each input's use asks for, the same on both sides."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from automatch.inputs.plan import Call, Plan, flat
from automatch.inputs.uses import Use

Cut = tuple[int, int] | None
"""A size of an axis, and the smaller one that takes its place."""

FARTHEST = 8
"""How far positions that nothing bounds are moved on."""


def drawn(made: Plan, generator: torch.Generator | None, cut: Cut = None, padded: bool = False) -> tuple[Call, Call]:
    """What to call both models with.

    Args:
        made: The plan.
        generator: Where fresh content comes from; None gives the examples.
        cut: An axis size to shorten, in all inputs of both sides.
        padded: Whether masks are drawn anew as well, as those of padded rows.
    """
    ours = [
        _fresh(leaf, made.free[place], made.uses.get(place), generator, padded)
        if generator is not None and place in made.free and place not in made.kept
        else leaf
        for place, leaf in enumerate(made.source)
    ]
    theirs = list(made.target)
    content = flat(ours)
    for pairing in made.pairings:
        like = theirs[pairing.target]
        taken = content[pairing.origin.clamp(min=0)].to(like)
        theirs[pairing.target] = torch.where(pairing.origin.to(like.device) < 0, like, taken)
    first, second = made.shapes
    return (
        own(first.unflatten([shortened(leaf, cut) for leaf in ours])),
        own(second.unflatten([shortened(leaf, cut) for leaf in theirs])),
    )


def has_masks(made: Plan) -> bool:
    """Whether some input of both models is a mask that may be drawn as one of padded rows."""
    return any(_is_mask(made.source[place], made.uses.get(place)) for place in made.free if place not in made.kept)


def row_numbers(shape: tuple[int, ...], use: Use, generator: torch.Generator) -> Tensor:
    """Numbers of rows, drawn over all that may be named but those that stand for something (padding, an end).

    No row comes twice before all have come once.

    Example:
        >>> drawn = row_numbers((2, 3), Use("rows", 0, 7, marks=(0,)), torch.Generator().manual_seed(0))
        >>> sorted(drawn.flatten().tolist())
        [1, 2, 3, 4, 5, 6]
    """
    allowed = torch.arange(use.low, use.high)
    telling = allowed[~torch.isin(allowed, torch.tensor(use.marks, dtype=torch.long))]
    rows = telling if len(telling) else allowed
    rounds = -(-prod(shape) // len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(max(1, rounds))])
    return rows[order[: prod(shape)]].reshape(shape)


def padded_mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """True for what counts: a beginning of every row, never none and never all of it.

    Whichever of both values a model leaves out, something is left in every row. A square is lower triangular.

    Example:
        >>> mask = padded_mask((3, 8), torch.Generator().manual_seed(0))
        >>> mask[:, 0].all(), mask[:, -1].any()
        (tensor(True), tensor(False))
    """
    length = shape[-1] if shape else 1
    if length < 2:
        return torch.ones(shape, dtype=torch.bool)
    if len(shape) > 1 and shape[-2] == length:
        return torch.ones(shape, dtype=torch.bool).tril()
    kept = torch.randint((length + 1) // 2, length, (*shape[:-1], 1), generator=generator)
    return torch.arange(length).expand(shape) < kept


def own(call: Any) -> Call:
    """The same with tensors that a forward may write to."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), call)
    return args, kwargs


def shortened(leaf: Any, cut: Cut) -> Any:
    """A tensor with the axes of a size cut to a smaller one."""
    if cut is None or not isinstance(leaf, Tensor):
        return leaf
    for axis, size in enumerate(leaf.shape):
        if size == cut[0]:
            leaf = leaf.narrow(axis, 0, cut[1])
    return leaf


def _fresh(leaf: Tensor, reached: Tensor, use: Use | None, generator: torch.Generator, padded: bool) -> Tensor:
    """New content of the same kind: rows of the same table, floats of the same mean and spread."""
    if padded and _is_mask(leaf, use):
        content = padded_mask(tuple(leaf.shape), generator).to(leaf)
    elif leaf.dtype != torch.bool and not leaf.is_floating_point() and use is not None and use.high:
        content = _fresh_rows(leaf, use, generator).to(leaf)
    elif not _is_free(leaf) or (use is not None and use.kind == "mask"):
        return leaf
    elif not leaf.is_floating_point():
        content = _fresh_numbers(leaf, use, generator)
    else:
        content = leaf.mean() + _spread(leaf) * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype).to(leaf)
    return torch.where(reached.to(leaf.device), content, leaf)


def _fresh_rows(leaf: Tensor, use: Use, generator: torch.Generator) -> Tensor:
    """Rows of tables anew. Positions stay in order; where places are read off a row, its ends stay where they are."""
    low, high = int(leaf.min()), int(leaf.max())
    if not (use.low <= low and high < use.high):
        return leaf  # the example knows better what may be named
    if use.kind == "positions":
        return leaf + int(torch.randint(use.high - high, (), generator=generator))
    if not use.ordered or low == high:
        return row_numbers(tuple(leaf.shape), use, generator)
    return _relabelled(leaf, low, high, use, generator)


def _relabelled(leaf: Tensor, low: int, high: int, use: Use, generator: torch.Generator) -> Tensor:
    """Other numbers in the same places: equal ones stay equal, and the ends stay what they are.

    Where a model reads places off its numbers, or compares them (the end of a text, the nodes of an edge), only such
    examples are sure to be taken.
    """
    inner = torch.tensor([row for row in range(low + 1, high) if row not in use.marks], dtype=torch.long)
    label = torch.arange(high + 1)
    label[inner] = inner[torch.randperm(len(inner), generator=generator)]
    return label[leaf.long().clamp(min=0)] if low >= 0 else leaf


def _fresh_numbers(leaf: Tensor, use: Use | None, generator: torch.Generator) -> Tensor:
    """Whole numbers anew; the smallest and the largest stay where they are: they may mark padding or an end."""
    if use is not None and use.kind == "positions":
        return leaf + int(torch.randint(FARTHEST, (), generator=generator))
    low, high = leaf.min(), leaf.max()
    if int(high) - int(low) < 2:
        return leaf
    others = torch.randint(int(low) + 1, int(high), leaf.shape, generator=generator).to(leaf)
    return torch.where((leaf == low) | (leaf == high), leaf, others)


def _spread(leaf: Tensor) -> float:
    spread = float(leaf.std()) if leaf.numel() > 1 else 0.0
    if spread > 1e-6:
        return spread
    mean = abs(float(leaf.mean()))
    return 0.3 * mean if mean > 0 else 1.0


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


def _is_mask(leaf: Tensor, use: Use | None) -> bool:
    """Whether an input says what counts: truth values, or zeros and ones that its model uses as such."""
    if leaf.numel() == 0 or leaf.dim() == 0 or leaf.is_complex():
        return False
    if leaf.dtype == torch.bool:
        return True
    return use is not None and use.kind == "mask" and bool(((leaf == 0) | (leaf == 1)).all())
