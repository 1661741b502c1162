"""Colour refinement: what parts, at which tolerance, and what balance means."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from automatch.exact.colours import Colouring, parted, refined
from automatch.exact.tolerance import TOLERANCES, Floats, Ints


def colouring(source: list[int], target: list[int], loose: list[int] | None = None) -> Colouring:
    """Colours of both sides; `loose` are places in the target."""
    flags = np.zeros(len(source) + len(target), bool)
    flags[[len(source) + place for place in loose or []]] = True
    return Colouring(np.array(source + target, np.int64), len(source), flags)


def groups(colours: Ints) -> set[frozenset[int]]:
    """The partition that colours stand for, whatever their numbers."""
    return {frozenset(np.flatnonzero(colours == colour).tolist()) for colour in set(colours.tolist()) - {-1}}


def naively(colours: list[int], signatures: Floats) -> set[frozenset[int]]:
    """Every pair compared."""
    size = range(len(colours))
    equal = [
        [colours[i] == colours[j] and bool(np.allclose(signatures[:, i], signatures[:, j], 1e-9, 1e-12)) for j in size]
        for i in size
    ]
    return {frozenset(j for j in size if equal[i][j]) for i in size}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], Floats]:
    """Colours, and signatures that are either equal up to a rounding or far apart."""
    count = draw(st.integers(1, 25))
    colours = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    rows = draw(st.lists(st.lists(st.integers(-3, 3), min_size=count, max_size=count), min_size=1, max_size=3))
    noise = np.random.default_rng(draw(st.integers(0, 9))).uniform(-1e-13, 1e-13, (len(rows), count))
    return colours, np.array(rows, np.float64) * (1 + noise)


@given(cases())
def test_parted_is_what_comparing_every_pair_says(case: tuple[list[int], Floats]) -> None:
    colours, signatures = case
    assert groups(parted(np.array(colours), signatures, TOLERANCES[0])) == naively(colours, signatures)


@given(cases())
def test_refined_is_never_coarser(case: tuple[list[int], Floats]) -> None:
    colours, signatures = case
    border = len(colours) // 2
    before = colouring(colours[:border], colours[border:])
    after = refined(before, signatures)
    for group in groups(after.colours):
        assert len({colours[place] for place in group}) == 1


@given(cases())
def test_both_sides_alike_are_in_balance(case: tuple[list[int], Floats]) -> None:
    colours, signatures = case
    both = np.concatenate([signatures, signatures], axis=1)
    after = refined(colouring(colours, colours), both)
    assert after.imbalance() == 0
    assert np.array_equal(after.colours[: len(colours)], after.colours[len(colours) :])


def test_imbalance_counts_elements_without_a_partner() -> None:
    assert colouring([0, 0, 1], [0, 1, 1]).imbalance() == 2
    assert colouring([0, 0, 1], [1, 0, 0]).imbalance() == 0


def test_a_loose_element_may_lack_a_partner_but_not_take_another_s() -> None:
    assert colouring([0], [0, 1], loose=[1]).imbalance() == 0
    assert colouring([0], [0, 0], loose=[1]).imbalance() == 0
    assert colouring([0, 1], [0, 2], loose=[1]).imbalance() == 1, "the source's element must go somewhere"
    assert colouring([0], [0, 1]).imbalance() == 1


def test_elements_without_a_colour_count_for_nothing() -> None:
    assert colouring([-1, 0], [0, -1, -1]).imbalance() == 0
    assert colouring([-1, 0], [0, -1, -1]).count == 1


def test_an_element_that_comes_alive_gets_a_colour_and_a_dead_one_has_none() -> None:
    start = colouring([-1, 0], [0, -1])
    after = refined(start, np.array([[2.0, 1.0, 1.0, 2.0]]))
    assert groups(after.colours) == {frozenset({0, 3}), frozenset({1, 2})}
    after = refined(start, np.zeros((1, 4)))
    assert after.colours.tolist() == [-1, 0, 0, -1]


def test_a_settled_pair_stays_settled() -> None:
    after = refined(colouring([0, 1], [1, 0]), np.array([[3.0, 4.0, 4.0, 3.0]]))
    assert after.imbalance() == 0


def test_a_settled_pair_with_different_signatures_opens_again() -> None:
    after = refined(colouring([0, 1], [0, 1]), np.array([[1.0, 2.0, 1.0, 5.0]]))
    assert after.imbalance() == 2


def test_a_looser_tolerance_is_taken_where_it_brings_balance() -> None:
    rows = np.array([[1.0, 2.0, 1.0 + 1e-6, 2.0 - 1e-6]])
    after = refined(colouring([0, 0], [0, 0]), rows)
    assert groups(after.colours) == {frozenset({0, 2}), frozenset({1, 3})}
