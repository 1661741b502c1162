"""What a twin's mapping says of every layer: entries of one pattern, and how their numbers follow from the key's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from automatch.core.expr import Expr
from automatch.core.mapping import Entry
from automatch.lift.keys import Numbers, split
from automatch.lift.numbered import Column, columns, masked, numbers


class NotCovered(Exception):
    """The twin does not say what a key is made of; the message says why."""


@dataclass(frozen=True, slots=True)
class Follows:
    """How a number in an expression follows from one number of the target's key: `slope * number + offset`."""

    place: int
    slope: Fraction
    offset: Fraction

    def at(self, own: Numbers) -> int:
        """The number for a key.

        Raises:
            NotCovered: It is no whole number.
        """
        value = self.slope * own[self.place] + self.offset
        if value.denominator != 1 or value < 0:
            raise NotCovered(f"the numbers of its sources would be no numbers of keys ({value})")
        return int(value)


@dataclass(frozen=True, slots=True)
class Rule:
    """Entries of a twin whose expressions are the same but for numbers that follow those of the key.

    Attributes:
        entries: The entries.
        own: The numbers of each entry's key.
        follows: For every number of the expression, what it may follow (all say the same in the twin); a bare number
            where it is the same in all entries.
        columns: What these numbers are.
    """

    entries: tuple[Entry, ...]
    own: tuple[Numbers, ...]
    follows: tuple[int | tuple[Follows, ...], ...]
    columns: tuple[Column, ...]

    @property
    def expr(self) -> Expr | None:
        """The expression of the first entry."""
        return self.entries[0].expr

    def numbers(self, own: Numbers) -> list[int | None]:
        """The numbers of the expression for another key; None for starts of slices that no layer moves.

        Raises:
            NotCovered: The twin shows a number of the key only once, so that nothing tells what follows it, or one
                number may follow several of the key's.
        """
        for place, number in enumerate(own):
            seen = {each[place] for each in self.own}
            if number not in seen and len(seen) == 1:
                raise NotCovered(
                    f"the twin has such a key with number {min(seen)} only, and nothing tells what {number} would be: "
                    "give the twins two layers (and experts) at least"
                )
        return [self._number(place, own) for place in range(len(self.columns))]

    def _number(self, place: int, own: Numbers) -> int | None:
        follows, column = self.follows[place], self.columns[place]
        if isinstance(follows, int):
            return follows if column.pattern else None
        values = {each.at(own) for each in follows}
        if len(values) > 1:
            raise NotCovered(f"its sources' number may be any of {sorted(values)}: the twin does not tell them apart")
        return values.pop()


def rules_of(entries: Sequence[Entry]) -> dict[str, list[Rule]]:
    """The rules that a twin's entries follow, by the pattern of the target's key."""
    groups: dict[tuple[str, Expr | None], list[Entry]] = {}
    for entry in entries:
        pattern, _ = split(entry.target)
        groups.setdefault((pattern, entry.expr and masked(entry.expr)), []).append(entry)
    rules: dict[str, list[Rule]] = {}
    for (pattern, _), group in groups.items():
        rules.setdefault(pattern, []).extend(_rules(group))
    return rules


def rule_for(rules: Sequence[Rule], own: Numbers) -> Rule:
    """The rule that a key with these numbers follows.

    Numbers that the twin has must be those of an entry of the rule, so that slots of a sequence keep their own rules;
    any other number must lead to one and the same rule.

    Raises:
        NotCovered: No rule speaks of it, or several do.
    """
    known = [{each[place] for rule in rules for each in rule.own} for place in range(len(own))]
    fixed = [place for place, number in enumerate(own) if number in known[place]]
    fitting = [rule for rule in rules if any(all(each[p] == own[p] for p in fixed) for each in rule.own)]
    if not fitting:
        raise NotCovered("the twin has no key like it")
    if len(fitting) > 1:
        keys = ", ".join(rule.entries[0].target for rule in fitting[:3])
        raise NotCovered(f"the twin's layers are not made alike ({keys}), and nothing tells which one it is like")
    return fitting[0]


def _rules(group: list[Entry]) -> Iterator[Rule]:
    """One rule for the group if its numbers allow one; else the group is split by its first number that varies."""
    own = tuple(split(entry.target)[1] for entry in group)
    rule = _rule(group, own)
    if rule is not None:
        yield rule
        return
    varying = next(place for place in range(len(own[0])) if len({each[place] for each in own}) > 1)
    for number in dict.fromkeys(each[varying] for each in own):
        yield from _rules([entry for entry, each in zip(group, own, strict=True) if each[varying] == number])


def _rule(group: list[Entry], own: tuple[Numbers, ...]) -> Rule | None:
    exprs = [entry.expr for entry in group if entry.expr is not None]
    if not exprs:
        return Rule(tuple(group), own, (), ())
    described = columns(exprs[0])
    values = zip(*map(numbers, exprs), strict=True) if described else ()
    follows = tuple(_follows(column, value, own) for column, value in zip(described, values, strict=True))
    if any(each == () for each in follows):
        return None
    return Rule(tuple(group), own, follows, described)


def _follows(column: Column, values: Numbers, own: tuple[Numbers, ...]) -> int | tuple[Follows, ...]:
    """What a number follows; nothing where it follows no single number of the key."""
    if len(set(values)) == 1:
        return values[0]
    if any(value % column.unit for value in values):
        return ()
    steps = [value // column.unit for value in values]
    found = (_line(place, steps, [each[place] for each in own]) for place in range(len(own[0])))
    return tuple(line for line in found if line is not None)


def _line(place: int, values: Sequence[int], own: Sequence[int]) -> Follows | None:
    """The rising line through these points. Two points allow any slope, and are trusted with a slope of 1 only."""
    points = sorted(set(zip(own, values, strict=True)))
    if len(points) < 2 or len({x for x, _ in points}) < len(points):
        return None
    (x0, y0), (x1, y1) = points[:2]
    slope = Fraction(y1 - y0, x1 - x0)
    if slope <= 0 or (slope != 1 and len(points) < 3):
        return None
    offset = y0 - slope * x0
    return Follows(place, slope, offset) if all(slope * x + offset == y for x, y in points) else None
