"""Weights drawn anew: generic, of the kind they were, ties kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automatch.prove.loading import drawn
from automatch.prove.weights import Drawing, Manner, fresh


def draw(values: Tensor, is_parameter: bool = True, flipped: bool = False) -> Tensor:
    return fresh(values.double(), torch.Generator().manual_seed(0), is_parameter, Manner(flipped))


def test_no_two_drawn_weights_are_equal_however_trivial_they_were() -> None:
    for values in (torch.zeros(50), torch.ones(50), torch.ones(8, 8), torch.zeros(8, 8), torch.eye(8)):
        assert torch.unique(draw(values)).numel() == values.numel()


def test_a_norms_scale_stays_around_one_and_may_be_of_both_signs() -> None:
    assert bool((draw(torch.ones(99)) > 0).all())
    flipped = draw(torch.ones(99), flipped=True)
    assert bool((flipped > 0).any())
    assert bool((flipped < 0).any())


def test_a_variance_stays_positive() -> None:
    assert bool((draw(torch.rand(99), is_parameter=False) > 0).all())


def test_a_mask_is_kept() -> None:
    for mask in (torch.ones(4, 4).tril(), torch.full((4, 4), -torch.inf).triu(1)):
        assert torch.equal(draw(mask, is_parameter=False), mask.double())


def test_a_faint_scale_is_drawn_large_enough_to_matter() -> None:
    assert draw(torch.full((99,), 1e-6)).std() > 0.1


def test_a_wide_matrix_is_drawn_small() -> None:
    assert draw(torch.randn(4, 10_000)).std() < 0.06


def test_ties_and_the_original_stay() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    model, before = nn.ModuleDict({"a": first, "b": second}), first.weight.detach().clone()
    with drawn(model, Drawing.of(model, ("a.bias",), 0)) as numbers:
        found = numbers.state()
        assert found["a.weight"] is found["b.weight"]
        assert found["a.weight"].dtype == torch.float64
        assert not torch.equal(found["a.weight"].float(), before)
        assert torch.equal(found["a.bias"].float(), model.state_dict()["a.bias"])
    assert torch.equal(first.weight, before)
