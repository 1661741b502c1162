"""Axes of another size, whole and in stretches, against torch's own resampling."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.nn.functional import interpolate

from automatch.apply.axis_fits import along
from automatch.conversion.regions import fitted
from automatch.core.expr import Fit

SIZES: dict[Fit, list[tuple[int, int]]] = {
    "keep": [(5, 5)],
    "leading": [(7, 4)],
    "middle": [(7, 4), (8, 3)],
    "tile": [(3, 8)],
    "pad": [(3, 8), (2, 4)],
    "zeros": [(3, 8)],
    "mean": [(3, 8)],
    "cubic": [(4, 8), (14, 16), (16, 7), (3, 1), (1, 3)],
}


def whole(x: torch.Tensor, sizes: tuple[int, int], fit: Fit, axis: int = 0) -> torch.Tensor:
    return along(x, axis, sizes, fit, 0, (0, sizes[1]))


def test_every_fit_has_sizes_here() -> None:
    assert SIZES.keys() == set(get_args(Fit))


@pytest.mark.parametrize(("fit", "sizes"), [(fit, each) for fit, found in SIZES.items() for each in found])
def test_every_stretch_of_an_axis_has_the_bits_that_it_has_in_the_whole(fit: Fit, sizes: tuple[int, int]) -> None:
    old, new = sizes
    x = torch.randn(2, old, 3, generator=torch.Generator().manual_seed(0))
    expected = whole(x, sizes, fit, axis=1)
    assert expected.shape == (2, new, 3)
    for start in range(new):
        for stop in range(start + 1, new + 1):
            first, last = fitted(old, new, fit, (start, stop))
            got = along(x[:, first:last], 1, sizes, fit, first, (start, stop))
            assert torch.equal(got, expected[:, start:stop])


@pytest.mark.parametrize("sizes", SIZES["cubic"])
def test_a_grid_is_resampled_as_torch_does_with_antialiasing(sizes: tuple[int, int]) -> None:
    old, new = sizes
    grid = torch.randn(old, old + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    got = whole(whole(grid, sizes, "cubic"), (old + 1, new + 2), "cubic", axis=1)
    expected = interpolate(grid[None, None], (new, new + 2), mode="bicubic", antialias=True)[0, 0]
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_a_mean_of_narrow_floats_is_of_all_old_entries() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert whole(rows, (2, 4), "mean").tolist() == [[1, 2], [3, 6], [2, 4], [2, 4]]
