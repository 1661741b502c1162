"""How well known conversions fit a model: which of their rules speak of its keys, and come out with its shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from automatch.core.mapping import Entry, Side
from automatch.errors import InverseError, RulesError
from automatch.inverse import inverse
from automatch.known.forward import Lead, lead_of
from automatch.known.known import Known
from automatch.rules.adapt import adapt
from automatch.rules.learn import learn
from automatch.rules.ruleset import RuleSet
from automatch.rules.splitting import split


@dataclass(frozen=True, slots=True)
class Fit:
    """A known conversion, as it fits two models.

    Attributes:
        known: The conversion.
        backwards: Whether its inverse is meant.
        rules: The rules, in the direction that is meant.
        entries: By target key, what they make of it; only keys that they determine.
        used: The source keys that they read.
        share: The share of the target's keys that they determine.
    """

    known: Known
    backwards: bool
    rules: RuleSet
    entries: Mapping[str, Entry]
    used: frozenset[str]
    share: float

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.known.name}, backwards" if self.backwards else self.known.name


def fits(library: Sequence[Known], source: Side, target: Side, least: float = 0.0) -> list[Fit]:
    """The conversions of a library that say something of two models, the best first.

    Args:
        library: The known conversions.
        source: The source's keys, shapes and sizes.
        target: The target's.
        least: The share of the target's keys that a conversion has to determine.
    """
    ours, theirs = _templates(source), _templates(target)
    found: list[Fit] = []
    for known in library:
        sides = _templates(known.source), _templates(known.target)
        for backwards in (False, True):
            mine, other = reversed(sides) if backwards else sides
            if not mine & ours or not other & theirs or _share(target, other) < least:
                continue  # the way back is learned anew, which takes longer than all else
            rules = _directed(known, backwards)
            if rules is not None:
                found.extend(fit for fit in _fit(known, backwards, rules, source, target) if fit.share >= least)
    return sorted(found, key=lambda fit: (-fit.share, -len(fit.used), fit.title))


def leads(library: Sequence[Known], source: Side) -> list[tuple[Fit, Lead]]:
    """The conversions of a library that read a source, each with what it leads to, the best first.

    Args:
        library: The known conversions.
        source: The source's keys, shapes and sizes.
    """
    ours = _templates(source)
    found: list[tuple[Fit, Lead]] = []
    for known in library:
        for backwards in (False, True):
            if not ours & _templates(known.target if backwards else known.source):
                continue
            rules = _directed(known, backwards)
            if rules is None:
                continue
            led = lead_of(rules, source)
            if led.target.weights:
                found.extend((fit, led) for fit in _fit(known, backwards, rules, source, led.target))
    return sorted(found, key=lambda pair: (-len(pair[0].used), pair[0].title))


def _directed(known: Known, backwards: bool) -> RuleSet | None:
    """The rules in one direction; None where there is no way back."""
    if not backwards:
        return known.rules
    try:
        return learn(inverse(known.record, partial=True))
    except (RulesError, InverseError):
        return None


def _templates(side: Side) -> set[str]:
    return {split(key)[0] for weight in side.weights for key in weight.keys}


def _share(side: Side, templates: Set[str]) -> float:
    """The share of a side's keys that have one of these templates."""
    keys = [key for weight in side.weights for key in weight.keys]
    return sum(split(key)[0] in templates for key in keys) / max(1, len(keys))


def _fit(known: Known, backwards: bool, rules: RuleSet, source: Side, target: Side) -> list[Fit]:
    try:
        record = adapt(rules, source, target)
    except RulesError:  # they do not fit at all
        return []
    entries = {entry.target: entry for entry in record.entries if entry.expr is not None}
    if not any(entry.sources for entry in entries.values()):
        return []
    used = frozenset(key for entry in entries.values() for key in entry.sources)
    return [Fit(known, backwards, rules, entries, used, len(entries) / len(record.entries))]
