"""When weights run: the order that a side's code, where there is any, reads them in."""

from __future__ import annotations

from collections.abc import Mapping

from automatch.core.graph import Graph, operands


def run_order(graph: Graph) -> Mapping[str, int]:
    """For every weight that some operator reads, the place of the first that does; empty where there is no code.

    Example:
        >>> from automatch.core.graph import Node, Ref, Weight
        >>> weights = tuple(Weight(name, (4,), "float32") for name in ("late", "early"))
        >>> nodes = [Node(at, "weight", target=weight.name) for at, weight in enumerate(weights)]
        >>> nodes += [Node(2, "mul", (Ref(1), 2.0)), Node(3, "mul", (Ref(2), Ref(0)))]
        >>> run_order(Graph(weights, tuple(nodes)))
        {'early': 2, 'late': 3}
    """
    named = {node.index: node.target for node in graph.nodes if node.op == "weight"}
    found: dict[str, int] = {}
    for node in graph.nodes:
        for at in operands(node):
            if at in named:
                found.setdefault(named[at], node.index)
    return found
