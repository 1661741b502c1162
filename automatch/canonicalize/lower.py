"""Lower a canonical graph to landmarks by reading it once, in execution order.

Every node becomes a value (`automatch.canonicalize.values`); the few that are landmarks are collected by a `Builder`.
What an operator means is decided by `automatch.canonicalize.rules`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from automatch.canonicalize.builder import Builder
from automatch.canonicalize.rules import value_of
from automatch.canonicalize.values import FIXED, Index, Stored, Value
from automatch.core.graph import Graph, Node, Weight
from automatch.core.landmarks import Edge, Landmark, LandmarkGraph

_WHOLE_NUMBERS = ("int", "uint", "bool")


def lower(graph: Graph) -> LandmarkGraph:
    """The landmarks of a canonical graph, in execution order; what reaches no output is left out."""
    builder = Builder(graph)
    weights = {name: weight for weight in graph.weights for name in weight.keys}
    for node in graph.nodes:
        builder.values.append(_value(builder, node, weights))
    for index in graph.outputs:
        builder.output(graph.nodes[index], builder.values[index])
    return LandmarkGraph(graph, _living(builder.landmarks), tuple(sorted(builder.unknown)))


def _value(builder: Builder, node: Node, weights: dict[str, Weight]) -> Value:
    if node.op == "input":
        return _input(builder, node)
    if node.op == "weight" and node.shape is not None:
        weight = weights.get(node.target)
        return Stored(node.target, node.shape, buffer=weight is not None and weight.kind == "buffer")
    if node.op in ("constant", "weight"):
        return FIXED
    return value_of(builder, node)


def _input(builder: Builder, node: Node) -> Value:
    if node.shape is None or node.dtype is None:
        return FIXED
    data = builder.add("input", node, label=node.target)
    return Index((data.landmark,)) if node.dtype.startswith(_WHOLE_NUMBERS) else data


def _living(landmarks: list[Landmark]) -> tuple[Landmark, ...]:
    """Landmarks that reach an output, and all inputs, renumbered."""
    alive = [landmark.kind in ("input", "output") for landmark in landmarks]
    for landmark in reversed(landmarks):
        for edge in landmark.ins if alive[landmark.index] else ():
            alive[edge.source] = True
    readers = Counter(edge.source for landmark in landmarks if alive[landmark.index] for edge in landmark.ins)
    kept = [landmark for landmark in landmarks if alive[landmark.index]]
    # a learned table that many operators share belongs to none of their blocks, wherever it was read first
    kept.sort(key=lambda mark: not (mark.kind == "input" or (mark.label == "learned" and readers[mark.index] > 1)))
    places = {landmark.index: place for place, landmark in enumerate(kept)}
    return tuple(
        replace(landmark, index=place, ins=tuple(_moved(edge, places) for edge in landmark.ins))
        for place, landmark in enumerate(kept)
    )


def _moved(edge: Edge, places: dict[int, int]) -> Edge:
    return replace(edge, source=places[edge.source])
