"""Inputs of two models: which hold the same content, and how it is drawn anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.inputs.draws import drawn
from automatch.inputs.lengths import all_rows, cuts, longer, several_tokens
from automatch.inputs.plan import Plan, plan
from automatch.inputs.uses import Use
from automatch.trace.inputs import normalise


class Any_(nn.Module):
    """Takes anything."""

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


def planned(ours: object, theirs: object) -> Plan:
    return plan((Any_(), normalise(ours)), (Any_(), normalise(theirs)))


def fresh(made: Plan, seed: int = 1) -> tuple[list[Tensor], list[Tensor]]:
    first, second = drawn(made, torch.Generator().manual_seed(seed))
    return [*first[0], *first[1].values()], [*second[0], *second[1].values()]


IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "moved",
    [
        lambda x: x,
        lambda x: x.unsqueeze(0),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.flatten(2),
        lambda x: x.double(),
        lambda x: F.unfold(x, 4, stride=4).transpose(1, 2),
    ],
    ids=["as it is", "one more axis", "channels last", "flattened", "wider", "patches"],
)
def test_fresh_content_is_arranged_as_the_example_was(moved: Any) -> None:
    made = planned(IMAGE, moved(IMAGE))
    assert made.loose == ()
    (ours,), (theirs,) = fresh(made)
    assert not torch.equal(ours, IMAGE)
    assert torch.equal(moved(ours), theirs)


def test_an_input_joined_of_two_is_joined_of_the_fresh_ones() -> None:
    x, y = torch.randn(2, 1, 4, 6), torch.randn(2, 1, 4, 6)
    made = planned((x, y), torch.cat([x, y], 1))
    (a, b), (joined,) = fresh(made)
    assert torch.equal(torch.cat([a, b], 1), joined)
    assert not torch.equal(a, x)


def test_whole_numbers_stay_in_range_and_keep_their_ends() -> None:
    ids = torch.tensor([[3, 8, 5, 9, 4, 7, 6, 5]])
    (ours,), (theirs,) = fresh(planned(ids, {"input_ids": ids}))
    assert torch.equal(ours, theirs)
    assert ours.min() == 3
    assert ours.max() == 9
    assert (ours == 9).nonzero().tolist() == [[0, 3]]
    assert not torch.equal(ours, ids)


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([True, False]),
        torch.tensor([1, 1, 0]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([0.0, -torch.inf]),
    ],
)
def test_a_mask_stays_as_it_is(mask: Tensor) -> None:
    assert torch.equal(fresh(planned(mask, mask))[0][0], mask)


def test_floats_that_are_all_ones_are_drawn_anew() -> None:
    (ours,), _ = fresh(planned(torch.ones(2, 5), torch.ones(2, 5)))
    assert torch.unique(ours).numel() == 10


def test_an_input_without_a_partner_keeps_its_values_and_is_named() -> None:
    made = planned({"x": IMAGE, "mask": torch.ones(2, 8).long()}, {"y": IMAGE})
    (_, mask), _ = fresh(made)
    assert made.loose == ("mask of the source",)
    assert torch.equal(mask, torch.ones(2, 8).long())


def test_equal_examples_are_paired_by_name_and_drawn_apart() -> None:
    made = planned({"a": IMAGE, "b": IMAGE}, {"b": IMAGE, "a": IMAGE})
    (a, b), (their_b, their_a) = fresh(made)
    assert torch.equal(a, their_a)
    assert torch.equal(b, their_b)
    assert not torch.equal(a, b)


def test_the_first_draw_is_the_example() -> None:
    made = planned(IMAGE, IMAGE)
    assert torch.equal(drawn(made, None)[0][0][0], IMAGE)


def test_shortening_is_offered_only_where_both_sides_keep_the_same_content() -> None:
    x = torch.randn(2, 7, 4)
    assert (7, 6) in cuts(planned(x, x))
    assert (7, 6) in cuts(planned(x, x.transpose(1, 2)))
    assert (7, 6) not in cuts(planned(x, x.flatten(1)))
    first, second = drawn(planned(x, x.transpose(1, 2)), None, (7, 6))
    assert torch.equal(first[0][0], x[:, :6])
    assert torch.equal(second[0][0], x[:, :6].transpose(1, 2))


def test_longer_inputs_hold_the_same_content_and_constant_ones_come_along() -> None:
    x, ones = torch.randn(2, 7, 4), torch.ones(2, 7).long()
    made = planned({"x": x, "mask": ones}, x.transpose(1, 2))
    assert made.loose == ("mask of the source",)
    plans = {size: (more, plan) for size, more, plan in longer(made)}
    more, grown = plans[7]
    first, second = drawn(grown, torch.Generator().manual_seed(0))
    assert first[1]["x"].shape == (2, more, 4)
    assert torch.equal(first[1]["x"].transpose(1, 2), second[0][0])
    assert torch.equal(first[1]["mask"], torch.ones(2, more).long())


def test_inputs_whose_partner_is_unknown_are_not_grown() -> None:
    x = torch.randn(2, 7, 4)
    assert longer(planned({"x": x, "y": torch.randn(2, 7)}, x)) == ()
    assert longer(planned(x, x.flatten(1))) == ()


def test_as_many_batch_items_as_name_every_row() -> None:
    ids = torch.tensor([[1, 2, 3]])
    made = plan((Any_(), normalise({"ids": ids})), (Any_(), normalise({"ids": ids})), ({"ids": Use("rows", 0, 50)}, {}))
    wide = all_rows(made, 4096)
    assert wide is not None
    first, second = drawn(wide, torch.Generator().manual_seed(0))
    assert first[1]["ids"].unique().tolist() == list(range(50))
    assert torch.equal(first[1]["ids"], second[1]["ids"])
    assert all_rows(made, 40) is None
    assert several_tokens(made) is None


def test_one_token_becomes_several() -> None:
    ids = torch.tensor([[4], [7]])
    made = plan((Any_(), normalise(ids)), (Any_(), normalise(ids)), ({"args[0]": Use("rows", 0, 50)}, {}))
    several = several_tokens(made)
    assert several is not None
    assert several.source[0].shape == several.target[0].shape == (2, 6)
