"""Both sides of a search: their leaves in one list, in cells that have colours, and the values that colours give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from automatch.exact.cells import Cells
from automatch.exact.colours import Colouring
from automatch.exact.gradients import Side
from automatch.exact.roles import Role, Roles
from automatch.exact.tolerance import Flags, Floats, Ints
from automatch.exact.twins import Mates

_SPREAD = 0.3  # how far a value that whole rows share may lie from the mean


@dataclass(frozen=True, slots=True, eq=False)
class Both:
    """Two sides, with leaves numbered through, the source's first.

    Attributes:
        source: The source.
        target: The target.
        mates: By side, the elements whose sum others carry.
        mixed: By leaf, whether its elements play several roles: cells are then told by no line.
        idle: By leaf, for each element whether it takes no part; None where all take part.
    """

    source: Side
    target: Side
    mates: tuple[Mates, Mates]
    mixed: tuple[bool, ...] = field(init=False)
    idle: tuple[Flags | None, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixed", tuple(_mixed(one) for one in (*self.source.roles, *self.target.roles)))
        object.__setattr__(self, "idle", tuple(map(self._idle, range(self.count))))

    @property
    def border(self) -> int:
        """How many leaves the source has."""
        return len(self.source.roles)

    @property
    def count(self) -> int:
        """How many leaves both have."""
        return len(self.source.roles) + len(self.target.roles)

    def at(self, leaf: int) -> tuple[Side, int, Mates]:
        """A leaf's side, its number there, and the side's mates."""
        if leaf < self.border:
            return self.source, leaf, self.mates[0]
        return self.target, leaf - self.border, self.mates[1]

    def shape(self, leaf: int) -> tuple[int, ...]:
        """A leaf's shape."""
        side, number, _ = self.at(leaf)
        return side.form.leaves[number].shape

    def roles(self, leaf: int) -> Roles:
        """A leaf's roles."""
        side, number, _ = self.at(leaf)
        return side.roles[number]

    def carried(self, leaf: int) -> Ints:
        """The places in a leaf of elements that another one stands for."""
        side, number, mates = self.at(leaf)
        return mates.within(int(side.starts[number]), int(side.starts[number + 1]))

    def _idle(self, leaf: int) -> Flags | None:
        side, number, _ = self.at(leaf)
        unknown, carried = side.unknown(number), self.carried(leaf)
        if not len(carried) and unknown.all():
            return None
        idle = ~unknown
        idle[carried] = True
        return idle


def _mixed(roles: Roles) -> bool:
    return roles.only is None and len(np.unique(roles.part[roles.read])) > 1


def _is_loose(role: Role) -> float:
    return float(role.kind in ("bias", "scale"))


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """All leaves in cells, and the cells' colours.

    Attributes:
        cells: By leaf.
        starts: By leaf, where its cells begin among all cells; one more at the end.
        colouring: Of all cells.
    """

    cells: tuple[Cells, ...]
    starts: Ints
    colouring: Colouring

    def table(self, leaf: int) -> Ints:
        """By cell of a leaf, its colour."""
        return self.colouring.colours[self.starts[leaf] : self.starts[leaf + 1]]

    def leaf_of(self, cells: Ints) -> Ints:
        """The leaves that cells lie in."""
        return np.searchsorted(self.starts, cells, side="right") - 1

    def with_colours(self, colours: Ints) -> Painted:
        """The same cells in other colours."""
        many = self.colouring.many
        if many is not None and int(many[colours >= 0].max(initial=1)) == 1:
            many = None
        return Painted(self.cells, self.starts, replace(self.colouring, colours=colours, many=many))

    def by_element(self, leaves: range) -> Ints:
        """By element of some leaves, its colour."""
        parts = [self.cells[leaf].spread(self.table(leaf)) for leaf in leaves]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def painted(both: Both, cells: Sequence[Cells], tables: Sequence[Ints]) -> Painted:
    """Put together what is known leaf by leaf."""
    starts = np.cumsum([0, *(one.count for one in cells)]).astype(np.int64)
    colours = np.concatenate([*tables, np.zeros(0, np.int32)]).astype(np.int32, copy=False)
    loose = np.zeros(len(colours), bool)
    for leaf in range(both.border, both.count):
        loose[starts[leaf] : starts[leaf + 1]] = cells[leaf].pick(both.roles(leaf).of(_is_loose)) > 0
    return Painted(tuple(cells), starts, Colouring(colours, int(starts[both.border]), loose, _many(cells)))


def _many(cells: Sequence[Cells]) -> Ints | None:
    if all(one.whole for one in cells):
        return None
    parts = [np.ones(one.count, np.int32) if one.whole else one.many().astype(np.int32) for one in cells]
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """What elements hold in a round: a number by colour, and what they start from where they have none.

    Attributes:
        both: Both sides.
        paint: The colours.
        by_colour: By colour, its value; NaN where elements stay where they start, and once more at the end.
    """

    both: Both
    paint: Painted
    by_colour: Floats

    def of_source(self) -> Iterator[Floats]:
        """By leaf of the source, the values of its elements."""
        return map(self.of_leaf, range(self.both.border))

    def of_target(self) -> Iterator[Floats]:
        """By leaf of the target, the values of its elements."""
        return map(self.of_leaf, range(self.both.border, self.both.count))

    def of_leaf(self, leaf: int) -> Floats:
        """By element of a leaf, its value; new for every call."""
        start = self.both.roles(leaf).of(lambda role: role.fill)
        flat: Floats = self.paint.cells[leaf].spread(self.by_colour[self.paint.table(leaf)])
        unset = np.isnan(flat)
        flat[unset] = start[unset]
        flat[self.both.carried(leaf)] = 0.0
        return flat


def valued(both: Both, paint: Painted, seed: int) -> Values:
    """Values by colour: the generic value of its first source element, smaller where many elements share it."""
    colouring = paint.colouring
    sharing, other = colouring.sizes()
    values = np.full(colouring.count + 1, np.nan)
    for leaf, drawn in enumerate(both.source.draws(seed)):
        table = paint.table(leaf)
        new = np.flatnonzero((table >= 0) & np.isnan(values[table]))[
            ::-1
        ]  # backwards: the first cell has the last word
        if len(new):
            fan = paint.cells[leaf].pick(both.roles(leaf).of(_fan))[new]
            chosen = table[new]
            values[chosen] = _on_scale(paint.cells[leaf].pick(drawn)[new], fan, sharing[chosen])
    # A colour out of balance holds weights that one side lacks: they stay where they change nothing.
    values[:-1][sharing != other] = np.nan
    return Values(both, paint, values)


def _fan(role: Role) -> float:
    return max(1.0, role.fan_in)


def _on_scale(drawn: Floats, fan: Floats, shared: Ints) -> Floats:
    """Values that keep activations on their scale through any depth.

    A factor shared by a row adds up with itself: what many share is scaled down, and what whole rows share stays near
    the mean that it started from.
    """
    whole_rows = (fan > 1) & (shared >= fan)
    values = drawn / np.sqrt(np.clip(shared, 1, fan))
    near = fan[whole_rows]
    values[whole_rows] = (1 + _SPREAD * np.tanh(drawn[whole_rows] * np.sqrt(near))) / near
    return values
