"""Formulas of known numbers that give a number which nothing carries: products, quotients, sums, the simplest first.

Example:
    >>> from automatch.rules.formula import text
    >>> [text(formula) for formula in derivations((56,), [(8,), (7,)])]
    ['_0 * _1']
    >>> [text(formula) for formula in derivations((7,), [(20,), (4,)])]
    ['_0 // _1 + 2']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from automatch.errors import RulesError
from automatch.rules.following import Column
from automatch.rules.formula import Binary, Formula, Name, Number, evaluate

FACTORS = (2, 3, 4)


def derivations(column: Column, known: Sequence[Column]) -> list[Formula]:
    """The formulas that give a number, of the least complexity with which there are any.

    Args:
        column: The number, key by key.
        known: The numbers that formulas may speak of; `_3` stands for the fourth.
    """
    names = [Name(f"_{place}") for place in range(len(known))]
    for level in (_simple, _of_two_and_more):
        found = [formula for formula in level(names) if _gives(formula, column, known)]
        if found:
            return found
    return []


def products(column: Column, known: Sequence[Column]) -> list[Formula]:
    """The products of two known numbers that give a number.

    Example:
        >>> from automatch.rules.formula import text
        >>> [text(formula) for formula in products((24,), [(4,), (6,), (3,), (8,)])]
        ['_0 * _1', '_2 * _3']
    """
    names = [Name(f"_{place}") for place in range(len(known))]
    pairs = (Binary("*", one, other) for place, one in enumerate(names) for other in names[place + 1 :])
    return [formula for formula in pairs if _gives(formula, column, known)]


def _gives(formula: Formula, column: Column, known: Sequence[Column]) -> bool:
    for place, wanted in enumerate(column):
        try:
            if evaluate(formula, {f"_{name}": values[place] for name, values in enumerate(known)}) != wanted:
                return False
        except RulesError:  # division by zero
            return False
    return _exact(formula, known)


def _exact(formula: Formula, known: Sequence[Column]) -> bool:
    """Whether no division in it leaves a remainder."""
    if not isinstance(formula, Binary):
        return True
    if not (_exact(formula.left, known) and _exact(formula.right, known)):
        return False
    if formula.op != "//":
        return True
    rows = ({f"_{name}": values[place] for name, values in enumerate(known)} for place in range(len(known[0])))
    return all(evaluate(formula.left, row) % evaluate(formula.right, row) == 0 for row in rows)


def _simple(names: Sequence[Name]) -> Iterator[Formula]:
    """Formulas of two numbers. A factor of 3 may well be a size that is 3 here, so both are of one level."""
    yield from _of_one(names)
    yield from _of_two(names)


def _of_one(names: Sequence[Name]) -> Iterator[Formula]:
    for factor, name in product(FACTORS, names):
        yield Binary("*", Number(factor), name)
        yield Binary("//", name, Number(factor))


def _of_two(names: Sequence[Name]) -> Iterator[Formula]:
    for one, other in product(range(len(names)), repeat=2):
        if one < other:
            yield Binary("*", names[one], names[other])
            yield Binary("+", names[one], names[other])
        if one != other:
            yield Binary("//", names[one], names[other])
            yield Binary("-", names[one], names[other])


def _of_two_and_more(names: Sequence[Name]) -> Iterator[Formula]:
    for (one, other), factor in product(product(range(len(names)), repeat=2), FACTORS):
        if one == other:
            continue
        first, second, number = names[one], names[other], Number(factor)
        yield Binary("+", first, Binary("*", number, second))
        yield Binary("+", Binary("//", first, second), number)
        yield Binary("-", first, Binary("*", number, second))
        if one < other:
            yield Binary("*", Binary("*", number, first), second)
        yield Binary("//", first, Binary("*", number, second))


def renamed(formula: Formula, new: Callable[[int], str]) -> Formula:
    """A formula with the names of sizes in the places of `_0`, `_1`, ..."""
    if isinstance(formula, Name):
        return Name(new(int(formula.name[1:])))
    if isinstance(formula, Binary):
        return Binary(formula.op, renamed(formula.left, new), renamed(formula.right, new))
    return formula
