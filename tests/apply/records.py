"""Mapping records made by hand: two layers of four, with every kind of entry."""

from __future__ import annotations

from automatch.core.expr import (
    Affine,
    Concat,
    Constant,
    Expr,
    Permute,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    source_leaves,
)
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Entry, Evidence, LayerPairing, MappingRecord, Rival, Side, Status

PAIRING = LayerPairing("layers.{i}", "blocks.{i}", 4, "uniform", (0, 2))


def entry(target: str, expr: Expr | None, status: Status = "structural", shape: Shape = (4,)) -> Entry:
    """An entry in float32; `shape` counts for unmapped ones only."""
    if expr is None:
        return Entry(target, shape, "float32", "unmapped", None, Evidence("structure", ("no counterpart",)))
    return Entry(target, expr.shape, "float32", status, expr, Evidence("structure", ("enters attention as query",)))


def record(*entries: Entry, unused: tuple[Weight, ...] = ()) -> MappingRecord:
    """A record whose sides hold exactly what the entries speak of, and some unused sources."""
    leaves = {leaf.key: leaf.shape for each in entries if each.expr for leaf in source_leaves(each.expr)}
    sources = tuple(Weight(key, shape, "float32") for key, shape in leaves.items())
    targets = tuple(Weight(each.target, each.shape, each.dtype) for each in entries)
    return MappingRecord(Side("Old", "export", (*sources, *unused)), Side("New", "export", targets), entries)


def block(layer: int, source: int) -> tuple[Entry, ...]:
    """Four entries of one layer of four channels, made from one source layer of six."""
    q, k, v = (
        Resize(Source(f"layers.{source}.{name}.weight", (6, 6)), (4, 4), ("leading", "leading"), 1.5) for name in "qkv"
    )
    return (
        entry(f"blocks.{layer}.in_proj", Concat((q, k, v))),
        entry(f"blocks.{layer}.norm.weight", Constant(1.0, (4,))),
        entry(f"blocks.{layer}.mlp.0.weight", Permute(Source(f"layers.{source}.fc.0", (4, 4)), (1, 0)), "guessed"),
        entry(f"blocks.{layer}.mlp.2.weight", Permute(Source(f"layers.{source}.fc.2", (4, 4)), (1, 0))),
    )


def whole() -> MappingRecord:
    """Fifteen weights: two layers, what lies around them, a tied pair and an unmapped table."""
    frame = Slice(Source("patch", (4, 3, 3, 2, 2)), 2, 1, 2)
    from_frame = Sum((Affine(Source("embed", (9, 4)), 2.0, -1.0), Source("type", (1, 4))))
    rival = Rival(("other",), "0.25 behind")
    guessed = Evidence("names", ("by order",), cost=0.5, margin=0.25, rivals=(rival,), source_layer=2)
    entries = (
        entry("conv", _squeezed(frame)),
        entry("same", Source("same", (4,))),
        Entry("new", (4,), "float32", "guessed", Source("old", (4,)), guessed),
        *block(0, 0),
        *block(1, 2),
        entry("embed", from_frame, "proved"),
        entry("head", from_frame, "proved"),
        Entry("steps", (), "int64", "structural", Constant(3.0, ()), Evidence("structure")),
        entry("table", None, shape=(1, 5, 4)),
    )
    built = record(*entries, unused=(Weight("cross", (2, 2), "float32", "parameter", ("cross_tied",)),))
    tied = [weight for weight in built.target.weights if weight.name != "head"]
    targets = tuple(
        Weight(weight.name, weight.shape, weight.dtype, "parameter", ("head",) if weight.name == "embed" else ())
        for weight in tied
    )
    target = Side("New", "draft_export", targets, ("embed and head are tied",))
    return MappingRecord(built.source, target, entries, (PAIRING,), ("operator `frobnicate` is not understood",))


def _squeezed(frame: Slice) -> Expr:
    return Reshape(frame, (4, 3, 2, 2))
