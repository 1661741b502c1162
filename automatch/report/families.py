"""Entries of a mapping that differ only in numbers, as one row: `blocks.{i}.norm.weight <- layers.{j}.ln.weight`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from automatch.core.expr import source_leaves
from automatch.core.expr_rewrite import with_sources
from automatch.core.mapping import Entry
from automatch.lift.keys import fill, split
from automatch.report.brief import RESIZED, brief
from automatch.report.patterns import ranges

_LETTERS = "ijklmnpqrstuvwxyz"
_Column: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Entries that say the same of several layers.

    Attributes:
        target: Their targets, numbers that vary as letters in braces.
        expression: Their expressions in the same manner; empty where unmapped.
        standing: Their status, and what was lost in making their size.
        entries: The entries.
    """

    target: str
    expression: str
    standing: str
    entries: tuple[Entry, ...]


@dataclass(slots=True)
class _Legend:
    """Which letter stands for which numbers; one letter means the same in every row of a table."""

    letters: dict[tuple[str, int, _Column], str]

    def letter(self, beside: str, numbers: _Column, rank: int = 0) -> str:
        """The letter of these numbers.

        Args:
            beside: The letter they are in step with; empty for a target's own numbers.
            numbers: The numbers, in order.
            rank: How many places before this one run over the same numbers, independently.
        """
        used = len(self.letters)
        fresh = _LETTERS[used] if used < len(_LETTERS) else f"i{used}"
        return self.letters.setdefault((beside, rank, numbers), fresh)

    def lines(self) -> tuple[str, ...]:
        """What every letter stands for, one line each."""
        return tuple(
            f"{letter} = {ranges(numbers, ' ')}" + (f"  (in step with {beside})" if beside else "")
            for (beside, _, numbers), letter in self.letters.items()
        )


def families(entries: Iterable[Entry]) -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """Rows that cover the entries, in order, and the legend of their letters."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_signature(entry), []).append(entry)
    legend = _Legend({})
    rows = [_family(part, legend) for group in groups.values() for part in _regular(group)]
    return tuple(rows), legend.lines()


def _signature(entry: Entry) -> tuple[object, ...]:
    """What two entries share if they differ in numbers only."""
    template, _ = split(entry.target)
    if entry.expr is None:
        return template, entry.shape, entry.evidence.reasons[:1]
    return (
        template,
        entry.shape,
        entry.status,
        with_sources(entry.expr, lambda leaf: replace(leaf, key=split(leaf.key)[0])),
    )


def _regular(group: list[Entry]) -> list[list[Entry]]:
    """The group, split until the targets of every part are all combinations of the numbers in them."""
    columns = _columns([split(entry.target)[1] for entry in group])
    varying = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    if prod(len(set(columns[place])) for place in varying) == len(group):
        return [group]
    parts: dict[int, list[Entry]] = {}
    for entry, number in zip(group, columns[varying[-1]], strict=True):
        parts.setdefault(number, []).append(entry)
    return [smaller for part in parts.values() for smaller in _regular(part)]


def _family(group: list[Entry], legend: _Legend) -> Family:
    first = group[0]
    targets = _columns([split(entry.target)[1] for entry in group])
    letters = _letters([column for column in targets if len(set(column)) > 1], legend)
    target = fill(split(first.target)[0], [_cell(column, letters, legend) for column in targets])
    if first.expr is None:
        return Family(target, "", first.standing, tuple(group))
    leaves = [[split(leaf.key)[1] for leaf in source_leaves(entry.expr)] for entry in group if entry.expr]
    cells = iter([[_cell(c, letters, legend) for c in _columns(leaf)] for leaf in zip(*leaves, strict=True)])
    expression = with_sources(first.expr, lambda leaf: replace(leaf, key=fill(split(leaf.key)[0], next(cells))))
    return Family(target, brief(expression, RESIZED), first.standing, tuple(group))


def _letters(columns: Sequence[_Column], legend: _Legend) -> dict[_Column, str]:
    """A letter for each of a target's numbers that vary; two that run over the same numbers are not one letter."""
    numbers = [_distinct(column) for column in columns]
    ranks = [numbers[:place].count(own) for place, own in enumerate(numbers)]
    return {column: legend.letter("", own, rank) for column, own, rank in zip(columns, numbers, ranks, strict=True)}


def _columns(rows: Sequence[Sequence[int]]) -> list[_Column]:
    return list(zip(*rows, strict=True))


def _distinct(column: _Column) -> _Column:
    return tuple(dict.fromkeys(column))


def _cell(column: _Column, letters: dict[_Column, str], legend: _Legend) -> str:
    """What to write for a number that has these values over the entries."""
    if len(set(column)) == 1:
        return str(column[0])
    if column in letters:
        return f"{{{letters[column]}}}"
    for own, letter in letters.items():
        steps = dict(zip(own, column, strict=True))
        if all(steps[here] == there for here, there in zip(own, column, strict=True)):
            return f"{{{legend.letter(letter, tuple(steps.values()))}}}"
    return f"{{{legend.letter('the rows', column)}}}"
