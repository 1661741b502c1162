"""The operators of expressions: frozen values that know their shape. `automatch.core.expr` is the way in.

Every operator says in its docstring how it is undone, or why it is not, where that is not plain.
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
class Gather:
    """Any entries in any order: entry i, counted row by row, is entry `index[i]` of `of`, counted likewise.

    For what no slicing and permuting gives; it has an inverse where no entry is taken twice.

    Raises:
        ValueError: There is not one index an entry, or one is outside `of`.
    """

    of: Expr
    shape: Shape
    index: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse an index that does not fit."""
        if len(self.index) != prod(self.shape):
            raise ValueError(f"gather: {len(self.index)} indices do not fill shape {list(self.shape)}")
        if self.index and not 0 <= min(self.index) <= max(self.index) < prod(self.of.shape):
            outside = min(self.index) if min(self.index) < 0 else max(self.index)
            raise ValueError(f"gather: entry {outside} is outside shape {list(self.of.shape)}")


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
        return _broadcast("add", [part.shape for part in self.parts])


@dataclass(frozen=True, slots=True)
class Product:
    """Parts multiplied entry by entry (`w * rsqrt(var)`), broadcast as torch does.

    Its inverse needs all parts but one: division by them.

    Raises:
        ValueError: There is no part, or the shapes do not broadcast.
    """

    parts: tuple[Expr, ...]

    def __post_init__(self) -> None:
        """Refuse parts that cannot be multiplied."""
        _ = self.shape

    @property
    def shape(self) -> Shape:
        """Shape of the product."""
        if not self.parts:
            raise ValueError("a product needs at least one part")
        return _broadcast("multiply", [part.shape for part in self.parts])


Function: TypeAlias = Literal[
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "square",
    "abs",
    "tanh",
    "atanh",
    "sigmoid",
    "logit",
    "softplus",
    "inverse_softplus",
    "expm1",
    "log1p",
]


@dataclass(frozen=True, slots=True)
class Elementwise:
    """A function of every entry (`exp(A_log)`).

    Most come in pairs that undo each other: exp and log, tanh and atanh, sigmoid and logit, softplus and its inverse,
    expm1 and log1p; reciprocal undoes itself. `square` and `abs` forget the sign.
    """

    of: Expr
    function: Function

    @property
    def shape(self) -> Shape:
        """Shape, unchanged."""
        return self.of.shape


Reduction: TypeAlias = Literal["sum", "mean", "norm"]


@dataclass(frozen=True, slots=True)
class Reduce:
    """Axes summed up: their sum, their mean, or their Euclidean norm. It has no inverse: entries are lost.

    Raises:
        ValueError: `axes` are none, out of order, or not the tensor's.
    """

    of: Expr
    kind: Reduction
    axes: tuple[int, ...]
    keepdim: bool = False

    def __post_init__(self) -> None:
        """Refuse axes that are not the tensor's."""
        if not self.axes or list(self.axes) != sorted(set(self.axes)):
            raise ValueError(f"{self.kind}: axes {list(self.axes)} must be given, each once and in order")
        if not 0 <= self.axes[0] <= self.axes[-1] < len(self.of.shape):
            raise ValueError(f"{self.kind}: shape {list(self.of.shape)} does not have all of axes {list(self.axes)}")

    @property
    def shape(self) -> Shape:
        """Shape without the axes, or with one entry in each of their places."""
        if self.keepdim:
            return tuple(1 if axis in self.axes else size for axis, size in enumerate(self.of.shape))
        return tuple(size for axis, size in enumerate(self.of.shape) if axis not in self.axes)


Fit: TypeAlias = Literal["keep", "leading", "tile", "middle", "pad", "zeros", "mean", "cubic"]
"""What happens along an axis that takes another size; see `Resize`."""

MOVING_FITS: frozenset[Fit] = frozenset(("keep", "leading", "tile", "middle"))
"""Those after which every entry is an old one."""

COMPUTING_FITS: frozenset[Fit] = frozenset(("mean", "cubic"))
"""Those that compute with the old entries."""


@dataclass(frozen=True, slots=True)
class Resize:
    """A tensor of another size that plays the same role; not exact, and says so.

    Attributes:
        of: What is resized.
        shape: The new shape, same rank.
        fits: What happens along each axis: `keep` (same size), `leading` (the first entries), `tile` (entries repeated
            cyclically until full), `middle` (a kernel's central entries), `pad` (a kernel centred among zeros), `zeros`
            (all entries, then zeros), `mean` (all entries, then their mean again and again), `cubic` (a grid of another
            resolution, by cubic convolution).
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


Movement: TypeAlias = Concat | Slice | Permute | Reshape | Gather
"""Operators that only say which entry goes where."""

Arithmetic: TypeAlias = Affine | Sum | Product | Elementwise | Reduce
"""Operators that compute with entries."""

Expr: TypeAlias = Source | Constant | Movement | Arithmetic | Resize


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
        case Concat(parts=parts) | Sum(parts=parts) | Product(parts=parts):
            return parts
        case Slice(of=of) | Permute(of=of) | Reshape(of=of) | Gather(of=of) | Affine(of=of):
            return (of,)
        case Elementwise(of=of) | Reduce(of=of) | Resize(of=of):
            return (of,)
        case _:
            assert_never(expr)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _broadcast(what: str, shapes: list[Shape]) -> Shape:
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = [sorted(set(column) - {1}) for column in zip(*padded, strict=True)]
    if any(len(size) > 1 for size in sizes):
        raise ValueError(f"cannot {what} shapes {[list(shape) for shape in shapes]}")
    return tuple(size[0] if size else 1 for size in sizes)


def _fit_is_possible(old: int, new: int, fit: Fit) -> bool:
    match fit:
        case "keep":
            return old == new
        case "leading" | "middle":
            return old >= new
        case "tile" | "pad" | "zeros" | "mean":
            return 0 < old <= new
        case "cubic":
            return old > 0 and new > 0
        case _:
            assert_never(fit)
