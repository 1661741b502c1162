"""What a model does with its inputs, read off its graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.inputs.uses import Use, both, uses
from automatch.trace import trace
from tests.support import Net, weight

IDS = torch.tensor([[1, 2, 3, 4]])


def use(compute: object, given: Tensor = IDS, **parts: nn.Module | Tensor) -> Use:
    """The use of the only input of a model."""
    net = Net(compute, **parts)  # type: ignore[arg-type]
    (found,) = uses(trace(net, (given,))).values()
    return found


def test_numbers_of_rows_may_name_every_row_of_the_table() -> None:
    assert use(lambda m, x: m.e(x), e=nn.Embedding(50, 8)) == Use("rows", 0, 50)


def test_of_two_tables_the_shorter_one_bounds() -> None:
    assert use(lambda m, x: m.a(x) + m.b(x), a=nn.Embedding(50, 8), b=nn.Embedding(30, 8)).high == 30


def test_an_offset_before_the_table_moves_the_bounds() -> None:
    found = use(lambda m, x: m.e(x.reshape(-1) + 2), e=nn.Embedding(20, 8))
    assert (found.low, found.high) == (-2, 18)


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, x: m.t[x],
        lambda m, x: m.t.index_select(0, x.reshape(-1)),
        lambda m, x: m.t.gather(0, x.reshape(-1, 1).expand(-1, 8)),
        lambda m, x: F.one_hot(x, 9).float() @ m.t,
    ],
    ids=["indexed", "index_select", "gather", "one_hot"],
)
def test_a_table_may_be_read_in_any_way(compute: object) -> None:
    assert use(compute, t=weight(9, 8)) == Use("rows", 0, 9)


def test_numbers_that_ids_are_compared_with_stand_for_something() -> None:
    found = use(lambda m, x: m.e(x) * (x != 1)[..., None], e=nn.Embedding(50, 8))
    assert (found.kind, found.marks, found.ordered) == ("rows", (1,), True)


def test_places_that_are_read_off_ids_are_noticed() -> None:
    assert use(lambda m, x: m.e(x)[0, x[0].argmax()], e=nn.Embedding(50, 8)).ordered


@pytest.mark.parametrize(
    ("compute", "given"),
    [
        (lambda m, x: m.w * x.bool(), torch.ones(2, 4).long()),
        (lambda m, x: m.w.masked_fill(x == 0, -1e9), torch.ones(2, 4).long()),
        (lambda m, x: m.w + (1.0 - x) * -1e9, torch.ones(2, 4).long()),
        (lambda m, x: m.w * x, torch.ones(2, 4).bool()),
    ],
    ids=["as truth", "compared with zero", "made a penalty", "truth values"],
)
def test_a_mask_is_told_by_its_use(compute: object, given: Tensor) -> None:
    assert use(compute, given, w=weight(2, 4)).kind == "mask"


def test_positions_make_angles() -> None:
    assert use(lambda m, x: m.w * (x[..., None] * torch.arange(8.0)).sin(), w=weight(8)).kind == "positions"


def test_rows_that_are_called_positions_are_positions() -> None:
    net = Net(lambda m, ids, position_ids: m.a(ids) + m.b(position_ids), a=nn.Embedding(9, 8), b=nn.Embedding(6, 8))

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, ids: Tensor, position_ids: Tensor) -> Tensor:
            found: Tensor = self.net(ids, position_ids)
            return found

    found = uses(trace(Named(), (IDS, torch.arange(4)[None])))
    assert {name: (one.kind, one.high) for name, one in found.items()} == {
        "ids": ("rows", 9),
        "position_ids": ("positions", 6),
    }


def test_floats_are_content() -> None:
    assert use(lambda m, x: m.a(x), torch.randn(2, 6), a=nn.Linear(6, 3)) == Use()


def test_content_of_both_sides_names_rows_that_both_have() -> None:
    assert both(Use("rows", 0, 50, (1,)), Use("rows", 1, 40, (0,))) == Use("rows", 1, 40, (1, 0))
    assert both(Use(), Use("rows", 0, 7)).high == 7
