"""Recognise "x times a function of x": norms, softmax and smooth activations that are spelled by hand.

A norm multiplies (or divides) a tensor by a statistic of the same tensor: `x * rsqrt(mean(x ** 2) + eps)`,
`(x - mean) / sqrt(var + eps)`, `x / x.norm()`. A gated activation multiplies a tensor by a pointwise function of
itself: `x * sigmoid(x)`, `0.5 * x * (1 + erf(x / sqrt(2)))`. Both are one shape of graph: a product whose second
operand leads back, through arithmetic only, to the first. A reduction on the way makes it a norm, a squashing function
an activation.
"""

from __future__ import annotations

from dataclasses import replace

from automatch.canonicalize.ops import CASTS, SCALAR_MATHS
from automatch.core.graph import Graph, Node, Ref, operands

_STATISTICS = frozenset("mean sum var std linalg_vector_norm norm var_mean std_mean getitem".split())
_SQUASHING = frozenset("sigmoid erf tanh softplus exp hardsigmoid relu6 hardtanh clamp".split())
_SHAPING = frozenset("expand expand_as unsqueeze view reshape squeeze broadcast_to".split())
_ARITHMETIC = SCALAR_MATHS | CASTS | frozenset("add sub rsub mul div maximum minimum max where".split())
_REACH = 32


def recognise_self_products(graph: Graph) -> Graph:
    """Rewrite products of a tensor with a function of itself into one operator.

    Gives `norm_by_hand(x)`, `softmax(x)`, `swish_by_hand(x)` or `gelu_by_hand(x)`; everything else stays as it is.
    """
    nodes = list(graph.nodes)
    for node in graph.nodes:
        if node.op in ("mul", "div"):
            nodes[node.index] = _recognise(nodes, node)
    return replace(graph, nodes=tuple(nodes))


def _recognise(nodes: list[Node], node: Node) -> Node:
    tensors = operands(node)
    if len(tensors) != 2 or tensors[0] == tensors[1]:
        return node
    orders = [tensors] if node.op == "div" else [tensors, tensors[::-1]]
    for first, second in orders:
        base = _base(nodes, first)
        passed = _operators_between(nodes, second, base)
        if passed is not None and (op := _name(nodes, base, passed)):
            return replace(
                node, op=op, args=(Ref(_softmax_input(nodes, base) if op == "softmax" else base),), kwargs=()
            )
    return node


def _name(nodes: list[Node], base: int, passed: set[str]) -> str | None:
    if passed & _STATISTICS:
        return "softmax" if nodes[base].op == "exp" else "norm_by_hand"
    if passed & {"sigmoid", "exp", "softplus", "hardsigmoid", "relu6", "hardtanh"}:
        return "swish_by_hand"
    return "gelu_by_hand" if passed & {"erf", "tanh"} else None


def _base(nodes: list[Node], index: int) -> int:
    """The tensor behind casts, scalar factors and the subtraction of a mean."""
    while True:
        node = nodes[index]
        tensors = operands(node)
        scalar = node.op in ("mul", "div") and len(tensors) == 1
        if (tensors and (node.op in CASTS or scalar)) or (
            node.op == "sub" and len(tensors) == 2 and _is_mean_of(nodes, tensors[1], tensors[0])
        ):
            index = tensors[0]
        else:
            return index


def _is_mean_of(nodes: list[Node], index: int, tensor: int) -> bool:
    passed = _operators_between(nodes, index, _base_of_casts(nodes, tensor))
    return passed is not None and bool(passed & {"mean", "sum", "var_mean", "getitem"})


def _base_of_casts(nodes: list[Node], index: int) -> int:
    while nodes[index].op in CASTS and operands(nodes[index]):
        index = operands(nodes[index])[0]
    return index


def _operators_between(nodes: list[Node], index: int, base: int) -> set[str] | None:
    """Operators from `base` to `index` if they are arithmetic and read no other tensor; else None."""
    passed: set[str] = set()
    seen: set[int] = set()
    found = False
    todo = [index]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        node = nodes[current]
        if current == base:
            found = True
        elif node.op == "constant":
            continue
        elif len(seen) > _REACH or node.op not in _ARITHMETIC | _STATISTICS | _SQUASHING | _SHAPING:
            return None
        else:
            passed.add(node.op)
            todo += operands(node)[:1] if node.op in _SHAPING else operands(node)
    return passed if found else None


def _softmax_input(nodes: list[Node], base: int) -> int:
    """What `exp` was taken of, without the maximum that is subtracted for safety."""
    inner = operands(nodes[base])[0]
    while nodes[inner].op == "sub" or nodes[inner].op in CASTS:
        inner = operands(nodes[inner])[0]
    return inner
