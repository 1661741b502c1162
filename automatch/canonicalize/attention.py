"""Recognise attention that is spelled by hand: a product of queries and keys, a softmax, a product with values.

Masks, scales, soft caps and added biases between the first product and the softmax are looked through. `bmm`, `matmul`,
`baddbmm` and `einsum` spellings become one operator, `scaled_dot_product_attention(query, key, value, bias...)`.
"""

from __future__ import annotations

from dataclasses import replace

from automatch.canonicalize.ops import CASTS, RESHAPES, SCALAR_MATHS, SOFTMAXES
from automatch.core.graph import Graph, Node, Ref, operands

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
    factors = operands(node)[-2:]
    if len(factors) != 2:
        return node
    for weights, value in (factors, factors[::-1]):
        softmax = _behind(nodes, weights)
        if softmax is None or stored[value]:
            continue
        scores, biases = _scores(nodes, operands(nodes[softmax])[0], stored, set())
        if scores is None:
            continue
        query, key = _query_and_key(nodes[scores])
        args = tuple(Ref(index) for index in (query, key, value, *biases))
        return replace(node, op="scaled_dot_product_attention", args=args, kwargs=())
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


def _scores(nodes: list[Node], index: int, stored: list[bool], seen: set[int]) -> tuple[int | None, tuple[int, ...]]:
    """The product of queries and keys behind a softmax's input, and what was added to it on the way."""
    node = nodes[index]
    seen.add(index)
    if node.op in _PRODUCTS and not all(stored[factor] for factor in operands(node)[-2:]):
        return index, operands(node)[:-2]
    if len(seen) > _REACH or node.op not in _BEFORE_SOFTMAX:
        return None, ()
    tensors = operands(node)
    for position, tensor in enumerate(tensors):
        product, biases = (None, ()) if tensor in seen else _scores(nodes, tensor, stored, seen)
        if product is not None:
            others = tensors[:position] + tensors[position + 1 :]
            return product, biases + (others if node.op in ("add", "sub") else ())
    return None, ()


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
