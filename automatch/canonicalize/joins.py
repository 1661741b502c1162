"""Sums, products, concatenations: transparent where a landmark meets constants, itself or a mask, else a landmark."""

from __future__ import annotations

from math import prod

from automatch.canonicalize.builder import Builder, uses_of
from automatch.canonicalize.values import Blend, Data, Stored, Value, joined, scaled
from automatch.core.graph import Node
from automatch.core.landmarks import Kind, Landmark, Use

_KINDS: dict[str, Kind] = {
    "add": "add",
    "sub": "add",
    "rsub": "add",
    "mul": "mul",
    "div": "mul",
    "true_divide": "mul",
    "addcmul": "add",
    "lerp": "add",
    "cat": "concat",
    "concat": "concat",
    "concatenate": "concat",
    "stack": "concat",
    "hstack": "concat",
    "vstack": "concat",
    "scatter": "concat",
    "where": "add",
}


def join(builder: Builder, node: Node, reads: list[Value]) -> Value:
    """The value of an operator that joins several tensors, at least one of them data."""
    data = list(dict.fromkeys(value for value in reads if isinstance(value, Data)))
    stored = [value for value in reads if isinstance(value, Stored | Blend)]
    roots = {value.landmark for value in data}
    if not stored and len(roots) == 1:
        return joined(data)
    kind = _KINDS.get(node.op, "other")
    if node.op == "sub" and len(reads) == 2 and isinstance(reads[1], Stored):
        negated = scaled(reads[1], -1.0, 0.0)
        reads, stored = [reads[0], negated], [negated]
    plain = node.op in ("add", "mul") or (node.op == "sub" and isinstance(reads[0], Data))
    alone = len(data) == 1 and len(stored) == 1 and not data[0].port
    if plain and alone and _absorbed(builder, kind, data[0], stored[0]):
        return data[0]
    return _landmark(builder, node, kind, reads)


def _landmark(builder: Builder, node: Node, kind: Kind, reads: list[Value]) -> Data:
    ins: list[tuple[str, Value]] = []
    uses: tuple[Use, ...] = ()
    for place, value in enumerate(reads):
        role = "x" if kind != "concat" else str(place)
        if _is_table(builder, value) or (kind == "concat" and isinstance(value, Stored | Blend)):
            value = builder.as_data(value, node) or value
        if isinstance(value, Data) and (role, value) not in ins:
            ins.append((role, value))
        elif isinstance(value, Stored | Blend):
            role = {"add": "addend", "mul": "scale"}.get(kind, f"weight{place}")
            uses += uses_of("fill" if node.op == "where" else role, value, "table")
    return builder.add(kind, node, tuple(ins), uses)


def _is_table(builder: Builder, value: Value) -> bool:
    """Whether a weight has rows of its own (positions, class tokens) rather than one entry per channel."""
    if not isinstance(value, Stored):
        return False
    whole = builder.shapes[value.weight] if not value.view.regions else value.shape
    return value.looked_up or sum(size != 1 for size in whole) > 1


def _absorbed(builder: Builder, kind: Kind, data: Data, value: Stored | Blend) -> bool:
    """Whether a vector belongs to the landmark before it: a bias added to a product, a norm's scale and shift."""
    landmark = builder.landmarks[data.landmark]
    role = {"add": "bias", "mul": "weight"}.get(kind)
    if not isinstance(value, Stored) or role is None or landmark.use(role) is not None or value.looked_up:
        return False
    if sum(size != 1 for size in value.shape) > 1 or prod(value.shape) != _width(landmark):
        return False
    if landmark.kind != "norm" and not (landmark.kind == "contraction" and role == "bias"):
        return False
    builder.absorb(data.landmark, uses_of(role, value, "vector")[0])
    return True


def _width(landmark: Landmark) -> int:
    return landmark.shape[landmark.channels if landmark.channels is not None else -1] if landmark.shape else 0
