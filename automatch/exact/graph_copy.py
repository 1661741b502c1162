"""A program copied to be changed: what the passes that move weights about share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from automatch.exact.normalise import ancestors, shape_of, weights_only
from automatch.exact.ops import MOVES
from automatch.trace.program import Program, name_of

BLANK = frozenset("zeros_like new_zeros empty_like new_empty".split())
"""Operators whose result is zero, or undefined until something is written to it."""
_SHAPE_ALONE = BLANK | frozenset("new_ones new_full ones_like full_like".split())
_LIKE_OTHERS = frozenset("type_as expand_as view_as reshape_as".split())


@dataclass(slots=True, eq=False)
class Draft:
    """A private copy of a program, without what no output depends on; a pass changes it in place.

    Attributes:
        program: The copy. Its graph ends in an output node until `finished`, so that outputs count as used.
        fixed: The copy's constants, open for new ones.
        only: What its values depend on, as `weights_only` tells; kept up to date by `call`.
        returned: The output node.
    """

    program: Program
    fixed: dict[fx.Node, Any]
    only: dict[fx.Node, bool | None]
    returned: fx.Node

    @property
    def graph(self) -> fx.Graph:
        """The graph that is changed."""
        return self.program.graph

    def call(self, before: fx.Node, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A new operator in front of another."""
        with self.graph.inserting_before(before):
            made = self.graph.call_function(target, args, kwargs)
        made.meta["val"] = _value(made)
        operands = [self.only.get(item) for item in made.all_input_nodes]
        self.only[made] = None if None in operands else any(operands)
        return made

    def data(self, made: fx.Node) -> fx.Node:
        """The same operator, marked as computed from data: a contraction, whatever it contracts."""
        self.only[made] = None
        return made

    def constant(self, value: Tensor) -> fx.Node:
        """A new constant."""
        with self.graph.inserting_before(next(iter(self.graph.nodes))):
            made = self.graph.placeholder("constant")
        made.meta["val"] = torch.empty_like(value, device="meta")
        self.fixed[made] = value
        self.only[made] = False
        return made

    def finished(self) -> Program:
        """The program as it is now."""
        outputs: Any = self.returned.args[0]
        kept = ancestors(outputs)
        self.graph.erase_node(self.returned)
        for node in reversed(list(self.graph.nodes)):
            if node not in kept and node.op != "placeholder":
                self.graph.erase_node(node)
        return replace(self.program, fixed=dict(self.fixed), outputs=tuple(outputs))


def draft(program: Program) -> Draft:
    """Copy a program to change the copy."""
    graph, live = fx.Graph(), ancestors(program.outputs)
    env: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        if node in live or node.op == "placeholder":
            env[node] = graph.node_copy(node, env.__getitem__)
            env[node].meta = dict(node.meta)
    outputs = tuple(env[node] for node in program.outputs)
    fixed = {env[node]: value for node, value in program.fixed.items()}
    weights = {env[node]: name for node, name in program.weights.items()}
    inputs = frozenset(env[node] for node in program.inputs)
    made = replace(program, graph=graph, weights=weights, fixed=fixed, inputs=inputs, outputs=outputs)
    only = weights_only(made, set(graph.nodes))
    return Draft(made, fixed, only, graph.output(outputs))


def _value(node: fx.Node) -> Any:
    """A call's result without its numbers."""
    args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda item: item.meta["val"])
    args, kwargs = pytree.tree_map(_on_meta, (args, kwargs))
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def drawn(shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    """A positive tensor that gradients are wanted for."""
    return (torch.rand(shape, generator=chance, dtype=torch.float64) + 0.5).requires_grad_()


def touched(values: Sequence[Any], variables: Sequence[Tensor], chance: torch.Generator) -> list[Tensor]:
    """Which elements of some variables make a difference to any of the values."""
    total = torch.zeros((), dtype=torch.float64)
    with torch.enable_grad():
        for value in pytree.tree_leaves(values):
            real = torch.view_as_real(value) if value.is_complex() else value
            total = total + (real * torch.rand(real.shape, generator=chance, dtype=torch.float64)).sum()
    if not total.requires_grad:
        return [torch.zeros(variable.shape, dtype=torch.bool) for variable in variables]
    found = torch.autograd.grad(total, variables, allow_unused=True, retain_graph=True)
    return [
        torch.zeros(variable.shape, dtype=torch.bool) if gradient is None else gradient != 0
        for gradient, variable in zip(found, variables, strict=True)
    ]


def along(mask: Tensor, axes: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> Tensor:
    """A mask of an output, as one of an operand that broadcasts to it along these axes."""
    ordered = sorted((own, axis % mask.dim()) for axis, own in axes)
    kept = [axis for _, axis in ordered]
    rest = [axis for axis in range(mask.dim()) if axis not in kept]
    reduced = mask.permute(*kept, *rest).flatten(len(kept)).any(-1) if rest else mask.permute(*kept)
    own = {place for place, _ in ordered}
    return reduced.reshape([size if place in own else 1 for place, size in enumerate(shape)])


def shape_operands(node: fx.Node) -> list[Any]:
    """The operands of which an operator reads only the shape or the type."""
    name = name_of(node)
    if name == "copied" or name in _SHAPE_ALONE:
        return [node.args[0]]
    return [arg for arg in node.args[1:] if arg is not node.args[0]] if name in _LIKE_OTHERS else []


def origin_axis(node: fx.Node, reader: fx.Node, onward: Mapping[fx.Node, fx.Node], axis: int) -> int | None:
    """The axis of a node, from its end, that an axis of what another reads comes from, by elementwise operators."""
    shape = shape_of(node) or ()
    numbers = torch.arange(prod(shape)).reshape(shape)
    while onward[node] is not reader:
        node = onward[node]
        if name_of(node) not in MOVES:
            numbers = numbers.broadcast_to(shape_of(node) or ())
            continue
        if len(node.all_input_nodes) > 1:
            return None
        numbers = node.target(numbers, *node.args[1:], **node.kwargs)  # type: ignore[operator]
        if not isinstance(numbers, Tensor):
            return None
    row = numbers.movedim(axis, -1).flatten(0, -2)[0, :2].long()
    apart = [place for place, index in enumerate(torch.unravel_index(row, shape)) if len(set(index.tolist())) > 1]
    return apart[0] - len(shape) if len(apart) == 1 else None
