"""What a recorded model computes, told without its names: a digest to compare by, and its operators to read.

Two recordings have one digest where the same operators read the same things in the same order, with the same constants
and sizes. What the values of weights and of constant tensors are plays no part, nor does where the model stood.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256

from automatch.core.graph import Arg, Function, Graph, Node, Ref, operands, refs

_LEAVES = frozenset({"input", "weight", "constant"})
_MOVES = frozenset(
    "alias chunk clone contiguous detach expand expand_as flatten getitem lift_fresh lift_fresh_copy mT movedim narrow "
    "numpy_T permute reshape select slice split split_with_sizes squeeze swapaxes t tensor_split transpose unbind "
    "unflatten unsafe_chunk unsafe_split unsqueeze view view_as".split()
)
"""Operators that only say where values stand; the list of operators is shorter without them."""
_SAME = frozenset("alias clone contiguous detach lift_fresh lift_fresh_copy".split())
"""Operators that give what they are given: whether they are recorded depends on where a model stood."""
_SCALED = frozenset(
    "add sub rsub mul div pow floor_divide remainder fmod addcmul clamp clamp_min clamp_max masked_fill fill full "
    "full_like eq ne lt le gt ge triu tril".split()
)
"""Operators whose whole numbers are no sizes: `pow(x, 2)` is another function than `pow(x, 3)`."""
_FLAGS = {
    ("scaled_dot_product_attention", 5): ("is_causal", False),
    ("dropout", 2): ("train", False),
    ("batch_norm", 5): ("training", False),
    ("std", 2): ("unbiased", True),
    ("var", 2): ("unbiased", True),
    ("upsample_linear1d", 2): ("align_corners", False),
    ("upsample_bilinear2d", 2): ("align_corners", False),
    ("upsample_bicubic2d", 2): ("align_corners", False),
    ("upsample_trilinear3d", 2): ("align_corners", False),
}
"""Names and usual values of flags that are recorded by position; other flags by position say which axes are kept."""
_TRIVIAL = frozenset({("scaled_dot_product_attention", 4, 0.0)})
"""Constants that are always recorded and hardly ever mean anything: no dropout within attention."""
_MACHINE = frozenset({("layer_norm", 5), ("group_norm", 5), ("batch_norm", 8), ("instance_norm", 8)})
"""Arguments that say what the machine offers (cuDNN), not what is computed."""
_PLACEMENT = frozenset({"device", "pin_memory", "non_blocking"})
_LAYOUT = frozenset({"layout", "memory_format", "keepdim"})
_COUNTED = frozenset({"alpha", "beta", "correction"})
"""Arguments by name whose whole numbers are no sizes."""
_FORMATS = frozenset({"strided", "contiguous_format", "preserve_format", "channels_last", "channels_last_3d"})
_DEVICE = re.compile(r"(cpu|cuda|meta|mps|xpu|hpu|xla)(:\d+)?")


def function_of(graph: Graph) -> Function | None:
    """What a recorded model computes; None where its code was not recorded.

    Leaves are numbered as they are first read, so that neither names nor the order of a state dict matter; nodes that
    nothing reads are left out.

    Example:
        >>> def doubled(name, op):
        ...     x = Node(0, "input", shape=(2,), dtype="float32", target=name)
        ...     return function_of(Graph((), (x, Node(1, op, (Ref(0), 2), shape=(2,), dtype="float32")), (1,)))
        >>> doubled("x", "mul") == doubled("y", "mul"), doubled("x", "mul").operators
        (True, (('mul(2)', 1),))
        >>> doubled("x", "pow").digest == doubled("x", "mul").digest
        False
    """
    if not graph.nodes:
        return None
    live = _live(graph)
    digest = sha256("\n".join(_lines(graph, live)).encode()).hexdigest()
    told = (node for node in live if node.op not in _LEAVES and node.op not in _MOVES)
    return Function(digest, tuple(sorted(Counter(map(_told, told)).items())))


def _live(graph: Graph) -> list[Node]:
    """The nodes that an output depends on, in order, and all that write: what those change may be read elsewhere."""
    needed = set(graph.outputs) | {node.index for node in graph.nodes if _writes(node.op)}
    for node in reversed(graph.nodes):
        if node.index in needed:
            needed.update(operands(node))
    return [node for node in graph.nodes if node.index in needed]


def _writes(op: str) -> bool:
    return op == "setitem" or op.startswith("__i") or (op.endswith("_") and not op.endswith("__"))


# The digest


def _lines(graph: Graph, live: list[Node]) -> Iterator[str]:
    """A line for every node that is needed: leaves where they are first read, operators where they were recorded."""
    numbers: dict[int, int] = {}
    for node in live:
        if node.op in _LEAVES:
            continue
        yield from _leaf_lines(operands(node), graph, numbers)
        if node.op in _SAME:
            numbers[node.index] = numbers[operands(node)[0]]
            continue
        numbers[node.index] = len(numbers)
        yield f"{node.op} {_arguments(node, numbers)} {_kind(node)}"
    yield from _leaf_lines(graph.outputs, graph, numbers)
    yield f"outputs {[numbers[index] for index in graph.outputs]}"


def _leaf_lines(read: tuple[int, ...], graph: Graph, numbers: dict[int, int]) -> Iterator[str]:
    for index in read:
        if index in numbers:
            continue
        numbers[index] = len(numbers)
        yield f"{graph.nodes[index].op} {_kind(graph.nodes[index])}"


def _kind(node: Node) -> str:
    return f"{node.dtype} {None if node.shape is None else list(node.shape)}"


def _arguments(node: Node, numbers: Mapping[int, int]) -> str:
    given = [_text(arg, numbers) for place, arg in enumerate(node.args) if (node.op, place) not in _MACHINE]
    named = [f"{name}={_text(value, numbers)}" for name, value in node.kwargs if name not in _PLACEMENT]
    return f"({', '.join([*given, *named])})"


def _text(arg: Arg, numbers: Mapping[int, int]) -> str:
    if isinstance(arg, Ref):
        return f"%{numbers[arg.node]}"
    if isinstance(arg, tuple):
        return f"({', '.join(_text(item, numbers) for item in arg)})"
    if isinstance(arg, str):
        return "device" if _DEVICE.fullmatch(arg) else json.dumps(arg)
    return repr(arg)


# The operators


def _told(node: Node) -> str:
    """An operator with the constants that change what it computes: `layer_norm(1e-05)`."""
    constants = [text for place, arg in enumerate(node.args) for text in _by_place(node.op, place, arg)]
    constants += [text for name, value in node.kwargs for text in _by_name(node.op, name, value)]
    return f"{node.op}({', '.join(constants)})" if constants else node.op


def _by_place(op: str, place: int, arg: Arg) -> Iterator[str]:
    if isinstance(arg, bool):
        name, usual = _FLAGS.get((op, place), ("", arg))
        if arg is not usual:
            yield f"{name}={arg}"
    elif (op, place, arg) not in _TRIVIAL:
        yield from _constants(op, arg)


def _by_name(op: str, name: str, value: Arg) -> Iterator[str]:
    if name in _PLACEMENT or name in _LAYOUT:
        return
    if value is True:
        yield f"{name}=True"
    elif name in _COUNTED:
        yield f"{name}={value!r}"
    else:
        yield from _constants(op, value)


def _constants(op: str, arg: Arg) -> Iterator[str]:
    if isinstance(arg, tuple):
        for item in arg if not refs(arg) else ():
            yield from _constants("", item)
    elif isinstance(arg, str):
        if arg not in _FORMATS and not _DEVICE.fullmatch(arg):
            yield arg
    elif isinstance(arg, float) or (isinstance(arg, int) and not isinstance(arg, bool) and _scaled(op)):
        yield repr(arg)


def _scaled(op: str) -> bool:
    return op.removesuffix("_") in _SCALED
