"""Operators that torch offers under several names, under one."""

from __future__ import annotations

from dataclasses import replace

from automatch.core.graph import Graph

_ALIASES = {
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "subtract": "sub",
    "negative": "neg",
    "absolute": "abs",
    "concat": "cat",
    "concatenate": "cat",
    "clip": "clamp",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "greater": "gt",
    "greater_equal": "ge",
    "less": "lt",
    "less_equal": "le",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "moveaxis": "movedim",
    "special_expit": "sigmoid",
}


def one_spelling(graph: Graph) -> Graph:
    """The same graph with every operator under its usual name."""
    nodes = tuple(replace(node, op=_ALIASES[node.op]) if node.op in _ALIASES else node for node in graph.nodes)
    return replace(graph, nodes=nodes)
