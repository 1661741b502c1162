"""Which output of one program is which output of the other.

At the values that all leaves start from, no layout can be told from another, so two programs of one function agree on
every output. Outputs are paired where they do, there and at other such values; where none agrees, by shape and order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor, fx

from automatch.exact.form import Form, Recipe, form
from automatch.exact.gradients import Side, aligned, leading, side
from automatch.exact.normalise import shape_of
from automatch.exact.snap import snap
from automatch.exact.tolerance import Floats
from automatch.trace.program import Program

_AGREE = 1e-6

Outputs: TypeAlias = tuple[list[Tensor], list[Tensor]]
"""What the source gives, and the target."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Outputs of both programs in corresponding order.

    Attributes:
        source: The source's outputs.
        target: The target's.
        shapes: What is compared of each pair: the common leading part, without unit axes.
        agree: Whether they agree before anything is known.
        shared: Whether some leaf of either program is read by several operators.
    """

    source: tuple[fx.Node, ...]
    target: tuple[fx.Node, ...]
    shapes: tuple[tuple[int, ...], ...]
    agree: bool
    shared: bool


def pair_outputs(source: Program, target: Program, recipe: Recipe) -> Pairing:
    """Pair the floating-point outputs of two normalised programs, in the target's order."""
    ours, theirs = _floating(source), _floating(target)
    forms = [form(source, ours, recipe), form(target, theirs, recipe)]
    snap(forms)
    sides = side(forms[0]), side(forms[1])
    runs = [_outputs(sides, Side.fills)]
    agreeing = _matched(*runs[0], _agreeing(runs))
    if agreeing:  # which a network of equal values that explodes may do by chance
        runs.append(_outputs(sides, Side.other_fills))
        agreeing = _matched(*runs[0], _agreeing(runs))
    chosen = agreeing or _matched(*runs[0], lambda i, j: True)
    shapes = tuple(_common(runs[0][0][i], runs[0][1][j]) or () for i, j in chosen)
    first, second = tuple(ours[i] for i, _ in chosen), tuple(theirs[j] for _, j in chosen)
    return Pairing(first, second, shapes, bool(agreeing), any(map(_shares, forms)))


def _floating(program: Program) -> list[fx.Node]:
    found = []
    for node in dict.fromkeys(program.outputs):
        value, shape = node.meta.get("val"), shape_of(node)
        if isinstance(value, Tensor) and value.is_floating_point() and any(size > 1 for size in shape or ()):
            found.append(node)
    return found


def _outputs(sides: tuple[Side, Side], values: Callable[[Side], Iterable[Floats]]) -> Outputs:
    """What both sides give for values that each makes of its own leaves."""
    ours, theirs = ([aligned(output) for output in one.outputs(values(one))] for one in sides)
    return ours, theirs


def _agreeing(runs: Sequence[Outputs]) -> Callable[[int, int], bool]:
    """Whether an output of each side agree in all runs."""
    return lambda i, j: all(_agree(ours[i], theirs[j]) for ours, theirs in runs)


def _shares(one: Form) -> bool:
    return any(len({reader for reader, _ in readers}) > 1 for readers in one.readers)


def _matched(
    ours: Sequence[Tensor], theirs: Sequence[Tensor], fits: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    """Pairs of outputs that fit, each used once, in the order of `theirs`."""
    chosen: dict[int, int] = {}
    for whole in (True, False):  # equal shapes first, then a longer one's leading part
        for (j, y), (i, x) in product(enumerate(theirs), enumerate(ours)):
            if i in chosen.values() or j in chosen or (x.shape == y.shape) is not whole:
                continue
            if _common(x, y) is not None and fits(i, j):
                chosen[j] = i
    return [(i, j) for j, i in sorted(chosen.items())]


def _common(x: Tensor, y: Tensor) -> tuple[int, ...] | None:
    """The shape of the part that both have; None where they differ in rank or along more than one axis."""
    if x.dim() != y.dim() or sum(a != b for a, b in zip(x.shape, y.shape, strict=True)) > 1:
        return None
    return tuple(min(a, b) for a, b in zip(x.shape, y.shape, strict=True))


def _agree(x: Tensor, y: Tensor) -> bool:
    shape = _common(x, y) or ()
    a, b = leading(x, shape), leading(y, shape)
    scale = float(a.abs().max()) if a.numel() else 0.0
    return bool(torch.isfinite(a).all()) and float((a - b).abs().max()) <= _AGREE * scale
