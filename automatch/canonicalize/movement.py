"""Views, slices and scalar arithmetic: tracked exactly on weights, transparent on data but for the ports they open."""

from __future__ import annotations

from automatch.canonicalize import ops
from automatch.canonicalize.values import Data, Stored, Value, inexact, permuted, reshaped, scaled, sliced
from automatch.core.graph import Arg, Node, Ref, Shape

_END = 2**31 - 1


def part_of(node: Node, value: Data) -> Data:
    """Data after a movement: a part opens a port, everything else is transparent."""
    if node.op not in ops.PARTS or _takes_all(node):
        return value
    if node.op in ops.SPLITS:
        return value  # a tuple; `getitem` says which part
    return Data(value.landmark, (*value.port, node.index))


def _takes_all(node: Node) -> bool:
    if node.op != "slice" or (len(node.args) > 4 and node.args[4] != 1):
        return False
    bounds = [arg for arg in node.args[2:4] if isinstance(arg, int)]
    return all(bound == 0 or bound >= _END for bound in bounds)


def move_stored(node: Node, value: Stored, reads: list[Value]) -> Value:
    """One weight after an operator that reads nothing else but constants."""
    shape = node.shape if node.shape is not None else value.shape
    if node.op in ops.CASTS or shape == value.shape == () or node.op in ("repeat", "repeat_interleave", "tile"):
        return Stored(value.weight, shape, value.view, value.exact, value.buffer, value.looked_up)
    if node.op in ops.RESHAPES:
        return reshaped(value, shape)
    if node.op in ops.PERMUTES:
        axes = _axes(node, len(value.shape))
        return permuted(value, axes) if axes is not None else inexact(value, shape)
    if node.op in ("slice", "narrow", "select"):
        return _slice(node, value, shape)
    if node.op in ("add", "sub", "mul", "div", "rsub", "neg") and len(reads) == 1:
        return _affine(node, value)
    return inexact(value, shape)


def stored_part(parent: Node, place: int, value: Stored, shape: Shape) -> Stored:
    """One member of a split, chunked or unbound weight."""
    axis = _axis(parent.args[2] if len(parent.args) > 2 else dict(parent.kwargs).get("dim", 0), len(value.shape))
    if parent.op == "unbind":
        axis = _axis(parent.args[1] if len(parent.args) > 1 else dict(parent.kwargs).get("dim", 0), len(value.shape))
        return reshaped(sliced(value, axis, place, place + 1), shape)
    sizes = parent.args[1] if len(parent.args) > 1 and parent.op != "tensor_split" else None
    if parent.op == "chunk" and isinstance(sizes, int):
        start = place * -(-value.shape[axis] // sizes)
    elif isinstance(sizes, tuple):
        start = sum(size for size in sizes[:place] if isinstance(size, int))
    elif isinstance(sizes, int):
        start = place * sizes
    else:
        return inexact(value, shape)
    return sliced(value, axis, start, start + shape[axis])


def _slice(node: Node, value: Stored, shape: Shape) -> Stored:
    numbers = [arg for arg in node.args[1:] if isinstance(arg, int)]
    axis = _axis(numbers[0] if numbers else 0, len(value.shape))
    size = value.shape[axis]
    start = numbers[1] if len(numbers) > 1 else 0
    start = max(0, start + size) if start < 0 else min(start, size)
    if node.op == "select":
        return reshaped(sliced(value, axis, start, start + 1), shape)
    if len(node.args) > 4 and node.args[4] != 1:
        return inexact(value, shape)
    return sliced(value, axis, start, start + shape[axis])


def _affine(node: Node, value: Stored) -> Stored:
    numbers = [arg for arg in node.args if isinstance(arg, int | float) and not isinstance(arg, bool)]
    number = float(numbers[0]) if numbers else 1.0
    first = isinstance(node.args[0], Ref)
    match node.op:
        case "add":
            return scaled(value, 1.0, number)
        case "sub" if first:
            return scaled(value, 1.0, -number)
        case "rsub" | "sub":
            return scaled(value, -1.0, number)
        case "mul":
            return scaled(value, number, 0.0)
        case "div" if first and number:
            return scaled(value, 1.0 / number, 0.0)
        case "neg":
            return scaled(value, -1.0, 0.0)
    return inexact(value, value.shape)


def _axes(node: Node, rank: int) -> tuple[int, ...] | None:
    order = list(range(rank))
    numbers = [arg for arg in node.args[1:] if isinstance(arg, int)]
    if node.op in ("transpose", "swapaxes", "swapdims") and len(numbers) == 2:
        first, second = (_axis(number, rank) for number in numbers)
        order[first], order[second] = second, first
        return tuple(order)
    if node.op == "permute" and len(node.args) > 1 and isinstance(node.args[1], tuple):
        return tuple(_axis(axis, rank) for axis in node.args[1])
    if node.op in ("t", "numpy_T", "T", "mT", "matrix_H", "mH", "adjoint") and rank == 2:
        return (1, 0)
    return None


def _axis(axis: Arg, rank: int) -> int:
    number = axis if isinstance(axis, int) else 0
    return number + rank if number < 0 else number
