"""A program copied to be changed: what the passes that move weights about share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from automatch.exact.normalise import ancestors, weights_only
from automatch.trace.program import Program

aten = torch.ops.aten


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
