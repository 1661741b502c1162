"""From the value that several target weights make together to the weights themselves.

A weight norm, an exponential, a sum: the outputs determine the value `f(a, b, ...)` that the target computes from its
weights, and that value as an expression over the source is known. Weights are proposed that should give it, and the
target's own program is run on them: a proposal counts only if the value comes out, on generic numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, permutations, product
from math import prod

import torch
from torch import Tensor

from automatch.apply.evaluate import evaluate as run
from automatch.core.expr import Constant, Elementwise, Expr, Function, Reduce, Reshape, Sum, source_leaves
from automatch.exact.form import Form, Leaf, evaluate
from automatch.interruption import let_through
from automatch.synthesize.build import affine, reshape

_MOST = 240  # proposals for one value
_INVERSES: tuple[Function, ...] = (
    "log",
    "exp",
    "sqrt",
    "square",
    "reciprocal",
    "atanh",
    "tanh",
    "logit",
    "sigmoid",
    "inverse_softplus",
    "softplus",
)


def solved(leaf: Leaf, form: Form, whole: Expr, given: Mapping[str, Expr]) -> dict[str, Expr] | str:
    """Expressions for the weights of a compound leaf that give it the value `whole`; a reason where none is found.

    Args:
        leaf: The target's leaf.
        form: The target's form.
        whole: Its value's expression (of the compound's value before the leaf's own affine).
        given: Weights of the leaf that are already determined.
    """
    chance = torch.Generator().manual_seed(11)
    positive = {
        item.key: torch.rand(item.shape, generator=chance, dtype=torch.float64) + 0.5 for item in source_leaves(whole)
    }
    negative = {key: -value for key, value in positive.items()}  # a weight of which `log(-a)` is wanted is negative
    shapes = {name: tuple(form.program.values[name].shape) for name in leaf.weights}
    for drawn in (positive, negative):
        for proposal in islice(_proposals(leaf, shapes, whole, given), _MOST):
            if _gives(proposal, leaf, form, whole, drawn):
                return {name: expr for name, expr in proposal.items() if name not in given}
    return f"its weights ({', '.join(leaf.weights)}) could not be told from the value that they make together"


def _gives(proposal: Mapping[str, Expr], leaf: Leaf, form: Form, whole: Expr, drawn: Mapping[str, Tensor]) -> bool:
    """Whether the proposed weights make the value, run by the target's own program."""
    try:
        wanted = run(whole, drawn.__getitem__, dtype=torch.float64) * leaf.scale + leaf.shift
        values = {name: run(expr, drawn.__getitem__, dtype=torch.float64) for name, expr in proposal.items()}
        return _same(evaluate(leaf, form, values), wanted)
    except (RuntimeError, ValueError) as error:
        let_through(error)
        return False


def _same(one: Tensor, other: Tensor) -> bool:
    if one.numel() != other.numel() or not bool(torch.isfinite(one).all()):
        return False
    return torch.allclose(one.reshape(-1), other.reshape(-1), rtol=1e-10, atol=1e-12)


def _proposals(
    compound: Leaf, shapes: Mapping[str, tuple[int, ...]], whole: Expr, given: Mapping[str, Expr]
) -> Iterator[dict[str, Expr]]:
    """Each weight takes a source's; or one takes the value (or an inverse of it), the others what leaves it alone."""
    open_ = [name for name in compound.weights if name not in given]
    for leaves in permutations(dict.fromkeys(source_leaves(whole)), len(open_)):
        # where both sides make the value in the same way, each weight is its counterpart, and nothing is recomputed
        if all(prod(leaf.shape) == prod(shapes[name]) for leaf, name in zip(leaves, open_, strict=True)):
            yield {**given, **{n: reshape(leaf, shapes[n]) for n, leaf in zip(open_, leaves, strict=True)}}
    if isinstance(whole, Sum) and len(whole.parts) == len(open_):
        for parts in permutations(whole.parts):
            if all(prod(part.shape) == prod(shapes[name]) for part, name in zip(parts, open_, strict=True)):
                yield {**given, **{n: reshape(part, shapes[n]) for n, part in zip(open_, parts, strict=True)}}
    for main in sorted(open_, key=lambda name: -prod(shapes[name])):
        if prod(shapes[main]) != prod(whole.shape):
            continue
        others = [name for name in open_ if name != main]
        for value in _values(whole, shapes[main]):
            for rest in product(*[list(_neutral(shapes[name], value)) for name in others]):
                yield {**given, main: value, **dict(zip(others, rest, strict=True))}


def _values(whole: Expr, shape: tuple[int, ...]) -> Iterator[Expr]:
    for sign in (1.0, -1.0):
        value = affine(reshape(whole, shape), sign, 0.0)
        yield value
        for function in _INVERSES:
            yield Elementwise(value, function)


def _neutral(shape: tuple[int, ...], main: Expr) -> Iterator[Expr]:
    """What the other weights may be so that only the main one counts: zeros, ones, or the length that a norm takes."""
    yield Constant(0.0, shape)
    yield Constant(1.0, shape)
    if len(shape) == len(main.shape):
        axes = tuple(axis for axis, size in enumerate(shape) if size == 1 and main.shape[axis] > 1)
        if axes:
            yield Reduce(main, "norm", axes, True)
    for axis, size in enumerate(main.shape):
        axes = tuple(other for other in range(len(main.shape)) if other != axis)
        if prod(shape) == size and axes:
            yield Reshape(Reduce(main, "norm", axes, True), shape)
