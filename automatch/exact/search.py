"""The search for a correspondence: refine until nothing parts, choose among equals, refine again.

When refinement stands still, the elements of one colour are interchangeable as far as signatures tell: hidden units,
heads, residual channels. Some pairing has to be chosen. The one tried first pairs every such colour in stored order,
all at once; that is what a person would do, and most of these choices are free. Refinement then shows whether it holds:
a wrong one puts the sides out of balance, and a smaller choice is tried, in the end one pair of one colour
(individualisation, as in McKay's graph canonisation, 1981). A colour is never paired whole without that check: stored
order is wrong for transposed layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from torch import Tensor

from automatch.exact.cells import one_cell
from automatch.exact.choices import Equals, equals, opened, paired, proposals
from automatch.exact.gradients import Side, cotangents
from automatch.exact.painted import Both, Painted, painted, valued
from automatch.exact.signatures import recoloured
from automatch.exact.tolerance import Ints
from automatch.exact.twins import Mates, twins

_SIGNATURES = 3
_ROUNDS = 60
_KEPT = 1_000_000
"""Cells above which what may be chosen is made anew for every choice, so that it is not held during rounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search found.

    Attributes:
        paint: The last colours, of the source's leaves and then the target's.
        border: How many leaves the source has.
        mates: By side, the elements whose sum others carry.
        choices: How many colours were paired by choice, other pairings being as good.
        rounds: How often both sides were evaluated.
    """

    paint: Painted
    border: int
    mates: tuple[Mates, Mates]
    choices: int
    rounds: int

    @property
    def fault(self) -> int:
        """How many elements found no partner."""
        return self.paint.colouring.imbalance()

    @property
    def undecided(self) -> int:
        """How many elements of the source were left with several partners to choose from, as patience ended."""
        ours, theirs = self.paint.colouring.sizes()
        return int(ours[(ours > 1) & (ours == theirs)].sum())

    @property
    def alive(self) -> int:
        """How many elements of both sides some output depends on."""
        return self.paint.colouring.alive()

    def colours(self) -> tuple[Ints, Ints]:
        """By element of the source and of the target, its colour; -1 where no output depends on it."""
        leaves = range(self.border), range(self.border, len(self.paint.cells))
        return self.paint.by_element(leaves[0]), self.paint.by_element(leaves[1])


@dataclass(slots=True, eq=False)
class Search:
    """The state of one search over two sides whose outputs correspond in order and shape.

    `check` is called between evaluations and gradients, and ends the search by raising.
    """

    source: Side
    target: Side
    shapes: Sequence[tuple[int, ...]]
    seed: int = 0
    check: Callable[[], None] = lambda: None
    rounds: int = field(default=0, init=False)
    choices: int = field(default=0, init=False)
    weights: list[list[Tensor]] = field(init=False)
    both: Both = field(init=False)

    def run(self, patience: int = _ROUNDS) -> Found:
        """Search until every live element is paired, nothing is left to choose, or patience ends."""
        self.weights = cotangents(self.shapes, _SIGNATURES, self.seed + 5)
        self.check()
        sides = ((self.source, self.seed + 1), (self.target, self.seed + 2))
        mates = tuple(twins(side, self.weights, seed, self.check) for side, seed in sides)
        self.both = Both(self.source, self.target, (mates[0], mates[1]))
        cells = [one_cell(self.both.shape(leaf)) for leaf in range(self.both.count)]
        start = painted(self.both, cells, [np.full(one.count, -1, np.int32) for one in cells])
        found = self._search(start, patience)
        return Found(found, self.both.border, self.both.mates, self.choices, self.rounds)

    def _search(self, paint: Painted, patience: int) -> Painted:
        paint = self.step(paint)
        while self.rounds < patience and paint.colouring.imbalance() == 0:
            before = paint.colouring.count
            paint = self.step(paint)
            if paint.colouring.count > before:
                continue
            chosen = self.choose(paint)
            if chosen is None:
                break
            paint = chosen
            ours, theirs = paint.colouring.sizes()
            if not ((ours > 1) & (ours == theirs)).any():
                break  # what was chosen last was verified when it was chosen
        return paint

    def step(self, paint: Painted) -> Painted:
        """Evaluate both sides on these colours and part them by what comes out."""
        self.check()
        self.rounds += 1
        values = valued(self.both, paint, self.seed + 3)
        sides = self.source.evaluated(values.of_source()), self.target.evaluated(values.of_target())
        del values
        return recoloured(self.both, paint, sides, self.weights, self.check)

    def choose(self, before: Painted) -> Painted | None:
        """Pair equals by choice; None where there is nothing left to choose."""
        ours, theirs = before.colouring.sizes()
        if not ((ours > 1) & (ours == theirs)).any():
            return None
        fault, tried = before.colouring.imbalance(), 0
        kept: tuple[Painted, list[Equals]] | None = None
        while True:
            paint, found = kept or self.open_to_choice(before)
            kept = (paint, found) if len(paint.colouring.colours) <= _KEPT else None
            wanted = next(islice(proposals(found), tried, None), None)
            if wanted is None:
                first = found[0]
                self.choices += 1
                return self.step(paired(paint, [replace(first, ours=first.ours[:1], theirs=first.theirs[:1])]))
            chosen, count = paired(paint, wanted), len(wanted)
            del paint, found, wanted
            held = self.held(chosen, fault)
            if held is not None:
                self.choices += count
                return held
            tried += 1

    def open_to_choice(self, before: Painted) -> tuple[Painted, list[Equals]]:
        """The colours with every element that may be chosen in a cell of its own, and the equals among them."""
        paint = opened(self.both, before)
        return paint, list(equals(paint))

    def held(self, chosen: Painted, fault: int) -> Painted | None:
        """What two rounds make of a choice; None where they put the sides further out of balance."""
        for _ in range(2):
            chosen = self.step(chosen)
            if chosen.colouring.imbalance() > fault:
                return None  # colours only part: what has no partner now will have none later
        return chosen
