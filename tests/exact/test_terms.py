"""What a leaf is made of, as sums or as expressions; what cannot be said gives a reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from automatch.apply.evaluate import evaluate as run
from automatch.exact.form import Form, Leaf, evaluate
from automatch.exact.terms import Terms, terms_of
from automatch.exact.translate import Translation, translated
from tests.exact.pairs import EFFECTIVE, formed, numbers
from tests.support import Forward, Net, weight

X = weight(3, 4)


def only_leaf(net: Net) -> tuple[Leaf, Form]:
    made = formed(net, X, recipe=EFFECTIVE)
    (leaf,) = made.leaves
    return leaf, made


def value_of(terms: Terms, values: dict[str, Tensor]) -> Tensor:
    total = torch.tensor(terms.shift)
    for term in terms.terms:
        origin = run(term.origin, values.__getitem__, dtype=torch.float64).reshape(-1)
        total = total + torch.tensor(term.scale) * origin[torch.tensor(term.index)]
    return total


LINEAR: dict[str, tuple[Forward, int]] = {
    "a weight": (lambda m: m.a, 1),
    "1 - 2 a": (lambda m: 1 - 2 * m.a, 1),
    "a + b": (lambda m: m.a + m.b, 2),
    "a - b / 4": (lambda m: m.a - m.b / 4, 2),
    "a sum moved": (lambda m: (m.a.view(2, 2) + m.b.view(2, 2)).t().reshape(4), 2),
    "a part": (lambda m: m.a[:2].repeat(2) - m.b, 2),
    "a constant beside": (lambda m: m.a + torch.arange(4.0) + m.b, 2),
    "a mask": (lambda m: (m.a + m.b) * torch.tensor([1.0, 0.0, 2.0, 1.0]), 2),
    "a row": (lambda m: m.t[1] + m.a, 2),
}


@pytest.mark.parametrize("case", LINEAR)
def test_what_moves_scales_and_adds_is_a_sum_of_stored_elements(case: str) -> None:
    compute, count = LINEAR[case]
    parts = {"a": weight(4), "b": weight(4), "t": weight(3, 4)}
    leaf, made = only_leaf(Net(lambda m, x: x * compute(m), **parts))
    terms = terms_of(leaf, made)
    assert isinstance(terms, Terms)
    assert len(terms.terms) == count
    values = {name: value.double() for name, value in parts.items()}
    torch.testing.assert_close(value_of(terms, values), evaluate(leaf, made, values).reshape(-1))


SAID: dict[str, Forward] = {
    "exp": lambda m: m.a.exp(),
    "-exp": lambda m: -m.a.exp(),
    "product": lambda m: m.a * m.b.sigmoid(),
    "quotient": lambda m: m.a / m.b,
    "1 / a": lambda m: 1 / m.a,
    "power": lambda m: m.a**2 + m.b**-0.5,
    "norm": lambda m: m.a / m.t.norm(dim=0),
    "mean": lambda m: m.t.mean(0) + m.a,
    "joined": lambda m: torch.cat([m.a[:2].exp(), m.b[2:]]),
    "rsub": lambda m: torch.rsub(m.a.exp(), 1.0),
    "parts": lambda m: torch.cat(m.a.exp().chunk(2)[::-1]),
}


@pytest.mark.parametrize("case", SAID)
def test_anything_else_is_an_expression_with_the_value_of_the_node(case: str) -> None:
    net = Net(lambda m, x: x * SAID[case](m), a=weight(4), b=weight(4), t=weight(3, 4))
    leaf, made = only_leaf(net)
    whole = translated(leaf.root, made)
    assert isinstance(whole, Translation), whole
    values = numbers(net)
    wanted = evaluate(leaf, made, values)
    found = run(whole.expr, values.__getitem__, dtype=torch.float64) * leaf.scale + leaf.shift
    torch.testing.assert_close(found.reshape(-1), wanted.reshape(-1))
    terms = terms_of(leaf, made)
    assert isinstance(terms, Terms)
    torch.testing.assert_close(value_of(terms, values), wanted.reshape(-1))


def test_a_weight_norm_is_an_expression() -> None:
    net = Net(lambda m, x: m.c(x), c=weight_norm(nn.Linear(4, 3, bias=False)))
    leaf, made = only_leaf(net)
    terms = terms_of(leaf, made)
    assert isinstance(terms, Terms)
    values = numbers(net)
    torch.testing.assert_close(value_of(terms, values), evaluate(leaf, made, values).reshape(-1))


UNSAID: dict[str, Forward] = {
    "sine": lambda m: m.a.sin(),
    "another norm": lambda m: m.a / m.t.norm(p=1, dim=0),
    "softmax": lambda m: m.a.softmax(0),
    "cube": lambda m: m.a**3,
    "cumulative": lambda m: m.a.cumsum(0),
}


@pytest.mark.parametrize("case", UNSAID)
def test_what_cannot_be_said_gives_a_reason(case: str) -> None:
    leaf, made = only_leaf(Net(lambda m, x: x * UNSAID[case](m), a=weight(4), t=weight(3, 4)))
    terms = terms_of(leaf, made)
    assert isinstance(terms, str)
    assert "there is no word for" in terms
