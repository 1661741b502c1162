"""From the value that several target weights make together to the weights themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from automatch.core.expr import Source
from automatch.exact.solve import solved
from tests.exact.pairs import EFFECTIVE, Values, converted, discovered, formed, numbers, texts, wrong
from tests.support import Forward, Net, weight

X = weight(2, 5, 6)


def decaying(spelled: Forward) -> Net:
    def compute(m: Net, x: Tensor) -> Tensor:
        return m.o(torch.exp(m.d(x) * spelled(m)) * x)  # type: ignore[no-any-return]

    return Net(compute, a=weight(6), d=nn.Linear(6, 6, bias=False), o=nn.Linear(6, 2))


SPELLINGS: dict[str, tuple[Forward, Forward, str]] = {
    "exp(a) onto a": (lambda m: m.a.exp(), lambda m: m.a, "exp(a)"),
    "-exp(a) onto a": (lambda m: -m.a.exp(), lambda m: m.a, "-exp(a)"),
    "a onto exp(a)": (lambda m: m.a, lambda m: m.a.exp(), "log(a)"),
    "a onto -exp(a)": (lambda m: m.a, lambda m: -m.a.exp(), "log(-a)"),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_a_function_of_a_weight_onto_the_weight_and_back(case: str) -> None:
    ours, theirs, expected = SPELLINGS[case]
    assert texts(discovered(decaying(ours), decaying(theirs), X))["a"] == expected


def normed() -> Net:
    return Net(lambda m, x: m.o(m.c(x).tanh()), c=weight_norm(nn.Linear(6, 4)), o=nn.Linear(4, 2))


def bare() -> Net:
    return Net(lambda m, x: m.o(m.c(x).tanh()), c=nn.Linear(6, 4), o=nn.Linear(4, 2))


G, V = "c.parametrizations.weight.original0", "c.parametrizations.weight.original1"


def test_a_weight_norm_onto_the_plain_weight() -> None:
    def expected(values: Values) -> dict[str, Tensor]:
        return {"c.weight": values[G] * values[V] / values[V].norm(dim=1, keepdim=True), "c.bias": values["c.bias"]}

    source = normed()
    assert wrong(discovered(source, bare(), X), source, expected) == []


def test_a_weight_norm_onto_a_weight_norm_recomputes_nothing() -> None:
    found = texts(discovered(normed(), normed(), X))
    assert (found[G], found[V]) == (G, V)


def test_a_plain_weight_onto_a_weight_norm_gives_its_value() -> None:
    source = bare()
    found = discovered(source, normed(), X)
    values = numbers(source)
    made = converted(found, values)
    product = made[G] * made[V] / made[V].norm(dim=1, keepdim=True)
    torch.testing.assert_close(product, values["c.weight"])
    assert found.weights[G].free, "how a weight norm is split is a choice"


def test_a_class_token_and_its_position_onto_the_sum() -> None:
    def joined(m: Net, x: Tensor) -> Tensor:
        return m.o((torch.cat([m.c.expand(2, 1, 6), m.i(x)], 1) + m.p).tanh())  # type: ignore[no-any-return]

    def summed(m: Net, x: Tensor) -> Tensor:
        return m.o(torch.cat([m.c.expand(2, 1, 6), m.i(x) + m.p], 1).tanh())  # type: ignore[no-any-return]

    parts: dict[str, nn.Module | Tensor] = {
        "i": nn.Linear(6, 6, bias=False),
        "o": nn.Linear(6, 2),
        "c": weight(1, 1, 6),
    }
    source, target = Net(joined, **parts, p=weight(1, 6, 6)), Net(summed, **parts, p=weight(1, 5, 6))

    def expected(values: Values) -> dict[str, Tensor]:
        return {**values, "c": values["c"] + values["p"][:, :1], "p": values["p"][:, 1:]}

    assert wrong(discovered(source, target, X), source, expected) == []


def test_what_no_proposal_gives_is_a_reason() -> None:
    net = Net(lambda m, x: x * (m.a.sin() * m.b.cos()), a=weight(6), b=weight(6))
    made = formed(net, X, recipe=EFFECTIVE)
    (leaf,) = made.leaves
    found = solved(leaf, made, Source("w", (6,)), {})
    assert found == "its weights (a, b) could not be told from the value that they make together"
