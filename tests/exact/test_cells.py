"""Axes before elements: which lines are taken together, and that cells stand for their elements."""

from __future__ import annotations

import numpy as np
import pytest

from automatch.exact.cells import Cells, alike, alone, elements, lines, matrix_shape, one_cell, still_alike
from automatch.exact.tolerance import TOLERANCES, Floats

FINEST = TOLERANCES[0]


def repeated(rows: list[int], columns: list[int], seed: int = 0) -> Floats:
    """A matrix whose rows and columns repeat those of a small generic one."""
    small = np.random.default_rng(seed).standard_normal((max(rows) + 1, max(columns) + 1))
    found: Floats = small[np.ix_(rows, columns)].reshape(-1)
    return found


def cells_of(gradient: Floats, shape: tuple[int, int]) -> Cells:
    return alike(gradient, one_cell(shape), np.zeros(1, np.int32), FINEST, 1.0)


def test_equal_rows_and_equal_columns_are_one_class_each() -> None:
    found = cells_of(repeated([0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0, 0]), (6, 8))
    assert (found.rows.classes().tolist(), found.rows.first.tolist()) == ([0, 1, 0, 0, 1, 0], [0, 1])
    assert (found.columns.classes().tolist(), found.columns.first.tolist()) == ([0, 0, 1, 0, 1, 0, 0, 0], [0, 2])
    assert found.many().tolist() == [4 * 6, 4 * 2, 2 * 6, 2 * 2]


def test_what_is_picked_by_cell_is_spread_over_its_elements() -> None:
    gradient = repeated([0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0, 0])
    found = cells_of(gradient, (6, 8))
    assert np.array_equal(found.spread(found.pick(gradient)), gradient)
    assert np.array_equal(gradient[found.firsts()], found.pick(gradient))


def test_a_generic_matrix_has_a_cell_for_every_element() -> None:
    found = cells_of(np.random.default_rng(1).standard_normal(48), (6, 8))
    assert found.whole
    assert found.count == 48


def test_a_row_that_differs_in_one_number_is_not_taken_for_the_others() -> None:
    gradient = repeated([0] * 9, list(range(7)))
    gradient[4 * 7 + 3] *= 1 + 1e-6
    assert cells_of(gradient, (9, 7)).rows.classes().tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_rows_whose_numbers_are_exchanged_so_that_their_combination_is_equal_are_confirmed_apart() -> None:
    by = np.random.default_rng(0).uniform(0.5, 1.5, 2)  # as rows are combined
    gradient = np.tile([1.0, 1.0], (4, 1))
    gradient[2] = [1 + by[1], 1 - by[0]]
    found = cells_of(gradient.reshape(-1), (4, 2))
    assert found.rows.classes()[2] not in found.rows.classes()[[0, 1, 3]]


def test_rows_that_were_coloured_unlike_stay_apart_however_equal_they_are() -> None:
    gradient, colours = repeated([0] * 6, [0, 1, 2]), np.zeros(18, np.int32)
    colours[3 * 3 + 1] = 1
    found = alike(gradient, elements((6, 3)), colours, FINEST, 1.0)
    assert found.rows.classes().tolist() == [0, 0, 0, 1, 0, 0]


def test_cells_of_one_gradient_are_held_against_another() -> None:
    first, second = repeated([0, 1, 0, 0], [0, 1, 2], seed=1), repeated([0, 1, 0, 0], [0, 1, 2], seed=2)
    found = cells_of(first, (4, 3))
    assert found.rows.count == 2
    assert still_alike(second, found, FINEST, 1.0)
    second[2 * 3] += 1e-3
    assert not still_alike(second, found, FINEST, 1.0)


def test_colours_move_to_other_cells_with_the_elements() -> None:
    before = Cells(lines(np.array([0, 1, 0])), alone(2))
    table = np.array([5, 6, 7, 8], np.int32)
    after = elements((3, 2))
    assert before.moved(table, after).tolist() == before.spread(table).tolist() == [5, 6, 7, 8, 5, 6]


def test_only_chosen_classes_are_taken_apart() -> None:
    found = lines(np.array([0, 1, 0, 1, 2])).apart(np.array([1, 2]))
    assert found.classes().tolist() == [0, 1, 0, 2, 3]


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (4, 8, 6), (2, 3, 5, 5)])
def test_a_leaf_of_any_rank_is_a_matrix(shape: tuple[int, ...]) -> None:
    rows, columns = matrix_shape(shape)
    assert rows * columns == elements(shape).count == int(np.prod(shape))
    assert one_cell(shape).many().tolist() == [rows * columns]
