"""A recorded fx graph becomes the plain `Graph` nodes that every later stage reads.

1. Placeholders and held tensors become `weight`, `input` and `constant` nodes; a tied weight has one node.
2. Operators keep their order, lose namespace and overload, and take their sizes as plain integers.
3. What only guards the recording (assertions, symbolic sizes, gradient and autocast switches) is dropped.
4. Regions that torch wraps into a graph of their own are inlined; control flow (`cond`, `scan`) stays one opaque node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from automatch.checkpoint.dtypes import dtype_name
from automatch.core.graph import Arg, Node, Ref, Shape, refs
from automatch.trace.lines import CodeLines, module_path
from automatch.trace.recording import Origin, Recording

_DROPPED = ("_assert", "_check", "_guards", "sym_constrain", "_set_grad_enabled", "_enter_autocast", "_exit_autocast")
_INLINED = (
    "wrap_with_set_grad_enabled",
    "wrap_with_autocast",
    "wrap",
    "wrap_activation_checkpoint",
    "tag_activation_checkpoint",
    "invoke_subgraph",
    "hints_wrapper",
)
_UNKNOWN_SIZE = -1


@dataclass(frozen=True, slots=True)
class Converted:
    """The nodes of a graph, which of them the model returned, and what was noticed on the way."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    notes: tuple[str, ...]


def convert(recording: Recording) -> Converted:
    """Convert a recording; sizes that depend on data and that no run has filled in are -1, with a note."""
    builder = _Builder(recording.origins, recording.shared_modules)
    outputs = builder.run(recording.module, None)
    found = tuple(index for index in refs(outputs) if builder.nodes[index].shape is not None)
    return Converted(tuple(builder.nodes), found, (*recording.notes, *dict.fromkeys(builder.notes)))


def operator_name(target: Any) -> str:
    """An operator's name without namespace and overload.

    Example:
        >>> operator_name(torch.ops.aten.linear.default)
        'linear'
        >>> import operator; operator_name(operator.getitem)
        'getitem'
    """
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.split("::")[-1]
    if isinstance(target, str):
        return target
    name: str = target.__name__
    return name.split("::")[-1]


@dataclass(slots=True)
class _Builder:
    """The nodes so far. Values of fx nodes live in an environment for each (sub)graph, since names repeat there."""

    origins: Mapping[str, Origin]
    shared: Mapping[str, str]
    nodes: list[Node] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    weights: dict[str, Ref] = field(default_factory=dict)
    lines: CodeLines = field(default_factory=CodeLines)

    def run(self, module: fx.GraphModule, operands: Sequence[Arg] | None) -> Arg:
        """Convert one graph; `operands` are the values of its placeholders, None at the top."""
        env: dict[fx.Node, Arg] = {}
        given = None if operands is None else iter(operands)
        for node in module.graph.nodes:
            match node.op:
                case "placeholder":
                    env[node] = self.placeholder(node) if given is None else next(given, None)
                case "get_attr":
                    env[node] = self.attribute(node, module)
                case "call_function":
                    env[node] = self.call(node, env, module)
                case "output":
                    return self.argument(node.args[0], env)
                case _:
                    env[node] = None  # `call_module` and `call_method` only guard in exported graphs
        return ()

    def placeholder(self, node: fx.Node) -> Arg:
        origin = self.origins.get(node.name)
        if origin is None:
            return _literal(node.meta.get("val"), self.size)
        if origin.kind != "input" and not node.users:
            return None
        return self.leaf(origin, node)

    def attribute(self, node: fx.Node, module: fx.GraphModule) -> Arg:
        value: Any = module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if not isinstance(value, torch.Tensor):
            return None  # a graph of its own; its call looks it up again
        if "val" not in node.meta:
            node.meta["val"] = value
        return self.leaf(Origin("constant", str(node.target)), node)

    def leaf(self, origin: Origin, node: fx.Node) -> Ref:
        if origin.kind == "weight" and origin.name in self.weights:
            return self.weights[origin.name]
        shape, dtype = self.kind_of(node)
        ref = self.emit(Node(len(self.nodes), origin.kind, shape=shape, dtype=dtype, target=origin.name))
        if origin.kind == "weight":
            self.weights[origin.name] = ref
        return ref

    def call(self, node: fx.Node, env: dict[fx.Node, Arg], module: fx.GraphModule) -> Arg:
        name = operator_name(node.target)
        if name.startswith(_DROPPED):
            return None
        value = node.meta.get("val")
        if isinstance(value, (bool, int, torch.SymInt, torch.SymBool)):
            return _literal(value, self.size)
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self.higher_order(name, node, env, module)
        args = tuple(self.argument(arg, env) for arg in node.args)
        if name == "getitem" and isinstance(args[0], tuple) and isinstance(args[1], int):
            return args[0][args[1]]
        return self.operator(name, node, args, env)

    def operator(self, name: str, node: fx.Node, args: tuple[Arg, ...], env: dict[fx.Node, Arg]) -> Ref:
        shape, dtype = self.kind_of(node)
        module = module_path(node.meta.get("nn_module_stack"))
        return self.emit(
            Node(
                index=len(self.nodes),
                op=name,
                args=args,
                kwargs=tuple((key, self.argument(value, env)) for key, value in sorted(node.kwargs.items())),
                shape=shape,
                dtype=dtype,
                module=self.shared.get(module, module),
                line=self.lines.of(node.meta.get("stack_trace")),
            )
        )

    def higher_order(self, name: str, node: fx.Node, env: dict[fx.Node, Arg], module: fx.GraphModule) -> Arg:
        graphs = [(place, graph) for place, arg in enumerate(node.args) if (graph := _graph(arg, module)) is not None]
        if name in _INLINED and len(graphs) == 1:
            place, graph = graphs[0]
            wanted = sum(inner.op == "placeholder" for inner in graph.graph.nodes)
            operands = [self.argument(arg, env) for arg in node.args[place + 1 :]]
            operands = operands if len(operands) == wanted else list(_operands(operands, wanted))
            return self.run(graph, operands)
        self.notes.append(f"{name} was recorded as one opaque operator: what is inside its branches was not looked at")
        args = tuple("<graph>" if _graph(arg, module) is not None else self.argument(arg, env) for arg in node.args)
        return self.operator(name, node, args, env)

    def emit(self, node: Node) -> Ref:
        self.nodes.append(node)
        return Ref(node.index)

    def kind_of(self, node: fx.Node) -> tuple[Shape | None, str | None]:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return None, None
        return tuple(self.size(dim) for dim in value.shape), dtype_name(value.dtype)

    def size(self, value: Any) -> int:
        """A size as an integer, by the run's own value where it is symbolic."""
        if isinstance(value, int):
            return value
        known = _known(value)
        if known is not None:
            return int(known)
        self.notes.append(f"sizes that depend on the data are written as {_UNKNOWN_SIZE}")
        return _UNKNOWN_SIZE

    def argument(self, value: Any, env: dict[fx.Node, Arg]) -> Arg:
        if isinstance(value, fx.Node):
            return env[value]
        if isinstance(value, (list, tuple)):
            return tuple(self.argument(item, env) for item in value)
        if isinstance(value, dict):
            return tuple(self.argument(item, env) for item in value.values())
        if isinstance(value, slice):
            return tuple(self.argument(item, env) for item in (value.start, value.stop, value.step))
        return _literal(value, self.size)


def _literal(value: Any, size: Callable[[Any], int]) -> Arg:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.SymInt):
        return size(value)
    if isinstance(value, (torch.SymBool, torch.SymFloat)):
        known: bool | float | None = _known(value)
        return known
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    return str(value).removeprefix("torch.")


def _known(value: torch.SymInt | torch.SymBool | torch.SymFloat) -> Any:
    """The value that a symbolic number had in the recorded run; None where no run gave it one."""
    node = value.node
    if node.has_hint():
        return node.hint
    seen = getattr(node.shape_env, "real_tensor_prop_unbacked_vals", {})  # what draft export met on real numbers
    found = node.expr.xreplace(seen)
    return None if found.free_symbols else node.pytype(found)


def _graph(arg: object, module: fx.GraphModule) -> fx.GraphModule | None:
    if not isinstance(arg, fx.Node) or arg.op != "get_attr":
        return None
    value: Any = module
    for part in str(arg.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, fx.GraphModule) else None


def _operands(given: Sequence[Arg], wanted: int) -> tuple[Arg, ...]:
    """The operands of a wrapped region where it gets them in one tuple, or after an identifier."""
    inside = next((arg for arg in given if isinstance(arg, tuple) and len(arg) == wanted), None)
    return inside if inside is not None else tuple(given[len(given) - wanted :])
