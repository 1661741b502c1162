"""From a map that says of every element where it comes from to an expression that a person can read.

No layout is named here. A block whose indices are one nested strided form (`layout_strides`) is a reshape, slices and a
permutation; any other block is cut where its kind or its walk through the source changes (`layout_cuts`), and the
pieces are joined. Where that leads to more pieces than a person would read, the elements are gathered one by one. The
result is held against the map, element by element, before it is given.

Example:
    >>> from automatch.core.expr import Source, text
    >>> q, k = Source("q", (2, 3)), Source("k", (2, 3))
    >>> print(text(expression(element_map((4, 3), (q, k), [0] * 6 + [1] * 6, [*range(6), *range(6)]))))
    cat(q, k)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automatch.core.expr import Affine, Concat, Constant, Expr, Gather, Source, children
from automatch.core.graph import Shape
from automatch.synthesize.build import reshape
from automatch.synthesize.layout_cuts import Block, Cut, best_cut
from automatch.synthesize.layout_replay import Origin, replaced, replayed
from automatch.synthesize.layout_strides import Indices, digits_of, moved

Floats: TypeAlias = NDArray[np.float64]

MOST_MENTIONS = 12
"""A block that names more pieces than this for each kind of value in it is gathered instead."""


FEW_MENTIONS = 3
"""The same where a piece had to be gathered."""


@dataclass(frozen=True, slots=True, eq=False)
class ElementMap:
    """Where every element of a target weight comes from. Arrays are flat, one entry an element, row by row.

    Attributes:
        shape: Shape of the target weight.
        leaves: What elements may be taken from.
        leaf: Which leaf; -1 for a constant.
        index: The flat index into that leaf; of no meaning for a constant.
        scale: The element is `scale * leaf.flat[index] + shift`.
        shift: See `scale`; the value of a constant.
    """

    shape: Shape
    leaves: tuple[Expr, ...]
    leaf: Indices
    index: Indices
    scale: Floats
    shift: Floats


def element_map(
    shape: Shape,
    leaves: Sequence[Expr],
    leaf: ArrayLike,
    index: ArrayLike,
    scale: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
) -> ElementMap:
    """An element map from lists, or from one number that holds for all elements."""
    size = prod(shape)
    whole = [np.broadcast_to(np.asarray(part, dtype=np.int64).reshape(-1), size) for part in (leaf, index)]
    real = [np.broadcast_to(np.asarray(part, dtype=np.float64).reshape(-1), size) for part in (scale, shift)]
    return ElementMap(shape, tuple(leaves), whole[0], whole[1], real[0], real[1])


@dataclass(frozen=True, slots=True)
class _Kind:
    """What elements of one kind have in common: their leaf (None for constants) and what is computed with it."""

    leaf: Source | None
    scale: float
    shift: float

    def of(self, taken: Expr) -> Expr:
        """The value of elements of this kind."""
        return taken if (self.scale, self.shift) == (1.0, 0.0) else Affine(taken, self.scale, self.shift)


def expression(elements: ElementMap) -> Expr:
    """The shortest readable expression found that is exactly this map.

    It is found in time about linear in the number of elements, and the same map always gives the same expression.

    Args:
        elements: The map.

    Raises:
        ValueError: An array has not one entry an element, or an index is outside its leaf.
    """
    _check(elements)
    if not prod(elements.shape):
        return Constant(0.0, elements.shape)
    # placeholders, so that what is inside a leaf is not mistaken for what is done with it
    stands = tuple(Source(str(number), leaf.shape) for number, leaf in enumerate(elements.leaves))
    block, kinds = _kinds(elements, stands)
    found = _arranged(block, kinds)
    if not _is_exact(found, elements, stands):
        found = _gathered(block, kinds)
    return replaced(found, dict(zip(stands, elements.leaves, strict=True)))


def _check(elements: ElementMap) -> None:
    size = prod(elements.shape)
    for name in ("leaf", "index", "scale", "shift"):
        found = getattr(elements, name).shape
        if found != (size,):
            raise ValueError(f"{name}: shape {list(found)}, but the weight has {size} elements")
    if not size:
        return
    sizes = np.array([*(prod(leaf.shape) for leaf in elements.leaves), 1])
    if elements.leaf.min() < -1 or elements.leaf.max() >= len(elements.leaves):
        raise ValueError(f"leaf: there are {len(elements.leaves)} leaves")
    named = elements.leaf >= 0
    if ((elements.index < 0) | (elements.index >= sizes[elements.leaf]))[named].any():
        raise ValueError("index: an entry is outside its leaf")


def _kinds(elements: ElementMap, stands: tuple[Source, ...]) -> tuple[Block, list[_Kind]]:
    """The map as one block, and the kinds of value in it."""
    named = elements.leaf >= 0
    index = np.where(named, elements.index, 0)
    scale = np.where(named, elements.scale, 0.0)
    code = np.zeros(len(index), dtype=np.int64)
    for column in (elements.leaf, scale, elements.shift):
        code = _combined(code, column)
    _, first, kind = _unique(code)
    kinds = [_kind(elements, int(place), stands) for place in first]
    return Block(kind.reshape(elements.shape), index.reshape(elements.shape)), kinds


def _kind(elements: ElementMap, place: int, stands: tuple[Source, ...]) -> _Kind:
    leaf = int(elements.leaf[place])
    shift = float(elements.shift[place])
    return _Kind(stands[leaf], float(elements.scale[place]), shift) if leaf >= 0 else _Kind(None, 0.0, shift)


def _combined(code: Indices, column: Indices | Floats) -> Indices:
    """Numbers that differ where the code or the column does."""
    count, _, place = _unique(column)
    return code if count == 1 else _unique(code * count + place)[2]


def _unique(column: Indices | Floats) -> tuple[int, Indices, Indices]:
    """How many values there are, the first place of each, and which one each entry has; fast where entries repeat."""
    starts = np.flatnonzero(np.concatenate([[True], column[1:] != column[:-1]]))
    values, first, place = np.unique(column[starts], return_index=True, return_inverse=True)
    lengths = np.diff(np.append(starts, len(column)))
    return len(values), starts[first], np.repeat(place.reshape(-1), lengths).astype(np.int64)


def _arranged(block: Block, kinds: list[_Kind]) -> Expr:
    """A block as movement of its leaves if it can be read, else gathered."""
    uniform = block.uniform
    if uniform:
        whole = _in_one(block, kinds[int(block.kind.flat[0])])
        if whole is not None:
            return whole
    present = 1 if uniform else len(np.unique(block.kind))
    cut = best_cut(block, MOST_MENTIONS * present)
    if cut is None:
        return _gathered(block, kinds)
    joined = _joined(block, cut, kinds)
    # pieces that are themselves without order say that the whole is
    most = (FEW_MENTIONS if _gathers(joined) else MOST_MENTIONS) * present
    return joined if _mentions(joined) <= most else _gathered(block, kinds)


def _in_one(block: Block, kind: _Kind) -> Expr | None:
    """A block of one kind as one movement; None where it is not one."""
    if kind.leaf is None:
        return Constant(kind.shift, block.shape)
    flat = block.index.reshape(-1)
    digits = digits_of(flat)
    taken = None if digits is None else moved(kind.leaf, int(flat[0]), digits, block.shape)
    return None if taken is None else kind.of(taken)


def _joined(block: Block, cut: Cut, kinds: list[_Kind]) -> Expr:
    """The pieces of a block side by side."""
    view = block.viewed(cut.shape)
    parts: list[Expr] = []
    for start, stop in pairwise(cut.bounds):
        part = _arranged(view.piece(cut.axis, start, stop), kinds)
        nested = isinstance(part, Concat) and part.axis == cut.axis
        parts.extend(children(part) if nested else [part])
    return reshape(Concat(tuple(parts), cut.axis), block.shape)


def _mentions(expr: Expr) -> int:
    """How many leaves and constants an expression names, repeats counted."""
    inner = children(expr)
    return sum(map(_mentions, inner)) if inner else 1


def _gathers(expr: Expr) -> bool:
    return isinstance(expr, Gather) or any(map(_gathers, children(expr)))


def _gathered(block: Block, kinds: list[_Kind]) -> Expr:
    """A block element by element, out of its leaves end to end."""
    present = [int(kind) for kind in np.unique(block.kind)]
    if len(present) == 1:
        kind = kinds[present[0]]
        index = tuple(block.index.reshape(-1).tolist())
        return (
            Constant(kind.shift, block.shape) if kind.leaf is None else kind.of(Gather(kind.leaf, block.shape, index))
        )
    ends = [_end_to_end(kinds[kind]) for kind in present]
    offsets = np.zeros(len(kinds), dtype=np.int64)
    offsets[present] = np.cumsum([0, *(part.shape[0] for part in ends[:-1])])
    index = tuple((block.index + offsets[block.kind]).reshape(-1).tolist())
    return Gather(Concat(tuple(ends)), block.shape, index)


def _end_to_end(kind: _Kind) -> Expr:
    if kind.leaf is None:
        return Constant(kind.shift, (1,))
    return kind.of(reshape(kind.leaf, (prod(kind.leaf.shape),)))


def _is_exact(found: Expr, elements: ElementMap, stands: tuple[Source, ...]) -> bool:
    """Whether an expression takes every element from where the map says."""
    got = replayed(found, stands)
    named = elements.leaf >= 0
    want = Origin(
        np.where(named, elements.leaf, -1),
        np.where(named, elements.index, 0),
        np.where(named, elements.scale, 0.0),
        elements.shift,
    )
    return found.shape == elements.shape and got.equals(want)
