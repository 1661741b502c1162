from __future__ import annotations

from math import prod, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from automatch.apply.evaluate import evaluate
from automatch.core.alignment import Form, Indexed
from automatch.core.expr import Resize, Slice, Source
from automatch.core.graph import Shape
from automatch.core.losses import losses
from automatch.resize import Fitted, UnfitError, fit
from tests.support import weight


def fitted(old: Shape, new: Shape, form: Form) -> Fitted:
    return fit(Source("w", old), new, form)


def numbers(found: Fitted, stored: Tensor) -> Tensor:
    return evaluate(found.expr, {"w": stored}.__getitem__)


@pytest.mark.parametrize(
    ("old", "new", "form", "note"),
    [
        ((8, 8), (4, 8), "matrix", "w: [8, 8] to [4, 8], first 4 of 8 outputs"),
        ((8, 8), (8, 2), "matrix", "w: [8, 8] to [8, 2], first 2 of 8 inputs, times 2"),
        ((8, 8), (4, 2), "matrix", "w: [8, 8] to [4, 2], first 4 of 8 outputs, first 2 of 8 inputs, times 2"),
        ((4, 8), (6, 8), "matrix", "w: [4, 8] to [6, 8], 4 outputs repeated to 6"),
        ((4, 2), (4, 8), "matrix", "w: [4, 2] to [4, 8], 2 inputs repeated to 8, times 0.5"),
        ((4, 4, 5), (4, 4, 3), "matrix", "w: [4, 4, 5] to [4, 4, 3], middle 3 of 5 taps, times 1.291"),
        (
            (4, 4, 1, 1),
            (4, 4, 3, 3),
            "matrix",
            "w: [4, 4, 1, 1] to [4, 4, 3, 3], 1 taps centred in 3, 1 taps centred in 3",
        ),
        ((4, 3, 1, 1), (4, 3), "matrix", "w: [4, 3, 1, 1] to [4, 3], the same entries in row-major order"),
        ((4, 12), (4, 3, 2, 2), "matrix", "w: [4, 12] to [4, 3, 2, 2], the same entries in row-major order"),
        ((4, 3, 2, 2), (4, 12), "matrix", "w: [4, 3, 2, 2] to [4, 12], the same entries in row-major order"),
        (
            (4, 3, 1, 2, 2),
            (4, 3, 2, 2),
            "matrix",
            "w: [4, 3, 1, 2, 2] to [4, 3, 2, 2], the same entries in row-major order",
        ),
        ((8,), (4,), "vector", "w: [8] to [4], first 4 of 8 features"),
        ((4,), (6,), "vector", "w: [4] to [6], 4 features repeated to 6"),
        ((10, 8), (6, 4), "table", "w: [10, 8] to [6, 4], first 6 of 10 rows, first 4 of 8 features"),
        ((4, 8), (6, 8), "table", "w: [4, 8] to [6, 8], 4 rows, then their mean 2 times"),
        ((8,), (4,), "table", "w: [8] to [4], first 4 of 8 features"),
        ((8, 8), (4, 8), "other", "w: [8, 8] to [4, 8], first 4 of 8 entries"),
    ],
)
def test_every_change_of_size_is_said(old: Shape, new: Shape, form: Form, note: str) -> None:
    found = fitted(old, new, form)
    assert found.note == note
    assert found.expr.shape == new


@pytest.mark.parametrize("form", ["matrix", "vector", "table", "other"])
def test_what_fits_is_left_alone_and_nothing_is_said(form: Form) -> None:
    source = Source("w", (4, 8))
    assert fit(source, (4, 8), form) == Fitted(source, "")


@pytest.mark.parametrize(
    ("old", "new", "scale"),
    [
        ((8, 16), (8, 4), 2.0),
        ((8, 4), (8, 16), 0.5),
        ((8, 16), (4, 16), 1.0),
        ((8, 16, 3, 3), (8, 4, 3, 3), 2.0),
        ((8, 4, 5, 5), (8, 4, 3, 3), sqrt(25 / 9)),
        ((8, 16, 5, 5), (8, 4, 1, 1), sqrt(4 * 25)),
        ((8, 4, 1, 1), (8, 4, 3, 3), 1.0),  # zeros add nothing to the variance
        ((8, 16, 1, 1), (8, 4, 3, 3), 2.0),
    ],
)
def test_a_matrix_is_scaled_by_the_root_of_its_lost_fan_in(old: Shape, new: Shape, scale: float) -> None:
    found = fitted(old, new, "matrix").expr
    assert isinstance(found, Resize)
    assert found.scale == pytest.approx(scale)


@pytest.mark.parametrize("form", ["vector", "table", "other"])
def test_what_has_no_fan_in_is_not_scaled(form: Form) -> None:
    old, new = ((8,), (3,)) if form == "vector" else ((8, 8), (3, 3))
    found = fitted(old, new, form).expr
    assert isinstance(found, Resize)
    assert found.scale == 1.0


def test_the_scale_keeps_the_variance_of_what_the_weight_computes() -> None:
    torch.manual_seed(0)
    teacher, x = torch.randn(64, 1024), torch.randn(4096, 1024)
    student = numbers(fitted((64, 1024), (64, 128), "matrix"), teacher)
    ratio = (x[:, :128] @ student.T).var() / (x @ teacher.T).var()
    assert ratio.item() == pytest.approx(1.0, abs=0.05)


def test_the_first_channels_are_kept_and_scaled() -> None:
    stored = weight(8, 8)
    torch.testing.assert_close(numbers(fitted((8, 8), (4, 2), "matrix"), stored), stored[:4, :2] * 2)


def test_missing_channels_are_repeated_cyclically() -> None:
    stored = weight(3, 2)
    found = numbers(fitted((3, 2), (7, 2), "matrix"), stored)
    assert torch.equal(found, stored[[0, 1, 2, 0, 1, 2, 0]])


def test_the_central_taps_of_a_kernel_are_kept() -> None:
    stored = weight(2, 2, 5, 5)
    found = numbers(fitted((2, 2, 5, 5), (2, 2, 3, 3), "matrix"), stored)
    torch.testing.assert_close(found, stored[:, :, 1:4, 1:4] * (5 / 3))


def test_a_small_kernel_is_centred_among_zeros() -> None:
    stored = weight(2, 2, 1, 1)
    found = numbers(fitted((2, 2, 1, 1), (2, 2, 3, 3), "matrix"), stored)
    expected = torch.zeros(2, 2, 3, 3)
    expected[:, :, 1, 1] = stored[:, :, 0, 0]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("frames", "middle"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_a_kernel_over_frames_gives_its_middle_frame(frames: int, middle: int) -> None:
    stored = weight(4, 3, frames, 3, 3)
    found = fitted((4, 3, frames, 3, 3), (4, 3, 3, 3), "matrix")
    torch.testing.assert_close(numbers(found, stored), stored[:, :, middle] * sqrt(frames))
    assert f"entry {middle} of {frames} along axis 2" in found.note


def test_a_kernel_over_one_frame_loses_the_axis_and_fits_the_rest() -> None:
    stored = weight(4, 16, 1, 2, 2)
    found = fitted((4, 16, 1, 2, 2), (4, 4, 3, 3), "matrix")
    expected = torch.zeros(4, 4, 3, 3)
    expected[:, :, :2, :2] = stored[:, :4, 0] * 2
    torch.testing.assert_close(numbers(found, stored), expected)


def test_a_linear_layer_becomes_a_kernel_and_back_without_a_change_of_order() -> None:
    stored = weight(4, 12)
    kernel = numbers(fitted((4, 12), (4, 3, 2, 2), "matrix"), stored)
    assert torch.equal(kernel, stored.view(4, 3, 2, 2))
    assert torch.equal(numbers(fitted((4, 3, 2, 2), (4, 12), "matrix"), kernel), stored)


def test_a_linear_layer_of_another_size_is_a_central_tap() -> None:
    stored = weight(4, 8)
    found = numbers(fitted((4, 8), (4, 2, 3, 3), "matrix"), stored)
    assert torch.equal(found[:, :, 1, 1], stored[:, :2] * 2)
    assert found.count_nonzero() == 8


def test_a_kernel_becomes_a_linear_layer_of_another_size_by_its_middle() -> None:
    stored = weight(4, 8, 3, 3)
    found = numbers(fitted((4, 8, 3, 3), (4, 2), "matrix"), stored)
    torch.testing.assert_close(found, stored[:, :2, 1, 1] * 2 * 3)


def test_a_table_with_more_axes_gives_its_first_entry() -> None:
    found = fitted((2, 6, 8), (6, 8), "table")
    stored = weight(2, 6, 8)
    assert torch.equal(numbers(found, stored), stored[0])


def test_a_row_becomes_a_table_of_equal_rows() -> None:
    stored = weight(8)
    found = numbers(fitted((8,), (3, 8), "table"), stored)
    assert torch.equal(found, stored.expand(3, 8))


def test_the_label_is_the_expression_that_is_resized() -> None:
    part = Slice(Source("qkv.weight", (24, 8)), 0, 8, 16)
    assert fit(part, (4, 8), "matrix").note == "qkv.weight[8:16]: [8, 8] to [4, 8], first 4 of 8 outputs"


sizes = st.integers(1, 6)


def shapes(least: int, most: int) -> st.SearchStrategy[Shape]:
    return st.lists(sizes, min_size=least, max_size=most).map(tuple)


@given(st.sampled_from(["matrix", "table", "other"]), shapes(2, 5), shapes(2, 5))
@settings(max_examples=200, deadline=None)
def test_the_result_has_the_wanted_shape_and_real_numbers(form: Form, old: Shape, new: Shape) -> None:
    found = fitted(old, new, form)
    stored = torch.arange(1.0, 1 + prod(old)).reshape(old)
    result = numbers(found, stored)
    assert found.expr.shape == new == tuple(result.shape)
    assert bool(result.isfinite().all())
    assert bool(result.any())
    assert bool(found.note) == (old != new)


@given(sizes, sizes)
def test_vectors_of_any_size_are_fitted_by_cycling(old: int, new: int) -> None:
    stored = torch.arange(float(old))
    result = numbers(fitted((old,), (new,), "vector"), stored)
    assert result.tolist() == [float(i % old) for i in range(new)]


@given(shapes(2, 2), shapes(2, 2))
@settings(max_examples=100, deadline=None)
def test_a_table_keeps_its_rows_and_goes_on_with_their_mean(old: Shape, new: Shape) -> None:
    stored = torch.arange(1.0, 1 + prod(old)).reshape(old)
    got, kept = numbers(fitted(old, new, "table"), stored), min(old[0], new[0])
    width = stored[:, torch.arange(new[1]) % old[1]]
    assert torch.equal(got[:kept], width[:kept])
    torch.testing.assert_close(got[kept:], width.mean(0).expand(new[0] - kept, new[1]))


INPUTS, ROWS, GRID = Indexed(1, "inputs"), Indexed(0, "rows"), Indexed(0, "grid")


@pytest.mark.parametrize("new", [9, 2])
def test_channels_that_a_caller_feeds_keep_their_scale_and_new_ones_are_zeros(new: int) -> None:
    stored = weight(8, 4, 3, 3)
    found = fit(Source("w", (8, 4, 3, 3)), (8, new, 3, 3), "matrix", (INPUTS,))
    got = numbers(found, stored)
    assert torch.equal(got[:, :4], stored[:, :new])
    assert not got[:, 4:].any()
    assert losses(found.expr) == (("filled",) if new > 4 else ("cut",))


def test_a_kernel_over_fed_channels_still_makes_up_for_lost_taps() -> None:
    stored = weight(8, 4, 5, 5)
    got = numbers(fit(Source("w", (8, 4, 5, 5)), (8, 2, 3, 3), "matrix", (INPUTS,)), stored)
    torch.testing.assert_close(got, stored[:, :2, 1:4, 1:4] * (5 / 3))


@pytest.mark.parametrize("form", ["matrix", "vector", "table"])
def test_rows_that_the_source_lacks_are_what_was_chosen(form: Form) -> None:
    old, new = ((4,), (6,)) if form == "vector" else ((4, 8), (6, 8))
    stored = weight(*old)
    mean = numbers(fit(Source("w", old), new, form, (ROWS,)), stored)
    zeros = numbers(fit(Source("w", old), new, form, (ROWS,), "zeros"), stored)
    assert torch.equal(mean[:4], stored)
    assert torch.equal(zeros[:4], stored)
    torch.testing.assert_close(mean[4:], stored.mean(0).expand(mean[4:].shape))
    assert not zeros[4:].any()


def resampled(table: Tensor, special: int, old: Shape, new: Shape) -> Tensor:
    """What vision libraries do: the grid as a picture, resampled with antialiasing."""
    picture = table[special:].reshape(*old, -1).permute(2, 0, 1)[None]
    grid = interpolate(picture, new, mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    return torch.cat([table[:special], grid.flatten(0, 1)])


@pytest.mark.parametrize(
    ("special", "old", "new", "known"),
    [(1, (4, 4), (8, 8), False), (2, (8, 8), (4, 4), False), (0, (3, 3), (5, 5), False), (3, (4, 6), (8, 3), True)],
)
def test_places_in_a_picture_are_resampled_and_special_rows_kept(
    special: int, old: Shape, new: Shape, known: bool
) -> None:
    before, after = (special + prod(old), 16), (special + prod(new), 16)
    indexed = Indexed(0, "grid", (old, new)) if known else GRID
    found = fit(Source("w", before), after, "table", (indexed,))
    stored = weight(*before)
    torch.testing.assert_close(numbers(found, stored), resampled(stored, special, old, new), rtol=1e-5, atol=1e-6)
    assert losses(found.expr) == ("interpolated",)


def test_a_grid_that_takes_another_width_too_says_both() -> None:
    found = fit(Source("w", (17, 8)), (10, 4), "table", (GRID,))
    steps = "first 1 rows kept, a grid of 4x4 resampled to 3x3, first 4 of 8 features"
    assert found.note == f"w: [17, 8] to [10, 4], {steps}"
    assert losses(found.expr) == ("cut", "interpolated")


def test_a_grid_of_its_own_axes_is_resampled_along_each() -> None:
    axes = Indexed(0, "grid", ((4,), (2,))), Indexed(1, "grid", ((4,), (6,)))
    stored = weight(4, 4, 3)
    got = numbers(fit(Source("w", (4, 4, 3)), (2, 6, 3), "table", axes), stored)
    expected = interpolate(stored.permute(2, 0, 1)[None], (2, 6), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "indexed", "message"),
    [
        (1024, 2048, Indexed(0, "positions"), "2048 places in a sequence, of which the source knows 1024"),
        (169, 81, Indexed(0, "relative"), "81 distances between places, and 169 in the source"),
        (48, 64, Indexed(0, "patches"), "64 channels and places folded into one axis, and 48 in the source"),
        (40, 70, GRID, "40 places in a picture and 70 of another, whose grids are not known and not square"),
        (17, 12, Indexed(0, "grid", ((4, 4), (3, 3))), "17 places are 1 and a grid of 4x4, the target's 12 are 3 and"),
    ],
)
def test_what_nothing_tells_is_refused(old: int, new: int, indexed: Indexed, message: str) -> None:
    with pytest.raises(UnfitError, match=message):
        fit(Source("w", (old, 8)), (new, 8), "table", (indexed,))


def test_a_table_of_places_in_a_sequence_may_end_sooner() -> None:
    found = fit(Source("w", (16, 8)), (12, 8), "table", (Indexed(0, "positions"),))
    assert found.expr == Resize(Source("w", (16, 8)), (12, 8), ("leading", "keep"))
