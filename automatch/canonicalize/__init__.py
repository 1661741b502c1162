"""Graph to Graph, then Graph to landmarks: one spelling for what can be spelled in many ways.

The passes run in the order of `PASSES`; each says what it recognises. `lower` reads the result.
"""

from __future__ import annotations

from automatch.canonicalize.attention import recognise_attention
from automatch.canonicalize.functionalize import functionalize
from automatch.canonicalize.lower import lower
from automatch.canonicalize.self_products import recognise_self_products
from automatch.canonicalize.spelling import one_spelling
from automatch.core.graph import Graph
from automatch.core.landmarks import LandmarkGraph

PASSES = (one_spelling, functionalize, recognise_self_products, recognise_attention)


def canonicalize(graph: Graph) -> Graph:
    """The same function with one spelling of operators, in-place writes, norms, activations and attention."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


def to_landmarks(graph: Graph) -> LandmarkGraph:
    """Canonicalize a graph and lower it to landmarks."""
    return lower(canonicalize(graph))


__all__ = ["PASSES", "canonicalize", "lower", "to_landmarks"]
