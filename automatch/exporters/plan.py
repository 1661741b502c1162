"""Rules in the order and the loops in which a person would write them down."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from automatch.errors import RulesError
from automatch.exporters.keytext import NUMBER, expression, overlap, plainly, stem
from automatch.rules import formula as formulas
from automatch.rules import pattern as patterns
from automatch.rules.pattern import Choice, Hole, Pattern, Piece
from automatch.rules.ruleset import Rule
from automatch.rules.terms import keys

_FAR = 10**6
"""A number that no layer has."""


@dataclass(frozen=True, slots=True)
class Step:
    """A rule in its place.

    Attributes:
        rule: The rule.
        excepted: Values of its variables for which another rule speaks.
    """

    rule: Rule
    excepted: tuple[tuple[tuple[str, str], ...], ...] = ()


@dataclass(slots=True)
class Loop:
    """Steps that are done for every value of a variable.

    Attributes:
        variable: The variable.
        words: The values; None for the numbers that the source's keys have.
        target: The target's keys up to the variable.
        steps: What is done.
    """

    variable: str
    words: tuple[str, ...] | None
    target: Pattern
    steps: list[Step | Loop] = field(default_factory=list)


Steps = list[Step | Loop]


def plan(rules: Sequence[Rule]) -> Steps:
    """The rules in loops: those of one list of layers in one, in the order in which they come first.

    Rules without a term take part only as exceptions to others.

    Raises:
        RulesError: Two rules overlap in a way that no condition tells apart.
    """
    steps: Steps = []
    for rule in rules:
        if rule.term is None:
            continue
        place = steps
        for loop in _loops(rule.target):
            place = _entered(place, loop)
        place.append(Step(rule, tuple(_exceptions(rule, rules))))
    return steps


def _loops(target: Pattern) -> Iterator[Loop]:
    seen: set[str] = set()
    for place, piece in enumerate(target.pieces):
        if isinstance(piece, str):
            continue
        name = Pattern((piece,)).variables[0]
        if name not in seen:
            seen.add(name)
            words = piece.words if isinstance(piece, Choice) else None
            yield Loop(name, words, Pattern(target.pieces[: place + 1]))


def _entered(steps: Steps, loop: Loop) -> Steps:
    for step in steps:
        if isinstance(step, Loop) and (step.target, step.words) == (loop.target, loop.words):
            return step.steps
    steps.append(loop)
    return loop.steps


def rules_of(steps: Steps) -> Iterator[Rule]:
    """Every rule in some steps."""
    for step in steps:
        if isinstance(step, Step):
            yield step.rule
        else:
            yield from rules_of(step.steps)


# Exceptions


def _exceptions(rule: Rule, rules: Sequence[Rule]) -> Iterator[tuple[tuple[str, str], ...]]:
    for other in rules:
        if other is rule or _freedom(other) > _freedom(rule):
            continue
        for found in _overlaps(rule.target, other.target):
            if _freedom(other) == _freedom(rule):
                raise RulesError(f"{rule.target} and {other.target} speak of the same keys")
            yield found


def _freedom(rule: Rule) -> tuple[int, int]:
    """By what the rule for a key is chosen: fewest numbers, then fewest words."""
    pieces = rule.target.pieces
    return sum(isinstance(p, Hole) for p in pieces), sum(isinstance(p, Choice) for p in pieces)


def _overlaps(general: Pattern, special: Pattern) -> Iterator[tuple[tuple[str, str], ...]]:
    """What the general pattern's variables are in the special one's keys, those aside that may be anything."""
    names = special.variables
    free = {name: str(_FAR + place) for place, name in enumerate(names)}
    choices = {piece.name: piece.words for piece in special.pieces if isinstance(piece, Choice)}
    for words in product(*(choices.get(name, (free[name],)) for name in names)):
        found = patterns.match(general, patterns.fill(special, dict(zip(names, words, strict=True))))
        if found is None:
            continue
        fixed = tuple((name, value) for name, value in found.items() if value not in free.values())
        if not fixed or len(set(found.values())) < len(found):
            raise RulesError(f"{general} and {special} speak of the same keys")
        yield fixed


# Which numbers a variable takes


def domain(loop: Loop, bound: Sequence[str]) -> list[str]:
    """Insides of regular expressions, the number of a key in their group, that find a loop's numbers.

    None where the source's keys have the variable in formulas alone.
    """
    return found_by([key for rule in rules_of(loop.steps) for key in sources(rule)], loop.variable, bound)


def found_by(read: Sequence[Pattern], variable: str, bound: Sequence[str]) -> list[str]:
    r"""Insides of regular expressions that find the numbers that keys have in the place of a variable.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> print(*found_by([parse("h.{i}.q.weight"), parse("h.{i}.k.weight")], "i", []))
        h\.(\d+)\.
    """
    found: dict[str, list[str]] = {}
    for key in read:
        before = stem(key, variable)
        if before is not None:
            start = expression(Pattern(before.pieces[:-1]), bound)
            rest = key.pieces[len(before.pieces) :]
            after = rest[0] if rest and isinstance(rest[0], str) else ""
            found.setdefault(start, []).append(after if len(rest) > 1 else f"{after}\n")
    return [f"{start}({NUMBER}){_common(ends)}" for start, ends in found.items()]


def shared(loop: Loop, rules: Sequence[Rule]) -> bool:
    """Whether other rules read some of the keys that a loop's numbers would be taken from, by other numbers.

    Then the source's keys do not tell which of them are the loop's.
    """
    own = list(rules_of(loop.steps))
    read = [key for rule in own for key in sources(rule) if stem(key, loop.variable) is not None]
    made = [text for rule in own for text in plainly(rule.target)]
    others = [rule for rule in rules if all(rule is not mine for mine in own) and not _looks(rule.target, made)]
    return any(_numbered_otherwise(key, other) for rule in others for other in sources(rule) for key in read)


def _numbered_otherwise(key: Pattern, other: Pattern) -> bool:
    direct = [
        [isinstance(p, Hole) and isinstance(p.formula, formulas.Name) for p in each.pieces] for each in (key, other)
    ]
    same = plainly(key) == plainly(other) and direct[0] == direct[1]
    return not same and any(overlap(one, two) for one in plainly(key) for two in plainly(other))


def _common(ends: list[str]) -> str:
    """What follows the number in all keys: whole, or up to a dot."""
    first, last = min(ends), max(ends)
    shared = next((first[:size] for size in range(len(first), 0, -1) if last.startswith(first[:size])), "")
    if shared.endswith("\n"):
        return f"{re.escape(shared.rstrip())}$"
    return re.escape(shared[: shared.rfind(".") + 1])


def sources(rule: Rule) -> tuple[Pattern, ...]:
    """The keys that a rule reads, each once, with the words that its target has in the places of their variables."""
    if rule.term is None:
        return ()
    choices = {piece.name: piece for piece in rule.target.pieces if isinstance(piece, Choice)}
    return tuple(dict.fromkeys(_worded(key, choices) for key in keys(rule.term)))


def _worded(key: Pattern, choices: Mapping[str, Choice]) -> Pattern:
    return Pattern(tuple(_word(piece, choices) for piece in key.pieces))


def _word(piece: Piece, choices: Mapping[str, Choice]) -> Piece:
    if isinstance(piece, Hole) and isinstance(piece.formula, formulas.Name):
        return choices.get(piece.formula.name, piece)
    return piece


def telling(rules: Sequence[Rule]) -> tuple[Pattern, ...]:
    """Targets' patterns whose keys no source's key looks like: having one shows that weights are converted."""
    read = [text for rule in rules for key in sources(rule) for text in plainly(key)]
    return tuple(rule.target for rule in rules if not _looks(rule.target, read))


def _looks(target: Pattern, read: Sequence[str]) -> bool:
    return any(overlap(own, other) for own in plainly(target) for other in read)


__all__ = ["Loop", "Step", "Steps", "domain", "found_by", "plan", "rules_of", "shared", "sources", "telling"]
