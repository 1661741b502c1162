"""Agreement of the numbers in paths, and of the order of siblings."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.vocabulary import HOLE, resemblance, stage, tokens
from automatch.align.names.wording import Table

Turn: TypeAlias = tuple[float | None, float | None]
"""Which a node is among its like siblings, 0 (first) to 1 (last): by its name (or by code), and by place."""
SORTED = 0.05
"""What nearness in the state dict counts where a side's keys are sorted: enough to break all ties the same way."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a path.

    Attributes:
        value: As it is written.
        rank: Its rank among those that occur at its place in paths of the same form.
        among: How many there are.
    """

    value: int
    rank: int
    among: int


def numbers_in(patterns: Sequence[Pattern]) -> dict[Path, tuple[Number, ...]]:
    """The numbers in every path, at most one per component."""
    values: dict[Hashable, set[int]] = {}
    forms = {pattern.path: _form(pattern) for pattern in patterns}
    for form, numbers in forms.values():
        for place, number in enumerate(numbers):
            values.setdefault((form, place), set()).add(number)
    ranked = {key: sorted(found) for key, found in values.items()}
    return {
        path: tuple(
            Number(value, ranked[form, place].index(value), len(ranked[form, place]))
            for place, value in enumerate(numbers)
        )
        for path, (form, numbers) in forms.items()
    }


def shifts(source: Sequence[Node], target: Sequence[Node]) -> dict[str, int]:
    """What to add to the numbers in a name where the sides count from different numbers: by the name without them.

    Example:
        Where the source has `norm0` and `norm1` everywhere, and the target `norm1` and `norm2`, it is `{"norm#": 1}`.
    """
    first, other = _bases(source), _bases(target)
    both = sorted(name for name in first.keys() & other.keys() if len(first[name]) == len(other[name]) == 1)
    moved = {name: next(iter(other[name])) - next(iter(first[name])) for name in both}
    return {name: by for name, by in moved.items() if by}


def renumbered(path: Path, moved: Mapping[str, int]) -> Path:
    """A path with shifted numbers."""
    return tuple(_renumbered(part, moved) for part in path)


def number_fit(a: tuple[Number, ...], b: tuple[Number, ...]) -> float:
    """Agreement of two paths' numbers: those in common, in order.

    Numbers agree where their ranks do, if they are the same or of as many: `ffn.0` and `ffn.2` agree with `fc1` and
    `fc2`, but a lone `norm3` is not the first of `norm1` and `norm2`.

    Example:
        >>> one, three, first, second = Number(1, 0, 2), Number(3, 0, 1), Number(0, 0, 2), Number(2, 1, 2)
        >>> number_fit((one,), (first,)), number_fit((one,), (three,)), number_fit((first, second), (second,))
        (1.0, 0.0, 0.4)
    """
    if not a or not b:
        return 1.0 if a == b else 0.4
    common = _common_subsequence(a, b)
    return 1.0 if common == len(a) == len(b) else 0.8 * common / max(len(a), len(b))


def order_fit(source: Sequence[Node], target: Sequence[Node], ordered: bool) -> Table:
    """Nearness of the places in the state dict."""
    places = []
    for nodes in (source, target):
        at = np.argsort(np.argsort([node.patterns[0].position for node in nodes], kind="stable"), kind="stable")
        places.append(at / max(1, len(nodes) - 1))
    return np.asarray(1.0 - (1.0 if ordered else SORTED) * np.abs(np.subtract.outer(places[0], places[1])))


def turns(nodes: Sequence[Node], ordered: bool) -> list[Turn]:
    """Every node's turn among the siblings of its kind and shape."""
    numbered: dict[Hashable, set[int]] = {}
    told: dict[Hashable, set[float]] = {}
    untold = {_siblings(node) for node in nodes if is_norm(node) and _stage(node) is None}
    placed: dict[Hashable, set[int]] = {}
    ran: dict[Hashable, set[int]] = {}
    for node in nodes:
        family, number = _family(node)
        when = None if _siblings(node) in untold else _stage(node)
        if number is not None:
            numbered.setdefault(family, set()).add(number)
        if when is not None:
            told.setdefault(_siblings(node), set()).add(when)
        if (run := _run(node)) is not None:
            ran.setdefault(_siblings(node), set()).add(run)
        if ordered and not node.fused:
            placed.setdefault(_siblings(node), set()).add(node.patterns[0].position)
    found = []
    for node in nodes:
        family, number = _family(node)
        by_number = _turn(number, numbered.get(family, ()))
        by_words = _turn(_stage(node), told[_siblings(node)]) if _siblings(node) in told else None
        place = None if node.fused else node.patterns[0].position
        by_name = by_words if by_number is None else by_number
        by_run = _turn(_run(node), ran[_siblings(node)]) if _siblings(node) in ran else None
        told_turn = by_run if by_name is None else by_name
        found.append((told_turn, _turn(place, placed.get(_siblings(node), ()))))
    return found


def turn_fit(a: Turn, b: Turn) -> float:
    """Agreement of two turns, 0.5 where they say nothing: names with names, else with places."""
    if a[0] is None and b[0] is None:
        return 0.5
    one, other = (turn[0] if turn[0] is not None else turn[1] for turn in (a, b))
    return 0.5 if one is None or other is None else 1.0 - abs(one - other)


def is_norm(node: Node) -> bool:
    """Whether a module is a norm by its name."""
    words = tokens(node.module[-1]) if node.module and not node.fused else ()
    return any(resemblance(word, "norm") >= 0.9 for word in words)


def last_number(component: str) -> str:
    """The last number in a component, as it is written; empty where there is none."""
    if component == HOLE:
        return ""
    runs = "".join(letter if letter.isdecimal() else " " for letter in component).split()
    return runs[-1] if runs else ""


def _form(pattern: Pattern) -> tuple[Hashable, tuple[int, ...]]:
    """A path without its numbers (and the weight's rank), and the numbers."""
    split = [(part, last_number(part)) for part in pattern.path]
    form = tuple(part.replace(number, "#") if number else part for part, number in split)
    return (form, len(pattern.shape)), tuple(int(number) for _, number in split if number)


def _bases(nodes: Sequence[Node]) -> dict[str, set[int]]:
    """For every name with a number, from which numbers siblings of that name are counted."""
    families: dict[tuple[Path, str], set[int]] = {}
    for node in nodes:
        for at, part in enumerate(node.path):
            number = last_number(part)
            if number and number != part:
                families.setdefault((node.path[:at], part.replace(number, "#")), set()).add(int(number))
    bases: dict[str, set[int]] = {}
    for (_, name), numbers in families.items():
        if len(numbers) > 1:
            bases.setdefault(name, set()).add(min(numbers))
    return bases


def _renumbered(part: str, moved: Mapping[str, int]) -> str:
    number = last_number(part) if moved else ""
    by = moved.get(part.replace(number, "#"), 0) if number else 0
    return part.replace(number, str(int(number) + by)) if by else part


def _siblings(node: Node) -> Hashable:
    return node.module[:-1], node.kind, node.shape


def _family(node: Node) -> tuple[Hashable, int | None]:
    """Siblings whose names differ in a number only, and the node's number."""
    last = node.module[-1] if node.module and not node.fused else ""
    number = last_number(last)
    return (_siblings(node), last.replace(number, "#")) if number else None, int(number) if number else None


def _stage(node: Node) -> float | None:
    """When a norm runs, by the words of its name."""
    return stage(tokens(node.module[-1])) if is_norm(node) else None


def _run(node: Node) -> int | None:
    """When a vector runs, such as a norm's weight; which of two matrices does says nothing about their roles."""
    return node.patterns[0].runs if node.kind == "weight" and len(node.shape) == 1 else None


def _turn(value: float | None, values: Iterable[float]) -> float | None:
    ranked = sorted(values)
    return None if value is None or len(ranked) < 2 else ranked.index(value) / (len(ranked) - 1)


def _agree(a: Number, b: Number) -> bool:
    return a.rank == b.rank and (a.value == b.value or a.among == b.among)


def _common_subsequence(a: tuple[Number, ...], b: tuple[Number, ...]) -> int:
    """Length of the longest sequence that both contain in order."""
    row = [0] * (len(b) + 1)
    for x in a:
        above, row = row, [0]
        for at, y in enumerate(b):
            row.append(above[at] + 1 if _agree(x, y) else max(above[at + 1], row[at]))
    return row[-1]
