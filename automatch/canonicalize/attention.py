"""Recognise attention that is spelled by hand: a product of queries and keys, a softmax, a product with values.

Masks, scales, soft caps and added biases between the first product and the softmax are looked through. `bmm`, `matmul`,
`baddbmm` and `einsum` spellings become one operator, `scaled_dot_product_attention(query, key, value, bias...)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from automatch.canonicalize.ops import CASTS, RESHAPES, SCALAR_MATHS, SOFTMAXES
from automatch.core.graph import Arg, Graph, Node, Ref, operands

_PRODUCTS = frozenset("matmul bmm einsum baddbmm".split())
_AFTER_SOFTMAX = CASTS | RESHAPES | frozenset("mul nan_to_num where masked_fill slice".split())
_BEFORE_SOFTMAX = CASTS | RESHAPES | SCALAR_MATHS | frozenset("add sub mul div where masked_fill tanh cat".split())
_REACH = 24


def recognise_attention(graph: Graph) -> Graph:
    """Rewrite every `softmax(q @ k) @ v` into `scaled_dot_product_attention`."""
    nodes = list(graph.nodes)
    stored = _made_of_weights_alone(graph)
    for node in graph.nodes:
        if node.op in _PRODUCTS:
            nodes[node.index] = _recognise(nodes, node, stored)
    return replace(graph, nodes=tuple(nodes))


def _recognise(nodes: list[Node], node: Node, stored: list[bool]) -> Node:
    sides = operands(node)[-2:]
    if len(sides) != 2:
        return node
    for weights, value in (sides, sides[::-1]):
        softmax = _behind(nodes, weights)
        if softmax is None or stored[value]:
            continue
        scores = _scores(nodes, operands(nodes[softmax])[0], stored, set())
        if scores is None:
            continue
        query, key = _query_and_key(nodes[scores.product])
        args: tuple[Arg, ...] = tuple(Ref(index) for index in (query, key, value, *scores.terms))
        factors: tuple[Arg, ...] = tuple(Ref(index) for index in scores.factors)
        return replace(node, op="scaled_dot_product_attention", args=args, kwargs=(("factors", factors),))
    return node


def _behind(nodes: list[Node], index: int) -> int | None:
    """The softmax that a tensor of attention weights comes from."""
    for _ in range(_REACH):
        node = nodes[index]
        if node.op in SOFTMAXES:
            return index
        if node.op not in _AFTER_SOFTMAX or not operands(node):
            return None
        index = operands(node)[0] if node.op != "where" else operands(node)[-1]
    return None


@dataclass(frozen=True, slots=True)
class _Scores:
    """The product of queries and keys, what was added to it before the softmax, and what it was multiplied by."""

    product: int
    terms: tuple[int, ...] = ()
    factors: tuple[int, ...] = ()


def _scores(nodes: list[Node], index: int, stored: list[bool], seen: set[int]) -> _Scores | None:
    """What lies behind a softmax's input; None where it is no product of queries and keys."""
    node = nodes[index]
    seen.add(index)
    if node.op in _PRODUCTS and not all(stored[factor] for factor in operands(node)[-2:]):
        return _Scores(index, operands(node)[:-2])
    if len(seen) > _REACH or node.op not in _BEFORE_SOFTMAX:
        return None
    tensors = operands(node)
    for position, tensor in enumerate(tensors):
        found = None if tensor in seen else _scores(nodes, tensor, stored, seen)
        if found is None:
            continue
        others = tensors[:position] + tensors[position + 1 :]
        if node.op in ("add", "sub"):
            return replace(found, terms=found.terms + others)
        return replace(found, factors=found.factors + others) if node.op in ("mul", "div") else found
    return None


def _query_and_key(node: Node) -> tuple[int, int]:
    """Which factor of the scores is the query: the one whose position is not the axis that softmax runs over."""
    first, second = operands(node)[-2:]
    if node.op != "einsum" or not isinstance(node.args[0], str):
        return first, second
    terms, _, result = node.args[0].replace(" ", "").partition("->")
    left = terms.partition(",")[0]
    return (second, first) if result and result[-1] in left else (first, second)


def _made_of_weights_alone(graph: Graph) -> list[bool]:
    """For every node, whether it depends on weights but on no input."""
    weights, inputs = [False] * len(graph.nodes), [False] * len(graph.nodes)
    for node in graph.nodes:
        reads = operands(node)
        weights[node.index] = node.op == "weight" or any(weights[i] for i in reads)
        inputs[node.index] = node.op == "input" or any(inputs[i] for i in reads)
    return [w and not i for w, i in zip(weights, inputs, strict=True)]
