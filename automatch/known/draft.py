"""A draft of a mapping: from the known conversions that fit best, from names, and from the order of what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from automatch.align.names import align_names
from automatch.align.names.order import in_order
from automatch.align.names.regular import regular
from automatch.core.expr import Product, Source
from automatch.core.expr_rewrite import only_moves
from automatch.core.graph import Graph, Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Rival, Side
from automatch.errors import RulesError
from automatch.known.fit import Fit, fits, leads
from automatch.known.known import Known
from automatch.rules.learn import learn
from automatch.rules.ruleset import RuleSet
from automatch.synthesize import synthesize

FEW = 0.05
"""A conversion that would add a smaller share of the target's keys adds chance hits."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What is suggested for two models.

    Attributes:
        fits: The known conversions that say something of them, the best first.
        taken: Those that the draft is made from.
        draft: A mapping onto the target; what nothing is known of is unmapped.
        missing: Without a target: patterns of keys that the rules speak of and that could not be made, with the reason.
    """

    fits: tuple[Fit, ...]
    taken: tuple[Fit, ...]
    draft: MappingRecord
    missing: tuple[str, ...] = ()

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Target keys that the draft makes of nothing."""
        return tuple(entry.target for entry in self.draft.entries if entry.expr is None)

    def rules(self) -> RuleSet:
        """The draft as rules."""
        return learn(self.draft)


def draft(source: Side, target: Side, library: Sequence[Known]) -> Suggestion:
    """Draft a mapping for two models from what is known of others.

    1. Rules of known conversions, the best fit first, as far as they speak of keys with the right shapes.
    2. Names and shapes, for what they leave; where that is a guess, blocks are taken as wholes.
    3. The order of what is left on both sides.

    Args:
        source: The source's keys, shapes and sizes.
        target: The target's.
        library: The known conversions.
    """
    ranked = fits(library, source, target)
    named = {entry.target: entry for entry in _by_names(source, target)}
    entries: dict[str, Entry] = {}
    taken: list[Fit] = []
    for fit in ranked:
        new = {key: e for key, e in fit.entries.items() if key not in entries and _says_more(e, named.get(key))}
        if len(new) < FEW * len(target.weights):
            continue
        taken.append(fit)
        entries |= {key: _from_known(entry, fit, named.get(key)) for key, entry in new.items()}
    entries |= {key: entry for key, entry in named.items() if entry.expr is not None and key not in entries}
    entries |= _by_blocks(source, target, entries)
    entries |= _leftovers(source, target, entries)
    record = MappingRecord(source, target, tuple(entries.get(key, entry) for key, entry in named.items()))
    return Suggestion(tuple(ranked), tuple(taken), _noted(record, taken))


def lead(source: Side, library: Sequence[Known]) -> Suggestion:
    """Draft a mapping onto the model that the best known conversion leads to.

    Args:
        source: The source's keys, shapes and sizes.
        library: The known conversions.

    Raises:
        RulesError: None of them reads the source.
    """
    found = leads(library, source)
    if not found:
        raise RulesError(
            f"none of {len(library)} known conversions reads keys such as "
            f"{', '.join(weight.name for weight in source.weights[:3])}.\nNext: name a target to draft a mapping onto."
        )
    best, led = found[0]
    target = led.target
    entries = {key: _from_known(entry, best, None) for key, entry in best.entries.items()}
    unmapped = {key: weight for weight in target.weights for key in weight.keys if key not in entries}
    nothing = Evidence("rules", ("nothing is known of it",))
    entries |= {key: Entry(key, w.shape, w.dtype, "unmapped", None, nothing) for key, w in unmapped.items()}
    order = [key for weight in target.weights for key in weight.keys]
    record = MappingRecord(source, target, tuple(entries[key] for key in order))
    return Suggestion(tuple(fit for fit, _ in found), (best,), _noted(record, [best]), led.missing)


def _noted(record: MappingRecord, taken: Sequence[Fit]) -> MappingRecord:
    origin = ", ".join(fit.title for fit in taken) or "names, shapes and order alone"
    return replace(record, notes=(f"a draft, from {origin}; nothing was run",))


def _says_more(known: Entry, named: Entry | None) -> bool:
    """Whether a known conversion is to be followed rather than names.

    Constants and arithmetic belong to the models that they were seen in: where names find a source of the same shape,
    it is taken as it is.
    """
    if named is None or named.expr is None or known.expr is None or not named.sources:
        return True
    return bool(known.sources) and (only_moves(known.expr) or known.sources != named.sources)


def _from_known(entry: Entry, fit: Fit, named: Entry | None) -> Entry:
    """What is known of another model: a guess, unless names are sure of the same."""
    reasons = (f"as in {fit.title}", *entry.evidence.reasons)
    if named is not None and named.status != "guessed" and named.expr == entry.expr:
        return replace(entry, evidence=replace(entry.evidence, reasons=reasons))
    rivals = () if named is None or not named.sources else (Rival(named.sources, "by names and shapes"),)
    return replace(entry, status="guessed", evidence=replace(entry.evidence, reasons=reasons, rivals=rivals))


def _by_names(source: Side, target: Side) -> tuple[Entry, ...]:
    ours, theirs = Graph(source.weights), Graph(target.weights)
    return synthesize(align_names(ours, theirs), ours, theirs)


def _by_blocks(source: Side, target: Side, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries in the place of guesses and gaps, where blocks correspond as wholes."""
    theirs = {key: weight for weight in target.weights for key in weight.keys}
    ours = {key: weight.shape for weight in source.weights for key in weight.keys}
    pairs = {key: e.expr.key for key, e in entries.items() if isinstance(e.expr, Source) and e.expr.key in ours}
    sure = frozenset(key for key in pairs if entries[key].status != "guessed")
    found = regular(pairs, sure, ours, {key: weight.shape for key, weight in theirs.items()})
    fixed = sure | {key for key, entry in entries.items() if isinstance(entry.expr, Product)}
    changed = {key: there for key, there in found.items() if key not in fixed and pairs.get(key) != there}
    reason = "its block as a whole is like that of {}"
    return {key: _guess(key, theirs[key], there, reason.format(there)) for key, there in changed.items()}


def _leftovers(source: Side, target: Side, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    used = {key for entry in entries.values() for key in entry.sources}
    ours = [(w.name, w.shape) for w in source.weights if used.isdisjoint(w.keys)]
    wanted = {key: w for w in target.weights for key in w.keys if key not in entries}
    pairs = in_order(ours, [(key, weight.shape) for key, weight in wanted.items()])
    reason = "nothing is known of it; in the order of what is left, {} stands in its place"
    return {key: _guess(key, wanted[key], found, reason.format(found)) for key, found in pairs.items()}


def _guess(key: str, weight: Weight, source: str, reason: str) -> Entry:
    return Entry(key, weight.shape, weight.dtype, "guessed", Source(source, weight.shape), Evidence("names", (reason,)))
