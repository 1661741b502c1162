"""A mapping as the few rules that reproduce it: layers become variables, and how they were paired becomes a list.

Entries whose keys differ in numbers only, and whose expressions are the same but for numbers that follow those of the
target, are one rule. What follows nothing is a rule of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from automatch.core.expr import source_leaves, text
from automatch.core.mapping import Entry, MappingRecord, Status
from automatch.core.summary import Kind, kind
from automatch.rules.template import rename, split

VARIABLES = "ijklmnpqrstuvwxyz"

Column: TypeAlias = tuple[int, ...]
"""The values that one number of a key takes over the entries of a group."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a family of target keys.

    Attributes:
        target: The target keys, with variables in the places of numbers that vary (`blocks.{i}.norm.weight`).
        expression: What they are made of, as text; `{i}` is the target's number, `{layers[i]}` the one that `layers`
            gives for it. Empty for unmapped keys.
        kind: What happens to the sources; `renamed` where only some keep their name.
        variables: For every variable, its name and the numbers it runs over.
        layers: For the numbers of the variable that `{layers[...]}` names, in order, the source's number; None where
            numbers carry over unchanged.
        count: Number of target keys.
        statuses: The statuses among the entries, in order of first occurrence.
    """

    target: str
    expression: str
    kind: Kind
    variables: tuple[tuple[str, tuple[int, ...]], ...]
    layers: tuple[int, ...] | None
    count: int
    statuses: tuple[Status, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a mapping, in the order of the target's keys; together they cover every key once."""

    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        """A table: count, target, expression, kind and status; then what the variables run over."""
        rows = [_row(rule) for rule in self.rules]
        width = min(60, max((len(row[1]) for row in rows), default=0))
        lines = [f"{count:>5}  {target:<{width}}  {rest}".rstrip() for count, target, rest in rows]
        keys = sum(rule.count for rule in self.rules)
        return "\n".join([f"{len(self.rules)} rules for {keys} weights", *lines])


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry of a group, its keys taken apart."""

    entry: Entry
    numbers: tuple[int, ...]
    source_numbers: tuple[int, ...]


def generalise(record: MappingRecord) -> RuleSet:
    """The rules that a mapping follows."""
    groups: dict[tuple[object, ...], list[_Member]] = {}
    for entry in record.entries:
        template, numbers = split(entry.target)
        leaves = () if entry.expr is None else source_leaves(entry.expr)
        source_numbers = tuple(number for leaf in leaves for number in split(leaf.key)[1])
        # Two expressions that are equal without their numbers differ in layers only; unmapped ones are all alike.
        masked = entry.expr and rename(entry.expr, lambda key: split(key)[0].text)
        groups.setdefault((template, masked, len(source_numbers)), []).append(_Member(entry, numbers, source_numbers))
    return RuleSet(tuple(rule for group in groups.values() for rule in _rules(group)))


def _rules(group: list[_Member]) -> Iterator[Rule]:
    """One rule for the group if its numbers allow one; else the group is split by its first number that varies."""
    rule = _rule(group)
    if rule is not None:
        yield rule
        return
    columns = list(zip(*(member.numbers for member in group), strict=True))
    varying = next(place for place, column in enumerate(columns) if len(set(column)) > 1)
    parts: dict[int, list[_Member]] = {}
    for member in group:
        parts.setdefault(member.numbers[varying], []).append(member)
    for part in parts.values():
        yield from _rules(part)


def _rule(group: list[_Member]) -> Rule | None:
    """The one rule for these entries; None where there is none."""
    own: list[Column] = list(zip(*(member.numbers for member in group), strict=True))
    varying = [place for place, column in enumerate(own) if len(set(column)) > 1]
    if prod(len(set(own[place])) for place in varying) != len(group) or len(varying) > len(VARIABLES):
        # A rule must not speak of keys that are not there.
        return None
    names = {place: VARIABLES[order] for order, place in enumerate(varying)}
    variables = {name: own[place] for place, name in names.items()}
    theirs = [_follow(column, variables) for column in zip(*(member.source_numbers for member in group), strict=True)]
    pairings = {(cell.variable, cell.layers) for cell in theirs if cell is not None and cell.layers is not None}
    if None in theirs or len(pairings) > 1:
        return None
    template, _ = split(group[0].entry.target)
    shown = [f"{{{names[place]}}}" if place in names else str(column[0]) for place, column in enumerate(own)]
    return Rule(
        target=template.fill(shown),
        expression=_expression(group[0].entry, [cell.text for cell in theirs if cell is not None]),
        kind=_common_kind(group),
        variables=tuple((name, tuple(sorted(set(column)))) for name, column in variables.items()),
        layers=next((layers for _, layers in pairings), None),
        count=len(group),
        statuses=tuple(dict.fromkeys(member.entry.status for member in group)),
    )


@dataclass(frozen=True, slots=True)
class _Cell:
    """What stands in the place of a source's number."""

    text: str
    variable: str = ""
    layers: tuple[int, ...] | None = None


def _follow(column: Column, variables: dict[str, Column]) -> _Cell | None:
    """How a source's number follows from the target's: constant, equal to a variable, or paired with one."""
    if len(set(column)) == 1:
        return _Cell(str(column[0]))
    for name, own in variables.items():
        if own == column:
            return _Cell(f"{{{name}}}")
    for name, own in variables.items():
        pairing = dict(zip(own, column, strict=True))
        if all(pairing[here] == there for here, there in zip(own, column, strict=True)):
            return _Cell(f"{{layers[{name}]}}", name, tuple(pairing[here] for here in sorted(pairing)))
    return None


def _expression(entry: Entry, cells: Sequence[str]) -> str:
    if entry.expr is None:
        return ""
    remaining = iter(cells)

    def shown(key: str) -> str:
        template, numbers = split(key)
        return template.fill([next(remaining) for _ in numbers])

    return text(rename(entry.expr, shown))


def _common_kind(group: list[_Member]) -> Kind:
    kinds = Counter(kind(member.entry) for member in group)
    return "renamed" if len(kinds) > 1 else next(iter(kinds))


def _row(rule: Rule) -> tuple[int, str, str]:
    notes = [f"{name} = {_ranges(values)}" for name, values in rule.variables]
    if rule.layers is not None:
        notes.append(f"layers = {', '.join(map(str, rule.layers))}")
    tail = "; ".join([rule.kind, "/".join(rule.statuses), *notes] if rule.expression else ["unmapped", *notes])
    return rule.count, rule.target, f"= {rule.expression}  [{tail}]" if rule.expression else f"[{tail}]"


def _ranges(values: tuple[int, ...]) -> str:
    whole = values == tuple(range(values[0], values[-1] + 1))
    return f"{values[0]}..{values[-1]}" if whole and len(values) > 2 else ", ".join(map(str, values))
