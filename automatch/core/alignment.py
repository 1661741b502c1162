"""Who corresponds to whom, before anyone writes expressions: what `automatch.align` hands to `automatch.synthesize`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from automatch.core.graph import Shape
from automatch.core.mapping import Evidence, LayerPairing, Status

Form: TypeAlias = Literal["matrix", "vector", "table", "other"]
"""What the canonical axes mean: `matrix` (out, in, *kernel), `vector` (features), `table` (rows, features)."""


Entries: TypeAlias = Literal["inputs", "patches", "rows", "positions", "grid", "relative"]
"""What the entries of an indexed axis are. See `Indexed`."""

NewRows: TypeAlias = Literal["mean", "zeros"]
"""What rows of a vocabulary begin as that only the target has: the mean of the source's rows, or zeros."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """An axis whose entries are picked one by one, by a caller's channels, ids or places, and are not mixed.

    So an entry that the source lacks is nothing like any that it has.

    Attributes:
        axis: The canonical axis of the target's weight.
        entries: What an entry stands for. `inputs`: a channel that the caller feeds. `patches`: such channels and
            places folded into one axis. `rows`: a word, a class, a learned query. `positions`: a place in a sequence.
            `grid`: a place in a picture, after any special rows (a class token's). `relative`: a distance between two
            places.
        grids: Of a `grid`, its sizes in the source and in the target; empty where they are not known.
    """

    axis: int
    entries: Entries
    grids: tuple[Shape, Shape] = ((), ())


@dataclass(frozen=True, slots=True)
class Region:
    """Entries `start` to `stop` (excluded) of a stored weight along one of its axes.

    Attributes:
        axis: The axis of the stored weight.
        start: First entry, counted within each group.
        stop: End, excluded, counted within each group.
        groups: The axis is read as this many equal consecutive groups, and the region is taken in each of them. More
            than one where heads interleave (q, k and v of head 0, then of head 1, ...).
    """

    axis: int
    start: int
    stop: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """How the operator that uses a weight sees what is stored: regions, axes in another order, a shape, an affine.

    Attributes:
        regions: Slices of the stored weight, applied one after the other.
        axes: The order of axes after that; empty for "as stored".
        shape: The shape that the result is read under after that; None for "as it is".
        rows: A part of the first axis after that; None for all.
        scale: Factor between the stored and the seen value, `scale * stored + shift`.
        shift: Term between the stored and the seen value.

    Example:
        An `[in, out]` matrix that is used as `x @ w` is seen as `View(axes=(1, 0))`; a norm that multiplies by
        `1 + w` sees `View(shift=1.0)`.
    """

    regions: tuple[Region, ...] = ()
    axes: tuple[int, ...] = ()
    shape: Shape | None = None
    rows: Region | None = None
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """One consecutive part of a target weight, in canonical form along `Assignment.axis`.

    Attributes:
        source: The source key that fills it; None for a constant.
        view: How the source's operator sees that key.
        value: The constant, where there is no source.
        size: How many entries of the target it fills along the axis; None for all.
        lengths: The source key that weight normalisation keeps the lengths in, of which `source` keeps the directions;
            None where `source` is a weight by itself.
    """

    source: str | None
    view: View = View()
    value: float = 0.0
    size: int | None = None
    lengths: str | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one target weight takes, or why nothing.

    Attributes:
        target: The state-dict key.
        status: `structural`, `guessed` or `unmapped`.
        evidence: Why.
        pieces: Parts in order; empty exactly where unmapped.
        axis: The canonical axis along which the pieces are concatenated.
        groups: How many equal consecutive groups of the axis each hold a share of every piece, in the pieces' order;
            1 for plain concatenation.
        view: How the target's operator sees the key.
        form: What the canonical axes mean; decides how a weight of another size is fitted.
        indexed: Those whose entries are picked one by one, which decides more of it.
    """

    target: str
    status: Status
    evidence: Evidence
    pieces: tuple[Piece, ...] = ()
    axis: int = 0
    groups: int = 1
    view: View = View()
    form: Form = "other"
    indexed: tuple[Indexed, ...] = ()


@dataclass(frozen=True, slots=True)
class Alignment:
    """Everything that aligning two graphs found out.

    Attributes:
        assignments: At most one per target weight; a target weight without one is unmapped, reason unknown.
        chains: How repeated blocks were paired.
        notes: Remarks for the reader.
    """

    assignments: tuple[Assignment, ...]
    chains: tuple[LayerPairing, ...] = ()
    notes: tuple[str, ...] = field(default=())
