"""What a random network computes, without a word on how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Choose(Protocol):
    """A source of choices: a seeded generator, or hypothesis, which shrinks towards the first option."""

    def __call__(self, options: Sequence[T], /) -> T: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids to vectors; `positions` rows of learned positions (0 for none), perhaps a second id per token."""

    vocabulary: int
    positions: int
    segments: bool


@dataclass(frozen=True, slots=True)
class Continuous:
    """A sequence of vectors of another width."""

    channels: int
    positions: int


@dataclass(frozen=True, slots=True)
class Patches:
    """An image cut into patches of 2 by 2 pixels."""

    channels: int
    positions: int


@dataclass(frozen=True, slots=True)
class Stem:
    """A convolution, a norm and an activation over a signal (`dims` 1) or an image (2)."""

    channels: int
    dims: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention."""

    heads: int
    kv_heads: int
    head_width: int
    causal: bool
    rotary: bool
    bias: bool
    out_bias: bool
    qk_norm: bool


@dataclass(frozen=True, slots=True)
class FeedForward:
    """A feed-forward network, plain or gated."""

    hidden: int
    activation: str
    gated: bool
    bias: bool


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A recurrent layer with a hyperbolic tangent and two biases."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """Two convolutions with norms; the first may be depthwise, the second is then pointwise."""

    dims: int
    depthwise: bool
    bias: bool


Entry: TypeAlias = Tokens | Continuous | Patches | Stem
Part: TypeAlias = Attention | FeedForward | Recurrence | Convolution


@dataclass(frozen=True, slots=True)
class Net:
    """An entry, `depth` blocks of the same parts with their own weights, perhaps a norm, and a head.

    `length` is the length of the sequence, or the size of each axis of a signal or image.
    """

    entry: Entry
    width: int
    parts: tuple[Part, ...]
    depth: int
    norm: str
    norm_first: bool
    final_norm: bool
    outputs: int
    head_bias: bool
    tied: bool
    length: int

    @property
    def features(self) -> tuple[str, ...]:
        """What is special about it, for counting."""
        named = {"depth": self.depth, "norm": self.norm, "norm_first": self.norm_first, "tied": self.tied}
        named |= {"final_norm": self.final_norm, "head_bias": self.head_bias}
        flags = [f"{key}={value}" for key, value in named.items()]
        return tuple(dict.fromkeys(flags + [flag for piece in (self.entry, *self.parts) for flag in _flags(piece)]))


def draw_net(choose: Choose) -> Net:
    """A small network; the first choices are the simplest."""
    return _conv_net(choose) if choose(["sequence"] * 4 + ["convolutions"]) == "convolutions" else _sequence_net(choose)


def _sequence_net(choose: Choose) -> Net:
    length = choose(range(5, 10))
    entry = _entry(choose, length)
    width = choose([8, 12, 16, 20, 24])
    tied = isinstance(entry, Tokens) and choose([False, True])
    return Net(
        entry=entry,
        width=width,
        parts=_parts(choose, width),
        depth=choose([1, 2, 3]),
        norm=choose(["layer", "rms"]),
        norm_first=choose([True, False]),
        final_norm=choose([False, True]),
        outputs=entry.vocabulary if isinstance(entry, Tokens) else choose([5, 7, 10]),
        head_bias=choose([False, True]),
        tied=tied,
        length=length,
    )


def _entry(choose: Choose, length: int) -> Entry:
    kind = choose(["tokens", "tokens", "tokens", "continuous", "patches"])
    positions = choose([0, length, length + 3])
    if kind == "tokens":
        return Tokens(choose([11, 17, 23, 40]), positions, choose([False, False, True]))
    return Continuous(choose([3, 6]), positions) if kind == "continuous" else Patches(choose([1, 3]), positions)


def _parts(choose: Choose, width: int) -> tuple[Part, ...]:
    kind = choose(["feed", "attend", "attend feed", "attend feed", "attend feed", "recur feed", "feed attend"])
    return tuple(_part(choose, name, width) for name in kind.split())


def _part(choose: Choose, name: str, width: int) -> Part:
    if name == "attend":
        kind = choose(["stock", "free", "grouped"])
        return _stock_attention(choose, width) if kind == "stock" else _attention(choose, width, kind == "grouped")
    return _feed(choose) if name == "feed" else Recurrence()


def _stock_attention(choose: Choose, width: int) -> Attention:
    """Attention of the kind that `nn.MultiheadAttention` can do, which few free draws would be."""
    heads = choose([count for count in (1, 2, 3, 4) if width % count == 0])
    causal, bias = choose([False, True]), choose([False, True])
    return Attention(heads, heads, width // heads, causal, rotary=False, bias=bias, out_bias=bias, qk_norm=False)


def _attention(choose: Choose, width: int, grouped: bool) -> Attention:
    heads = choose([2, 3, 4, 4, 6] if grouped else [1, 2, 3, 4])
    fits = [width // heads] if width % heads == 0 and width // heads % 2 == 0 else []
    bias = choose([False, True])
    return Attention(
        heads=heads,
        kv_heads=choose([count for count in (2, 3, 1) if heads % count == 0 and count < heads]) if grouped else heads,
        head_width=choose([*fits, *fits, 4, 6]),
        causal=choose([False, True]),
        rotary=choose([False, True]),
        bias=bias,
        out_bias=choose([bias, bias, True]),
        qk_norm=choose([False, False, True]),
    )


def _feed(choose: Choose) -> FeedForward:
    activation = choose(["relu", "gelu", "silu"])
    return FeedForward(choose([10, 16, 24]), activation, choose([False, True]), choose([False, True]))


def _conv_net(choose: Choose) -> Net:
    dims = choose([1, 2])
    return Net(
        entry=Stem(choose([1, 3]), dims),
        width=choose([8, 12]),
        parts=(Convolution(dims, choose([False, True]), choose([False, True])),),
        depth=choose([1, 2, 3]),
        norm=choose(["batch", "group"]),
        norm_first=False,
        final_norm=False,
        outputs=choose([5, 7]),
        head_bias=choose([False, True]),
        tied=False,
        length=choose(range(5, 8)),
    )


def _flags(piece: Entry | Part) -> list[str]:
    kind = type(piece).__name__.lower()
    values = {field.name: getattr(piece, field.name) for field in fields(piece)}
    flags = [f"{kind}.{key}" for key, value in values.items() if value is True]
    flags += [f"{kind}.{key}={value}" for key, value in values.items() if key in ("activation", "dims")]
    flags += [f"{kind}.positions"] if values.get("positions") else []
    if isinstance(piece, Attention) and piece.kv_heads < piece.heads:
        flags.append("attention.grouped" if piece.kv_heads > 1 else "attention.one_kv_head")
    return [kind, *flags]
