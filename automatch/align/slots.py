"""Split a fused product where its channels part: q, k and v from one projection, gate and up from another.

Every reader of a part opened a port (a slice, a chunk, a select). Replaying the movements between the product and the
port on channel numbers says exactly which output channels the port holds, whatever views and permutations lie between.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from automatch.align.use_graph import UseGraph
from automatch.canonicalize import ops
from automatch.core.graph import Graph, Node, Ref, operands
from automatch.core.landmarks import Landmark

Channels: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Output channels `start` to `stop` (excluded) within each of `groups` equal consecutive groups."""

    start: int
    stop: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Slot:
    """A part of a landmark's output with readers of its own, or all of it.

    Attributes:
        landmark: The landmark's index.
        ports: The nodes that open it; empty for all of the output.
        rows: Its output channels; None for all of them.
    """

    landmark: int
    ports: frozenset[int] = frozenset()
    rows: Rows | None = None


def slots(graph: UseGraph, landmark: Landmark) -> tuple[Slot, ...]:
    """The slots of a landmark, in channel order: one for all of the output unless its channels part completely."""
    whole = (Slot(landmark.index),)
    ports = _ports(graph, landmark)
    if len(ports) < 2 or landmark.kind != "contraction" or landmark.channels is None:
        return whole
    width = landmark.shape[landmark.channels]
    groups: dict[tuple[int, ...], set[int]] = {}
    for port in ports:
        channels = _channels(graph.lowered.graph, landmark, port)
        if channels is None:
            return whole
        groups.setdefault(tuple(np.unique(channels).tolist()), set()).add(port)
    if len(groups) < 2 or sum(map(len, groups)) != width or len({c for group in groups for c in group}) != width:
        return whole
    found = [Slot(landmark.index, frozenset(groups[key]), _rows(key, width)) for key in sorted(groups)]
    return whole if any(slot.rows is None for slot in found) else tuple(found)


def _ports(graph: UseGraph, landmark: Landmark) -> list[int]:
    """The ports at the first level where readers part."""
    paths = {edge.port for _, edge in graph.readers(landmark.index)}
    if () in paths or not paths:
        return []
    level = 0
    while len({path[: level + 1] for path in paths}) == 1 and all(len(path) > level + 1 for path in paths):
        level += 1
    return sorted({path[level] for path in paths})


def _rows(channels: tuple[int, ...], width: int) -> Rows | None:
    """Channels as equal runs at equal distances; None where they lie otherwise."""
    numbers = np.array(channels)
    starts = numbers[np.concatenate(([True], np.diff(numbers) != 1))]
    groups = len(starts)
    size = len(numbers) // groups
    if width % groups:
        return None
    expected = starts[0] + np.arange(groups)[:, None] * (width // groups) + np.arange(size)[None, :]
    if len(numbers) != groups * size or not np.array_equal(numbers, expected.ravel()):
        return None
    return Rows(int(starts[0]), int(starts[0]) + size, groups)


def _channels(graph: Graph, landmark: Landmark, port: int) -> Channels | None:
    """The channel number of every entry of a port's value; None if something other than movement lies between."""
    path = _path(graph, landmark.node, port)
    if path is None or landmark.channels is None:
        return None
    axis = landmark.channels
    line = np.arange(landmark.shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(landmark.shape))])
    value: Channels | tuple[Channels, ...] | None = np.broadcast_to(line, landmark.shape)
    for node in path:
        value = _replay(node, value)
        if value is None:
            return None
    return value if isinstance(value, np.ndarray) else None


def _path(graph: Graph, start: int, stop: int) -> list[Node] | None:
    """Nodes from a landmark's node (excluded) to a port (included), each reading the one before."""
    path: list[Node] = []
    index = stop
    while index != start:
        node = graph.nodes[index]
        reads = operands(node)
        if index < start or not reads:
            return None
        path.append(node)
        index = reads[0]
    return path[::-1]


def _replay(node: Node, value: Channels | tuple[Channels, ...] | None) -> Channels | tuple[Channels, ...] | None:
    if isinstance(value, tuple):
        place = node.args[1] if len(node.args) > 1 else None
        return value[place] if node.op == "getitem" and isinstance(place, int) and place < len(value) else None
    if value is None:
        return None
    numbers = [arg for arg in node.args[1:] if isinstance(arg, int) and not isinstance(arg, bool)]
    if node.op in ops.SPLITS:
        return _split(node, value, numbers)
    if node.op == "select" and len(numbers) == 2:
        chosen: Channels = np.moveaxis(value, numbers[0], 0)[numbers[1]]
        return chosen
    if node.op in ("slice", "narrow"):
        return _sliced(node, value, numbers)
    if node.op in ops.PERMUTES:
        return _permuted(node, value, numbers)
    if node.op in ops.RESHAPES and node.shape is not None:
        same = prod(node.shape) == value.size
        return value.reshape(node.shape) if same else np.broadcast_to(value, node.shape)
    return value if node.shape == value.shape and len(operands(node)) == 1 else None


def _sliced(node: Node, value: Channels, numbers: list[int]) -> Channels:
    axis, start, stop = (*numbers, 0, 2**62)[:3] if len(numbers) < 3 else numbers[:3]
    stop = start + stop if node.op == "narrow" else stop
    step = numbers[3] if len(numbers) > 3 else 1
    index = [slice(None)] * value.ndim
    index[axis] = slice(start, stop, step)
    return value[tuple(index)]


def _split(node: Node, value: Channels, numbers: list[int]) -> tuple[Channels, ...]:
    sizes = node.args[1] if len(node.args) > 1 else 1
    axis = dict(node.kwargs).get("dim", node.args[2] if len(node.args) > 2 else 0)
    if node.op == "unbind":
        axis = numbers[0] if numbers else 0
        return tuple(np.moveaxis(value, axis, 0))
    axis = axis if isinstance(axis, int) else 0
    length = value.shape[axis]
    if node.op == "tensor_split":
        cuts = [size for size in sizes if isinstance(size, int)] if isinstance(sizes, tuple) else sizes
        return tuple(np.array_split(value, cuts if isinstance(cuts, list | int) else 1, axis))
    if isinstance(sizes, tuple):
        stops = np.cumsum([size for size in sizes if isinstance(size, int)])[:-1]
        return tuple(np.split(value, stops, axis))
    count = sizes if isinstance(sizes, int) else 1
    step = -(-length // count) if node.op in ("chunk", "unsafe_chunk") else count
    return tuple(np.split(value, range(step, length, step), axis))


def _permuted(node: Node, value: Channels, numbers: list[int]) -> Channels | None:
    if node.op == "permute" and isinstance(node.args[1], tuple):
        return np.transpose(value, [axis for axis in node.args[1] if isinstance(axis, int)])
    if node.op in ("transpose", "swapaxes", "swapdims") and len(numbers) == 2:
        return np.swapaxes(value, numbers[0], numbers[1])
    if node.op == "movedim" and len(numbers) == 2:
        return np.moveaxis(value, numbers[0], numbers[1])
    if node.op in ("t", "mT", "T", "numpy_T") and isinstance(node.args[0], Ref):
        return np.swapaxes(value, -1, -2) if value.ndim >= 2 else value
    return None
