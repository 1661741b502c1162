"""Which tensors of unknowns a program is a function of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from automatch.exact.form import Form, Recipe, evaluate
from tests.exact.pairs import EFFECTIVE, formed, leaf_of, numbers
from tests.support import Net, weight

X = weight(5, 3)
IDS = torch.tensor([[1, 2, 3], [0, 3, 1]])


def affines(one: Form) -> list[tuple[tuple[str, ...], float, float]]:
    return [(leaf.weights, round(leaf.scale, 12), round(leaf.shift, 12)) for leaf in one.leaves]


AFFINES = {
    "1 + w": (lambda m, x: x * (1 + m.w), 1.0, 1.0),
    "w - 1": (lambda m, x: x * (m.w - 1), 1.0, -1.0),
    "1 - w": (lambda m, x: x * (1 - m.w), -1.0, 1.0),
    "-w": (lambda m, x: x * -m.w, -1.0, 0.0),
    "2 * (w + 3)": (lambda m, x: x * (2 * (m.w + 3)), 2.0, 6.0),
    "w / 4": (lambda m, x: x * (m.w / 4), 0.25, 0.0),
    "moved": (lambda m, x: x * (1 + m.w.view(3, 1).t()), 1.0, 1.0),
}


@pytest.mark.parametrize("case", AFFINES)
def test_a_scalar_affine_is_part_of_the_leaf(case: str) -> None:
    compute, scale, shift = AFFINES[case]
    made = formed(Net(compute, w=weight(3)), X)
    assert affines(made) == [(("w",), scale, shift)]
    assert not {"add", "sub", "neg", "div"} & {getattr(node.target, "__name__", "") for node in made.module.graph.nodes}


@pytest.mark.parametrize("case", AFFINES)
def test_running_the_form_on_evaluated_leaves_is_running_the_model(case: str) -> None:
    net = Net(AFFINES[case][0], w=weight(3)).double()
    made = formed(net, X)
    values = numbers(net)
    net.load_state_dict(values)
    ran = made.run([evaluate(leaf, made, values) for leaf in made.leaves])
    torch.testing.assert_close(ran[0], net(X.double()), rtol=1e-12, atol=1e-12)


def test_a_reciprocal_is_no_affine() -> None:
    assert affines(formed(Net(lambda m, x: x * (2 / m.w), w=weight(3)), X)) == [(("w",), 1.0, 0.0)]


def test_a_scale_behind_a_lookup_is_part_of_the_leaf() -> None:
    made = formed(Net(lambda m, ids: m.e(ids) * 9**0.5, e=nn.Embedding(4, 9)), IDS)
    assert affines(made) == [(("e.weight",), 3.0, 0.0)]


def tied(m: Net, ids: Tensor) -> Tensor:
    return F.linear((m.e(ids) * 3).tanh(), m.e.weight)


def test_a_tied_weight_under_two_affines_is_two_leaves() -> None:
    made = formed(Net(tied, e=nn.Embedding(4, 9)), IDS)
    assert affines(made) == [(("e.weight",), 3.0, 0.0), (("e.weight",), 1.0, 0.0)]


def twice(m: Net, x: Tensor) -> Tensor:
    return m.c(m.c(x).tanh())  # type: ignore[no-any-return]


def test_a_shared_weight_is_one_leaf_and_by_use_one_for_every_use() -> None:
    net = Net(twice, c=nn.Linear(3, 3, bias=False))
    assert len(formed(net, X).leaves) == 1
    assert len(formed(net, X, recipe=Recipe(by_use=True)).leaves) == 2


def test_a_weight_norm_is_two_leaves_or_the_one_that_it_makes() -> None:
    net = Net(lambda m, x: m.c(x), c=weight_norm(nn.Linear(3, 4, bias=False)))
    names = {f"c.parametrizations.weight.original{number}" for number in (0, 1)}
    assert {leaf.weights for leaf in formed(net, X).leaves} == {(name,) for name in names}
    (leaf,) = formed(net, X, recipe=EFFECTIVE).leaves
    assert (set(leaf.weights), leaf.shape, leaf.compound) == (names, (4, 3), True)


def test_axes_along_which_a_value_only_repeats_itself_hold_one_entry() -> None:
    net = Net(lambda m, x: x * (m.a.expand(5, 3) + m.b), a=weight(3), b=weight(1))
    (leaf,) = formed(net, X, recipe=EFFECTIVE).leaves
    assert (leaf.shape, leaf.repeats) == ((1, 3), (0,))


def test_integers_are_no_unknowns() -> None:
    made = formed(Net(lambda m, x: m.e[m.ids] * x, e=weight(4, 3), ids=nn.Buffer(torch.tensor([1, 1, 2, 0, 3]))), X)
    assert not leaf_of(made, "ids").floating
    assert leaf_of(made, "e").floating


def test_weights_that_no_output_depends_on_are_no_leaves() -> None:
    made = formed(Net(lambda m, x: (m.b(x), m.a(x))[1], a=nn.Linear(3, 2), b=nn.Linear(3, 2)), X)
    assert {name for leaf in made.leaves for name in leaf.weights} == {"a.weight", "a.bias"}
