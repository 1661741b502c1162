"""A part of a program as a program of its own: some values held fixed, some others its outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from automatch.core.graph import Shape
from automatch.trace.program import Program


def cut(
    program: Program,
    held: Collection[fx.Node],
    values: Mapping[fx.Node, Any],
    outputs: Sequence[fx.Node],
    shapes: Sequence[Shape] | None = None,
) -> Program:
    """The part of a program that makes some nodes of what is held fixed.

    Args:
        program: The program.
        held: Nodes that are constants of the part.
        values: What they hold, in this run.
        outputs: The nodes that it makes.
        shapes: What they are shaped into, where they hold as many numbers; None leaves them.
    """
    live = between(held, outputs)
    graph = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        if node not in live:
            continue
        if node in held or node.op == "placeholder":
            env[node] = graph.placeholder(f"p{len(env)}")
        else:
            env[node] = graph.create_node(
                "call_function", node.target, *fx.map_arg((node.args, node.kwargs), env.__getitem__)
            )
        env[node].meta = dict(node.meta)
    made = tuple(env[node] for node in outputs)
    if shapes is not None:
        made = tuple(_shaped(graph, node, shape) for node, shape in zip(made, shapes, strict=True))
    weights = {env[node]: name for node, name in program.weights.items() if node in live and node not in held}
    fixed = {env[node]: value for node, value in program.fixed.items() if node in live and node not in held}
    fixed |= {env[node]: pytree.tree_map(_apart, values[node]) for node in held if node in live}
    inputs = frozenset(env[node] for node in program.inputs if node in live and node not in held)
    names = set(weights.values())
    own = {name: value for name, value in program.values.items() if name in names}
    inventory = tuple(weight for weight in program.inventory if weight.name in names)
    return Program(graph, weights, fixed, inputs, made, own, inventory, program.rung)


def between(held: Collection[fx.Node], outputs: Sequence[fx.Node]) -> set[fx.Node]:
    """All that some nodes are made of, as far as what is held fixed, and both."""
    found: set[fx.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += () if node in held else node.all_input_nodes
    return found


def _shaped(graph: fx.Graph, node: fx.Node, shape: Shape) -> fx.Node:
    value = node.meta["val"]
    if tuple(value.shape) == shape or value.numel() != prod(shape):
        return node
    made = graph.call_function(torch.ops.aten.reshape.default, (node, list(shape)))
    made.meta["val"] = torch.empty(shape, dtype=value.dtype, device="meta")
    return made


def _apart(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
