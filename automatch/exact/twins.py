"""Additive twins: elements that only ever enter through their sum.

Two biases that are added, or a class token and the position under it, have equal gradients whatever the weights are.
No output tells how the sum is split. One of them carries the sum while colours are sought, the others are zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from automatch.exact.colours import Ints, Tolerance, parted
from automatch.exact.gradients import Side

_EQUAL = Tolerance(1e-10, 1e-13)
_DEAD = 1e-13


def twins(side: Side, cotangents: Sequence[Sequence[Tensor]], seed: int) -> Ints:
    """For every element the one that carries its sum: of those with equal gradients on two generic draws, one.

    Twins within one leaf are left apart: both sides hold them alike.
    """
    unknown = np.flatnonzero(side.unknown)
    drawn = (side.gradients(side.draw(seed + 100 * draw), cotangents[:1]) for draw in range(2))
    rows = np.concatenate([gradient[:, unknown] for gradient in drawn])
    rows[~np.isfinite(rows)] = 0.0
    telling = (np.abs(rows) > _DEAD * np.abs(rows).max(initial=0.0)).any(0)
    live, rows = unknown[telling], rows[:, telling]
    first = np.arange(side.size)
    if not len(live):
        return first
    colours = parted(np.zeros(len(live), np.int64), rows, _EQUAL)
    # Which twin carries the sum must not depend on the order in which a side's code happens to add: the one in the
    # largest weight does (of words and positions, the words).
    sizes = np.array([leaf.size for leaf in side.form.leaves])
    order = np.lexsort((live, -sizes[side.leaf[live]], colours))
    heads = np.concatenate([[True], np.diff(colours[order]) > 0])
    head = live[order[np.flatnonzero(heads)[np.cumsum(heads) - 1]]]
    elements = live[order]
    first[elements] = np.where(side.leaf[elements] != side.leaf[head], head, elements)
    return first
