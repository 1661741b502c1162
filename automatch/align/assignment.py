"""Hungarian assignment in which refusing is an option, with the margin to the runner-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Costs = npt.NDArray[np.float64]
FORBIDDEN = 1e3
"""A cost that no threshold admits."""
CLOSE = 1.5
"""Costs nearer to each other than this tell little when many are."""


@dataclass(frozen=True, slots=True)
class Match:
    """One assigned pair.

    Attributes:
        source: Row.
        target: Column.
        cost: What the pair costs.
        margin: How much more the next best row would cost for this column; None where no other is possible.
        runner_up: That row.
        crowd: How many rows cost little more for this column (less than `CLOSE`).
        twins: How many rows or columns only order tells from the chosen one; counted by `automatch.align.twins`.
    """

    source: int
    target: int
    cost: float
    margin: float | None
    runner_up: int | None
    crowd: int = 0
    twins: int = 0


def assign(costs: Costs, refusal: float) -> tuple[Match, ...]:
    """Pair rows with columns at least total cost; a pair that costs more than `refusal` is not made.

    Refusing is possible because every row and column has a dummy partner at half of `refusal` (the usual reduction of
    a rectangular problem with rejection to `scipy.optimize.linear_sum_assignment`).

    Example:
        >>> [(m.source, m.target) for m in assign(np.array([[0.1, 9.0], [0.2, 9.0]]), refusal=5.0)]
        [(0, 0)]
    """
    rows, columns = costs.shape
    if rows == 0 or columns == 0:
        return ()
    square = np.zeros((rows + columns, rows + columns))
    square[:rows, :columns] = costs
    square[:rows, columns:] = refusal / 2
    square[rows:, :columns] = refusal / 2
    chosen = zip(*linear_sum_assignment(square), strict=True)
    pairs = [(int(row), int(column)) for row, column in chosen if row < rows and column < columns]
    return tuple(_match(costs, row, column) for row, column in pairs if costs[row, column] < refusal)


def _match(costs: Costs, row: int, column: int) -> Match:
    others = costs[:, column].copy()
    others[row] = np.inf
    runner_up = int(np.argmin(others))
    if others[runner_up] >= FORBIDDEN:
        return Match(row, column, float(costs[row, column]), None, None)
    margin = float(others[runner_up] - costs[row, column])
    crowd = int(np.count_nonzero(others < costs[row, column] + CLOSE))
    return Match(row, column, float(costs[row, column]), margin, runner_up, crowd)
