"""Linear maps: products and convolutions of data with a weight, whatever operator computes them."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from automatch.canonicalize import ops
from automatch.canonicalize.builder import Builder, uses_of
from automatch.canonicalize.values import Blend, Data, Fixed, Index, Stored, Value, inexact, permuted, reshaped
from automatch.core.graph import Node, Ref
from automatch.core.landmarks import Use


def contraction(builder: Builder, node: Node) -> Value:
    """A landmark for data times a weight, another (`product`) for data times data; weights alone make a blend."""
    if node.op == "einsum":
        return _einsum(builder, node)
    if node.op in ops.CONVOLUTIONS or node.op == "linear":
        x, weight, bias = _operands(builder, node)
        return _landmark(builder, node, x, weight, bias, swap="transpose" in node.op)
    if node.op in ("addmm", "baddbmm", "_addmm_activation"):
        bias, x, weight = (builder.value(arg) for arg in node.args[:3])
        return _landmark(builder, node, x, weight, bias, swap=True)
    x, weight = (builder.value(arg) for arg in node.args[:2])
    if isinstance(x, Stored | Blend) and not isinstance(weight, Stored | Blend):
        return _landmark(builder, node, weight, x, None, swap=False, channels=-2)
    return _landmark(builder, node, x, weight, None, swap=True)


def _operands(builder: Builder, node: Node) -> tuple[Value | None, Value | None, Value | None]:
    named = dict(node.kwargs)
    bias = node.args[2] if len(node.args) > 2 else named.get("bias")
    return builder.value(node.args[0]), builder.value(node.args[1]), builder.value(bias)


def _landmark(
    builder: Builder,
    node: Node,
    x: Value | None,
    weight: Value | None,
    bias: Value | None,
    swap: bool,
    channels: int = -1,
) -> Value:
    if not isinstance(weight, Stored | Blend):
        return _product(builder, node, x, weight, bias)
    if not isinstance(x, Data | Index) and node.op not in ops.CONVOLUTIONS and node.op != "linear":
        return _of_weights_alone(node, x, weight)
    x = builder.as_data(x, node)
    if isinstance(weight, Stored):
        weight = _out_in(weight, swap)
    elif swap:
        weight = Blend(tuple(replace(part, covers=None) for part in weight.parts))
    uses = uses_of("weight", weight, "matrix")
    moving = (("bias", bias),) if isinstance(bias, Data) else ()
    uses += uses_of("bias", bias, "vector")
    rank = len(node.shape or ())
    axis = _channel_axis(node, weight, rank, channels)
    return builder.add("contraction", node, (("x", x), *moving), uses, channels=axis)


def _channel_axis(node: Node, weight: Stored | Blend, rank: int, channels: int) -> int | None:
    if node.op not in ops.CONVOLUTIONS:
        return rank + channels
    kernel = len(weight.shape) - 2 if isinstance(weight, Stored) else rank - 2
    return rank - kernel - 1


def _out_in(weight: Stored, swap: bool) -> Stored:
    """A weight with its output axis first, its input axis second."""
    if not swap or len(weight.shape) < 2:
        return weight
    if len(weight.shape) == 2:
        return permuted(weight, (1, 0))
    if len(weight.shape) > 2 and weight.view.shape is None and not weight.view.regions:
        return permuted(weight, (1, 0, *range(2, len(weight.shape))))  # a transposed convolution
    return inexact(weight, weight.shape)


def _product(builder: Builder, node: Node, x: Value | None, y: Value | None, bias: Value | None) -> Value:
    factors = (builder.as_data(x, node), builder.as_data(y, node))
    moving = [value for value in factors if isinstance(value, Data)]
    indices = [value for value in factors if isinstance(value, Index)]
    if len(moving) == 1 and not indices:
        return moving[0]  # a product with a fixed matrix (resampling, a Fourier table) moves entries about
    if not moving:
        return indices[0] if indices else Fixed()  # angles from positions
    return builder.add("product", node, (("0", factors[0]), ("1", factors[1]), ("bias", bias)))


def _of_weights_alone(node: Node, x: Value | None, weight: Stored | Blend) -> Value:
    shape = node.shape or ()
    if not isinstance(x, Stored | Blend):
        return inexact(weight, shape) if isinstance(weight, Stored) else weight
    parts = [*(x.parts if isinstance(x, Blend) else (x,)), *(weight.parts if isinstance(weight, Blend) else (weight,))]
    return Blend(tuple({part.weight: inexact(part, shape) for part in parts}.values()))


def _einsum(builder: Builder, node: Node) -> Value:
    equation = node.args[0] if isinstance(node.args[0], str) else ""
    refs = node.args[1] if len(node.args) > 1 and isinstance(node.args[1], tuple) else ()
    values = [builder.value(ref) for ref in refs if isinstance(ref, Ref)]
    terms, _, result = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    if len(values) != 2 or len(letters) != 2 or "." in equation:
        return _product(builder, node, values[0], values[1] if len(values) > 1 else None, None)
    for place in (1, 0):
        weight = values[place]
        if isinstance(weight, Stored):
            return _einsum_landmark(
                builder, node, values[1 - place], weight, letters[place], letters[1 - place], result
            )
    return _product(builder, node, values[0], values[1], None)


def _einsum_landmark(
    builder: Builder, node: Node, x: Value | None, weight: Stored, own: str, other: str, result: str
) -> Value:
    """An einsum with one weight: letters that it alone brings are outputs, letters that vanish are inputs."""
    outs = [letter for letter in own if letter in result and letter not in other]
    batch = [letter for letter in own if letter in result and letter in other]
    summed = [letter for letter in own if letter not in result]
    order = tuple(own.index(letter) for letter in (*outs, *batch, *summed))
    seen = permuted(weight, order)
    if batch:
        seen = inexact(seen, seen.shape)
    elif len(outs) != 1 or len(summed) != 1:
        split = len(outs)
        seen = reshaped(seen, (prod(seen.shape[:split]), prod(seen.shape[split:])))
    channels = result.index(outs[0]) if len(outs) == 1 else None
    uses: tuple[Use, ...] = uses_of("weight", replace(seen), "matrix")
    return builder.add("contraction", node, (("x", builder.as_data(x, node)),), uses, channels=channels)
