"""Elements that only enter through their sum: one carries it, whatever the order of code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automatch.exact.gradients import Side, cotangents, side
from automatch.exact.tolerance import Ints
from automatch.exact.twins import twins
from tests.exact.pairs import formed, plain
from tests.support import Forward, Net, weight

X = weight(2, 4, 3)


def carried(net: Net, *inputs: Tensor) -> dict[str, list[str]]:
    """By weight, the weights that carry its elements."""
    one = side(formed(net, *inputs))
    shapes = [tuple(node.meta["val"].squeeze().shape) for node in plain(net, *inputs).outputs]
    mates = twins(one, cotangents(shapes, 3, 5), 1)
    found = np.arange(one.size)
    found[mates.elements] = mates.carriers
    return {
        leaf.weights[0]: [_leaf(one, carrier) for carrier in found[one.starts[number] : one.starts[number + 1]]]
        for number, leaf in enumerate(one.form.leaves)
    }


def _leaf(one: Side, element: Ints) -> str:
    return one.form.leaves[int(one.leaf_of(element))].weights[0]


def test_one_of_two_added_biases_carries_the_other() -> None:
    found = carried(Net(lambda m, x: (m.a(x) + m.b(x)).tanh(), a=nn.Linear(3, 2), b=nn.Linear(3, 2)), X)
    assert len({*found["a.bias"], *found["b.bias"]}) == 1
    assert len({*found["a.weight"], *found["b.weight"]}) == 1, "the weights read the same input: twins too"


def with_class_token(m: Net, x: Tensor) -> Tensor:
    return (torch.cat([m.c.expand(2, 1, 3), x * m.s], 1) + m.p).tanh() @ m.w  # type: ignore[no-any-return]


def test_a_class_token_and_its_position_are_twins_and_the_other_positions_are_not() -> None:
    net = Net(with_class_token, c=weight(1, 1, 3), p=weight(1, 5, 3), s=weight(3), w=weight(3, 2))
    found = carried(net, X)
    assert found["c"] == ["p"] * 3
    assert found["p"] == ["p"] * 15


ORDERS: dict[str, Forward] = {
    "words first": lambda m, ids: m.w(ids) + m.t(ids * 0) + m.p,
    "words last": lambda m, ids: m.p + m.t(ids * 0) + m.w(ids),
    "words between": lambda m, ids: m.p + m.w(ids) + m.t(ids * 0),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_largest_weight_carries_whatever_the_order_of_code(order: str) -> None:
    parts: dict[str, nn.Module | Tensor] = {
        "w": nn.Embedding(9, 3),
        "t": nn.Embedding(1, 3),
        "p": weight(1, 3),
        "o": nn.Linear(3, 2),
    }
    found = carried(Net(lambda m, ids: m.o(ORDERS[order](m, ids).tanh()), **parts), torch.tensor([[4]]))
    assert (found["p"], found["t.weight"]) == (["w.weight"] * 3, ["w.weight"] * 3)
    assert set(found["w.weight"]) == {"w.weight"}


def test_equal_elements_of_one_weight_are_left_apart() -> None:
    net = Net(lambda m, x: (m.a.sum() * x).tanh(), a=weight(3))
    one = side(formed(net, X))
    assert not len(twins(one, cotangents([(2, 4, 3)], 3, 5), 1).elements)
