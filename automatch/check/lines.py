"""The entries that one line of an expectation file can stand for: keys whose numbers are variables.

`automatch.rules.folding` does not serve here: a line has to hold whatever a mapping has, gathered entries and layers
paired at will included, and its numbers come from lists, not from formulas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from automatch.core.expr import source_leaves, text
from automatch.core.expr_rewrite import with_sources
from automatch.core.mapping import Entry
from automatch.lift.keys import Numbers, fill, split

VARIABLES = "ijklmnpqrstuvwxyz"

Column: TypeAlias = tuple[int, ...]
"""The values of one number of a key over the entries of a group."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of one line.

    Attributes:
        name: What the line calls it.
        size: How many numbers it stands for in targets; they count from 0.
        layers: The numbers that it stands for in sources, in order; None where no source has it.
    """

    name: str
    size: int
    layers: Column | None


@dataclass(frozen=True, slots=True)
class Line:
    """Entries that are one but for numbers.

    Attributes:
        target: Their keys, with variables.
        text: Their expression, with variables in its keys; empty for unmapped ones.
        variables: The variables; none for a single entry.
        entries: The entries.
    """

    target: str
    text: str
    variables: tuple[Variable, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry, its keys taken apart."""

    entry: Entry
    numbers: Numbers
    source_numbers: Numbers


def lines(entries: Sequence[Entry]) -> tuple[Line, ...]:
    """Lines for all entries, in the order of the first key that each stands for.

    Example:
        >>> from automatch.core.expr import Source
        >>> from automatch.core.mapping import Evidence
        >>> entries = [
        ...     Entry(f"h.{i}.w", (2,), "float32", "structural", Source(f"l.{layer}.w", (2,)), Evidence("names"))
        ...     for i, layer in enumerate((0, 5))
        ... ]
        >>> [(line.target, line.text, line.variables) for line in lines(entries)]
        [('h.{i}.w', 'l.{i}.w', (Variable(name='i', size=2, layers=(0, 5)),))]
    """
    places = {entry.target: place for place, entry in enumerate(entries)}
    found = list(_lines(entries))
    alone = [line.entries[0] for line in found if not line.variables]
    found = [line for line in found if line.variables]
    # The layers of `blocks.0.mlp.0` and `blocks.0.mlp.2` vary along with a second number; each may be a line.
    left: dict[object, list[Entry]] = {}
    for entry in alone:
        template, numbers = split(entry.target)
        left.setdefault((template, numbers[1:]), []).append(entry)
    found += [line for group in left.values() for line in _lines(group)]
    return tuple(sorted(found, key=lambda line: min(places[entry.target] for entry in line.entries)))


def _lines(entries: Sequence[Entry]) -> Iterator[Line]:
    groups: dict[object, list[_Member]] = {}
    for entry in entries:
        template, numbers = split(entry.target)
        leaves = () if entry.expr is None else source_leaves(entry.expr)
        source_numbers = tuple(number for leaf in leaves for number in split(leaf.key)[1])
        # Two expressions that are equal without their numbers differ in layers only; unmapped ones are all alike.
        masked = entry.expr and with_sources(entry.expr, lambda leaf: replace(leaf, key=split(leaf.key)[0]))
        groups.setdefault((template, masked, len(source_numbers)), []).append(_Member(entry, numbers, source_numbers))
    for group in groups.values():
        yield from _split(group)


def _split(group: Sequence[_Member]) -> Iterator[Line]:
    """One line for the group if its numbers allow one; else the group is split by its first number that varies."""
    line = _line(group)
    if line is not None:
        yield line
        return
    columns = list(zip(*(member.numbers for member in group), strict=True))
    varying = next(place for place, column in enumerate(columns) if len(set(column)) > 1)
    parts: dict[int, list[_Member]] = {}
    for member in group:
        parts.setdefault(member.numbers[varying], []).append(member)
    for part in parts.values():
        yield from _split(part)


def _line(group: Sequence[_Member]) -> Line | None:
    """The one line for these entries; None where there is none."""
    own = list(zip(*(member.numbers for member in group), strict=True))
    varying = [place for place, column in enumerate(own) if len(set(column)) > 1]
    if len(varying) > len(VARIABLES) or prod(len(set(own[place])) for place in varying) != len(group):
        return None  # a line must not speak of keys that are not there
    if any(set(own[place]) != set(range(len(set(own[place])))) for place in varying):
        return None  # in targets, variables count from 0
    names = dict(zip(varying, VARIABLES, strict=False))
    layers: dict[str, Column] = {}
    cells: list[object] = []
    for column in zip(*(member.source_numbers for member in group), strict=True):
        cell = _followed(column, {name: own[place] for place, name in names.items()}, layers)
        if cell is None:
            return None
        cells.append(cell)
    first = group[0].entry
    return Line(
        target=fill(split(first.target)[0], [f"{{{names[p]}}}" if p in names else c[0] for p, c in enumerate(own)]),
        text=_text(first, cells),
        variables=tuple(Variable(name, len(set(own[place])), layers.get(name)) for place, name in names.items()),
        entries=tuple(member.entry for member in group),
    )


def _followed(column: Column, variables: Mapping[str, Column], layers: dict[str, Column]) -> object | None:
    """What stands in the place of a source's number: itself, or a variable that is paired with it in every line.

    Args:
        column: The number, entry by entry.
        variables: The target's numbers that vary.
        layers: The numbers that variables stand for in sources; a new pairing is noted.
    """
    if len(set(column)) == 1:
        return column[0]
    # A number that is a variable's own is that variable, whatever else it might be paired with.
    for own_only in (True, False):
        for name, own in variables.items():
            pairing = dict(zip(own, column, strict=True))
            same = all(pairing[here] == there for here, there in zip(own, column, strict=True))
            if not same or (own_only and own != column):
                continue
            numbers = tuple(pairing[here] for here in sorted(pairing))
            return f"{{{name}}}" if layers.setdefault(name, numbers) == numbers else None
    return None


def _text(entry: Entry, cells: Sequence[object]) -> str:
    if entry.expr is None:
        return ""
    remaining = iter(cells)

    def shown(key: str) -> str:
        template, numbers = split(key)
        return fill(template, [next(remaining) for _ in numbers])

    return text(with_sources(entry.expr, lambda leaf: replace(leaf, key=shown(leaf.key))))
