"""Whether two models can be one function at all, by their sizes: known before anything is searched or run."""

from __future__ import annotations

from math import prod

from automatch.core.graph import Graph, operands
from automatch.core.mapping import Entry, MappingRecord
from automatch.exact.plain import resizes

_CLOSE = 1.02
"""Ratio of the numbers that two spellings of one function hold; a bias that one side lacks is less."""

_MOST = 0.5
"""Share of the weights of two and more axes that are resized, above which the widths are taken to differ."""

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
    if depths:
        chain, depth = depths[0]
        return f"{chain.source_depth} layers {chain.source} in the source, {depth} layers {chain.target} in the target"
    wide = [entry for entry in record.entries if entry.expr is not None and _axes(entry) > 1]
    resized = [entry for entry in wide if entry.expr is not None and resizes(entry.expr)]
    if len(resized) <= _MOST * len(wide):
        return ""
    example = resized[0]
    shapes = {key: weight.shape for weight in record.source.weights for key in weight.keys}
    was = next((list(shapes[key]) for key in example.sources if key in shapes), "nothing")
    return f"other widths: {example.target} is {list(example.shape)}, what it is made of {was}"


def _axes(entry: Entry) -> int:
    return sum(size > 1 for size in entry.shape)


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
