"""The graph that every stage works on: a model's recorded run as a flat list of operators, in execution order.

It is a plain value (no torch): made from a `torch.fx` graph by `automatch.trace`, rewritten by
`automatch.canonicalize`, read by everything after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Shape: TypeAlias = tuple[int, ...]
Rung: TypeAlias = Literal["export", "draft_export", "recorder", "names"]


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is the value of another node.

    Attributes:
        node: The index of that node in `Graph.nodes`.
    """

    node: int


Arg: TypeAlias = "None | bool | int | float | str | Ref | tuple[Arg, ...]"


@dataclass(frozen=True, slots=True)
class Weight:
    """One entry of a state dict.

    Attributes:
        name: The first state-dict key that holds this tensor.
        shape: Its shape.
        dtype: Its dtype as torch prints it, without the prefix (`"float32"`).
        kind: Whether the model declares it as a parameter or as a buffer. A checkpoint does not tell: `"tensor"`.
        aliases: Further keys that hold the same tensor (tied weights), in state-dict order.
    """

    name: str
    shape: Shape
    dtype: str
    kind: Literal["parameter", "buffer", "tensor"] = "tensor"
    aliases: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every state-dict key that holds this tensor, the first one first."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class Node:
    """One recorded value.

    Attributes:
        index: Its place in `Graph.nodes`; arguments refer to smaller indices only.
        op: `"input"`, `"weight"`, `"constant"`, or an operator's name without namespace and overload (`"linear"`).
        args: Positional arguments.
        kwargs: Keyword arguments, sorted by name.
        shape: The value's shape; None where it is not a tensor.
        dtype: The value's dtype (`"float32"`); None where it is not a tensor.
        target: For a weight, its `Weight.name`; for an input, its argument path (`"x"`, `"args[0]"`).
        module: Path of the module whose forward recorded it (`"blocks.3.attn"`); empty at the root or if unknown.
        line: Where in the model's code it was recorded (`"model.py:41"`); empty if unknown.
    """

    index: int
    op: str
    args: tuple[Arg, ...] = ()
    kwargs: tuple[tuple[str, Arg], ...] = ()
    shape: Shape | None = None
    dtype: str | None = None
    target: str = ""
    module: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """What a recorded model computes, in a form that two recordings can be compared by.

    Attributes:
        digest: SHA-256 of its operators, their constants, shapes and wiring, in hexadecimal. Names play no part in it.
        operators: How often each operator occurs, with the constants that change what it computes, sorted:
            `("gelu(tanh)", 12)`.
    """

    digest: str
    operators: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """A recorded model, or only its state dict.

    Attributes:
        weights: One entry for every distinct tensor of the state dict, in state-dict order.
        nodes: The recorded values in execution order; empty where only names and shapes are known.
        outputs: Indices of the nodes that the model returned, tensors only, in order.
        rung: The rung of the tracing ladder that recorded it; `"names"` where there is no code.
        notes: What a reader of the evidence should know (rungs that failed and why, graph breaks, ties).
        name: What people call this side (a class name, a file name).
        sizes: Whole numbers that the model or its configuration carries, by path, sorted: `config.num_heads`, or
            `layers.*.attn.num_heads` where the number is the same in all layers.
    """

    weights: tuple[Weight, ...]
    nodes: tuple[Node, ...] = ()
    outputs: tuple[int, ...] = ()
    rung: Rung = "names"
    notes: tuple[str, ...] = ()
    name: str = ""
    sizes: tuple[tuple[str, int], ...] = ()


def refs(arg: Arg) -> tuple[int, ...]:
    """Indices of the nodes that an argument mentions, in order, repeats kept.

    Example:
        >>> refs((Ref(3), (2, Ref(5)), None))
        (3, 5)
    """
    if isinstance(arg, Ref):
        return (arg.node,)
    if isinstance(arg, tuple):
        return tuple(index for item in arg for index in refs(item))
    return ()


def operands(node: Node) -> tuple[int, ...]:
    """Indices of the nodes that a node reads, in argument order, repeats kept."""
    return refs(node.args) + tuple(index for _, value in node.kwargs for index in refs(value))
