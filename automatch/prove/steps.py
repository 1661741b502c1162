"""A recorded program run once, with every intermediate value kept: a list of steps that know what feeds them.

Operators that one model may hold fused and the other in pieces are spelled out (`automatch.prove.spelled`), so that a
bias that is wrong is told from a weight that is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from automatch.core.graph import Shape
from automatch.trace.lines import CodeLines, module_path
from automatch.trace.program import Program, name_of, same_draws

PRODUCTS = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "embedding", "embedding_bag", "bilinear")
"""Operators, beside convolutions, that sum products of their operands, or look rows up."""

ENDLESS = 1e30
"""Numbers beyond this, of either sign, mask like infinities do, and are kept as such."""

LIMIT = 40_000_000
"""Numbers that one side may compute in all; more would take gigabytes to keep and compare."""


Constants: TypeAlias = tuple[tuple[str, Any], ...]

_TECHNICAL = ("dtype", "device", "layout", "pin_memory", "memory_format", "cudnn_enable", "cudnn_enabled", "inplace")
"""Arguments that change no number."""

_ENTRYWISE = (operator.add, operator.sub, operator.mul, operator.truediv, operator.neg)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One value that a program computed from its inputs.

    Attributes:
        index: Its place among the steps, in order of execution.
        op: The bare name of the operator; `"input"` for an input.
        operands: Places of the steps that it reads.
        weights: Names of the weights that it reads, directly or through what was made of weights alone.
        value: All its floating numbers in one row, in float64; empty where it has none.
        shape: Its shape; the first one's where it is several tensors.
        module: Path of the module that it was computed in.
        line: The line of the model's code, as `"model.py:41"`.
        constants: What the operator was given beside tensors, by argument name; numbers in tensors of one entry, too.
        given: What it reads that is made of weights alone, each in one row.
        tables: Tensors of several numbers that it reads and that are neither data nor weights, each in one row.
        pointwise: Whether every entry of its value depends on one entry of each operand and on nothing else.
        node: The recorded call that it is, or is a part of.
    """

    index: int
    op: str
    operands: tuple[int, ...]
    weights: tuple[str, ...]
    value: Tensor
    shape: Shape
    module: str = ""
    line: str = ""
    constants: Constants = ()
    given: tuple[Tensor, ...] = ()
    tables: tuple[Tensor, ...] = ()
    pointwise: bool = False
    node: fx.Node | None = None

    @property
    def is_product(self) -> bool:
        """Whether it sums products or looks rows up."""
        return self.op in PRODUCTS or "conv" in self.op


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A value on the way: which step made it, or what weights it is made of where no input reaches it."""

    value: Any
    step: int | None = None
    weights: tuple[str, ...] = ()


@dataclass(slots=True)
class Tape:
    """The steps so far."""

    steps: list[Step] = field(default_factory=list)
    numbers: int = 0
    lines: CodeLines = field(default_factory=CodeLines)

    def call(
        self,
        node: fx.Node,
        op: str,
        compute: Callable[..., Any],
        *args: Any,
        said: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Held:
        """Compute one operator; arguments may hold `Held` values at any depth.

        Args:
            node: The recorded call that it is, or is a part of.
            op: Its bare name.
            compute: What computes it.
            args: Its arguments.
            said: Its constants, where they are no arguments.
            kwargs: More arguments.

        Raises:
            ValueError: More numbers were computed than are kept.
        """
        held = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Held)]
        constants = _constants(compute, args, {**kwargs, **(said or {})})
        tables = _tables(args, kwargs)
        plain = _is_pointwise(compute, op) and not tables
        args, kwargs = pytree.tree_map(_bare, (args, kwargs))
        value = compute(*args, **kwargs)
        weights = tuple(dict.fromkeys(name for part in held for name in part.weights))
        operands = tuple(dict.fromkeys(part.step for part in held if part.step is not None))
        # what is multiplied from weights alone is followed step by step, like data; rows looked up are only moved
        if not operands and not (weights and op in PRODUCTS and not op.startswith("embedding")):
            return Held(value, None, weights)
        given = tuple(_numbers([part.value]) for part in held if part.step is None and part.weights)
        place = self.add(node, op, operands, weights, value)
        self.steps[place] = replace(
            self.steps[place],
            constants=constants,
            given=given,
            tables=() if weights else tuple(_numbers([table]) for table in tables),
            pointwise=plain,
        )
        return Held(value, place)

    def add(self, node: fx.Node, op: str, operands: tuple[int, ...], weights: tuple[str, ...], value: Any) -> int:
        """Enter a step; gives its place."""
        tensors = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
        numbers = _numbers(tensors)
        self.numbers += numbers.numel()
        if self.numbers > LIMIT:
            raise ValueError(f"the models compute more than {LIMIT:,} numbers: prove smaller ones of the same code")
        shape = tuple(tensors[0].shape) if tensors else ()
        module, line = module_path(node.meta.get("nn_module_stack")), self.lines.of(node.meta.get("stack_trace"))
        self.steps.append(Step(len(self.steps), op, operands, weights, numbers, shape, module, line, node=node))
        return len(self.steps) - 1


Spelling = Callable[[Tape, fx.Node, Mapping[str, Any]], "Held | None"]
"""Spells an operator out in several steps, given its arguments by name; None where there is nothing to spell."""


def run(program: Program, spellings: Mapping[str, Spelling]) -> tuple[tuple[Step, ...], tuple[int | None, ...]]:
    """Run a program on its own weights; gives its steps, and for each output the step that it is.

    Args:
        program: The program.
        spellings: Operators that are spelled out, by bare name.

    Raises:
        ValueError: More numbers were computed than are kept.
    """
    tape, env = Tape(), dict[fx.Node, Held]()
    with torch.no_grad(), same_draws():
        for node in program.graph.nodes:
            if node.op == "placeholder":
                env[node] = _leaf(program, node, tape)
            elif node.op == "call_function":
                env[node] = _called(tape, node, env, spellings)
    return tuple(tape.steps), tuple(env[node].step for node in program.outputs)


def _leaf(program: Program, node: fx.Node, tape: Tape) -> Held:
    if node in program.weights:
        name = program.weights[node]
        return Held(program.values[name], None, (name,))
    value = program.fixed[node]
    if node not in program.inputs:
        return Held(value)
    return Held(value, tape.add(node, "input", (), (), value))


def _called(tape: Tape, node: fx.Node, env: Mapping[fx.Node, Held], spellings: Mapping[str, Spelling]) -> Held:
    op = name_of(node)
    target: Any = node.target
    held: Any = env.__getitem__
    given: Any = fx.map_arg((node.args, node.kwargs), held)
    args, kwargs = given
    if op in spellings and isinstance(target, torch._ops.OpOverload):
        spelled = spellings[op](tape, node, _by_name(target, args, kwargs))
        if spelled is not None:
            # views that follow were recorded for the strides that the operator itself gives
            return Held(target(*pytree.tree_map(_bare, args), **pytree.tree_map(_bare, kwargs)), spelled.step)
    return tape.call(node, op, target, *args, **kwargs)


def _by_name(target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    known = target._schema.arguments
    given = {argument.name: value for argument, value in zip(known, args, strict=False)}
    return {**{argument.name: argument.default_value for argument in known}, **given, **kwargs}


def _constants(compute: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Constants:
    if isinstance(compute, torch._ops.OpOverload):
        named = _by_name(compute, args, kwargs)
    else:
        named = {**{f"argument {place}": value for place, value in enumerate(args)}, **kwargs}
    found = ((name, _constant(value)) for name, value in named.items() if name not in _TECHNICAL)
    return tuple((name, value) for name, value in found if value is not None)


def _constant(value: Any) -> Any:
    """A constant as it can be compared and printed; None where it is none."""
    if isinstance(value, Held):
        value = None if value.step is not None or value.weights else value.value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else None
    if isinstance(value, (list, tuple)):
        return tuple(value) if all(isinstance(part, (bool, int, float)) for part in value) else None
    return value if isinstance(value, (bool, int, float, str)) else None


def _tables(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Arguments that are tensors of several numbers and that no input reaches: masks, tables, weights."""
    leaves = pytree.tree_leaves((args, kwargs))
    fixed = [leaf.value if isinstance(leaf, Held) else leaf for leaf in leaves if getattr(leaf, "step", None) is None]
    return [value for value in fixed if isinstance(value, Tensor) and value.numel() > 1]


def _is_pointwise(compute: Callable[..., Any], op: str) -> bool:
    if isinstance(compute, torch._ops.OpOverload):
        return torch.Tag.pointwise in compute.tags
    return compute in _ENTRYWISE or op in ("add", "mul", "sub")


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Held) else value


def _numbers(tensors: list[Tensor]) -> Tensor:
    real = [torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor for tensor in tensors]
    rows = [tensor.detach().double().cpu().flatten() for tensor in real if tensor.is_floating_point()]
    numbers = (rows[0] if len(rows) == 1 else torch.cat(rows)) if rows else torch.zeros(0, dtype=torch.float64)
    # most have none, and then share memory with what they are the numbers of: weights above all
    if not numbers.numel() or max(map(abs, torch.stack(torch.aminmax(numbers)).tolist())) <= ENDLESS:
        return numbers
    return torch.where(numbers.abs() > ENDLESS, numbers.sign() * torch.inf, numbers)
