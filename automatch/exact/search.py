"""The search for a correspondence: refine until nothing parts, choose among equals, refine again.

When refinement stands still, the elements of one colour are interchangeable as far as signatures tell: hidden units,
heads, residual channels. Some pairing has to be chosen. The one tried first pairs every such colour in stored order, all
at once; that is what a person would do, and most of these choices are free. Refinement then shows whether it holds: a
wrong one puts the sides out of balance, and a smaller choice is tried, in the end one pair of one colour
(individualisation, as in McKay's graph canonisation, 1981). A colour is never paired whole without that check: stored
order is wrong for transposed layouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from automatch.exact.colours import Colouring, Flags, Floats, Ints, refined
from automatch.exact.gradients import Side, cotangents
from automatch.exact.twins import twins

_DEAD = 1e-12  # of the largest gradient: rounding
_SIGNATURES = 3
_ROUNDS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        colouring: The last colours.
        carriers: By side, for each element the one that carries the sum that both only enter through; itself mostly.
        alive: By element, whether any output depends on it.
        choices: How many colours were paired by choice, any of the pairings being as good.
        chosen: By element, whether its colour was paired so.
        rounds: How often both sides were evaluated.
    """

    colouring: Colouring
    carriers: tuple[Ints, Ints]
    alive: Flags
    chosen: Flags
    rounds: int

    @property
    def fault(self) -> int:
        """How many elements found no partner."""
        return self.colouring.imbalance()


@dataclass(frozen=True, slots=True, eq=False)
class Equals:
    """Elements of one colour, in the order in which they would be paired.

    Attributes:
        ours: Those of the source.
        theirs: As many of the target.
        leaves: The first leaf of each side that holds some.
        alike: Whether their leaves have equal shares on both sides.
    """

    ours: Ints
    theirs: Ints
    leaves: tuple[int, int]
    alike: bool


@dataclass(slots=True, eq=False)
class Search:
    """The state of one search over two sides whose outputs correspond in order and shape."""

    source: Side
    target: Side
    shapes: Sequence[tuple[int, ...]]
    seed: int = 0
    rounds: int = field(default=0, init=False)
    weights: list[list[Tensor]] = field(init=False)
    part: Flags = field(init=False)
    fill: Floats = field(init=False)
    generic: Floats = field(init=False)
    fan: Floats = field(init=False)
    alive: Flags = field(init=False)
    chosen: Flags = field(init=False)

    def run(self, patience: int = _ROUNDS) -> Found:
        """Search until every live element is paired, nothing is left to choose, or patience ends."""
        self.weights = cotangents(self.shapes, _SIGNATURES, self.seed + 5)
        carriers = (twins(self.source, self.weights, self.seed + 1), twins(self.target, self.weights, self.seed + 2))
        parts = np.concatenate([_takes_part(self.source, carriers[0]), _takes_part(self.target, carriers[1])])
        self.part = parts
        self.fill = np.concatenate([_fills(self.source), _fills(self.target)])
        self.generic = self.source.draw(self.seed + 3)
        self.fan = self.source.by_role(lambda role: max(1.0, role.fan_in))
        self.alive = np.zeros(len(parts), bool)
        loose = np.concatenate([np.zeros(self.source.size, bool), _loose(self.target)])
        self.chosen = np.zeros(len(parts), bool)
        found = self._search(Colouring(np.where(parts, 0, -1), self.source.size, loose), patience)
        return Found(found, carriers, self.alive, self.chosen, self.rounds)

    def _search(self, colouring: Colouring, patience: int) -> Colouring:
        colouring = self.step(colouring, first=True)
        while self.rounds < patience and colouring.imbalance() == 0:
            before = colouring.count
            colouring = self.step(colouring)
            if colouring.count > before:
                continue
            chosen = self.choose(colouring)
            if chosen is None:
                break
            colouring = chosen
        return colouring

    def step(self, colouring: Colouring, first: bool = False) -> Colouring:
        """Evaluate both sides on these colours and part them by what comes out."""
        values = np.where(self.part, self.fill, 0.0) if first else self.values(colouring)
        self.rounds += 1
        border = self.source.size
        rows = np.concatenate(
            [
                self.source.gradients(values[:border], self.weights),
                self.target.gradients(values[border:], self.weights),
            ],
            axis=1,
        )
        rows[~np.isfinite(rows)] = 0.0
        live = (np.abs(rows) > _DEAD * np.abs(rows[:, self.part]).max(initial=0.0)).any(0) & self.part
        self.alive |= live
        return refined(colouring, np.where(live, rows, 0.0), self.alive)

    def values(self, colouring: Colouring) -> Floats:
        """Values by colour: the generic value of its first source element, smaller where many elements share it."""
        colours, border = colouring.colours, colouring.border
        source = colours[:border]
        sharing, other = colouring.sizes()
        values = np.full(colouring.count + 1, np.nan)
        backwards = np.flatnonzero(source >= 0)[::-1]
        # A factor shared by a whole row adds up with itself; scaling it down keeps the sums in bounds.
        crowd = np.sqrt(np.clip(sharing[source[backwards]], 1, self.fan[backwards]))
        values[source[backwards]] = self.generic[backwards] / crowd
        # A colour out of balance holds weights that one side lacks: they stay where they change nothing.
        values[:-1][sharing != other] = np.nan
        spread = values[colours]
        return np.where(self.part, np.where(np.isnan(spread), self.fill, spread), 0.0)

    def choose(self, colouring: Colouring) -> Colouring | None:
        """Pair equals by choice; None where there is nothing left to choose."""
        equals = list(self.equals(colouring))
        if not equals:
            return None
        before = colouring.imbalance()
        for wanted in _proposals(equals):
            proposed = _paired(colouring, wanted)
            parted = self.step(self.step(proposed))
            if parted.imbalance() <= before:
                for pair in wanted:
                    self.chosen[pair.ours] = self.chosen[pair.theirs] = True
                return parted
        first = equals[0]
        self.chosen[first.ours] = self.chosen[first.theirs] = True
        return self.step(_paired(colouring, [replace(first, ours=first.ours[:1], theirs=first.theirs[:1])]))

    def equals(self, colouring: Colouring) -> Iterator[Equals]:
        """The elements of every colour that several elements of each side share, smallest colours first."""
        ours, theirs = colouring.sizes()
        order, starts = colouring.members()
        several = np.flatnonzero((ours > 1) & (ours == theirs))
        for colour in several[np.argsort(ours[several], kind="stable")]:
            members = order[starts[colour] : starts[colour + 1]]
            border = np.searchsorted(members, colouring.border)
            yield self.in_order(members[:border], members[border:])

    def in_order(self, ours: Ints, theirs: Ints) -> Equals:
        """The elements in the order in which a person would pair them: leaf by leaf, leaves of equal share together."""
        left = self.source.leaf[ours]
        right = self.target.leaf[theirs - self.source.size]
        share, other = np.bincount(left), np.bincount(right)
        alike = np.array_equal(np.sort(share[share > 0]), np.sort(other[other > 0]))
        if alike and (share > 0).sum() > 1:
            ours = ours[np.lexsort((ours, left, share[left]))]
            theirs = theirs[np.lexsort((theirs, right, other[right]))]
        return Equals(ours, theirs, (int(left[0]), int(right[0])), alike)


def _paired(colouring: Colouring, pairs: Sequence[Equals]) -> Colouring:
    colours, fresh = colouring.colours.copy(), colouring.count
    for pair in pairs:
        colours[pair.ours] = colours[pair.theirs] = fresh + np.arange(len(pair.ours))
        fresh += len(pair.ours)
    return colouring.with_colours(colours)


def _proposals(equals: list[Equals]) -> Iterator[list[Equals]]:
    """Choices to try, boldest first: all colours at once, those that lie in leaves alike, one a leaf, ever fewer."""
    yield equals
    alike = [pair for pair in equals if pair.alike]
    if 0 < len(alike) < len(equals):
        yield alike
    one_each: dict[tuple[int, int], Equals] = {}
    for pair in alike:
        one_each.setdefault(pair.leaves, pair)
    fewer = sorted(one_each.values(), key=lambda pair: (len(pair.ours), int(pair.ours[0])))
    while fewer:
        if len(fewer) < len(alike) or len(alike) < len(equals):
            yield fewer
        fewer = fewer[: len(fewer) // 4] if len(fewer) > 1 else []
    if len(equals) > 1:
        yield equals[:1]


def _takes_part(side: Side, carriers: Ints) -> Flags:
    return side.floating & (carriers == np.arange(side.size))


def _fills(side: Side) -> Floats:
    return side.by_role(lambda role: role.fill)


def _loose(side: Side) -> Flags:
    return side.by_role(lambda role: float(role.kind in ("bias", "scale"))) > 0
