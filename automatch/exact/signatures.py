"""One round's signatures: three gradients of every leaf, kept for as few elements as will do.

Gradients come one cotangent at a time, and each is gone before the next is made. What is kept of them:

- of a leaf whose cells are all paired one to one, and whose partners' leaves are as well, whether the two elements of
  a pair are equal, and at which tolerance: one small number a pair, found in one pass without sorting;
- of any other leaf, the gradients of its cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from automatch.exact.cells import Cells, alike, elements, still_alike
from automatch.exact.colours import compact, refined_at
from automatch.exact.gradients import Evaluated
from automatch.exact.painted import Both, Painted, painted
from automatch.exact.tolerance import CHUNK, TOLERANCES, Flags, Floats, Ints

_DEAD = 1e-13  # of the largest gradient: rounding


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """The pairs of one target leaf.

    Attributes:
        cells: The target's cells, counted in the leaf.
        sources: For each, the source's element.
        levels: For each, the number of the finest tolerance at which its elements are equal so far.
    """

    cells: Ints
    sources: Ints
    levels: Ints


@dataclass(slots=True, eq=False)
class _Round:
    """The gradients of one round, while they come in.

    Attributes:
        both: Both sides.
        before: Colours so far.
        whole: Leaves whose elements are each looked at.
        awake: Leaves that are not taken as paired.
        loud: Leaves whose gradients are kept.
        cells: By leaf, its cells in this round.
        rows: By loud leaf, one row a cotangent, one column a cell.
        pairs: By other leaf of the target.
        largest: The largest number so far in any gradient; far below it lies only rounding.
        taken: How many cotangents came in.
        again: Whether a leaf was not what it was taken for, so that the round has to be begun anew.
    """

    both: Both
    before: Painted
    whole: set[int]
    awake: set[int]
    loud: list[int] = field(init=False)
    cells: list[Cells] = field(init=False)
    rows: dict[int, list[Floats]] = field(init=False)
    pairs: dict[int, _Pairs] = field(init=False)
    largest: float = field(default=0.0, init=False)
    taken: int = field(default=0, init=False)
    again: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.loud = _loud(self.before, self.both.count, self.awake)
        self.cells = list(self.before.cells)
        self.rows = {leaf: [] for leaf in self.loud}
        self.pairs = {}
        quiet = [leaf for leaf in range(self.both.border, self.both.count) if leaf not in self.rows]
        if quiet:
            source = _source_places(self.both, self.before)
            for leaf in quiet:
                table = self.before.table(leaf)
                chosen = np.flatnonzero(table >= 0).astype(np.int32)
                self.pairs[leaf] = _Pairs(chosen, source[table[chosen]], np.zeros(len(chosen), np.int8))

    def take(self, gradients: list[Floats | None]) -> None:
        """Keep what is needed of the gradients by one cotangent; uses them up."""
        self.largest = max([self.largest, *(_largest(found) for found in gradients if found is not None)])
        largest = self.largest
        for leaf in self.loud:
            self.take_loud(leaf, gradients[leaf], largest)
            gradients[leaf] = None
        if self.pairs:
            self.take_pairs(gradients, largest)
        self.taken += 1

    def take_loud(self, leaf: int, found: Floats | None, largest: float) -> None:
        kept, before = self.rows[leaf], self.before
        gradient = np.zeros(before.cells[leaf].rows.size * before.cells[leaf].columns.size) if found is None else found
        idle = self.both.idle[leaf]
        if idle is not None:
            gradient = np.where(idle, 0.0, gradient)
        _silence(gradient, _DEAD * largest)
        finest = TOLERANCES[0]
        if not kept and (leaf in self.whole or self.both.mixed[leaf]):
            self.cells[leaf] = elements(self.both.shape(leaf))
        elif not kept:
            self.cells[leaf] = alike(gradient, before.cells[leaf], before.table(leaf), finest, largest)
        elif not still_alike(gradient, self.cells[leaf], finest, largest):
            self.whole.add(leaf)
            self.again = True
        kept.append(np.array(self.cells[leaf].pick(gradient)))

    def take_pairs(self, gradients: list[Floats | None], largest: float) -> None:
        """Compare the elements of pairs."""
        floor = _DEAD * largest
        if not self.taken:
            self.watch(gradients, floor)
        starts, border = self.both.source.starts, self.both.border
        ours = np.zeros(self.both.source.size)
        for leaf in range(border):
            found = gradients[leaf]
            if found is not None:
                ours[starts[leaf] : starts[leaf + 1]] = found
            gradients[leaf] = found = None
        for leaf, pairs in self.pairs.items():
            found = gradients[leaf]
            theirs = np.zeros(int(np.prod(self.both.shape(leaf)))) if found is None else found
            _compare(pairs, ours, self.cells[leaf].pick(theirs), floor, largest)
            gradients[leaf] = found = None

    def watch(self, gradients: list[Floats | None], floor: float) -> None:
        """Note paired leaves in which an element that had no gradient so far has one now."""
        for leaf in set(range(self.both.count)) - set(self.loud):
            found, dead = gradients[leaf], self.before.table(leaf) < 0
            if found is None or not dead.any():
                continue
            silent = self.cells[leaf].spread(dead)
            idle = self.both.idle[leaf]
            silent = silent if idle is None else silent & ~idle
            if bool((np.abs(found[silent]) > floor).any()):
                self.awake.add(leaf)
                self.again = True

    def result(self) -> Painted:
        """Both sides in new colours."""
        before, both = self.before, self.both
        apart = any(pairs.levels.any() for pairs in self.pairs.values())
        if not apart and not any(np.any(row) for kept in self.rows.values() for row in kept):
            return before
        tables = [
            before.cells[leaf].moved(before.table(leaf), self.cells[leaf]) if leaf in self.rows else before.table(leaf)
            for leaf in range(both.count)
        ]
        now = painted(both, self.cells, tables)
        spans = [np.arange(now.starts[leaf], now.starts[leaf + 1]) for leaf in self.loud]
        looked = np.concatenate([*spans, np.zeros(0, np.int64)])
        signatures = _joined([self.rows[leaf] for leaf in self.loud])
        signatures[np.abs(signatures) <= _DEAD * self.largest] = 0.0
        faults = [self.parted(now, number) for number in range(len(TOLERANCES))]
        elsewhere = [sum(len(cells) + int((~now.colouring.loose[cells]).sum()) for cells in found) for found in faults]
        found, number = refined_at(now.colouring.part(looked), signatures, elsewhere)
        colours, base = now.colouring.colours, now.colouring.count
        colours[looked] = np.where(found.colours >= 0, found.colours + base, -1)
        alone = np.concatenate([*faults[number], np.zeros(0, np.int64)])
        colours[alone] = base + found.count + np.arange(len(alone))
        return now.with_colours(compact(colours))

    def parted(self, now: Painted, number: int) -> list[Ints]:
        """The target's cells, by leaf, that differ from their partners at a tolerance."""
        return [now.starts[leaf] + pairs.cells[pairs.levels > number] for leaf, pairs in self.pairs.items()]


def recoloured(
    both: Both,
    before: Painted,
    sides: tuple[Evaluated, Evaluated],
    cotangents: Sequence[Sequence[Tensor]],
    check: Callable[[], None],
) -> Painted:
    """Part colours by what comes out of one round.

    Args:
        both: Both sides.
        before: Their colours so far.
        sides: Both sides, evaluated.
        cotangents: Weights of the outputs, one set a signature.
        check: Called between gradients; ends the search by raising.
    """
    whole: set[int] = set()
    awake: set[int] = set()
    while True:
        at = _Round(both, before, whole, awake)
        for cotangent in cotangents:
            check()
            at.take([gradient for side in sides for gradient in side.gradients(cotangent)])
            if at.again:
                break  # those leaves are looked at more closely, so that this ends
        if not at.again:
            return at.result()


def _loud(before: Painted, count: int, awake: Iterable[int]) -> list[int]:
    """Leaves with a cell that is not paired one to one, or with none that is, and those that share a pair with them."""
    tables = [before.table(leaf) for leaf in range(count)]
    bad = ~before.colouring.single()
    bad[-1] = False  # what has no colour
    loud: set[int] = set()
    new = {leaf for leaf, table in enumerate(tables) if not (table >= 0).any()} | set(awake)
    while True:
        new |= {leaf for leaf, table in enumerate(tables) if leaf not in loud and bad[table].any()}
        if not new:
            return sorted(loud)
        loud |= new
        for leaf in new:
            bad[tables[leaf][tables[leaf] >= 0]] = True
        new = set()


def _source_places(both: Both, before: Painted) -> Ints:
    """By colour, the last source element of a cell that has it."""
    found = np.zeros(before.colouring.count + 1, np.int32)
    for leaf in range(both.border):
        found[before.table(leaf)] = both.source.starts[leaf] + before.cells[leaf].firsts()
    return found


def _largest(gradient: Floats) -> float:
    """The largest size of a number in it; what is not finite becomes 0."""
    found = max(float(gradient.max(initial=0.0)), -float(gradient.min(initial=0.0)))
    if np.isfinite(found):
        return found
    gradient[~np.isfinite(gradient)] = 0.0
    return max(float(gradient.max(initial=0.0)), -float(gradient.min(initial=0.0)))


def _silence(gradient: Floats, floor: float) -> None:
    """Set to 0 what is not beyond the floor."""
    for start in range(0, len(gradient), CHUNK):
        part = gradient[start : start + CHUNK]
        part[np.abs(part) <= floor] = 0.0


def _compare(pairs: _Pairs, ours: Floats, theirs: Floats, floor: float, largest: float) -> None:
    """Raise the levels of pairs that are not equal at the finest tolerance."""
    for start in range(0, len(pairs.cells), CHUNK):
        part = slice(start, start + CHUNK)
        first, second = ours[pairs.sources[part]], theirs[pairs.cells[part]]
        first[np.abs(first) <= floor] = 0.0
        second[np.abs(second) <= floor] = 0.0
        gap, size = np.abs(first - second), np.maximum(np.abs(first), np.abs(second))
        for number, tolerance in enumerate(TOLERANCES, 1):
            apart: Flags = gap > tolerance.relative * size + tolerance.absolute * largest
            if not apart.any():
                break
            pairs.levels[part][apart] = np.maximum(pairs.levels[part][apart], number)


def _joined(kept: Sequence[Sequence[Floats]]) -> Floats:
    """One row a cotangent, the cells of all leaves side by side."""
    if not kept:
        return np.zeros((1, 0))
    return np.stack([np.concatenate(parts) for parts in zip(*kept, strict=True)])
