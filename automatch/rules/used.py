"""Which sizes rules speak of."""

from __future__ import annotations

from collections.abc import Sequence

from automatch.rules import formula as formulas
from automatch.rules.ruleset import Derived, Rule, RuleSet, Size
from automatch.rules.terms import formulas as formulas_in
from automatch.rules.terms import keys as keys_in


def sizes_of(rule: Rule, rules: RuleSet) -> tuple[str, ...]:
    """The sizes that a rule speaks of, its variables aside."""
    if rule.term is None:
        return ()
    known = {size.name for size in rules.sizes}
    mentioned = [name for formula in formulas_in(rule.term) for name in formulas.names(formula)]
    mentioned += [name for key in keys_in(rule.term) for name in key.variables]
    return tuple(name for name in dict.fromkeys(mentioned) if name in known)


def used_sizes(rules: Sequence[Rule], sizes: Sequence[Size]) -> tuple[Size, ...]:
    """The sizes that rules speak of, by order of first use, with those that these are derived from after them."""
    every = RuleSet("", "", tuple(rules), tuple(sizes))
    known = {size.name: size for size in sizes}
    names = list(dict.fromkeys(name for rule in rules for name in sizes_of(rule, every)))
    for name in names:  # grows as it goes
        readings = (*known[name].readings, *known[name].otherwise)
        inner = [
            each for reading in readings if isinstance(reading, Derived) for each in formulas.names(reading.formula)
        ]
        names += [each for each in dict.fromkeys(inner) if each not in names]
    return tuple(known[name] for name in names)
