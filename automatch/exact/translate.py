"""A value that weights alone determine, as an expression over the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from automatch.core.expr import Concat, Constant, Elementwise, Expr, Function, Product, Reduce, Source, Sum
from automatch.exact.form import Form
from automatch.exact.normalise import shape_of
from automatch.exact.ops import MOVES
from automatch.interruption import let_through
from automatch.synthesize.build import affine
from automatch.synthesize.layout import element_map, expression
from automatch.trace.program import name_of

_FUNCTIONS: dict[str, Function] = {
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "reciprocal": "reciprocal",
    "abs": "abs",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "expm1": "expm1",
    "log1p": "log1p",
}
_POWERS: dict[float, Function] = {-1.0: "reciprocal", -0.5: "rsqrt", 0.5: "sqrt", 2.0: "square"}


@dataclass(frozen=True, slots=True)
class Translation:
    """An expression that has a node's value and shape."""

    expr: Expr


class _NoWords(Exception):
    """An operator that the algebra has no word for."""


def translated(root: fx.Node, form: Form) -> Translation | str:
    """Write a weights-only value as an expression; the reason where the algebra cannot say it."""
    known: dict[fx.Node, Expr] = {}

    def of(value: Any) -> Expr:
        if not isinstance(value, fx.Node):
            return Constant(float(value), ())
        if value in form.static:
            return _static(form.static[value])
        if value not in known:
            known[value] = _step(value, form, of)
        return known[value]

    try:
        return Translation(of(root))
    except (_NoWords, ValueError) as reason:
        let_through(reason)
        return f"its making cannot be written down: {reason}"


def _static(value: Any) -> Expr:
    if not isinstance(value, Tensor):
        return Constant(float(value), ())
    flat = value.double().reshape(-1).numpy()
    shape = tuple(value.shape)
    if not shape or (len(flat) and bool((flat == flat[0]).all())):
        return Constant(float(flat[0]), shape)
    return expression(element_map(shape, (), np.full(len(flat), -1), np.zeros(len(flat), np.int64), 1.0, flat))


def _step(node: fx.Node, form: Form, of: Callable[[Any], Expr]) -> Expr:
    name, args = name_of(node), node.args
    if node in form.program.weights:
        key = form.program.weights[node]
        return Source(key, tuple(form.program.values[key].shape))
    if name in MOVES or name == "embedding":
        return _moved(node, form, of)
    if name in ("add", "sub", "rsub"):
        return _sum(name, args, of)
    if name in ("mul", "div"):
        left, right = of(args[0]), of(args[1])
        return _product(left, _applied("reciprocal", right) if name == "div" else right)
    if name == "neg":
        return affine(of(args[0]), -1.0, 0.0)
    if name in _FUNCTIONS and len(args) == 1:
        return _applied(_FUNCTIONS[name], of(args[0]))
    if name == "pow" and isinstance(args[1], (int, float)) and float(args[1]) in _POWERS:
        return _applied(_POWERS[float(args[1])], of(args[0]))
    if name in ("linalg_vector_norm", "norm", "sum", "mean"):
        return _reduced(name, node, of(args[0]))
    return _joined(name, node, of)


def _joined(name: str, node: fx.Node, of: Callable[[Any], Expr]) -> Expr:
    args: Any = node.args
    if name == "_weight_norm":
        return _weight_norm(of(args[0]), of(args[1]), int(args[2]) if len(args) > 2 else 0)
    if name == "cat":
        return _cat(node, of)
    raise _NoWords(f"there is no word for {name}")


def _moved(node: fx.Node, form: Form, of: Callable[[Any], Expr]) -> Expr:
    source: Any = node.args[0]
    picks: list[fx.Node] = [node]
    while name_of(source) in ("split", "split_with_sizes", "chunk", "unbind"):
        picks.append(source)
        source = source.args[0]
    inner = of(source)
    value: Any = torch.arange(int(np.prod(inner.shape)) if inner.shape else 1).reshape(inner.shape)
    for step in reversed(picks):
        args, kwargs = fx.map_arg((step.args[1:], dict(step.kwargs)), lambda item: form.static[item])
        if name_of(step) == "embedding":
            value = value[args[0]]
        elif name_of(step) not in ("to", "_to_copy", "type_as", "dropout"):
            run: Callable[..., Any] = step.target  # type: ignore[assignment]
            value = run(value, *args, **kwargs)
    index = value.reshape(-1).numpy()
    return expression(element_map(tuple(value.shape), (inner,), np.zeros(len(index), np.int64), index))


def _sum(name: str, args: tuple[Any, ...], of: Callable[[Any], Expr]) -> Expr:
    left, right = of(args[0]), of(args[1])
    if name == "sub":
        right = affine(right, -1.0, 0.0)
    if name == "rsub":
        left = affine(left, -1.0, 0.0)
    if isinstance(right, Constant) and right.shape == ():
        return affine(left, 1.0, right.value)
    if isinstance(left, Constant) and left.shape == ():
        return affine(right, 1.0, left.value)
    return Sum((left, right))


def _product(left: Expr, right: Expr) -> Expr:
    if isinstance(right, Constant) and right.shape == ():
        return affine(left, right.value, 0.0)
    if isinstance(left, Constant) and left.shape == ():
        return affine(right, left.value, 0.0)
    parts = [part for side in (left, right) for part in (side.parts if isinstance(side, Product) else (side,))]
    return Product(tuple(parts))


def _applied(function: Function, of: Expr) -> Expr:
    if isinstance(of, Constant):
        functions = {"reciprocal": lambda x: 1 / x, "sqrt": lambda x: x**0.5, "rsqrt": lambda x: x**-0.5}
        if function in functions:
            return Constant(functions[function](of.value), of.shape)
    return Elementwise(of, function)


def _reduced(name: str, node: fx.Node, of: Expr) -> Expr:
    power = name in ("linalg_vector_norm", "norm")
    order = node.args[1] if power and len(node.args) > 1 else 2
    place = 2 if power else 1
    axes: Any = node.args[place] if len(node.args) > place else node.kwargs.get("dim")
    keepdim = node.args[place + 1] if len(node.args) > place + 1 else node.kwargs.get("keepdim", False)
    if power and order != 2:
        raise _NoWords(f"there is no word for a norm of order {order}")
    axes = range(len(of.shape)) if axes is None else (axes if isinstance(axes, (list, tuple)) else [axes])
    kept = tuple(sorted(int(axis) % len(of.shape) for axis in axes))
    return Reduce(of, "norm" if power else ("sum" if name == "sum" else "mean"), kept, bool(keepdim))


def _weight_norm(v: Expr, g: Expr, dim: int) -> Expr:
    axes = tuple(axis for axis in range(len(v.shape)) if axis != dim % len(v.shape))
    return Product((v, g, Elementwise(Reduce(v, "norm", axes, True), "reciprocal")))


def _cat(node: fx.Node, of: Callable[[Any], Expr]) -> Expr:
    parts: Any = node.args[0]
    axis: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return Concat(tuple(of(part) for part in parts), int(axis) % len(shape_of(node) or (0,)))
