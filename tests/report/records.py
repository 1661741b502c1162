"""A mapping record made by hand: a chain of four layers onto one of two, and everything else that a report may meet."""

from __future__ import annotations

from automatch.core.expr import Concat, Constant, Expr, Permute, Reshape, Resize, Slice, Source
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Entry, Evidence, LayerPairing, MappingRecord, Rival, Side, Status

TEACHER_LAYER: dict[str, Shape] = {"q.weight": (8, 8), "k.weight": (8, 8), "v.weight": (8, 8), "cross.weight": (8, 8)}
TEACHER_REST: dict[str, Shape] = {
    "patch.weight": (8, 3, 1, 2, 2),
    "norm.weight": (8,),
    "text.0.weight": (8, 6),
    "out.weight": (6, 8),
    "extra.0.bias": (8,),
    "extra.1.bias": (8,),
}


def record() -> MappingRecord:
    """The whole record: nine target weights."""
    pairing = LayerPairing("blocks.{i}", "layers.{i}", 4, "uniform", (0, 2))
    return MappingRecord(teacher(), student(), entries(), (pairing,), ("operator `frobnicate` is not understood",))


def teacher() -> Side:
    """Four layers of q, k, v and an unused cross weight, and six weights around them."""
    layers = {f"blocks.{i}.{name}": shape for i in range(4) for name, shape in TEACHER_LAYER.items()}
    return Side("Teacher", "export", _weights({**TEACHER_REST, **layers}), ("two names share one tensor",))


def student() -> Side:
    """The side of the nine entries."""
    return Side("Student", "draft_export", _weights({entry.target: entry.shape for entry in entries()}))


def entries() -> tuple[Entry, ...]:
    """One entry of every kind, two of the concatenated one."""
    rival = Rival(("out.weight",), "0.1 behind")
    return (
        _entry("conv.weight", _frame(Source("patch.weight", (8, 3, 1, 2, 2)))),
        _entry("norm.weight", Source("norm.weight", (8,))),
        _entry("text.weight", Source("text.0.weight", (8, 6)), "guessed", rivals=(rival,), margin=0.1, cost=0.5),
        _entry("head.weight", Permute(Source("out.weight", (6, 8)), (1, 0))),
        _entry("ln.weight", Constant(1.0, (4,))),
        _entry("small.weight", Resize(Source("norm.weight", (8,)), (4,), ("leading",), 1.0)),
        *(_in_proj(i) for i in range(2)),
        Entry("pos", (1, 5, 4), "float32", "unmapped", None, Evidence("structure", ("the source has no such table",))),
    )


def _in_proj(layer: int) -> Entry:
    parts = tuple(
        Resize(Source(f"blocks.{2 * layer}.{name}.weight", (8, 8)), (4, 4), ("leading", "leading"), 2**0.5)
        for name in "qkv"
    )
    resized = tuple(
        f"blocks.{2 * layer}.{name}.weight: [8, 8] to [4, 4], leading entries, times 1.414" for name in "qkv"
    )
    return _entry(f"layers.{layer}.in_proj", Concat(parts), resized=resized, source_layer=2 * layer)


def _frame(kernel: Source) -> Expr:
    return Reshape(Slice(kernel, 2, 0, 1), (8, 3, 2, 2))


def _entry(
    target: str,
    expr: Expr,
    status: Status = "structural",
    *,
    rivals: tuple[Rival, ...] = (),
    resized: tuple[str, ...] = (),
    source_layer: int | None = None,
    margin: float | None = None,
    cost: float | None = None,
) -> Entry:
    evidence = Evidence("structure", ("same role",), cost, margin, rivals, resized, source_layer)
    return Entry(target, expr.shape, "float32", status, expr, evidence)


def _weights(shapes: dict[str, Shape]) -> tuple[Weight, ...]:
    return tuple(Weight(name, shape, "float32", "parameter") for name, shape in shapes.items())
