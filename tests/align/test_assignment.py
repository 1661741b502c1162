from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from automatch.align.assignment import FORBIDDEN, Costs, assign

REFUSAL = 5.0


def pairs(costs: list[list[float]] | Costs, refusal: float = REFUSAL) -> list[tuple[int, int]]:
    return [(match.source, match.target) for match in assign(np.array(costs), refusal)]


def test_the_least_total_cost_wins_over_the_least_single_cost() -> None:
    assert pairs([[0.0, 1.0], [1.0, 4.0]]) == [(0, 1), (1, 0)]


def test_a_pair_that_costs_too_much_is_not_made() -> None:
    assert pairs([[0.5, 9.0], [9.0, 9.0]]) == [(0, 0)]
    assert pairs([[5.0]]) == []
    assert pairs([[4.9]]) == [(0, 0)]


def test_staying_alone_is_weighed_against_worse_pairs_elsewhere() -> None:
    # pairing all would cost 8.8; one pair and two that stay alone cost 3 + 5
    assert pairs([[3.0, 4.0], [4.8, 5.9]]) == [(0, 0)]


def test_a_forbidden_pair_is_never_made() -> None:
    assert pairs([[FORBIDDEN, FORBIDDEN], [1.0, FORBIDDEN]], refusal=100.0) == [(1, 0)]


def test_either_side_may_be_larger() -> None:
    assert pairs([[2.0, 1.0, 3.0]]) == [(0, 1)]
    assert pairs([[2.0], [1.0], [3.0]]) == [(1, 0)]


def test_an_empty_side_has_no_pairs() -> None:
    assert assign(np.zeros((0, 3)), REFUSAL) == ()
    assert assign(np.zeros((3, 0)), REFUSAL) == ()


def test_the_margin_says_how_much_more_the_runner_up_costs() -> None:
    (match,) = assign(np.array([[2.0], [0.5], [1.25]]), REFUSAL)
    assert (match.source, match.cost, match.margin, match.runner_up) == (1, 0.5, 0.75, 2)


def test_a_margin_is_negative_where_another_column_took_the_better_row() -> None:
    matches = {match.target: match for match in assign(np.array([[0.0, 0.0], [3.0, 1.0]]), REFUSAL)}
    assert (matches[1].source, matches[1].margin, matches[1].runner_up) == (1, -1.0, 0)


def test_there_is_no_margin_without_another_possible_row() -> None:
    (alone,) = assign(np.array([[0.5]]), REFUSAL)
    assert (alone.margin, alone.runner_up) == (None, None)
    (match,) = assign(np.array([[0.5], [FORBIDDEN]]), REFUSAL)
    assert (match.margin, match.runner_up) == (None, None)


costs_of_small_problems = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: arrays.arrays(np.float64, shape, elements=st.integers(0, 90).map(lambda tenth: tenth / 10))
)


@given(costs_of_small_problems)
@settings(max_examples=100, deadline=None)
def test_no_other_choice_of_pairs_is_cheaper(costs: Costs) -> None:
    """The oracle tries every choice; a row and a column that stay alone cost half of the refusal each."""
    chosen = pairs(costs)
    assert len({row for row, _ in chosen}) == len({column for _, column in chosen}) == len(chosen)
    assert np.isclose(_total(costs, chosen), min(_total(costs, option) for option in _options(costs.shape)))


def _total(costs: Costs, chosen: list[tuple[int, int]]) -> float:
    alone = sum(costs.shape) - 2 * len(chosen)
    return sum(float(costs[row, column]) for row, column in chosen) + REFUSAL / 2 * alone


def _options(shape: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    rows, columns = shape
    partners = [*range(columns), *[None] * rows]
    return [
        [(row, column) for row, column in enumerate(option) if column is not None]
        for option in set(permutations(partners, rows))
    ]
