"""Tied source weights: which of a tensor's keys a rule should name.

A mapping names a tied tensor by its first key. A rule must also hold for models that do not tie: of an embedding and a
head that are one tensor in the example, the target's head is made from the head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from automatch.core.expr import Source
from automatch.core.expr_rewrite import with_sources
from automatch.core.mapping import Entry, MappingRecord


def untied(record: MappingRecord) -> tuple[Entry, ...]:
    """The entries, with the likeliest key of every tied source weight in the place of its first.

    Target keys that read one tied tensor share its keys out, each taking the one that is most like it.

    Example:
        >>> from automatch.core.graph import Weight
        >>> from automatch.core.mapping import Evidence, Side
        >>> tied = Weight("embed.weight", (4, 2), "float32", aliases=("lm_head.weight",))
        >>> entries = [
        ...     Entry(key, (4, 2), "float32", "structural", Source("embed.weight", (4, 2)), Evidence("names"))
        ...     for key in ("head.weight", "tokens.weight")
        ... ]
        >>> sides = Side("", "names", (tied,)), Side("", "names", ())
        >>> [entry.sources for entry in untied(MappingRecord(*sides, tuple(entries)))]
        [('lm_head.weight',), ('embed.weight',)]
    """
    tied = {weight.name: weight.keys for weight in record.source.weights if weight.aliases}
    tied |= {alias: keys for keys in list(tied.values()) for alias in keys}
    chosen: dict[tuple[str, str], str] = {}
    for keys in dict.fromkeys(tied.values()):
        readers = [entry.target for entry in record.entries if set(entry.sources) & set(keys)]
        chosen |= {(reader, keys[0]): key for reader, key in _shared_out(readers, keys).items()}
    return tuple(_named(entry, tied, chosen) for entry in record.entries)


def _named(entry: Entry, tied: Mapping[str, tuple[str, ...]], chosen: Mapping[tuple[str, str], str]) -> Entry:
    if entry.expr is None or not any(key in tied for key in entry.sources):
        return entry

    def give(leaf: Source) -> Source:
        return Source(chosen[entry.target, tied[leaf.key][0]], leaf.shape) if leaf.key in tied else leaf

    return Entry(entry.target, entry.shape, entry.dtype, entry.status, with_sources(entry.expr, give), entry.evidence)


def _shared_out(readers: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """A key for every reader; each key once, as far as they go, then again."""
    found: dict[str, str] = {}
    left = list(readers)
    while left:
        likeness = np.array([[_likeness(reader, key) for key in keys] for reader in left])
        rows, columns = linear_sum_assignment(-likeness)
        found |= {left[int(row)]: keys[int(column)] for row, column in zip(rows, columns, strict=True)}
        left = [reader for reader in left if reader not in found]
    return found


def _likeness(one: str, other: str) -> float:
    """Dice's coefficient of the words of two keys."""
    mine, theirs = (set(re.findall(r"[A-Za-z]+|\d+", key)) for key in (one, other))
    return 2 * len(mine & theirs) / max(1, len(mine) + len(theirs))
