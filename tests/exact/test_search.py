"""The search: what pairs by itself, and what is paired by choice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automatch.exact.form import Recipe
from tests.exact.pairs import Values, discovered, searched, texts, wrong
from tests.support import Forward, Net, merged, weight

X = weight(2, 5, 6)
ACTIVATED = {"tanh": torch.tanh, "relu": torch.relu}


def test_a_square_weight_that_one_side_stores_transposed_is_not_paired_in_stored_order() -> None:
    source = Net(lambda m, x: m.o((x @ m.w).tanh()), w=weight(6, 6), o=nn.Linear(6, 2))
    target = Net(lambda m, x: m.o((x @ m.w.t()).tanh()), w=weight(6, 6), o=nn.Linear(6, 2))
    assert texts(discovered(source, target, X)) == {"w": "w.T", "o.weight": "o.weight", "o.bias": "o.bias"}


def test_square_weights_in_a_row_that_one_side_stores_transposed() -> None:
    def stacked(spelled: Forward) -> Net:
        return Net(lambda m, x: spelled(spelled(x, m.a).tanh(), m.b), a=weight(6, 6), b=weight(6, 6))

    source, target = stacked(lambda x, w: x @ w), stacked(lambda x, w: x @ w.t())
    assert texts(discovered(source, target, X)) == {"a": "a.T", "b": "b.T"}


@pytest.mark.parametrize("activation", ACTIVATED)
def test_hidden_units_are_paired_in_stored_order_and_by_choice(activation: str) -> None:
    def net() -> Net:
        return Net(lambda m, x: m.b(ACTIVATED[activation](m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 3))

    found = discovered(net(), net(), X)
    assert texts(found) == {name: name for name in ("a.weight", "a.bias", "b.weight", "b.bias")}
    _, _, result = searched(net(), net(), X)
    assert result.choices > 0
    assert result.fault == 0


def test_a_single_layer_leaves_nothing_to_choose() -> None:
    net = Net(lambda m, x: m.a(x), a=nn.Linear(6, 8))
    _, _, result = searched(net, net, X)
    assert result.choices == 0


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return merged(scores.softmax(-1) @ v)


def by_head(x: Tensor) -> Tensor:
    return x.reshape(2, 5, 2, 3).transpose(1, 2)


def test_heads_are_paired_in_stored_order() -> None:
    source = Net(
        lambda m, x: m.o(attention(*(by_head(part(x)) for part in (m.q, m.k, m.v)))),
        **{name: nn.Linear(6, 6) for name in "qkvo"},
    )
    target = Net(
        lambda m, x: m.o(attention(*(by_head(part) for part in m.qkv(x).chunk(3, -1)))),
        qkv=nn.Linear(6, 18),
        o=nn.Linear(6, 6),
    )

    def expected(values: Values) -> dict[str, Tensor]:
        joined = {f"qkv.{kind}": torch.cat([values[f"{name}.{kind}"] for name in "qkv"]) for kind in ("weight", "bias")}
        return {**joined, "o.weight": values["o.weight"], "o.bias": values["o.bias"]}

    assert wrong(discovered(source, target, X), source, expected) == []


def test_models_of_different_functions_are_at_fault() -> None:
    source = Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    target = Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(6, 9), b=nn.Linear(9, 3))
    assert searched(source, target, X, recipe=Recipe())[2].fault > 0
