"""What a model does with each of its inputs, read off its graph: the values that can tell something follow from that.

An integer input is followed through everything that only moves or shifts it, to what reads it for its value: a table
that it names rows of, a mask that it makes, an angle that it counts. Argument names break the tie that is left: rows of
a table that are positions look like rows of any other table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from automatch.core.graph import Arg, Graph, Node, Ref, operands, refs

Kind: TypeAlias = Literal["rows", "mask", "positions", "content"]

_MOVES = frozenset(
    (
        "view reshape flatten unflatten unsqueeze squeeze expand expand_as broadcast_to permute transpose t movedim "
        "contiguous clone clamp to _to_copy type_as long int alias detach lift_fresh slice select narrow getitem "
        "unbind split split_with_sizes chunk repeat repeat_interleave tile cat stack concat flip roll"
    ).split()
)
_LOSSES = frozenset("cross_entropy_loss nll_loss nll_loss_nd nll_loss2d nll_loss_forward".split())
"""Operators whose second operand names a class among the second axis of the first."""

_TABLES = {"embedding": 0, "embedding_bag": 0, "index_select": 0, "gather": 0, "take_along_dim": 0}
"""Operators that look rows up, with the place of the table among their arguments."""

_COMPARISONS = frozenset("eq ne lt le gt ge".split())
_LENGTHS = frozenset("lt le gt ge".split())
"""Comparisons that count places: of lengths, of positions."""

_LOGIC = frozenset("logical_not logical_and logical_or bitwise_not __and__ __or__ bitwise_and bitwise_or".split())
_MASKING = frozenset("masked_fill where masked_scatter scaled_dot_product_attention".split())
_PLACES = frozenset("argmax argmin sort argsort topk cumsum max min nonzero searchsorted bincount".split())
"""Operators that read which of an input's elements are largest, or where they stand."""

_TELLING: tuple[Kind, ...] = ("positions", "rows", "mask", "content")
"""Kinds of use, the one that says most of content first."""

_ANGLES = frozenset("sin cos polar".split())
_TOWARDS_ANGLES = _MOVES | frozenset("mul div matmul mm bmm einsum outer add sub neg float double".split())
_STEPS = 8


@dataclass(frozen=True, slots=True)
class Use:
    """What one input is to its model.

    Attributes:
        kind: `rows`: it names rows of tables; `mask`: it says what counts; `positions`: it counts along an axis;
            `content`: anything else.
        low: The smallest row that it may name.
        high: One more than the largest; 0 where it names none.
        marks: Numbers that it is compared with: padding, an end.
        ordered: Whether something reads where its largest elements, or others of a certain value, stand.
    """

    kind: Kind = "content"
    low: int = 0
    high: int = 0
    marks: tuple[int, ...] = ()
    ordered: bool = False


@dataclass(slots=True)
class _Seen:
    """What was found on the way from one input."""

    bounds: list[tuple[int, int]] = field(default_factory=list)
    marks: set[int] = field(default_factory=set)
    masks: bool = False
    angles: bool = False
    ordered: bool = False
    compared: bool = False
    inverted: bool = False


def uses(graph: Graph) -> dict[str, Use]:
    """What every input of a recorded model is to it, by argument path; empty for a graph without nodes.

    Example:
        >>> from automatch.core.graph import Weight
        >>> table = Node(0, "weight", shape=(50, 8), dtype="float32", target="w")
        >>> ids = Node(1, "input", shape=(2, 6), dtype="int64", target="ids")
        >>> found = Node(2, "embedding", (Ref(0), Ref(1)), shape=(2, 6, 8), dtype="float32")
        >>> uses(Graph((Weight("w", (50, 8), "float32"),), (table, ids, found), (2,)))["ids"].high
        50
    """
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for place in dict.fromkeys(operands(node)):
            readers.setdefault(place, []).append(node)
    return {node.target: _use(graph, node, readers) for node in graph.nodes if node.op == "input"}


def both(one: Use, other: Use) -> Use:
    """The use of content that feeds two inputs: rows that both have, everything that either is compared with.

    Example:
        >>> both(Use("rows", 0, 50), Use("rows", 1, 40)), both(Use(), Use("mask")).kind
        (Use(kind='rows', low=1, high=40, marks=(), ordered=False), 'mask')
    """
    kind = min(one.kind, other.kind, key=_TELLING.index)
    tables = [use for use in (one, other) if use.high]
    low, high = max((use.low for use in tables), default=0), min((use.high for use in tables), default=0)
    return Use(kind, low, high, (*one.marks, *other.marks), one.ordered or other.ordered)


def _use(graph: Graph, node: Node, readers: Mapping[int, Sequence[Node]]) -> Use:
    if node.dtype is None or "complex" in node.dtype:
        return Use()
    seen = _Seen()
    _follow(graph, node, readers, seen)
    if "float" in node.dtype:
        return Use("mask") if seen.compared or seen.inverted else Use()
    marks = tuple(sorted(seen.marks))
    if seen.bounds:
        low, high = max(low for low, _ in seen.bounds), min(high for _, high in seen.bounds)
        kind: Kind = "positions" if "pos" in node.target.rpartition(".")[2] else "rows"
        return Use(kind, low, high, marks, seen.ordered)
    if seen.angles:
        return Use("positions", marks=marks)
    if seen.masks or node.dtype == "bool" or "mask" in node.target or (marks and set(marks) <= {0, 1}):
        return Use("mask")
    return Use(marks=marks, ordered=seen.ordered)


def _follow(graph: Graph, start: Node, readers: Mapping[int, Sequence[Node]], seen: _Seen) -> None:
    """Walk from an input through what only moves or shifts it."""
    queue: list[tuple[Node, int]] = [(start, 0)]
    visited: set[int] = set()
    while queue:
        node, shift = queue.pop()
        if node.index in visited:
            continue
        visited.add(node.index)
        for reader in readers.get(node.index, ()):
            queue.extend(_read(graph, reader, node, shift, readers, seen))


def _read(
    graph: Graph, reader: Node, node: Node, shift: int, readers: Mapping[int, Sequence[Node]], seen: _Seen
) -> Iterator[tuple[Node, int]]:
    """Enter what one reader says of a value; gives the reader where the value goes on through it."""
    rows = _rows(graph, reader, node.index)
    if rows is not None:
        seen.bounds.append((-shift, rows - shift))
        return
    if reader.op in _COMPARISONS:
        _compared(reader, shift, seen)
    elif reader.op in _LOGIC or reader.op in _MASKING or reader.dtype == "bool":
        seen.masks = True
        seen.compared = seen.compared or reader.op in _MOVES  # cast to truth values
    elif reader.op in _PLACES:
        seen.ordered = True
    elif reader.op in ("rsub", "sub") and _from_one(reader, node.index):
        seen.inverted = seen.masks = True
    elif reader.dtype is not None and "float" in reader.dtype:
        seen.angles = seen.angles or _makes_angles(reader, readers)
        seen.masks = seen.masks or (reader.op in ("rsub", "sub", "mul") and not seen.angles)
        if reader.op in _MOVES:
            yield reader, shift
    elif reader.op in _MOVES:
        yield reader, shift
    elif reader.op in ("add", "sub") and (number := _number(reader)) is not None:
        yield reader, shift + (number if reader.op == "add" else -number)


def _compared(reader: Node, shift: int, seen: _Seen) -> None:
    """With a number, a value is a code for something; with another value, what comes out is a mask."""
    numbers = [int(arg) - shift for arg in reader.args if isinstance(arg, int | float) and not isinstance(arg, bool)]
    seen.marks.update(numbers)
    seen.ordered = True
    seen.compared = seen.compared or bool(set(numbers) & {0, 1} and reader.op in ("eq", "ne"))
    seen.masks = seen.masks or not (numbers or reader.op in _LENGTHS)


def _from_one(reader: Node, index: int) -> bool:
    """Whether a value is taken from one: what is left is what it leaves out."""
    whole, part = reader.args[:2] if reader.op == "sub" else reader.args[1::-1]
    return whole == 1 and not isinstance(whole, bool) and refs(part) == (index,)


def _rows(graph: Graph, reader: Node, index: int) -> int | None:
    """How many rows the table has that this reader looks up by a value; None where it does not."""
    if reader.op == "one_hot":
        classes = reader.args[1] if len(reader.args) > 1 else None
        return classes if isinstance(classes, int) and classes > 0 else None
    if reader.op in _LOSSES and len(reader.args) > 1 and index in refs(reader.args[1]):
        return _size(graph, reader.args[0], 1)
    if reader.op == "index" and len(reader.args) > 1 and isinstance(reader.args[1], tuple):
        axis = next((axis for axis, arg in enumerate(reader.args[1]) if index in refs(arg)), None)
        return None if axis is None else _size(graph, reader.args[0], axis)
    if reader.op not in _TABLES or len(reader.args) < 2 or index in refs(reader.args[0]):
        return None
    named = 0 if reader.op.startswith("embedding") else reader.args[1]
    return _size(graph, reader.args[0], named) if isinstance(named, int) else None


def _size(graph: Graph, arg: Arg, axis: int) -> int | None:
    shape = graph.nodes[arg.node].shape if isinstance(arg, Ref) else None
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _number(node: Node) -> int | None:
    if len(node.args) != 2 or node.kwargs:
        return None
    value, number = node.args
    if not isinstance(value, Ref) or not isinstance(number, int) or isinstance(number, bool):
        return None
    return number


def _makes_angles(node: Node, readers: Mapping[int, Sequence[Node]]) -> bool:
    """Whether a sine or cosine is taken of a value, some steps on."""
    front = [node]
    for _ in range(_STEPS):
        if any(item.op in _ANGLES for item in front):
            return True
        front = [reader for item in front if item.op in _TOWARDS_ANGLES for reader in readers.get(item.index, ())]
    return False
