"""Rules carried over to two models: a mapping that was not discovered, but follows from what is known of the family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from automatch.core.expr import Expr, text
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side, Status
from automatch.errors import RulesError, together
from automatch.rules import pattern as patterns
from automatch.rules.build import Scope, build
from automatch.rules.deciding import decided
from automatch.rules.measure import Measure
from automatch.rules.ones import grown
from automatch.rules.pattern import Choice, Hole
from automatch.rules.ruleset import Rule, RuleSet
from automatch.rules.spell import normal
from automatch.rules.splitting import split
from automatch.rules.terms import keys as keys_in
from automatch.rules.used import sizes_of

MOST = 512
"""More ways to read a rule's sizes than that are not tried."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to read a rule's sizes for a key: what they are, and what comes out."""

    sizes: tuple[tuple[str, int], ...]
    expr: Expr


@dataclass(frozen=True, slots=True)
class _Found:
    """What a rule says of a key.

    Attributes:
        rule: The rule; None where none fits.
        ways: Every way to read its sizes with which the shapes come out right.
        problem: Why there is none.
        options: Every value that may be read, for the sizes of which there are several.
    """

    rule: Rule | None = None
    ways: tuple[_Way, ...] = ()
    problem: str = ""
    options: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(slots=True)
class _Choosing:
    """The rules of a set by the template of the keys that they may fit."""

    rules: RuleSet
    by_template: dict[str, tuple[Rule, ...]] = field(default_factory=dict)

    def rule(self, key: str) -> tuple[Rule, dict[str, str]] | None:
        """The rule for a key, and what its variables stand for: of those that fit, the one with fewest variables.

        Raises:
            RulesError: Several fit equally well.
        """
        template, _ = split(key)
        if template not in self.by_template:
            self.by_template[template] = tuple(r for r in self.rules.rules if _may_fit(r, template))
        fitting = [
            (rule, words)
            for rule in self.by_template[template]
            if (words := patterns.match(rule.target, key)) is not None
        ]
        if not fitting:
            return None
        best = min(map(_freedom, (rule for rule, _ in fitting)))
        chosen = [(rule, words) for rule, words in fitting if _freedom(rule) == best]
        if len(chosen) > 1:
            raise RulesError("two rules speak of it: " + " and ".join(str(rule.target) for rule, _ in chosen[:2]))
        return chosen[0]


def _may_fit(rule: Rule, template: str) -> bool:
    """Whether a rule may fit keys of a template: their first words and number of words are the same."""
    return str(rule.target).count(".") == template.count(".") and patterns.loose(rule.target, template)


def _freedom(rule: Rule) -> tuple[int, int]:
    pieces = rule.target.pieces
    return sum(isinstance(p, Hole) for p in pieces), sum(isinstance(p, Choice) for p in pieces)


def adapt(rules: RuleSet, source: Side, target: Side, sizes: Mapping[str, int | str] | None = None) -> MappingRecord:
    """The mapping that rules give for two models.

    Every key of the target is made by the rule that fits it. Where a size can be read in several ways, the way is
    taken with which shapes come out right, in all keys that the size is used for; where several do, the keys are
    unmapped, with what there is to choose from.

    Args:
        rules: The rules.
        source: The source's keys and sizes.
        target: The target's.
        sizes: Sizes that are given rather than read, by name: numbers, or where they are read (see `decided`).

    Returns:
        An entry for every key of the target. None is more than `structural`: nothing was run.

    Raises:
        RulesError: A given size is none of the rules', or the source has none of the keys that the rules speak of;
            where these are the target's own keys, the message says so.
    """
    rules = decided(rules, sizes or {})
    measure = Measure(source, target, rules.sizes)
    choosing = _Choosing(rules)
    found = {key: _found(choosing, key, weight, measure) for key, weight in measure.target.weights.items()}
    _refuse_foreign(found, rules, measure)
    agreed = _agreed(found)
    entries = tuple(_entry(key, measure.target.weights[key], each, agreed) for key, each in found.items())
    doubt = grown(rules, measure)
    if doubt:
        entries = tuple(_doubted(entry, doubt) for entry in entries)
    named = f"rules from {rules.source or 'a source'} to {rules.target or 'a target'}"
    return MappingRecord(source, target, entries, notes=(f"made by {named}; nothing was run", *rules.notes))


def _found(choosing: _Choosing, key: str, weight: Weight, measure: Measure) -> _Found:
    try:
        chosen = choosing.rule(key)
    except RulesError as error:
        return _Found(problem=str(error))
    if chosen is None:
        return _Found(problem="no rule speaks of it")
    rule, words = chosen
    if rule.term is None:
        return _Found(rule, problem=rule.reason or "the rules leave it undetermined")
    names = sizes_of(rule, choosing.rules)
    options = {name: measure.values(name, words) for name in names}
    missing = [name for name, values in options.items() if not values]
    if missing:
        return _Found(rule, problem=f"nothing tells the size {', '.join(missing)}: give it")
    return _ways(rule, words, weight, options, measure)


def _ways(
    rule: Rule, words: Mapping[str, str], weight: Weight, options: Mapping[str, tuple[int, ...]], measure: Measure
) -> _Found:
    assert rule.term is not None
    ways: list[_Way] = []
    problem = ""
    several = {name: values for name, values in options.items() if len(values) > 1}
    if prod(map(len, several.values())) > MOST:
        return _Found(rule, problem=f"its sizes can be read in more than {MOST} ways: give {' or '.join(several)}")
    for values in product(*options.values()):
        sizes = dict(zip(options, values, strict=True))
        try:
            expr = normal(build(rule.term, Scope(measure.source, words, sizes, weight.shape)))
        except RulesError as error:
            problem = problem or str(error)
            continue
        ways.append(_Way(tuple(sizes.items()), expr))
    return _Found(rule, tuple(ways), "" if ways else problem, tuple(several.items()))


def _agreed(found: Mapping[str, _Found]) -> dict[str, set[int]]:
    """For every size, the values that all keys which depend on it allow; none where they disagree."""
    allowed: dict[str, set[int]] = {}
    for each in found.values():
        for name, values in _allowed(each):
            allowed[name] = allowed[name] & values if name in allowed else values
    return allowed


def _allowed(found: _Found) -> Iterator[tuple[str, set[int]]]:
    names = [name for name, _ in found.ways[0].sizes] if found.ways else []
    for place, name in enumerate(names):
        yield name, {way.sizes[place][1] for way in found.ways}


def _entry(key: str, weight: Weight, found: _Found, agreed: Mapping[str, set[int]]) -> Entry:
    fitting = [way for way in found.ways if all(value in agreed[name] for name, value in way.sizes)]
    exprs = list(dict.fromkeys(way.expr for way in fitting or found.ways))
    if len(exprs) != 1 or found.rule is None:
        reason = _ambiguous(exprs, found) if exprs else found.problem
        return Entry(key, weight.shape, weight.dtype, "unmapped", None, Evidence("rules", (reason,)))
    chosen = _chosen(found, fitting or list(found.ways))
    claim: Status = "guessed" if found.rule.claim == "guessed" or chosen else "structural"
    reasons = [f"by the rule {found.rule.target}", *([found.rule.reason] if found.rule.reason else []), *chosen]
    if found.rule.claim == "proved":
        reasons.append("which a run showed for the models that it was learned from")
    return Entry(key, weight.shape, weight.dtype, claim, exprs[0], Evidence("rules", tuple(reasons)))


def _doubted(entry: Entry, doubt: str) -> Entry:
    if entry.expr is None:
        return entry
    reasons = (doubt, *entry.evidence.reasons)
    return replace(entry, status="guessed", evidence=replace(entry.evidence, reasons=reasons))


def _chosen(found: _Found, ways: Sequence[_Way]) -> list[str]:
    """The sizes that could be read otherwise as well: shapes tell which is right, but only of those that were read."""
    taken = dict(ways[0].sizes)
    return [
        f"{name} is taken to be {taken[name]}, because shapes do not come out right with "
        f"{' or '.join(str(value) for value in values if value != taken[name])}"
        for name, values in found.options
        if len({dict(way.sizes)[name] for way in ways}) == 1
    ]


def _ambiguous(exprs: list[Expr], found: _Found) -> str:
    choices: dict[str, dict[int, None]] = {}
    for way in found.ways:
        for name, value in way.sizes:
            choices.setdefault(name, {})[value] = None
    open_ones = [
        f"{name} may be {' or '.join(map(str, values))}" for name, values in choices.items() if len(values) > 1
    ]
    names = [name for name, values in choices.items() if len(values) > 1]
    how = f"give the size (--size {names[0]}=NUMBER), or edit the rules" if names else "edit the rules"
    return f"{'; '.join(open_ones)}: {how} ({text(exprs[0])}, or {text(exprs[1])})"


def _refuse_foreign(found: Mapping[str, _Found], rules: RuleSet, measure: Measure) -> None:
    """Refuse a source that has nothing of what the rules speak of."""
    reads = any(rule.term is not None and keys_in(rule.term) for rule in rules.rules)
    if not reads or any(each.ways for each in found.values()):
        return
    converted = sum(key in measure.target.weights for key in measure.source.weights)
    if converted and converted >= len(measure.source.weights) // 2:
        raise RulesError(
            f"the source's keys are the target's own ({next(iter(measure.source.weights))}, ...): it is converted "
            "already.\nNext: use it as it is, or give the checkpoint in its original form."
        )
    problems = [f"{key}: {each.problem}" for key, each in found.items()]
    raise together(RulesError, "the rules do not fit these models:", problems, limit=5)
