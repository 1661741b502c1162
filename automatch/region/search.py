"""The search where two models part, round after round, until their outputs agree or nothing moves the parting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import fx, nn

from automatch.core.mapping import Entry, MappingRecord
from automatch.errors import AutomatchError
from automatch.exact.budget import Budget, OutOfBudget
from automatch.exact.discover import Discovery, discover
from automatch.exact.entries import Exact, told
from automatch.exact.plain import joined
from automatch.exact.readings import searchable
from automatch.inputs.prepare import Prepared
from automatch.interruption import let_through
from automatch.prove.divergence import Divergence
from automatch.region.boundaries import Region, Sides, regions
from automatch.region.carrying import carried
from automatch.region.cutting import cut
from automatch.region.held import Half, alike, fixed, links, ordered
from automatch.repair.bench import Bench, Standing, bench
from automatch.trace.program import Program, values_of

ATTEMPTS = 6
"""Regions that are searched in one round at most: where so many say nothing, a search of the whole costs less."""

MOST = 3
"""Mappings that one search leaves to be tried by runs."""


@dataclass(slots=True)
class _Search:
    """The mapping so far, and where it stands."""

    record: MappingRecord
    bench: Bench
    standing: Standing
    budget: Budget
    say: Callable[[str], None]
    values: dict[fx.Node, Any]

    def keep(self, entries: tuple[Entry, ...], standing: Standing) -> None:
        """Go on from a mapping in which these entries are new."""
        new = {entry.target: entry for entry in entries}
        kept = tuple(new.get(entry.target, entry) for entry in self.record.entries)
        self.record, self.standing = replace(self.record, entries=kept), standing


def searched_region(
    record: MappingRecord,
    source: nn.Module,
    target: nn.Module,
    *,
    prepared: Prepared | None,
    say: Callable[[str], None],
    budget: Budget,
    made: Bench | None = None,
) -> MappingRecord | None:
    """The mapping with what is wrong in it searched where the models part, or None where that did not help.

    1. Both models run once on fresh weights under the mapping; what both hold alike is held fixed.
    2. A region between that and a value behind the parting is coloured, as two programs of their own.
    3. What is found is tried for this block alone, and for all blocks like it; what makes more of the target's steps
       right is kept, and the next round begins where the models then part.

    Never raises for what a model does.

    Args:
        record: A mapping under which the outputs of both models differ.
        source: The source model, with real tensors; it stays as it is.
        target: The target model, likewise.
        prepared: What both are run on.
        say: Told what begins.
        budget: How long the search may take.
        made: Both models as they were recorded under this mapping, where they were.
    """
    try:
        budget.check("before the place where the models part was searched")
        made = made or bench(record, source, target, None, None, 0, prepared)
        search = _Search(record, made, made.standing, budget, say, values_of(made.origin))
        while not search.standing.agrees:
            if not _improved(search):
                return None
    except (OutOfBudget, AutomatchError, RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        let_through(error)
        return None  # what cannot be run, or cut, is left to the search of the whole
    return replace(search.record, proof=None)


def _improved(search: _Search) -> bool:
    """Whether a region was found under whose reading more of the target is right; the search goes on from there."""
    found = search.bench.parts_at(search.standing)
    if found is None:
        return False
    tried: set[tuple[tuple[fx.Node, ...], tuple[fx.Node, ...], frozenset[str]]] = set()
    for sides, suspected in _cuts(search, found):
        for region in regions(sides, suspected):
            what = region.source, region.target, region.weights
            if what in tried:
                continue
            if len(tried) == ATTEMPTS:
                return False
            tried.add(what)
            search.budget.check("searching where the models part")
            if _searched(search, sides, region):
                return True
    return False


def _cuts(search: _Search, found: Divergence) -> Iterator[tuple[Sides, frozenset[str]]]:
    """What may be held fixed: what the stream keeps in order; then all that no suspected weight takes part in."""
    target = replace(search.bench.target, values=search.standing.values)
    known = links(search.record)
    ours, theirs = alike(search.bench.source[0], search.standing.ran[0], search.bench.close)
    mine, other = search.bench.source, search.standing.ran
    halves = (
        Half(search.bench.origin, mine, ours, ordered(mine[0])),
        Half(target, other, theirs, ordered(other[0])),
    )
    suspected = known.closed(found.leading)
    for anywhere in (False, True):
        held = fixed(halves[0], suspected[0], anywhere), fixed(halves[1], suspected[1], anywhere)
        yield Sides(*halves, held, known, search.bench.outputs, anywhere), suspected[1]


def _searched(search: _Search, sides: Sides, region: Region) -> bool:
    """Whether colouring a region found a reading under which more is right."""
    source, target = _programs(search, sides, region)
    if not searchable(source) or not searchable(target):
        return False
    names = ", ".join(sorted(region.weights)[:2]) + (", ..." if len(region.weights) > 2 else "")
    search.say(f"searching where the models part: {len(region.weights)} weights ({names})")
    found = _discovered(search, source, target)
    best = None if found is None else _best(search, told(found, target.inventory))
    if best is None or best[1].rank <= search.standing.rank:
        return False
    search.keep(*best)
    return True


def _discovered(search: _Search, source: Program, target: Program) -> Discovery | None:
    try:
        found = discover(source, target, say=search.say, budget=search.budget)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:  # recorded code met odd values
        let_through(error)
        return None
    return None if isinstance(found, str) else found


def _best(search: _Search, exact: Exact) -> tuple[tuple[Entry, ...], Standing] | None:
    """The entries under which most is right, of those that what was found leaves to be tried."""
    best: tuple[tuple[Entry, ...], Standing] | None = None
    for record in islice(joined(search.record, exact), MOST):
        for entries in _proposals(search, record):
            stood = search.bench.stands(search.bench.changed(search.standing.values, entries))
            if best is None or stood.rank > best[1].rank:
                best = entries, stood
            if stood.agrees:
                return best
    return best


def _programs(search: _Search, sides: Sides, region: Region) -> tuple[Program, Program]:
    """The region as two programs; what the target makes is shaped as in the source."""
    shapes = [tuple(int(size) for size in node.meta["val"].shape) for node in region.source]
    source = cut(sides.source.program, sides.held[0], search.values, region.source)
    target = cut(sides.target.program, sides.held[1], values_of(sides.target.program), region.target, shapes)
    return source, target


def _proposals(search: _Search, record: MappingRecord) -> Iterator[tuple[Entry, ...]]:
    """The entries that a mapping changes; with the same change in all blocks like this one, then here alone."""
    old = {entry.target: entry for entry in search.record.entries}
    new = tuple(entry for entry in record.entries if entry.expr != old[entry.target].expr)
    if not new:
        return
    others = carried(search.record, new)
    if others:
        yield (*new, *others)
    yield new
