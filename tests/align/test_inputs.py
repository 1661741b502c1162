from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automatch.align.inputs import pair_inputs, paired_widths
from automatch.align.use_graph import UseGraph
from tests.support import Net, landmarks_of, weight

IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
IMAGE, TEXT, TIME = weight(1, 3, 8, 8), weight(1, 4, 6), weight(1, 5)


def graph(model: nn.Module, *inputs: Tensor) -> UseGraph:
    return UseGraph(landmarks_of(model, *inputs))


def conditioned(order: str) -> Net:
    """A net over an image, a text and a time, whose arguments come in the given order."""

    def compute(m: Net, *inputs: Tensor) -> Tensor:
        given = dict(zip(order, inputs, strict=True))
        out: Tensor = m.image(given["i"]).flatten(2).mean(-1) + m.text(given["t"]).mean(1) + m.time(given["s"])
        return out

    return Net(compute, image=nn.Conv2d(3, 8, 2), text=nn.Linear(6, 8), time=nn.Linear(5, 8))


GIVEN = {"i": IMAGE, "t": TEXT, "s": TIME}


def pairs(source: UseGraph, target: UseGraph) -> set[tuple[int, int]]:
    """Numbers of the inputs that share a name."""
    ours, theirs = pair_inputs(source, target)
    return {(a, b) for a, name in ours.items() for b, other in theirs.items() if name == other}


@pytest.mark.parametrize("order", ["its", "sti", "tis"])
def test_inputs_are_paired_by_what_they_are_not_by_their_order(order: str) -> None:
    source = graph(conditioned("its"), *(GIVEN[kind] for kind in "its"))
    target = graph(conditioned(order), *(GIVEN[kind] for kind in order))
    assert pairs(source, target) == {("its".index(kind), order.index(kind)) for kind in "its"}


def test_an_input_without_a_partner_keeps_a_name_of_its_own() -> None:
    def lone(m: Net, i: Tensor) -> Tensor:
        out: Tensor = m.image(i)
        return out

    source = graph(conditioned("its"), IMAGE, TEXT, TIME)
    target = graph(Net(lone, image=nn.Conv2d(3, 8, 2)), IMAGE)
    ours, theirs = pair_inputs(source, target)
    assert pairs(source, target) == {(0, 0)}
    assert len(set(ours.values())) == 3
    assert len(theirs) == 1


def test_what_an_input_feeds_tells_inputs_of_one_shape_apart() -> None:
    def compute(m: Net, first: Tensor, second: Tensor) -> Tensor:
        out: Tensor = m.up(first) + torch.relu(second)
        return out

    def swapped(m: Net, first: Tensor, second: Tensor) -> Tensor:
        return compute(m, second, first)

    x, y = weight(2, 8), weight(2, 8)
    sides = [graph(Net(function, up=nn.Linear(8, 8)), x, y) for function in (compute, swapped)]
    assert pairs(*sides) == {(0, 1), (1, 0)}


def test_alike_inputs_are_paired_in_order() -> None:
    model = Net(lambda m, a, b: m.a(a) + m.b(b), a=nn.Embedding(10, 8), b=nn.Embedding(10, 8))
    side = graph(model, IDS, IDS + 1)
    assert pairs(side, side) == {(0, 0), (1, 1)}


def test_inputs_that_nothing_reads_take_no_part() -> None:
    side = graph(Net(lambda m, unused, x: m.a(x), a=nn.Linear(6, 8)), TIME, TEXT)
    ours, _ = pair_inputs(side, side)
    assert list(ours) == [1]


def test_paired_inputs_pair_their_widths() -> None:
    source = graph(nn.Conv2d(16, 4, 1), weight(1, 16, 8, 8))
    target = graph(nn.Conv2d(4, 4, 1), weight(1, 4, 6, 6))
    assert paired_widths(source, target, pair_inputs(source, target)) == [(16, 4), (8, 6)]


def test_sides_without_inputs_have_no_pairs() -> None:
    empty = graph(Net(lambda m: m.w * 2, w=weight(3)))
    assert pair_inputs(empty, empty) == ({}, {})
