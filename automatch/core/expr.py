"""Expressions: how one target weight is made from source weights.

A small closed algebra of frozen values. Every expression knows its own shape; `automatch.apply.evaluate` runs it,
`automatch.core.expr_json` writes and reads it.

Example:
    >>> q, k, v = (Source(f"attn.{n}.weight", (8, 8)) for n in "qkv")
    >>> in_proj = Concat((q, k, v), axis=0)
    >>> in_proj.shape
    (24, 8)
    >>> print(text(in_proj))
    cat(attn.q.weight, attn.k.weight, attn.v.weight)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias, assert_never

from automatch.core.graph import Shape


@dataclass(frozen=True, slots=True)
class Source:
    """A source weight as it stands in the checkpoint."""

    key: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor filled with one value (a norm's ones, a missing bias's zeros)."""

    value: float
    shape: Shape


@dataclass(frozen=True, slots=True)
class Concat:
    """Parts joined along one axis.

    Raises:
        ValueError: There is no part, or the parts' shapes differ off the axis.
    """

    parts: tuple[Expr, ...]
    axis: int = 0

    def __post_init__(self) -> None:
        """Refuse parts that cannot be joined."""
        if not self.parts:
            raise ValueError("cat() needs at least one part")
        if any(not 0 <= self.axis < len(part.shape) for part in self.parts):
            raise ValueError(f"cat along {self.axis}: parts have shapes {[list(p.shape) for p in self.parts]}")
        others = {_without(part.shape, self.axis) for part in self.parts}
        if len(others) > 1:
            raise ValueError(f"cat along {self.axis}: parts differ off the axis: {[list(p.shape) for p in self.parts]}")

    @property
    def shape(self) -> Shape:
        """Shape of the joined tensor."""
        first = self.parts[0].shape
        return (*first[: self.axis], sum(p.shape[self.axis] for p in self.parts), *first[self.axis + 1 :])


@dataclass(frozen=True, slots=True)
class Slice:
    """Entries `start` (included) to `stop` (excluded) along one axis.

    Raises:
        ValueError: The bounds do not lie in the tensor.
    """

    of: Expr
    axis: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        """Refuse bounds outside the tensor."""
        if not 0 <= self.axis < len(self.of.shape) or not 0 <= self.start < self.stop <= self.of.shape[self.axis]:
            bounds = f"[{self.start}:{self.stop}] along axis {self.axis}"
            raise ValueError(f"{bounds} is outside shape {list(self.of.shape)}")

    @property
    def shape(self) -> Shape:
        """Shape of the part."""
        return (*self.of.shape[: self.axis], self.stop - self.start, *self.of.shape[self.axis + 1 :])


@dataclass(frozen=True, slots=True)
class Permute:
    """Axes in another order, as `Tensor.permute`.

    Raises:
        ValueError: `axes` is not a permutation of the tensor's axes.
    """

    of: Expr
    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what is not a permutation."""
        if sorted(self.axes) != list(range(len(self.of.shape))):
            raise ValueError(f"{list(self.axes)} does not permute the axes of shape {list(self.of.shape)}")

    @property
    def shape(self) -> Shape:
        """Shape after the permutation."""
        return tuple(self.of.shape[axis] for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same entries, in row-major order, under another shape.

    Raises:
        ValueError: The numbers of entries differ.
    """

    of: Expr
    shape: Shape

    def __post_init__(self) -> None:
        """Refuse a shape with another number of entries."""
        if prod(self.of.shape) != prod(self.shape):
            raise ValueError(f"cannot reshape {list(self.of.shape)} to {list(self.shape)}")


@dataclass(frozen=True, slots=True)
class Affine:
    """`scale * of + shift`, entry by entry (`1 + w`, `w * sqrt(d)`)."""

    of: Expr
    scale: float = 1.0
    shift: float = 0.0

    @property
    def shape(self) -> Shape:
        """Shape, unchanged."""
        return self.of.shape


@dataclass(frozen=True, slots=True)
class Sum:
    """Parts added entry by entry (`b_ih + b_hh`), broadcast as torch does.

    Raises:
        ValueError: There is no part, or the shapes do not broadcast.
    """

    parts: tuple[Expr, ...]

    def __post_init__(self) -> None:
        """Refuse parts that cannot be added."""
        _ = self.shape

    @property
    def shape(self) -> Shape:
        """Shape of the sum."""
        if not self.parts:
            raise ValueError("a sum needs at least one part")
        return _broadcast([part.shape for part in self.parts])


Fit: TypeAlias = Literal["keep", "leading", "tile", "middle", "pad"]


@dataclass(frozen=True, slots=True)
class Resize:
    """A tensor of another size that plays the same role; not exact, and says so.

    Attributes:
        of: What is resized.
        shape: The new shape, same rank.
        fits: What happens along each axis: `keep` (same size), `leading` (the first entries), `tile` (entries repeated
            cyclically until full), `middle` (a kernel's central entries), `pad` (a kernel centred among zeros).
        scale: Factor that keeps the variance of what the weight computes where its fan-in changed.

    Raises:
        ValueError: Ranks differ, or a fit contradicts the sizes.
    """

    of: Expr
    shape: Shape
    fits: tuple[Fit, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse fits that contradict the sizes."""
        if not len(self.of.shape) == len(self.shape) == len(self.fits):
            raise ValueError(f"resize: {list(self.of.shape)}, {list(self.shape)} and {list(self.fits)} differ in rank")
        for old, new, fit in zip(self.of.shape, self.shape, self.fits, strict=True):
            if not _fit_is_possible(old, new, fit):
                raise ValueError(f"resize: {fit!r} cannot take {old} entries to {new}")


Expr: TypeAlias = Source | Constant | Concat | Slice | Permute | Reshape | Affine | Sum | Resize


def sources(expr: Expr) -> tuple[str, ...]:
    """Source keys an expression reads, in order of first use.

    Example:
        >>> sources(Concat((Source("b", (1,)), Source("a", (1,)), Source("b", (1,)))))
        ('b', 'a')
    """
    return tuple(dict.fromkeys(leaf.key for leaf in source_leaves(expr)))


def source_leaves(expr: Expr) -> tuple[Source, ...]:
    """Every mention of a source weight, left to right, repeats kept."""
    if isinstance(expr, Source):
        return (expr,)
    return tuple(leaf for child in children(expr) for leaf in source_leaves(child))


def children(expr: Expr) -> tuple[Expr, ...]:
    """The expressions that an expression is made of, left to right."""
    match expr:
        case Source() | Constant():
            return ()
        case Concat(parts=parts) | Sum(parts=parts):
            return parts
        case Slice(of=of) | Permute(of=of) | Reshape(of=of) | Affine(of=of) | Resize(of=of):
            return (of,)
        case _:
            assert_never(expr)


def text(expr: Expr) -> str:
    """An expression as a person would write it.

    Example:
        >>> print(text(Affine(Source("norm.weight", (4,)), shift=1.0)))
        1 + norm.weight
        >>> print(text(Slice(Source("qkv.weight", (12, 4)), 0, 4, 8)))
        qkv.weight[4:8]
    """
    match expr:
        case Source(key=key):
            return key
        case Constant(value=value, shape=shape):
            return f"{_constant_name(value)}({', '.join(map(str, shape))})"
        case Concat(parts=parts, axis=axis):
            inner = ", ".join(text(part) for part in parts)
            return f"cat({inner})" if axis == 0 else f"cat({inner}, dim={axis})"
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return f"{_operand(of)}[{':, ' * axis}{start}:{stop}]"
        case Permute(of=of, axes=axes):
            return f"{_operand(of)}.T" if axes == (1, 0) else f"{_operand(of)}.permute{axes}"
        case Reshape(of=of, shape=shape):
            return f"{_operand(of)}.reshape({', '.join(map(str, shape))})"
        case Affine(of=of, scale=scale, shift=shift):
            return _affine_text(of, scale, shift)
        case Sum(parts=parts):
            return " + ".join(text(part) for part in parts)
        case Resize(of=of, shape=shape, scale=scale):
            factor = "" if scale == 1.0 else f" * {scale:.4g}"
            return f"resize({text(of)}, {'x'.join(map(str, shape))}){factor}"
        case _:
            assert_never(expr)


def _operand(expr: Expr) -> str:
    """Text with brackets where a suffix would otherwise bind to the last part only."""
    bare = isinstance(expr, Source | Constant | Concat | Slice | Permute | Reshape)
    return text(expr) if bare else f"({text(expr)})"


def _affine_text(of: Expr, scale: float, shift: float) -> str:
    scaled = text(of) if scale == 1.0 else f"{scale:.6g} * {_operand(of)}"
    return scaled if shift == 0.0 else f"{shift:.6g} + {scaled}"


def _constant_name(value: float) -> str:
    return {0.0: "zeros", 1.0: "ones"}.get(value, f"full[{value:.6g}]")


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _broadcast(shapes: list[Shape]) -> Shape:
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = [sorted(set(column) - {1}) for column in zip(*padded, strict=True)]
    if any(len(size) > 1 for size in sizes):
        raise ValueError(f"cannot add shapes {[list(shape) for shape in shapes]}")
    return tuple(size[0] if size else 1 for size in sizes)


def _fit_is_possible(old: int, new: int, fit: Fit) -> bool:
    match fit:
        case "keep":
            return old == new
        case "leading" | "middle":
            return old >= new
        case "tile" | "pad":
            return 0 < old <= new
        case _:
            assert_never(fit)
