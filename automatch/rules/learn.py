"""From a mapping to rules that reproduce it, and that say what a larger model of the family is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from automatch.core.expr import Expr
from automatch.core.mapping import Entry, MappingRecord, Status
from automatch.errors import RulesError, together
from automatch.lift.keys import Keys
from automatch.rules.adapt import adapt
from automatch.rules.coverage import partial
from automatch.rules.deciding import open_line, open_sizes
from automatch.rules.depths import Depths
from automatch.rules.folding import Group, Seen, fold
from automatch.rules.ones import ones_of
from automatch.rules.pattern import parse
from automatch.rules.repeats import refuse_turns, repeated
from automatch.rules.ruleset import Claim, Rule, RuleSet
from automatch.rules.siblings import merged
from automatch.rules.sizing import Sizing
from automatch.rules.spell import normal, spelled
from automatch.rules.splitting import numbered
from automatch.rules.terms import Term
from automatch.rules.ties import untied
from automatch.rules.used import used_sizes

_SURENESS: tuple[Status, ...] = ("proved", "structural", "guessed", "unmapped")


def learn(record: MappingRecord, *more: MappingRecord) -> RuleSet:
    """The smallest rules that reproduce a mapping.

    1. Keys that differ in numbers become one rule, `layers.{i}`; how layers were paired becomes a formula.
    2. Parts that run over all experts become a loop; keys that differ in a word that carries over become one rule.
    3. Numbers of heads, rows and the like become sizes, with every place where they may be read.

    Args:
        record: The mapping.
        more: Mappings between other models of the same two families. What one example leaves open, several may decide.

    Returns:
        Rules that give every entry of the mapping again. What does not generalise is in the notes.

    Raises:
        RulesError: Keys have braces, which stand for variables in rules; or several mappings contradict each other.

    Example:
        >>> from automatch.core.expr import Source
        >>> from automatch.core.graph import Weight
        >>> from automatch.core.mapping import Evidence, Side
        >>> def side(name):
        ...     return Side(name, "names", tuple(Weight(f"{name}.{i}.w", (2,), "float32") for i in range(3)))
        >>> entries = [
        ...     Entry(f"b.{i}.w", (2,), "float32", "proved", Source(f"a.{i}.w", (2,)), Evidence("structure"))
        ...     for i in range(3)
        ... ]
        >>> for rule in learn(MappingRecord(side("a"), side("b"), tuple(entries))).rules:
        ...     print(rule.target, rule.claim)
        b.{i}.w proved
    """
    records = (record, *more)
    _refuse_braces(records)
    seen = [each for place, example in enumerate(records) for each in _seen(example, place)]
    depths = Depths(records)
    groups = fold(seen, depths)
    _refuse_contradictions(groups)
    counts = list(depths.made.values())
    sizing = Sizing(records, groups, frozenset(size.name for size in counts))
    some = partial(groups) | _tied(groups, records)
    every = merged([replace(_rule(group, sizing), partial=group.target in some) for group in groups])
    rules = tuple(sorted(every, key=lambda rule: _SURENESS.index(rule.claim)))  # as a file has them
    used = used_sizes(rules, [*counts, *sizing.made.values()])
    notes = tuple(f"{key}: {note}" for key, note in sizing.notes.items())
    found = RuleSet(
        record.source.name, record.target.name, rules, used, notes, ones_of(records, sizing.candidates.measures)
    )
    notes = (*notes, *map(open_line, open_sizes(found)))
    return _checked(replace(found, notes=notes), records)


def _tied(groups: Sequence[Group], records: Sequence[MappingRecord]) -> set[str]:
    """Targets made of the second key of a tied weight, which checkpoints often leave out."""
    aliases = {alias for record in records for weight in record.source.weights for alias in weight.aliases}
    return {group.target for group in groups if any(aliases & set(seen.entry.sources) for seen in group.seen)}


def _refuse_braces(records: Sequence[MappingRecord]) -> None:
    entries = [entry for record in records for entry in record.entries]
    braced = [key for entry in entries for key in (entry.target, *entry.sources) if "{" in key or "}" in key]
    if braced:
        raise together(RulesError, "braces stand for variables in rules; rename these keys first:", braced)


def _refuse_contradictions(groups: Sequence[Group]) -> None:
    counts = Counter(group.target for group in groups)
    problems = [f"{target} is made in {count} ways" for target, count in counts.items() if count > 1]
    if problems:
        headline = "the mappings do not follow the same rules, so learn from each of them alone:"
        raise together(RulesError, headline, problems)


def _seen(record: MappingRecord, example: int) -> list[Seen]:
    known = numbered(record.source.weights)
    return [_taken_apart(entry, known, example) for entry in untied(record)]


def _taken_apart(entry: Entry, known: Keys, example: int) -> Seen:
    if entry.expr is None:
        return Seen(entry, None, example)
    try:
        return Seen(entry, repeated(_spelled(entry.expr), known), example)
    except RulesError:
        return Seen(entry, None, example)


def _spelled(expr: Expr) -> Term:
    term = spelled(expr)
    refuse_turns(term)
    return term


def _rule(group: Group, sizing: Sizing) -> Rule:
    target = parse(group.target)
    if group.term is None:
        return Rule(target, None, "unmapped", _why_not(group))
    claims = [each.entry.status for each in group.seen]
    claim: Claim = max(claims, key=_SURENESS.index)
    term = sizing.term(group)
    fixed = sizing.notes.get(group.target, "")
    return Rule(target, term, "guessed" if fixed else claim, fixed)


def _why_not(group: Group) -> str:
    entry = group.seen[0].entry
    if entry.expr is not None:
        try:
            _spelled(entry.expr)
        except RulesError as error:
            return str(error)
    return "; ".join(entry.evidence.reasons[:1])


def _checked(rules: RuleSet, records: Sequence[MappingRecord]) -> RuleSet:
    """The rules, with a note on every key that they do not give again."""
    notes = list(rules.notes)
    for record in records:
        again = {entry.target: entry for entry in adapt(rules, record.source, record.target).entries}
        for entry in untied(record):
            made = again[entry.target]
            if entry.expr is None or made.expr == normal(entry.expr):
                continue
            notes.append(
                f"{entry.target}: {'; '.join(made.evidence.reasons) if made.expr is None else 'comes out otherwise'}"
            )
    return replace(rules, notes=tuple(dict.fromkeys(notes)))
