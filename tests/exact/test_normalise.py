"""One spelling for what two programs spell differently: the function stays to 1e-12."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.exact.form import form
from automatch.exact.normalise import normalised
from tests.exact.pairs import EFFECTIVE, operators, plain, same_function
from tests.support import Net, weight

IDS = torch.tensor([[1, 2, 3], [0, 3, 1]])


def one_hot_product(m: Net, ids: Tensor) -> Tensor:
    return F.one_hot(ids, 4).float() @ m.w  # type: ignore[no-any-return]


SPELLINGS: dict[str, tuple[Net, Tensor]] = {
    "batch norm": (Net(lambda m, x: m.n(m.c(x)), c=nn.Conv2d(3, 4, 2), n=nn.BatchNorm2d(4)), weight(2, 3, 5, 5)),
    "batch norm of rows": (Net(lambda m, x: m.n(x), n=nn.BatchNorm1d(3)), weight(5, 3)),
    "batch norm without weights": (Net(lambda m, x: m.n(x), n=nn.BatchNorm1d(3, affine=False)), weight(5, 3)),
    "padding row": (Net(lambda m, x: m.e(x), e=nn.Embedding(4, 3, padding_idx=1)), IDS),
    "bias of a linear layer": (Net(lambda m, x: m.c(x), c=nn.Linear(3, 4)), weight(2, 5, 3)),
    "bias of a convolution": (Net(lambda m, x: m.c(x), c=nn.Conv1d(3, 4, 2, padding=1)), weight(2, 3, 5)),
    "bias of a convolution without a batch": (Net(lambda m, x: m.c(x), c=nn.Conv2d(3, 4, 2)), weight(3, 5, 6)),
    "bias of a transposed convolution": (Net(lambda m, x: m.c(x), c=nn.ConvTranspose1d(3, 4, 2)), weight(2, 3, 5)),
    "addmm": (Net(lambda m, x: torch.addmm(m.b, x, m.w), b=weight(4), w=weight(3, 4)), weight(5, 3)),
    "scaled addmm": (Net(lambda m, x: torch.addmm(m.b, x, m.w, beta=2), b=weight(4), w=weight(3, 4)), weight(5, 3)),
    "one-hot product": (Net(one_hot_product, w=weight(4, 3)), IDS),
    "sum of three": (
        Net(lambda m, x: (x @ m.w + m.a) + m.b, w=weight(3, 4), a=weight(4), b=weight(1, 4)),
        weight(5, 3),
    ),
    "table under a concatenation": (
        Net(lambda m, x: torch.cat([m.c.expand(2, 1, 3), x], 1) + m.p, c=weight(1, 1, 3), p=weight(1, 5, 3)),
        weight(2, 4, 3),
    ),
}


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("case", SPELLINGS)
def test_the_function_stays(case: str, gathered: bool) -> None:
    net, x = SPELLINGS[case]
    before = plain(net, x)
    spelled = str(before.graph)
    after = normalised(before, gathered)
    assert same_function(before, after)
    assert str(before.graph) == spelled, "the given program was changed"


def after(case: str, gathered: bool = False) -> list[str]:
    net, x = SPELLINGS[case]
    return operators(normalised(plain(net, x), gathered))


def test_batch_norm_is_spelled_out() -> None:
    assert "batch_norm" not in after("batch norm")
    assert "rsqrt" in after("batch norm")


@pytest.mark.parametrize("case", [case for case in SPELLINGS if case.startswith("bias")])
def test_a_bias_is_added_by_an_operator_of_its_own(case: str) -> None:
    assert after(case)[-1] == "add"


def test_the_padding_row_has_a_gradient() -> None:
    net, ids = SPELLINGS["padding row"]
    program = normalised(plain(net, ids))
    made = form(program, program.outputs, EFFECTIVE)
    value = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(made.run([value])[0].sum(), [value])
    assert bool((gradient[1] != 0).all())


def test_a_one_hot_product_is_a_lookup() -> None:
    assert "embedding" in after("one-hot product")


def test_a_product_with_a_mask_of_several_ones_is_none() -> None:
    net = Net(lambda m, x: (x > 0).to(m.w.dtype) @ m.w, w=weight(4, 3))
    assert "embedding" not in operators(normalised(plain(net, torch.ones(2, 4))))


def leaves_of(case: str) -> list[tuple[str, ...]]:
    net, x = SPELLINGS[case]
    program = normalised(plain(net, x), gathered=True)
    return sorted(leaf.weights for leaf in form(program, program.outputs, EFFECTIVE).leaves)


def test_what_weights_add_up_to_is_one_value() -> None:
    assert leaves_of("sum of three") == [("a", "b"), ("w",)]


def test_a_class_token_and_the_position_under_it_are_one_value() -> None:
    assert leaves_of("table under a concatenation") == [("c", "p"), ("p",)]
