"""What each operator means: which values it makes of the values it reads, and which operators are landmarks."""

from __future__ import annotations

from dataclasses import replace

from automatch.canonicalize import ops
from automatch.canonicalize.builder import Builder, uses_of
from automatch.canonicalize.contractions import contraction
from automatch.canonicalize.joins import join
from automatch.canonicalize.movement import move_stored, part_of, stored_part
from automatch.canonicalize.values import FIXED, Blend, Data, Fixed, Index, Stored, Value, inexact, joined
from automatch.core.graph import Node, Ref, operands
from automatch.core.landmarks import Use

_NORM_PLACES = {"batch": (1, 2, 3, 4), "instance": (1, 2, 3, 4), "cudnn": (1, 2, 3, 4), "native_batch": (1, 2, 3, 4)}
_NORM_ROLES = ("weight", "bias", "running_mean", "running_var")
_NATIVE_GROUP_NORM_PLACES = (1, 2)
_TABLES = frozenset(["embedding", "embedding_bag", "_embedding_bag", "index", "index_select", "gather"])


def value_of(builder: Builder, node: Node) -> Value:
    """The value of one operator node."""
    reads = builder.operand_values(node)
    if node.op in ops.CASTS | ops.RESHAPES and node.args:
        reads = [builder.value(node.args[0]) or FIXED]  # `type_as` and `expand_as` read the other only for its type
    if node.op in _TABLES and (looked_up := _lookup(builder, node)) is not None:
        return looked_up
    if node.op in ops.LINEARS | ops.CONVOLUTIONS:
        return contraction(builder, node)
    if not any(isinstance(value, Data) for value in reads):
        return _without_data(builder, node, reads)
    return _of_data(builder, node, reads)


def _of_data(builder: Builder, node: Node, reads: list[Value]) -> Value:
    """The value of an operator that reads at least one landmark's output."""
    if node.op in ops.ATTENTION:
        return _attention(builder, node)
    if node.op in ops.NORMS:
        return _norm(builder, node)
    if node.op in ops.ACTIVATIONS:
        return _activation(builder, node, reads)
    if node.op in ops.JOINS:
        return join(builder, node, reads)
    if node.op in ops.MOVES:
        return part_of(node, _first_data(builder, node, reads))
    if node.op in ops.SCALAR_MATHS | ops.REDUCTIONS:
        return joined([value for value in reads if isinstance(value, Data)][:1])
    return _other(builder, node, reads)


def _without_data(builder: Builder, node: Node, reads: list[Value]) -> Value:
    """Functions of weights, of indices, or of nothing."""
    stored = [value for value in reads if isinstance(value, Stored | Blend)]
    indices = [index for value in reads if isinstance(value, Index) for index in value.inputs]
    if indices and not stored:
        return Index(tuple(dict.fromkeys(indices)))
    if not stored:
        return FIXED
    if node.op == "cat" and (joined_up := _joined_up(builder, node)) is not None:
        return joined_up
    if len(stored) == 1 and isinstance(stored[0], Stored):
        return _of_one_weight(builder, node, stored[0], reads)
    if node.op in ops.CASTS and isinstance(stored[0], Blend):
        return stored[0]
    parts = {part.weight: replace(part, covers=None) for value in stored for part in _parts(value)}
    return Blend(tuple(parts.values()))


def _joined_up(builder: Builder, node: Node) -> Blend | None:
    """Whole weights (and constants) joined along their first axis; None for any other concatenation."""
    places = [node.args[1] if len(node.args) > 1 else 0, dict(node.kwargs).get("dim", 0)]
    parts: list[Stored] = []
    start = 0
    for index in operands(node):
        value, shape = builder.value(Ref(index)), builder.graph.nodes[index].shape
        plain = isinstance(value, Fixed) or (isinstance(value, Stored) and value.exact and value.covers is None)
        if not plain or not shape or any(place != 0 for place in places):
            return None
        if isinstance(value, Stored):
            parts.append(replace(value, covers=(start, start + shape[0])))
        start += shape[0]
    return Blend(tuple(parts)) if parts else None


def _of_one_weight(builder: Builder, node: Node, value: Stored, reads: list[Value]) -> Value:
    if node.op in ops.SPLITS:
        return value  # a tuple; `getitem` says which part
    if node.op == "getitem" and isinstance(node.args[0], Ref) and isinstance(node.args[1], int) and node.shape:
        return stored_part(builder.graph.nodes[node.args[0].node], node.args[1], value, node.shape)
    return move_stored(node, value, reads)


def _parts(value: Stored | Blend) -> tuple[Stored, ...]:
    return (value,) if isinstance(value, Stored) else value.parts


def _lookup(builder: Builder, node: Node) -> Value | None:
    """Rows of a weight at places given by inputs (an embedding) or fixed (a position table)."""
    table = builder.value(node.args[0])
    if not isinstance(table, Stored):
        return None
    shape = node.shape or ()
    places = [value for value in builder.operand_values(node)[1:] if isinstance(value, Index | Data)]
    if not places:
        return Stored(table.weight, shape, table.view, table.exact, table.buffer, looked_up=True)
    if any(isinstance(place, Data) for place in places) and "embedding" not in node.op:
        return inexact(table, shape)  # weights chosen by the data: a routed expert
    uses = (Use("table", table.weight, table.view, "table", table.exact),)
    return builder.add("embedding", node, tuple(("index", place) for place in places), uses)


def _attention(builder: Builder, node: Node) -> Value:
    values = [builder.value(arg) for arg in node.args]
    named = dict(node.kwargs)
    query, key, value, *biases = [*values, builder.value(named.get("attn_mask"))]
    ins = [
        (role, builder.as_data(v, node)) for role, v in zip(("query", "key", "value"), (query, key, value), strict=True)
    ]
    learned = tuple(use for bias in biases for use in uses_of("bias", bias, "table"))
    factors = named.get("factors") or ()
    scales = [builder.value(factor) for factor in factors] if isinstance(factors, tuple) else []
    learned += tuple(use for scale in scales for use in uses_of("scale", scale, "table"))
    moving = [("bias", bias) for bias in biases if isinstance(bias, Data) and not _is_input(builder, bias)]
    attended = builder.add("attention", node, (*ins, *moving), learned)
    return Data(attended.landmark)


def _is_input(builder: Builder, value: Data) -> bool:
    return builder.landmarks[value.landmark].kind == "input"


def _norm(builder: Builder, node: Node) -> Value:
    x = builder.value(node.args[0])
    places = next((p for name, p in _NORM_PLACES.items() if node.op.lstrip("_").startswith(name)), (2, 3))
    if node.op == "native_group_norm":
        places = _NATIVE_GROUP_NORM_PLACES
    named = dict(node.kwargs)
    uses: tuple[Use, ...] = ()
    for role, place in zip(_NORM_ROLES, places, strict=False):
        arg = node.args[place] if place < len(node.args) and node.op != "norm_by_hand" else named.get(role)
        uses += uses_of(role, builder.stored_value(arg), "vector")
    return builder.add("norm", node, (("x", x),), uses)


def _activation(builder: Builder, node: Node, reads: list[Value]) -> Value:
    x = next(value for value in reads if isinstance(value, Data))
    slopes = tuple(use for value in reads for use in uses_of("weight", value, "vector"))
    return builder.add("activation", node, (("x", x),), slopes)


def _first_data(builder: Builder, node: Node, reads: list[Value]) -> Data:
    first = builder.value(node.args[0]) if node.args else None
    return first if isinstance(first, Data) else next(value for value in reads if isinstance(value, Data))


def _other(builder: Builder, node: Node, reads: list[Value]) -> Value:
    """An operator that no rule understands: a landmark of its own, listed in the evidence."""
    builder.unknown.add(node.op)
    moving = [value for value in reads if not isinstance(value, Fixed | Stored | Blend)]
    stored = [value for value in reads if isinstance(value, Stored | Blend)]
    ins = tuple((str(i), value) for i, value in enumerate(moving))
    uses = tuple(use for i, value in enumerate(stored) for use in uses_of(f"weight{i}", value, "other"))
    return builder.add("other", node, ins, uses)
