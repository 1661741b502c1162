"""Scales and shifts that follow a contraction become part of its weight and bias.

A model for training has a convolution and a batch norm, a deployed one the convolution alone. Batch norm of an
evaluated model scales and shifts every output channel, so `conv(x, W) * s + t` is `conv(x, W * s) + t`: here `W * s`
and `t` are values that weights alone determine, hence leaves of an effective form, and the deployed model has them as
weights. Every bias is added outside its contraction, so that both spell it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from automatch.exact.graph_copy import Draft, draft
from automatch.exact.normalise import shape_of
from automatch.exact.ops import MOVES
from automatch.trace.program import Program, name_of

aten = torch.ops.aten
Only: TypeAlias = Mapping[fx.Node, bool | None]
Vector: TypeAlias = "fx.Node | float | None"
"""A value for every output channel, one for all, or none."""
_CONVOLUTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution".split())


@dataclass(frozen=True, slots=True)
class Weighted:
    """A contraction of data with a value that weights alone determine.

    Attributes:
        node: The contraction.
        weight: That value.
        bias: What it adds, made of weights alone too.
        axes: Axes of the output, from the end, with the axes of the weight that they come from.
    """

    node: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    axes: tuple[tuple[int, int], ...]

    @property
    def bias_axes(self) -> tuple[tuple[int, int], ...]:
        """The same for the bias."""
        last = len(shape_of(self.bias) or ()) - 1
        return ((self.axes[0][0], last),) if last >= 0 else ()

    def bare(self, weight: fx.Node) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The call without its bias, with another weight."""
        if name_of(self.node) == "addmm":
            return aten.mm.default, (self.node.args[1], weight), {}
        args = [weight if arg is self.weight else arg for arg in self.node.args]
        if self.bias is not None:
            args[2] = None
        return self.node.target, tuple(args), dict(self.node.kwargs)


def weighted(node: fx.Node, only: Only) -> Weighted | None:
    """A node read as a contraction with a weight; None where it is none, or none that is understood."""
    name, args = name_of(node), list(node.args)
    if name == "einsum":
        return _einsum(node, only)
    axes: tuple[tuple[int, int], ...]
    if name == "addmm" and not node.kwargs and len(args) == 3:
        x, weight, bias, axes = args[1], args[2], args[0], ((-1, 1),)
    elif name in ("matmul", "mm"):
        x, weight, bias, axes = args[0], args[1], None, ((-1, 1),)
    elif name == "linear":
        x, weight, bias, axes = args[0], args[1], args[2] if len(args) > 2 else None, ((-1, 0),)
    elif name in _CONVOLUTIONS:
        x, weight, bias, axes = args[0], args[1], args[2] if len(args) > 2 else None, _convolved(name, node)
    else:
        return None
    rank = len(shape_of(weight) or ())
    if not axes or not isinstance(x, fx.Node) or not _is_stored(weight, only) or rank < 2 or node.kwargs:
        return None
    if (rank > 2 and name not in _CONVOLUTIONS) or (bias is not None and only.get(bias) is None):  # type: ignore[arg-type]
        return None
    return Weighted(node, weight, bias, axes)  # type: ignore[arg-type]  # `_is_stored` has looked


def _is_stored(value: Any, only: Only) -> bool:
    return isinstance(value, fx.Node) and only.get(value) is True


def _convolved(name: str, node: fx.Node) -> tuple[tuple[int, int], ...]:
    args = node.args
    axis = 1 - len(shape_of(args[1]) or ())
    transposed, place = (bool(args[6]), 8) if name == "convolution" else ("transpose" in name, 6)
    if not transposed:
        return ((axis, 0),)
    grouped = len(args) > place and args[place] != 1
    return () if grouped else ((axis, 1),)


def _einsum(node: fx.Node, only: Only) -> Weighted | None:
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    stored = [item for item in operands if _is_stored(item, only)]  # type: ignore[union-attr]
    if "->" not in equation or len(operands) != 2 or len(stored) != 1:  # type: ignore[arg-type]
        return None
    left, result = equation.split("->")
    letters = left.split(",")[list(operands).index(stored[0])]  # type: ignore[arg-type]
    if "." in letters or result.rfind(".") > 2:
        return None
    axes = tuple((result.index(letter) - len(result), letters.index(letter)) for letter in letters if letter in result)
    return Weighted(node, stored[0], None, axes)  # type: ignore[arg-type]  # `_is_stored` has looked


def folded(program: Program) -> Program:
    """The same function with every per-channel scale and shift after a contraction inside its weight and bias."""
    copy = draft(program)
    for node in list(copy.graph.nodes):
        found = weighted(node, copy.only)
        if found is not None and len(found.axes) == 1 and name_of(node) != "einsum":
            _fold(copy, found)
    return copy.finished()


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator after a contraction: a movement, or arithmetic with `operand`, which is `first` or second."""

    node: fx.Node
    operand: fx.Node | float | None = None
    moves: bool = False
    first: bool = False


def _fold(copy: Draft, found: Weighted) -> None:
    steps = _steps(copy, found)
    if not steps and found.bias is None:
        return
    last = steps[-1].node if steps else found.node
    channels = _channels(found)
    scale: Vector = None
    shift: Vector = None if found.bias is None else _vector(copy, last, found.bias, channels)
    for step in steps:
        if not step.moves:
            scale, shift = _applied(copy, last, step, channels, scale, shift)
    weight = found.weight
    if scale is not None:
        rank, axis = len(shape_of(weight) or ()), found.axes[0][1]
        weight = copy.call(last, aten.mul.Tensor, weight, _column(copy, last, scale, rank, axis - rank))
    target, args, kwargs = found.bare(weight)
    made = copy.data(copy.call(last, target, *args, **kwargs))
    if shift is not None:
        rank = len(shape_of(made) or ())
        made = copy.call(last, aten.add.Tensor, made, _column(copy, last, shift, rank, found.axes[0][0]))
    for step in steps:
        if step.moves:
            made = _moved(copy, last, step.node, made)
    last.replace_all_uses_with(made)
    for node in [*(step.node for step in reversed(steps)), found.node]:
        copy.graph.erase_node(node)


def _channels(found: Weighted) -> int:
    return (shape_of(found.node) or ())[found.axes[0][0]]


def _steps(copy: Draft, found: Weighted) -> list[_Step]:
    """What follows a contraction, up to the last scale or shift of its channels."""
    count = _channels(found)
    steps: list[_Step] = []
    node, axis = found.node, found.axes[0][0]
    while len(node.users) == 1:
        user = next(iter(node.users))
        step = _arithmetic(copy.only, user, node, axis)
        if step is None:
            moved = moved_axis(user, node, axis, count)
            if moved is None:
                break
            step, axis = _Step(user, moves=True), moved
        steps.append(step)
        node = user
    while steps and steps[-1].moves:
        steps.pop()
    return steps


def _arithmetic(only: Only, user: fx.Node, node: fx.Node, axis: int) -> _Step | None:
    name, args = name_of(user), user.args
    if name not in ("mul", "div", "add", "sub", "rsub", "neg") or user.kwargs or shape_of(user) != shape_of(node):
        return None
    if name == "neg":
        return _Step(user)
    other = args[1] if args[0] is node else args[0]
    first = other is not args[1]
    if other is node or len(args) != 2 or (name == "div" and first):
        return None
    if isinstance(other, (int, float)) and not isinstance(other, bool):
        return _Step(user, float(other), first=first)
    if not isinstance(other, fx.Node) or only.get(other) is None or not _is_per_channel(other, axis):
        return None
    return _Step(user, other, first=first)


def _is_per_channel(operand: fx.Node, axis: int) -> bool:
    shape = shape_of(operand)
    return shape is not None and all(size == 1 or place - len(shape) == axis for place, size in enumerate(shape))


def moved_axis(user: fx.Node, node: fx.Node, axis: int, count: int) -> int | None:
    """Where a movement puts the channels, which lie along an axis counted from the end; None where it parts them."""
    if name_of(user) not in MOVES or user.args[0] is not node or len(user.all_input_nodes) != 1:
        return None
    shape, result = shape_of(node) or (), shape_of(user)
    numbers = torch.arange(count).reshape(_spread(len(shape), axis, count)).expand(shape)
    moved = user.target(numbers, *user.args[1:], **user.kwargs)  # type: ignore[operator]
    if not isinstance(moved, Tensor) or result is None:
        return None
    for place, size in enumerate(result):
        there = place - len(result)
        if size == count and bool((moved == torch.arange(count).reshape(_spread(len(result), there, count))).all()):
            return there
    return None


def _spread(rank: int, axis: int, count: int) -> tuple[int, ...]:
    """The shape of a vector that lies along one axis, counted from the end."""
    return tuple(count if place - rank == axis else 1 for place in range(rank))


def _column(copy: Draft, before: fx.Node, vector: Vector, rank: int, axis: int) -> Any:
    shape = shape_of(vector)
    if not isinstance(vector, fx.Node) or shape is None or axis == -1 or shape == (1,):
        return vector
    return copy.call(before, aten.reshape.default, vector, list(_spread(rank, axis, shape[0])))


def _vector(copy: Draft, before: fx.Node, operand: fx.Node | float, channels: int) -> fx.Node | float:
    if not isinstance(operand, fx.Node):
        return operand
    shape = shape_of(operand) or ()
    wanted = (channels,) if channels in shape else (1,)
    return operand if shape == wanted else copy.call(before, aten.reshape.default, operand, list(wanted))


def _moved(copy: Draft, before: fx.Node, move: fx.Node, value: fx.Node) -> fx.Node:
    return copy.data(copy.call(before, move.target, value, *move.args[1:], **move.kwargs))


def _applied(
    copy: Draft, before: fx.Node, step: _Step, channels: int, scale: Vector, shift: Vector
) -> tuple[Vector, Vector]:
    """Scale and shift after one more step."""
    name = name_of(step.node)
    if name == "neg":
        return _times(copy, before, scale, -1.0), shift if shift is None else _times(copy, before, shift, -1.0)
    assert step.operand is not None
    vector = _vector(copy, before, step.operand, channels)
    if name in ("mul", "div"):
        vector = vector if name == "mul" else _inverse(copy, before, vector)
        return _times(copy, before, scale, vector), None if shift is None else _times(copy, before, shift, vector)
    if name == "rsub" or (name == "sub" and step.first):
        scale = _times(copy, before, scale, -1.0)
        shift = None if shift is None else _times(copy, before, shift, -1.0)
    elif name == "sub":
        vector = _times(copy, before, vector, -1.0)
    return scale, _plus(copy, before, shift, vector)


def _times(copy: Draft, before: fx.Node, left: Vector, right: fx.Node | float) -> fx.Node | float:
    if left is None:
        return right
    if isinstance(left, float):
        return left * right if isinstance(right, float) else copy.call(before, aten.mul.Tensor, right, left)
    return copy.call(before, aten.mul.Tensor, left, right)


def _plus(copy: Draft, before: fx.Node, left: Vector, right: fx.Node | float) -> fx.Node | float:
    if left is None:
        return right
    if isinstance(left, float):
        return left + right if isinstance(right, float) else copy.call(before, aten.add.Tensor, right, left)
    return copy.call(before, aten.add.Tensor, left, right)


def _inverse(copy: Draft, before: fx.Node, vector: fx.Node | float) -> fx.Node | float:
    return 1 / vector if isinstance(vector, float) else copy.call(before, aten.reciprocal.default, vector)
