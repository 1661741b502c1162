"""How a network is written: one choice per field, drawn for source and target apart."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from tests.fuzz.net import Choose


def one_of(*options: str) -> Any:
    """A field with its options, the plainest first, which is the default."""
    return field(default=options[0], metadata={"options": options})


@dataclass(frozen=True, slots=True)
class Style:
    """One way to write a network. A choice that does not fit a network gives way to the nearest that does."""

    # the tree of modules
    names: str = one_of(*(str(number) for number in range(50)))  # which shuffle of the words
    order: str = one_of("written", "shuffled", "reversed")
    nesting: str = one_of("flat", "boxes")
    layers: str = one_of("list", "unrolled", "stacked")
    wrapped: str = one_of("no", "yes")
    noops: str = one_of("none", "dropout", "identity", "reshape", "contiguous", "add_zero", "transpose_twice")
    residual: str = one_of("x+f", "f+x")
    # linear maps
    linear: str = one_of("module", "function", "in_out", "addmm", "einsum")
    bias: str = one_of("within", "apart")
    feed_storage: str = one_of("linear", "conv")
    gate: str = one_of("split", "gate_up", "up_gate", "interleaved")
    activation: str = one_of("function", "module", "hand")
    # attention
    projections: str = one_of("split", "joined", "kv_joined", "groups", "units")
    attention: str = one_of("sdpa", "softmax", "einsum", "baddbmm", "module")
    scale: str = one_of("argument", "q", "scores")
    mask: str = one_of("flag", "added", "filled")
    repeat: str = one_of("repeat_interleave", "expand", "enable_gqa")
    rotary: str = one_of("halves", "pairs", "complex")
    tables: str = one_of("computed", "buffer")
    # norms
    norm: str = one_of("module", "function", "hand", "hand_sqrt")
    gain: str = one_of("w", "1+w")
    channel_norm: str = one_of("module", "function", "hand")
    # ends
    lookup: str = one_of("module", "function", "index", "one_hot")
    embed_scale: str = one_of("no", "yes")
    positions: str = one_of("module", "slice", "slice_3d")
    patches: str = one_of("conv", "linear", "linear_last")
    tied_head: str = one_of("reused", "named_twice", "cloned")
    segments: str = one_of("positional", "keyword")
    # signals and images
    convolution: str = one_of("module", "function")
    channels: str = one_of("first", "last")
    recurrence: str = one_of("loop", "module")


def options() -> dict[str, tuple[str, ...]]:
    """Every field's options."""
    return {item.name: item.metadata["options"] for item in fields(Style)}


def draw_style(choose: Choose) -> Style:
    """A style; the first choices are the plainest."""
    return Style(**{name: choose(choices) for name, choices in options().items()})


def described(features: frozenset[str]) -> str:
    """The choices that were used and are not the plainest."""
    plainest = {f"{item.name}={item.default}" for item in fields(Style)}
    return " ".join(sorted(features - plainest)) or "plain"
