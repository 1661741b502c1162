"""The search for a mapping's faults, where a run has led to a few weights: greedy, one fault after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt

from torch import nn

from automatch.core.mapping import Entry, MappingRecord
from automatch.errors import AutomatchError
from automatch.exact.budget import UNBOUNDED, Budget, OutOfBudget
from automatch.inputs.prepare import Prepared
from automatch.interruption import let_through
from automatch.prove.divergence import Divergence
from automatch.prove.proof import prove
from automatch.repair.bench import Bench, Standing, bench
from automatch.repair.edits import Change, Edit, edits, on_columns, scaled
from automatch.repair.families import Candidate, beside, changed, exchanges, family, replaced
from automatch.trace.recordings import Both

BUDGET = 250
"""Runs of the target, all candidates together."""

SUSPECTS = 4
"""Weights that lead to the place where the models part, and are tried."""

MOST_HEADS = 128
"""Numbers of heads that are tried at most."""


@dataclass(slots=True)
class _Search:
    """The mapping so far, and what was spent on it."""

    record: MappingRecord
    bench: Bench
    standing: Standing
    budget: Budget = UNBOUNDED
    most: int = BUDGET
    tried: int = 0
    labels: dict[str, str] | None = None

    def look(self, candidate: Candidate) -> Standing:
        """Run the target under a candidate."""
        self.tried += 1
        return self.bench.stands(self.bench.changed(self.standing.values, candidate.entries))

    def keep(self, candidate: Candidate, standing: Standing) -> None:
        """Go on from a candidate."""
        new = {entry.target: entry for entry in candidate.entries}
        entries = tuple(new.get(entry.target, entry) for entry in self.record.entries)
        self.record, self.standing = replace(self.record, entries=entries), standing
        self.labels = {**(self.labels or {}), **dict.fromkeys(new, candidate.label)}


def repaired(
    record: MappingRecord,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    *,
    seed: int = 0,
    prepared: Prepared | None = None,
    say: Callable[[str], None] | None = None,
    budget: Budget = UNBOUNDED,
    recordings: Both | None = None,
    made: Bench | None = None,
    most: int = BUDGET,
) -> MappingRecord | None:
    """The mapping with its faults mended, or None where nothing helped; never raises for what a model does.

    Args:
        record: A mapping under which the outputs of both models differ.
        source: The source model, with real tensors; it stays as it is.
        target: The target model, likewise.
        source_inputs: Example inputs of the source, as for `prove`.
        target_inputs: The same for the target.
        seed: Where all randomness starts.
        prepared: What both are run on, where that is known already.
        say: Called with a short sentence where something was found.
        budget: How long the search may take.
        recordings: What was recorded of both already.
        made: Both models as they were recorded under this mapping, where they were.
        most: How many runs of the target it may take.
    """
    try:
        budget.check("before it repaired anything")
        made = made or bench(record, source, target, source_inputs, target_inputs, seed, prepared, recordings)
        search = _Search(record, made, made.standing, budget, most)
        if not _mended(search, say) or not search.labels:
            return None
        both = source, target, source_inputs, target_inputs
        proof = prove(search.record, *both, seed=seed, prepared=prepared, locate=False, budget=budget)
    except (OutOfBudget, AutomatchError, RuntimeError, ValueError, IndexError, TypeError) as error:
        let_through(error)
        return None  # what cannot be run cannot be mended
    return _told(record, search) if proof.record.outcome == "agree" else None


def _mended(search: _Search, say: Callable[[str], None] | None) -> bool:
    """Whether the outputs agree in the end."""
    while not search.standing.agrees:
        found = search.bench.parts_at(search.standing)
        if found is None or (found.cause and found.factor is None):
            return False
        step = _better(search, found)
        if step is None:
            return False
        search.keep(*step)
        if say is not None:
            say(f"repairing: {step[0].label}")
    return True


def _better(search: _Search, found: Divergence) -> tuple[Candidate, Standing] | None:
    """The first candidate under which more of the target is right; made to all layers, if that is better still."""
    for choice in _candidates(search, found):
        if search.tried >= search.most:
            return None
        search.budget.check("repairing")
        stood = [(choice[0], search.look(choice[0]))]
        if stood[0][1].rank <= search.standing.rank:
            continue  # what does not help where the models part helps nowhere
        stood += [(candidate, search.look(candidate)) for candidate in choice[1:]]
        return max(stood, key=lambda pair: pair[1].rank)
    return None


def _candidates(search: _Search, found: Divergence) -> Iterator[tuple[Candidate, ...]]:
    """What may be tried, likeliest first: each here alone, then in all layers."""
    record = search.record
    keys = [key for key in found.leading if _entry(record, key) is not None][:SUSPECTS]
    if found.factor is not None:
        yield from _edited(record, keys, scaled([snapped(1 / found.factor)]))
    if found.cause:
        return
    for key in keys:
        yield from exchanges(record, key, keys)
    yield from _edited(record, keys, edits(_heads(search)))
    for key in keys:
        yield from replaced(record, key)
    yield from _edited(record, keys, scaled(_factors(search)))


def _edited(record: MappingRecord, keys: list[str], edits: Iterable[Edit]) -> Iterator[tuple[Candidate, ...]]:
    """An edit made to all weights that lead to the place, to one of them with its bias, and to it alone."""
    seen: set[frozenset[Entry]] = set()
    groups = dict.fromkeys([tuple(keys), *(group for key in keys for group in (beside(key, keys), (key,)))])
    families = {key: family(record, key) for key in keys}
    for edit, group in ((edit, group) for edit in edits for group in groups):
        alike = [families[key] for key in group]
        for change in _sides(edit, [entries[0] for entries in alike]):
            one = changed((entries[0] for entries in alike), change)
            many = changed((entry for entries in alike for entry in entries), change)
            if not one or frozenset(one) in seen:
                continue
            seen.add(frozenset(one))
            yield tuple(Candidate(edit.label, made) for made in dict.fromkeys((one, many)))


def _sides(edit: Edit, entries: Sequence[Entry]) -> tuple[Change, ...]:
    """An edit along the axis of matrices that their biases lie on; along both, where these do not tell."""
    biases = {entry.shape[0] for entry in entries if len(entry.shape) == 1}
    matrices = [entry.shape for entry in entries if len(entry.shape) == 2]
    on_rows = all(shape[0] in biases for shape in matrices)
    columns = all(shape[1] in biases for shape in matrices)
    if on_rows == columns and matrices:
        return edit.change, on_columns(edit.change)
    return (on_columns(edit.change) if columns and matrices else edit.change,)


def _entry(record: MappingRecord, key: str) -> Entry | None:
    return next((entry for entry in record.entries if entry.target == key and entry.expr is not None), None)


def _factors(search: _Search) -> tuple[float, ...]:
    """Factors that people put into weights."""
    roots = [sqrt(size) for size in _head_sizes(search)]
    return tuple(dict.fromkeys((-1.0, *(factor for root in roots for factor in (root, 1 / root)), 2.0, 0.5)))


def snapped(factor: float) -> float:
    """A measured factor as the root of a whole number, or one over it, where it is that but for rounding.

    Example:
        >>> snapped(2.8284271247) == 8**0.5, snapped(0.4999999999999), snapped(0.3)
        (True, 0.5, 0.3)
    """
    size, sign = abs(factor), 1 if factor > 0 else -1
    for value, back in ((size, False), (1 / size, True)):
        whole = round(value * value)
        if whole and abs(value - sqrt(whole)) < 1e-8 * value:
            return sign * (1 / sqrt(whole) if back else sqrt(whole))
    return factor


def _head_sizes(search: _Search) -> list[int]:
    ends = [step.shape[-1] for step in search.bench.source[0] if len(step.shape) > 3]
    return list(dict.fromkeys(size for size in ends if size > 1))[:2]


def _heads(search: _Search) -> tuple[int, ...]:
    """Numbers of heads: sizes that both sides carry and that what they compute has, first."""
    carried = [size for side in (search.record.source, search.record.target) for _, size in side.sizes]
    seen = search.bench.sizes
    order = [*(size for size in carried if size in seen), *seen, *carried]
    return tuple(dict.fromkeys(size for size in order if 1 < size <= MOST_HEADS))[:8]


def _told(before: MappingRecord, search: _Search) -> MappingRecord:
    """The repaired mapping, with what was done in the evidence of what was changed."""
    old = {entry.target: entry for entry in before.entries}
    labels = search.labels or {}
    entries = []
    for entry in search.record.entries:
        if entry.expr == old[entry.target].expr:
            entries.append(old[entry.target])
            continue
        how = f"(tried {search.tried} candidates; a run of both models confirmed it)"
        reasons = (f"repaired: {labels.get(entry.target, 'read differently')} {how}", *entry.evidence.reasons)
        entries.append(replace(entry, evidence=replace(entry.evidence, reasons=reasons)))
    return replace(before, entries=tuple(entries), proof=None)
