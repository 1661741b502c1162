"""Whether two models can be one function at all, by their sizes: known before anything is searched or run."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from automatch.core.expr import Expr, Resize, children
from automatch.core.graph import Graph, operands
from automatch.core.mapping import Entry, MappingRecord

_CLOSE = 1.02
"""Ratio of the numbers that two spellings of one function hold; a bias that one side lacks is less."""

_MOST = 0.5
"""Share of the weights of two and more axes that are resized, above which the widths are taken to differ.

A vocabulary of another length (padded, or cut) changes one size that the rows of a table have, and no width.
"""

_LOOKUPS = frozenset(("embedding", "embedding_bag", "index_select", "gather", "index"))


def impossible(record: MappingRecord, source: Graph, target: Graph) -> str:
    """Why two models cannot be one function; empty where they may.

    Their structural alignment tells: layers were left out or repeated, or most weights had to be resized. One that is
    wrong (an unusual layout) must not decide that, so the models must also hold different counts of numbers, in all
    and in matrices, which no layout changes.

    Args:
        record: What structure made of them.
        source: The source, recorded.
        target: The target, recorded.
    """
    counts = [(_numbers(source, axes), _numbers(target, axes)) for axes in (1, 2)]
    if any(not min(pair) or max(pair) <= _CLOSE * min(pair) for pair in counts):
        return ""
    depths = [(chain, len(chain.layers)) for chain in record.chains if chain.source_depth != len(chain.layers)]
    # a chain whose weights were not all paired may be read wrongly: stacked layers look like fewer
    if depths and all(entry.status != "unmapped" for entry in record.entries):
        chain, depth = depths[0]
        return f"{chain.source_depth} layers {chain.source} in the source, {depth} layers {chain.target} in the target"
    wide = [entry for entry in record.entries if entry.expr is not None and sum(size > 1 for size in entry.shape) > 1]
    tables = _lookups(target)
    rows = {pair for entry in wide if entry.target in tables for pair in _changed(entry) if pair[1] == entry.shape[0]}
    resized = [entry for entry in wide if _changed(entry) - rows]
    if len(resized) <= _MOST * len(wide):
        return ""
    was, now = min(_changed(resized[0]) - rows)
    return f"other widths: {resized[0].target} is {list(resized[0].shape)}, with {now} where its source has {was}"


def _changed(entry: Entry) -> set[tuple[int, int]]:
    """Sizes of axes that an entry's expression changes, before and after."""
    return set() if entry.expr is None else set(_resizes(entry.expr))


def _resizes(expr: Expr) -> Iterator[tuple[int, int]]:
    if isinstance(expr, Resize):
        yield from ((old, new) for old, new in zip(expr.of.shape, expr.shape, strict=True) if old != new)
    for child in children(expr):
        yield from _resizes(child)


def _lookups(graph: Graph) -> set[str]:
    """Weights that rows are looked up in."""
    found = {node.index: node.target for node in graph.nodes if node.op == "weight"}
    return {found[place] for node in graph.nodes if node.op in _LOOKUPS for place in operands(node) if place in found}


def _numbers(graph: Graph, axes: int) -> int:
    """How many numbers the model computes with, in weights of so many axes and more; rows looked up left out."""
    readers: dict[int, set[str]] = {}
    for node in graph.nodes:
        for place in dict.fromkeys(operands(node)):
            readers.setdefault(place, set()).add(node.op)
    return sum(
        prod(node.shape)
        for node in graph.nodes
        if node.op == "weight" and node.shape is not None and sum(size > 1 for size in node.shape) >= axes
        if readers.get(node.index, set()) - _LOOKUPS
    )
