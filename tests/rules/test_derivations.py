from __future__ import annotations

import pytest

from automatch.rules.derivations import derivations, renamed
from automatch.rules.following import Column
from automatch.rules.formula import Name, text


def derived(column: Column, *known: Column) -> list[str]:
    return [text(formula) for formula in derivations(column, known)]


@pytest.mark.parametrize(
    ("column", "known", "found"),
    [
        ((14,), [(7,)], ["2 * _0"]),
        ((7,), [(21,)], ["_0 // 3"]),
        ((35,), [(7,), (5,)], ["_0 * _1"]),
        ((12,), [(7,), (5,)], ["_0 + _1"]),
        ((2,), [(9,), (7,)], ["_0 - _1"]),
        ((17,), [(7,), (5,)], ["_0 + 2 * _1"]),
        ((8,), [(18,), (3,)], ["_0 // _1 + 2"]),
        ((70,), [(7,), (5,)], ["2 * _0 * _1"]),
        ((11,), [(7,), (3,), (100,)], []),
        ((5,), [], []),
    ],
)
def test_the_simplest_formulas_are_found(column: Column, known: list[Column], found: list[str]) -> None:
    assert derived(column, *known) == found


def test_a_literal_factor_and_a_size_that_is_as_large_are_both_kept() -> None:
    assert derived((15,), (5,), (3,)) == ["3 * _0", "_0 * _1"]


def test_a_formula_must_give_every_number() -> None:
    assert derived((6, 8), (3, 4)) == ["2 * _0"]
    assert derived((6, 9), (3, 4)) == []


def test_no_division_leaves_a_remainder() -> None:
    assert derived((3,), (7,)) == []
    assert derived((3,), (7,), (100,)) == []


def test_names_are_given_to_the_sizes() -> None:
    (formula,) = derivations((35,), [(7,), (5,)])
    assert text(renamed(formula, lambda place: ("heads", "width")[place])) == "heads * width"
    assert renamed(Name("_0"), "abc".__getitem__) == Name("a")
