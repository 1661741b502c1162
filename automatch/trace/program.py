"""A model as a program that can be run again on any weights and inputs: the recorded fx graph with its leaves named.

Where `ladder.trace` gives a graph for comparing roles, this gives one for running: in float64 throughout, without
in-place operators, with recurrent layers spelled out step by step, so that every use of a weight is an operand of a
plain operator. Both come from one recording (`recordings`): a model is recorded as it stands, its weights are leaves,
and every precision that its code asks for is float64 in the program.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any

import torch
import torch._decomp.decompositions as _decompositions
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from automatch.core.graph import Rung, Weight
from automatch.errors import TraceError
from automatch.interruption import let_through
from automatch.trace.inputs import Inputs
from automatch.trace.isolate import duplicate, stand_in
from automatch.trace.lines import blame
from automatch.trace.recording import Recording
from automatch.trace.weights import Inventory, identity, of_module, origin_of
from automatch.trace.widened import wide, wide_copy, wide_dtype, widened

aten = torch.ops.aten
_RECURRENT: dict[Any, Callable[..., Any]] = {
    aten.lstm.input: _decompositions.lstm_impl,
    aten.gru.input: _decompositions.gru_impl,
    aten.rnn_tanh.input: _decompositions.rnn_tanh_input,
    aten.rnn_relu.input: _decompositions.rnn_relu_input,
}
_GUARDS = ("_assert", "_check", "_guards", "sym_constrain")


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A recorded model that runs on given weights.

    Attributes:
        graph: Its operators in execution order, none of which writes to its operands.
        weights: By placeholder, the `Weight.name` that it stands for; tied weights share one name.
        fixed: By placeholder, its value: inputs of the recorded run, and constants.
        inputs: The placeholders in `fixed` that are inputs of the model; the graph has them in the order of its call.
        outputs: The tensors that the model returned, in order.
        values: Weights in float64, by `Weight.name`.
        inventory: The model's state dict without its tensors.
        rung: The rung of the ladder that recorded it.
    """

    graph: fx.Graph
    weights: Mapping[fx.Node, str]
    fixed: Mapping[fx.Node, Any]
    inputs: frozenset[fx.Node]
    outputs: tuple[fx.Node, ...]
    values: Mapping[str, Tensor]
    inventory: tuple[Weight, ...]
    rung: Rung

    def on(self, inputs: Inputs, values: Mapping[str, Tensor]) -> Program:
        """The same program on other content of the same shapes.

        Args:
            inputs: Inputs in place of those of the recorded run.
            values: Weights, by `Weight.name`, in place of the model's own.

        Example:
            >>> model, x = nn.Linear(1, 1, bias=False), torch.ones(1, 1)
            >>> program = record(model, Inputs((x,), {}))
            >>> outputs_of(program.on(Inputs((3 * x,), {}), {"weight": 2 * x}))
            (tensor([[6.]], dtype=torch.float64),)
        """
        given = [leaf for leaf in pytree.tree_leaves((inputs.args, inputs.kwargs)) if isinstance(leaf, Tensor)]
        places = [node for node in self.graph.nodes if node in self.inputs]
        fixed = {**self.fixed, **dict(zip(places, map(wide, given), strict=True))}
        return replace(self, fixed=fixed, values={name: wide(value) for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What a placeholder stands for: a weight by name, an input or a constant by value."""

    weight: str | None
    value: Any = None
    is_input: bool = False


def record(model: nn.Module, inputs: Inputs, first: Rung = "export") -> Program:
    """Record a model by itself, in float64 on inputs in float64; the caller's model is not changed.

    Args:
        model: The model.
        inputs: The inputs.
        first: The rung to begin with; those before it come last.

    Raises:
        TraceError: No rung could record it.
    """
    inventory = of_module(model)
    failures: list[str] = []
    for rung, attempt in sorted(_RUNGS, key=lambda step: _ORDER.index(step[0]) < _ORDER.index(first)):
        try:
            with stand_in(model, wide_copy) as copied:
                copied.double()
                made = attempt(copied, widened(inputs), inventory, rung)
                outputs_of(made)
                return made
        except Exception as error:  # torch and the model's own code raise whatever they like
            let_through(error)
            failures.append(f"{rung}: {blame(error)}")
    raise TraceError("\n".join(["the model could not be recorded for running:", *(f"  {line}" for line in failures)]))


def of_recording(recording: Recording, model: nn.Module, inputs: Inputs, inventory: Inventory, rung: Rung) -> Program:
    """The program of a model that was recorded as it stands, whatever its precision; it has no values of weights yet.

    Args:
        recording: The recording; it is not changed.
        model: The model.
        inputs: What it was recorded on.
        inventory: Its state dict.
        rung: The rung that recorded it.

    Raises:
        NotImplementedError: What was recorded writes to views, or holds recurrent layers in one piece.
    """
    if recording.exported is not None:
        return _of_exported(recording.exported, model, inputs, inventory, rung)
    if any(node.target in _RECURRENT for node in recording.module.graph.nodes):
        raise NotImplementedError("a recorded run holds recurrent layers in one piece")
    copied = fx.Graph()
    copied.output(copied.graph_copy(recording.module.graph, {}))
    return _of_run(fx.GraphModule(recording.module, copied), model, inputs, inventory, rung)


def outputs_of(program: Program) -> tuple[Tensor, ...]:
    """What a program gives on its weights and inputs; sizes that the recorder left open are known from then on.

    What was recorded and cannot be run again fails here.
    """
    found: dict[fx.Node, Any] = {}
    wanted = set(program.outputs)
    with same_draws():
        for node, value in _computed(program):
            node.meta["val"] = pytree.tree_map(_shape_alone, value)
            if node in wanted:
                found[node] = value
    return tuple(found[node] for node in program.outputs)


def values_of(program: Program) -> dict[fx.Node, Any]:
    """What every node computes on the program's inputs and weights."""
    with same_draws():
        return dict(_computed(program))


@contextmanager
def same_draws() -> Iterator[None]:
    """What a program draws, it draws from the same seed in every run; the caller's random state stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _computed(program: Program) -> Iterator[tuple[fx.Node, Any]]:
    """Every value on the program's inputs and weights, each held until its last reader is done."""
    last: dict[fx.Node, list[fx.Node]] = {}
    seen: set[fx.Node] = set()
    for node in reversed(program.graph.nodes):
        last[node] = [read for read in node.all_input_nodes if read not in seen]
        seen.update(node.all_input_nodes)
    env: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            env[node] = program.values[program.weights[node]] if node in program.weights else program.fixed[node]
        else:
            args, kwargs = fx.map_arg((node.args, node.kwargs), env.__getitem__)
            with torch.no_grad():
                env[node] = node.target(*args, **kwargs)
            args = kwargs = None
        yield node, env[node]
        for read in (*last[node], *(() if node in seen else (node,))):
            del env[read]


def name_of(node: fx.Node) -> str:
    """The bare name of the operator that a node calls; empty for placeholders and outputs."""
    target = node.target
    if node.op != "call_function":
        return ""
    if isinstance(target, torch._ops.OpOverload):
        return target._schema.name.split("::")[-1]
    return str(getattr(target, "__name__", target))


def _exported(
    export: Callable[..., ExportedProgram], model: nn.Module, inputs: Inputs, inventory: Inventory, rung: Rung
) -> Program:
    program = export(model, inputs.args, inputs.kwargs, strict=False)
    return _with_own(_of_exported(program, model, inputs, inventory, rung), model)


def _of_exported(
    program: ExportedProgram, model: nn.Module, inputs: Inputs, inventory: Inventory, rung: Rung
) -> Program:
    if any(_is_compound(node) for node in program.graph.nodes):
        program = program.run_decompositions(_RECURRENT)
    now = _inventory_of(inventory, model.state_dict(keep_vars=True))
    own = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    given = iter(pytree.tree_leaves((inputs.args, inputs.kwargs)))
    leaves: dict[str, _Leaf] = {}
    for spec in program.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind == InputKind.USER_INPUT:
            leaves[name] = _Leaf(None, next(given), is_input=isinstance(spec.arg, TensorArgument))
            continue
        path = spec.target or name
        held = own.get(path, program.constants.get(path))
        leaves[name] = _of_tensor(now, path, held)
    returned = [spec.kind == OutputKind.USER_OUTPUT for spec in program.graph_signature.output_specs]
    return _program(program.graph_module, leaves, inventory, rung, returned)


def _run(model: nn.Module, inputs: Inputs, inventory: Inventory, rung: Rung) -> Program:
    flat, spec = pytree.tree_flatten((inputs.args, inputs.kwargs))
    given = [index for index, leaf in enumerate(flat) if isinstance(leaf, Tensor)]
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}

    def run(weights: list[Tensor], tensors: list[Tensor]) -> Any:
        filled = list(flat)
        for index, tensor in zip(given, tensors, strict=True):
            filled[index] = tensor
        args, kwargs = pytree.tree_unflatten(filled, spec)
        return torch.func.functional_call(model, dict(zip(own, weights, strict=True)), args, kwargs)

    recorded = make_fx(
        run,
        decomposition_table=_RECURRENT,
        tracing_mode="real",
        pre_dispatch=True,
        _error_on_data_dependent_ops=False,
    )([duplicate(tensor) for tensor in own.values()], [duplicate(flat[index]) for index in given])
    return _with_own(_of_run(recorded, model, inputs, inventory, rung), model)


def _of_run(recorded: fx.GraphModule, model: nn.Module, inputs: Inputs, inventory: Inventory, rung: Rung) -> Program:
    """A recorded run, whose placeholders are the model's tensors and then its inputs; the graph is changed."""
    now = _inventory_of(inventory, model.state_dict(keep_vars=True))
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found = [_of_tensor(now, path, tensor) for path, tensor in own.items()]
    leaves = pytree.tree_leaves((inputs.args, inputs.kwargs))
    found += [_Leaf(None, leaf, is_input=True) for leaf in leaves if isinstance(leaf, Tensor)]
    _write_to_copies(recorded.graph)
    names = [node.name for node in recorded.graph.nodes if node.op == "placeholder"]
    return _program(recorded, dict(zip(names, found, strict=True)), inventory, rung)


def _drafted(model: nn.Module, inputs: Inputs, inventory: Inventory, rung: Rung) -> Program:
    """A draft, which guesses at branches that depend on data, so it must give what the model gives.

    Raises:
        RuntimeError: It took another branch.
    """
    program = _exported(torch.export.draft_export, model, inputs, inventory, rung)
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (inputs.args, inputs.kwargs))
    with torch.no_grad():
        wanted = [leaf for leaf in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(leaf, Tensor)]
    made = outputs_of(program)
    if len(made) == len(wanted) and not all(map(_close, made, wanted)):
        raise RuntimeError("the draft gives other outputs than the model")
    return program


def _close(made: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(made.double(), wanted.double(), rtol=1e-5, atol=1e-6, equal_nan=True)


_RUNGS: tuple[tuple[Rung, Callable[[nn.Module, Inputs, Inventory, Rung], Program]], ...] = (
    ("export", lambda *given: _exported(torch.export.export, *given)),
    ("draft_export", _drafted),
    ("recorder", _run),
)


_ORDER = [rung for rung, _ in _RUNGS]

_VIEWS = frozenset("view reshape select slice transpose permute t squeeze unsqueeze expand unbind split".split())


def _write_to_copies(graph: fx.Graph) -> None:
    """Make every in-place operator give a new value, which all later readers take instead of the old one.

    Raises:
        NotImplementedError: A view is written to, or a tensor of which a view is read later: both would need the write
            to reach another tensor.
    """
    for node in list(graph.nodes):
        target = node.target
        if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            continue
        packet = getattr(torch.ops.aten, target._schema.name.split("::")[-1].removesuffix("_"), None)
        written: Any = node.args[0]
        overload = getattr(packet, target._overloadname, None)
        if overload is None or not isinstance(written, fx.Node) or name_of(written) in _VIEWS:
            raise NotImplementedError(f"{target} writes to a view")
        if any(name_of(user) in _VIEWS and user < node for user in written.users):
            raise NotImplementedError(f"{target} writes to a tensor that has views")
        node.target = overload
        for user in list(written.users):
            if node < user:
                user.replace_input_with(written, node)


def _inventory_of(inventory: Inventory, state: Mapping[str, Tensor]) -> Inventory:
    """The caller's inventory, found again by the tensors of the copy."""
    by_tensor = {identity(state[weight.name]): weight.name for weight in inventory.weights}
    return Inventory(inventory.weights, inventory.first, by_tensor, inventory.notes)


def _of_tensor(inventory: Inventory, path: str, held: Any) -> _Leaf:
    origin = origin_of(inventory, path, held if isinstance(held, Tensor) else None)
    return _Leaf(origin.name) if origin.kind == "weight" else _Leaf(None, held)


def _with_own(program: Program, model: nn.Module) -> Program:
    """A program on the weights of the model that was recorded."""
    state = model.state_dict(keep_vars=True)
    return replace(program, values={weight.name: state[weight.name].detach().clone() for weight in program.inventory})


def _is_compound(node: fx.Node) -> bool:
    """Whether a recorded call writes to its operands, is recurrent, or holds a graph of its own."""
    target = node.target
    if isinstance(target, torch._ops.HigherOrderOperator):
        return True
    return isinstance(target, torch._ops.OpOverload) and (target._schema.is_mutable or target in _RECURRENT)


def _program(
    module: fx.GraphModule,
    leaves: Mapping[str, _Leaf],
    inventory: Inventory,
    rung: Rung,
    returned: Sequence[bool] | None = None,
) -> Program:
    """A recorded graph as a program without values; `returned` says which outputs are the model's (None: all)."""
    graph = fx.Graph()
    env: dict[fx.Node, Any] = {}
    weights: dict[fx.Node, str] = {}
    by_name: dict[str, fx.Node] = {}
    fixed: dict[fx.Node, Any] = {}
    inputs: set[fx.Node] = set()
    outputs: tuple[fx.Node, ...] = ()
    for node in module.graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            leaf = leaves[node.name] if node.op == "placeholder" else _Leaf(None, _attribute(module, node))
            if leaf.weight in by_name:
                env[node] = by_name[leaf.weight]
                continue
            env[node] = made = graph.placeholder(f"p{len(env)}")
            made.meta = dict(node.meta)
            if leaf.weight is not None:
                weights[made] = leaf.weight
                by_name[leaf.weight] = made
                continue
            fixed[made] = wide(leaf.value)
            if leaf.is_input:
                inputs.add(made)
        elif node.op == "output":
            given: Any = node.args[0] if returned is None else tuple(compress(node.args[0], returned))
            flat = pytree.tree_leaves(fx.map_arg(given, env.__getitem__))
            outputs = tuple(item for item in flat if isinstance(item, fx.Node))
        elif node.op == "call_function" and not name_of(node).startswith(_GUARDS):
            args, kwargs = fx.map_arg((node.args, node.kwargs), env.get)
            args, kwargs = pytree.tree_map(wide_dtype, (args, kwargs))
            env[node] = made = graph.create_node("call_function", node.target, args, kwargs)
            made.meta = dict(node.meta)
    return Program(graph, weights, fixed, frozenset(inputs), outputs, {}, inventory.weights, rung)


def _shape_alone(value: Any) -> Any:
    return torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def _attribute(module: fx.GraphModule, node: fx.Node) -> Any:
    return operator.attrgetter(str(node.target))(module)
