"""The search for a correspondence: refine until nothing parts, choose among equals, refine again.

When refinement stands still, the elements of one colour are interchangeable as far as signatures tell: hidden units,
heads, residual channels. Some pairing has to be chosen. The one tried first pairs every such colour in stored order,
all at once; that is what a person would do, and most of these choices are free. Refinement then shows whether it holds:
a wrong one puts the sides out of balance, and a smaller choice is tried, in the end one pair of one colour
(individualisation, as in McKay's graph canonisation, 1981). A colour is never paired whole without that check: stored
order is wrong for transposed layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from automatch.exact.colours import Colouring, Flags, Floats, Ints, refined
from automatch.exact.gradients import Side, cotangents
from automatch.exact.twins import twins

_DEAD = 1e-13  # of the largest gradient: rounding
_SIGNATURES = 3
_ROUNDS = 60
_SPREAD = 0.3  # how far a value that whole rows share may lie from the mean


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        colouring: The last colours.
        carriers: By side, for each element the one that carries the sum that both only enter through; itself mostly.
        alive: By element, whether any output depends on it.
        chosen: By element, whether its colour was paired by choice, other pairings being as good.
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
    """The state of one search over two sides whose outputs correspond in order and shape.

    `check` is called before every evaluation, and ends the search by raising.
    """

    source: Side
    target: Side
    shapes: Sequence[tuple[int, ...]]
    seed: int = 0
    check: Callable[[], None] = lambda: None
    rounds: int = field(default=0, init=False)
    weights: list[list[Tensor]] = field(init=False)
    base: tuple[Floats, Floats] = field(init=False)
    elements: tuple[Ints, Ints] = field(init=False)
    fill: Floats = field(init=False)
    generic: Floats = field(init=False)
    fan: Floats = field(init=False)
    alive: Flags = field(init=False)
    chosen: Flags = field(init=False)

    def run(self, patience: int = _ROUNDS) -> Found:
        """Search until every live element is paired, nothing is left to choose, or patience ends."""
        self.weights = cotangents(self.shapes, _SIGNATURES, self.seed + 5)
        sides = (self.source, self.target)
        carriers = (twins(self.source, self.weights, self.seed + 1), twins(self.target, self.weights, self.seed + 2))
        fills = [side.by_role(lambda role: role.fill) for side in sides]
        bears = [given == np.arange(side.size) for side, given in zip(sides, carriers, strict=True)]
        self.base = (np.where(bears[0], fills[0], 0.0), np.where(bears[1], fills[1], 0.0))
        # Most of a large vocabulary is never read; colours are kept for what takes part alone.
        first, second = (np.flatnonzero(side.unknown & bear) for side, bear in zip(sides, bears, strict=True))
        self.elements = (first, second)
        self.fill = np.concatenate([fills[0][first], fills[1][second]])
        self.generic = self.source.draw(self.seed + 3)[first]
        self.fan = self.source.by_role(lambda role: max(1.0, role.fan_in))[first]
        self.alive = np.zeros(len(self.fill), bool)
        self.chosen = np.zeros(len(self.fill), bool)
        loose = np.concatenate([np.zeros(len(first), bool), _loose(self.target)[second]])
        found = self._search(Colouring(np.zeros(len(self.fill), np.int64), len(first), loose), patience)
        return self.spread(found, carriers)

    def spread(self, found: Colouring, carriers: tuple[Ints, Ints]) -> Found:
        """The colours of all elements; those that took no part have none."""
        border, total = self.source.size, self.source.size + self.target.size
        places = np.concatenate([self.elements[0], border + self.elements[1]])
        colours = np.full(total, -1, np.int64)
        loose, alive, chosen = np.zeros(total, bool), np.zeros(total, bool), np.zeros(total, bool)
        colours[places], loose[places] = found.colours, found.loose
        alive[places], chosen[places] = self.alive, self.chosen
        return Found(Colouring(colours, border, loose), carriers, alive, chosen, self.rounds)

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
            ours, theirs = colouring.sizes()
            if not ((ours > 1) & (ours == theirs)).any():
                break  # what was chosen last was verified when it was chosen
        return colouring

    def step(self, colouring: Colouring, first: bool = False) -> Colouring:
        """Evaluate both sides on these colours and part them by what comes out."""
        self.check()
        values = self.fill if first else self.values(colouring)
        self.rounds += 1
        border = colouring.border
        parts = []
        for side, base, places, given in (
            (self.source, self.base[0], self.elements[0], values[:border]),
            (self.target, self.base[1], self.elements[1], values[border:]),
        ):
            flat = base.copy()
            flat[places] = given
            parts.append(side.gradients(flat, self.weights)[:, places])
        rows = np.concatenate(parts, axis=1)
        rows[~np.isfinite(rows)] = 0.0
        floor = _DEAD * max(float(rows.max(initial=0.0)), -float(rows.min(initial=0.0)))
        rows[np.abs(rows) <= floor] = 0.0
        self.alive |= rows.any(0)
        return refined(colouring, rows, self.alive)

    def values(self, colouring: Colouring) -> Floats:
        """Values by colour: the generic value of its first source element, smaller where many elements share it."""
        colours, border = colouring.colours, colouring.border
        source = colours[:border]
        sharing, other = colouring.sizes()
        values = np.full(colouring.count + 1, np.nan)
        backwards = np.flatnonzero(source >= 0)[::-1]
        # A factor shared by a row adds up with itself: what many share is scaled down, and what whole rows share stays
        # near the mean that it started from. Activations keep their scale through any depth.
        shared, fan, drawn = sharing[source[backwards]], self.fan[backwards], self.generic[backwards]
        near_mean = (1 + _SPREAD * np.tanh(drawn * np.sqrt(fan))) / fan
        whole_rows = (fan > 1) & (shared >= fan)
        values[source[backwards]] = np.where(whole_rows, near_mean, drawn / np.sqrt(np.clip(shared, 1, fan)))
        # A colour out of balance holds weights that one side lacks: they stay where they change nothing.
        values[:-1][sharing != other] = np.nan
        spread = values[colours]
        return np.where(np.isnan(spread), self.fill, spread)

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
        left = self.source.leaf[self.elements[0][ours]]
        right = self.target.leaf[self.elements[1][theirs - len(self.elements[0])]]
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


def _loose(side: Side) -> Flags:
    found: Flags = side.by_role(lambda role: float(role.kind in ("bias", "scale"))) > 0
    return found
