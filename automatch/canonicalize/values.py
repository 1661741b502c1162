"""What a traced value is, to matching: fixed, an index, made of weights, or a landmark's output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from automatch.core.alignment import Region, View
from automatch.core.graph import Shape


@dataclass(frozen=True, slots=True)
class Fixed:
    """Known without weights or inputs: tables of angles, masks, positions, shapes."""


@dataclass(frozen=True, slots=True)
class Index:
    """Made of integer or boolean inputs alone: token ids, positions, masks.

    Attributes:
        inputs: The input landmarks it is made of.
    """

    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """A function of one weight.

    Attributes:
        weight: Its state-dict key.
        shape: Shape of this value.
        view: What was done to the stored weight so far.
        exact: Whether `view` tells all of it.
        buffer: Whether the model declares it as a buffer, which counts as a weight only in a weight's place.
        looked_up: Whether rows were looked up at fixed places (a position table).
        covers: As part of a blend that was joined along its first axis: the entries that are this weight's.
    """

    weight: str
    shape: Shape
    view: View = View()
    exact: bool = True
    buffer: bool = False
    looked_up: bool = False
    covers: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Blend:
    """A function of several weights and nothing else, in order of first use."""

    parts: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Data:
    """A landmark's output, or a part of it, seen through transparent operators.

    Attributes:
        landmark: The landmark's index.
        port: Nodes that took a part of it, outermost first.
    """

    landmark: int
    port: tuple[int, ...] = ()


Value: TypeAlias = Fixed | Index | Stored | Blend | Data
FIXED = Fixed()


def permuted(value: Stored, axes: tuple[int, ...]) -> Stored:
    """A stored value with its axes in another order."""
    shape = tuple(value.shape[axis] for axis in axes)
    if value.looked_up:  # the weight is the table; what happens to the rows that were read says nothing about it
        return replace(value, shape=shape)
    if value.view.shape is not None:
        return replace(value, shape=shape, exact=value.exact and _only_ones_move(value.shape, axes))
    before = value.view.axes or tuple(range(len(axes)))
    return replace(value, shape=shape, view=replace(value.view, axes=tuple(before[axis] for axis in axes)))


def reshaped(value: Stored, shape: Shape) -> Stored:
    """A stored value under another shape; an expansion repeats entries and leaves the view as it is."""
    if value.looked_up:
        return replace(value, shape=shape)
    if prod(shape) != prod(value.shape):
        same_rank = len(shape) == len(value.shape)
        view = value.view if same_rank else replace(value.view, shape=value.shape)  # later axes are not the stored ones
        return replace(value, shape=shape, view=view)
    return replace(value, shape=shape, view=replace(value.view, shape=shape))


def sliced(value: Stored, axis: int, start: int, stop: int) -> Stored:
    """Entries `start` to `stop` of a stored value along an axis."""
    shape = (*value.shape[:axis], stop - start, *value.shape[axis + 1 :])
    if shape == value.shape:
        return value
    if value.looked_up:
        return replace(value, shape=shape)
    if value.view.shape is not None:
        return replace(value, shape=shape, exact=False)
    stored_axis = value.view.axes[axis] if value.view.axes else axis
    regions = (*value.view.regions, Region(stored_axis, start, stop))
    return replace(value, shape=shape, view=replace(value.view, regions=regions))


def scaled(value: Stored, scale: float, shift: float) -> Stored:
    """`scale * value + shift`."""
    view = replace(value.view, scale=value.view.scale * scale, shift=value.view.shift * scale + shift)
    return replace(value, view=view)


def inexact(value: Stored, shape: Shape) -> Stored:
    """A stored value after something that a view does not tell; of a table, only what was read changes."""
    return replace(value, shape=shape, exact=value.exact and value.looked_up)


def joined(parts: list[Data]) -> Data:
    """Parts of one landmark put together: what their ports have in common remains."""
    port = parts[0].port
    for part in parts[1:]:
        common = 0
        while common < min(len(port), len(part.port)) and port[common] == part.port[common]:
            common += 1
        port = port[:common]
    return Data(parts[0].landmark, port)


def _only_ones_move(shape: Shape, axes: tuple[int, ...]) -> bool:
    kept = [axis for axis in axes if shape[axis] != 1]
    return kept == sorted(kept)
