"""Constants that differ by a rounding become equal, on both sides alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automatch.exact.form import Form
from automatch.exact.snap import snap, snapped
from tests.exact.pairs import formed
from tests.support import Net, weight

X = weight(16, 4)
TABLE = torch.outer(torch.arange(16.0).double(), 10.0 ** -torch.arange(4).double())
EXACT, ROUNDED = TABLE.cos(), TABLE.float().cos()


def with_table(table: Tensor) -> Form:
    """A recorded model that holds a table which is no weight."""
    return formed(Net(lambda m, x: x * table * m.s, s=torch.ones(4)), X)


def constants(one: Form) -> list[Tensor]:
    return [value for _, value in one.module.named_buffers() if value.shape == (16, 4)]


def test_a_table_in_float32_is_the_one_in_float64() -> None:
    forms = with_table(EXACT), with_table(ROUNDED.double())
    assert not all(map(torch.equal, constants(forms[0]), constants(forms[1])))
    snap(forms)
    assert all(map(torch.equal, constants(forms[0]), constants(forms[1])))


def test_a_table_of_complex_numbers_keeps_its_pairs() -> None:
    turned = torch.polar(torch.ones_like(TABLE), TABLE)

    def rotated(table: Tensor) -> Form:
        return formed(Net(lambda m, x: torch.view_as_real(x * m.s * table), s=torch.ones(4)), X)

    forms = rotated(turned), rotated(torch.polar(ROUNDED.double() * 0 + 1, TABLE.float().double()))
    snap(forms)
    ours, theirs = (next(v for v in one.module.buffers() if v.is_complex()) for one in forms)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(ours, turned, rtol=0, atol=1e-5)


def test_forms_without_constants_are_left_alone() -> None:
    snap([formed(Net(lambda m, x: m.c(x), c=nn.Linear(4, 2)), X)])


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [np.inf, -np.inf], [1.0, 2.0, 1.5]])
def test_values_apart_stay(values: list[float]) -> None:
    np.testing.assert_array_equal(snapped(np.array(values)), np.array(values))
