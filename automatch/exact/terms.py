"""What a source leaf is made of, element by element: a sum of stored elements, or else an expression.

Most leaves are one stored weight under an affine. A leaf that only moves, scales and adds weights (`cls + pos`) is a
sum of several. Anything else (a weight norm, an exponential) is one term that stands for the whole expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from automatch.core.expr import Expr, Source
from automatch.exact.form import Form, Leaf, scalar
from automatch.exact.ops import MOVES
from automatch.exact.tolerance import Floats, Ints, held_once
from automatch.exact.translate import Translation, translated
from automatch.interruption import let_through
from automatch.trace.program import name_of


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One summand of every element of a leaf: `scale * origin.flat[index]`. Arrays are not to be written to.

    Attributes:
        origin: A stored weight, or an expression over several.
        index: By element of the leaf, the flat index into the origin.
        scale: By element of the leaf.
    """

    origin: Expr
    index: Ints
    scale: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """A leaf as a sum: the terms, and a number by element."""

    terms: tuple[Term, ...]
    shift: Floats


def terms_of(leaf: Leaf, form: Form) -> Terms | str:
    """The terms of a leaf; a reason where its making cannot be written as an expression."""
    found = _linear(leaf.root, form)
    if found is not None:
        picked = [_narrowed(item, leaf) for item in found.items]
        shift = _narrowed_values(found.shift, leaf)
        terms = tuple(
            Term(Source(name, tuple(form.program.values[name].shape)), index, held_once(leaf.scale * scale))
            for name, index, scale in picked
        )
        return Terms(terms, held_once(leaf.scale * shift + leaf.shift))
    whole = translated(leaf.root, form)
    if not isinstance(whole, Translation):
        return whole
    places = torch.arange(_size(whole.expr.shape), dtype=torch.int32).reshape(whole.expr.shape)
    index = _narrowed_values(places, leaf)
    size = len(index)
    scale, shift = (np.broadcast_to(np.float64(number), size) for number in (leaf.scale, leaf.shift))
    return Terms((Term(whole.expr, index, scale),), shift)


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """A value as a sum of moved weights: for each its name, the flat indices and the factors, shaped as the value."""

    items: tuple[tuple[str, Tensor, Tensor], ...]
    shift: Tensor


def _linear(root: fx.Node, form: Form) -> _Linear | None:
    known: dict[fx.Node, _Linear | None] = {}
    program = form.program

    def of(node: Any) -> _Linear | None:
        if not isinstance(node, fx.Node) or node in form.static:
            return None
        if node not in known:
            known[node] = _linear_step(node, form, of)
        return known[node]

    if root in program.weights:
        name = program.weights[root]
        shape = program.values[name].shape
        index = torch.arange(program.values[name].numel(), dtype=torch.int32).reshape(shape)
        one, zero = (torch.full((), number, dtype=torch.float64).expand(shape) for number in (1.0, 0.0))
        return _Linear(((name, index, one),), zero)
    return of(root)


def _linear_step(node: fx.Node, form: Form, of: Callable[[Any], _Linear | None]) -> _Linear | None:
    if node in form.program.weights:
        return _linear(node, form)
    name, args = name_of(node), node.args
    if name in MOVES or name in ("embedding", "split_with_sizes"):
        inner = of(args[0])
        return None if inner is None else _moved(node, inner, form.static)
    if name in ("add", "sub") and len(args) == 2 and not node.kwargs:
        left, right = (of(arg) if _is_weighty(arg, form) else _constant(arg, form) for arg in args)
        return None if left is None or right is None else _added(left, right, -1.0 if name == "sub" else 1.0)
    if name in ("mul", "div", "neg"):
        return _scaled(node, form, of)
    return None


def _is_weighty(arg: Any, form: Form) -> bool:
    return isinstance(arg, fx.Node) and arg not in form.static


def _constant(arg: Any, form: Form) -> _Linear | None:
    value = form.static.get(arg, arg) if isinstance(arg, fx.Node) else arg
    return None if isinstance(value, bool) else _Linear((), torch.as_tensor(value, dtype=torch.float64))


def _moved(node: fx.Node, inner: _Linear, static: Mapping[fx.Node, Any]) -> _Linear | None:
    def run(value: Tensor) -> Any:
        args: Any
        args, kwargs = fx.map_arg((node.args[1:], dict(node.kwargs)), lambda item: static[item])
        kwargs = {key: value for key, value in kwargs.items() if key != "dtype"}
        call: Callable[..., Any] = node.target  # type: ignore[assignment]
        if name_of(node) == "embedding":
            return value[args[0]]
        if name_of(node) in ("to", "_to_copy", "type_as", "dropout"):
            return value
        return call(value, *args, **kwargs)

    try:
        items = tuple((name, run(index), run(scale)) for name, index, scale in inner.items)
        shift = run(inner.shift)
    except (RuntimeError, KeyError, IndexError) as error:
        let_through(error)
        return None
    return _Linear(items, shift) if all(isinstance(item[1], Tensor) for item in items) else None


def _added(left: _Linear, right: _Linear, sign: float) -> _Linear:
    shape = torch.broadcast_shapes(left.shift.shape, right.shift.shape)  # type: ignore[no-untyped-call]

    def spread(items: tuple[tuple[str, Tensor, Tensor], ...], factor: float) -> list[tuple[str, Tensor, Tensor]]:
        return [(name, index.expand(shape), factor * scale.expand(shape)) for name, index, scale in items]

    return _Linear((*spread(left.items, 1.0), *spread(right.items, sign)), left.shift + sign * right.shift)


def _scaled(node: fx.Node, form: Form, of: Callable[[Any], _Linear | None]) -> _Linear | None:
    name, args = name_of(node), node.args
    weighty = [arg for arg in args if _is_weighty(arg, form)]
    if len(weighty) != 1 or (name == "div" and args[0] is not weighty[0]):
        return None
    inner = of(weighty[0])
    other = next((arg for arg in args if arg is not weighty[0]), -1.0)
    number = scalar(other, form.static)
    factor: Any = form.static.get(other) if number is None and isinstance(other, fx.Node) else number
    if inner is None or factor is None:
        return None
    factor = torch.as_tensor(factor, dtype=torch.float64)
    factor = 1 / factor if name == "div" else factor
    shape = torch.broadcast_shapes(inner.shift.shape, factor.shape)  # type: ignore[no-untyped-call]
    items = tuple((key, index.expand(shape), scale * factor) for key, index, scale in inner.items)
    return _Linear(items, inner.shift * factor)


def _narrowed(item: tuple[str, Tensor, Tensor], leaf: Leaf) -> tuple[str, Ints, Floats]:
    name, index, scale = item
    return name, _narrowed_values(index, leaf), _narrowed_values(scale, leaf)


def _narrowed_values(value: Tensor, leaf: Leaf) -> Any:
    for axis in leaf.repeats:
        value = value.narrow(axis, 0, 1)
    return value.contiguous().reshape(-1).numpy()


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape)) if shape else 1
