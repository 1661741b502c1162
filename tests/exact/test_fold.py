"""Scales and shifts after a contraction, inside its weight and bias: the function stays, and folded models match."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.exact.fold import folded
from automatch.exact.form import form
from automatch.trace.program import name_of
from tests.exact.pairs import EFFECTIVE, Values, mismatched, recorded, same_function
from tests.support import Net, weight


def _batch_norm_folded(values: Values, conv: str, norm: str) -> tuple[Tensor, Tensor]:
    scale = values[f"{norm}.weight"] / (values[f"{norm}.running_var"] + 1e-5).sqrt()
    kernel = values[f"{conv}.weight"]
    shift = (values.get(f"{conv}.bias", torch.tensor(0.0)) - values[f"{norm}.running_mean"]) * scale
    return kernel * scale.reshape(-1, *[1] * (kernel.dim() - 1)), shift + values[f"{norm}.bias"]


def _two_layers(values: Values) -> Values:
    made: dict[str, Tensor] = {"head.weight": values["head.weight"], "head.bias": values["head.bias"]}
    for conv, norm in (("a", "na"), ("b", "nb")):
        made[f"{conv}.weight"], made[f"{conv}.bias"] = _batch_norm_folded(values, conv, norm)
    return made


def _trained(m: Net, x: Tensor) -> Tensor:
    return m.head(F.silu(m.nb(m.b(F.silu(m.na(m.a(x)))))).mean((2, 3)))  # type: ignore[no-any-return]


def _deployed(m: Net, x: Tensor) -> Tensor:
    return m.head(F.silu(m.b(F.silu(m.a(x)))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("bias", [True, False])
def test_a_trained_convolutional_net_matches_the_deployed_one(bias: bool) -> None:
    x = weight(2, 3, 6, 6)
    source = Net(
        _trained,
        a=nn.Conv2d(3, 4, 3, padding=1, bias=bias),
        na=nn.BatchNorm2d(4),
        b=nn.Conv2d(4, 6, 3, groups=2, bias=bias),
        nb=nn.BatchNorm2d(6),
        head=nn.Linear(6, 3),
    )
    target = Net(_deployed, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 6, 3, groups=2), head=nn.Linear(6, 3))
    assert mismatched(folded(recorded(source, x)), folded(recorded(target, x)), _two_layers) == []


SHAPES: dict[str, tuple[Net, tuple[int, ...]]] = {
    "conv1d": (Net(lambda m, x: m.n(m.c(x)), c=nn.Conv1d(3, 4, 2), n=nn.BatchNorm1d(4)), (2, 3, 5)),
    "conv3d": (Net(lambda m, x: m.n(m.c(x)), c=nn.Conv3d(2, 3, 2), n=nn.BatchNorm3d(3)), (1, 2, 3, 3, 3)),
    "one image": (Net(lambda m, x: m.c(x) * m.s.view(-1, 1, 1), c=nn.Conv2d(2, 3, 1), s=weight(3)), (2, 4, 3)),
    "depthwise": (Net(lambda m, x: m.n(m.c(x)), c=nn.Conv1d(4, 4, 2, groups=4), n=nn.BatchNorm1d(4)), (2, 4, 5)),
    "transposed": (Net(lambda m, x: m.n(m.c(x)), c=nn.ConvTranspose2d(3, 4, 2), n=nn.BatchNorm2d(4)), (1, 3, 3, 3)),
    "linear": (Net(lambda m, x: m.n(m.c(x)), c=nn.Linear(3, 4), n=nn.BatchNorm1d(4)), (5, 3)),
    "addmm": (Net(lambda m, x: torch.addmm(m.b, x, m.w) * m.s, b=weight(4), w=weight(3, 4), s=weight(4)), (5, 3)),
    "matmul": (Net(lambda m, x: x @ m.w * m.s - m.t, w=weight(3, 4), s=weight(4), t=weight(4)), (2, 5, 3)),
    "reversed": (Net(lambda m, x: m.s - 2 * (-m.c(x)) / m.t, c=nn.Linear(3, 4), s=weight(4), t=weight(1)), (5, 3)),
    "moved": (
        Net(lambda m, x: m.c(x).flatten(2).transpose(1, 2) * m.s + m.t, c=nn.Conv2d(2, 3, 2), s=weight(3), t=weight(3)),
        (2, 2, 3, 4),
    ),
    "batch norm after a transposition": (
        Net(lambda m, x: m.n(m.c(x).transpose(1, 2)).transpose(1, 2), c=nn.Linear(3, 4), n=nn.BatchNorm1d(4)),
        (2, 5, 3),
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_one_contraction_and_one_sum_are_left(case: str) -> None:
    net, shape = SHAPES[case]
    before = recorded(net, weight(*shape))
    after = folded(before)
    assert same_function(before, after)
    made = form(after, after.outputs, EFFECTIVE)
    assert sorted(leaf.shape for leaf in made.leaves) == sorted(_kernel_and_bias(net))
    named = {name_of(node) for node in made.module.graph.nodes}
    assert not named & {"mul", "div", "sub", "neg", "rsub", "rsqrt"}


def _kernel_and_bias(net: Net) -> list[tuple[int, ...]]:
    kernel = net.w if hasattr(net, "w") else net.c.weight
    output = 1 if hasattr(net, "w") or isinstance(net.c, nn.ConvTranspose2d) else 0
    return [tuple(kernel.shape), (kernel.shape[output],)]


LEFT: dict[str, tuple[Net, tuple[int, ...]]] = {
    "two readers": (Net(lambda m, x: (y := m.c(x)) * m.s + y.tanh(), c=nn.Linear(3, 4), s=weight(4)), (5, 3)),
    "other axis": (Net(lambda m, x: m.c(x) * m.s, c=nn.Linear(3, 4), s=weight(4, 1)), (4, 3)),
    "same length, other axis": (Net(lambda m, x: m.c(x) * m.s, c=nn.Conv1d(3, 4, 1), s=weight(4)), (2, 3, 4)),
    "reciprocal": (Net(lambda m, x: m.s / m.c(x), c=nn.Linear(3, 4), s=weight(4)), (5, 3)),
    "by data": (Net(lambda m, x: m.c(x) * x, c=nn.Linear(3, 3)), (5, 3)),
    "parted": (Net(lambda m, x: m.c(x).view(5, 2, 2) * m.s, c=nn.Linear(3, 4), s=weight(2)), (5, 3)),
    "grouped, transposed": (
        Net(lambda m, x: m.n(m.c(x)), c=nn.ConvTranspose1d(4, 6, 2, groups=2), n=nn.BatchNorm1d(6)),
        (2, 4, 5),
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_is_not_one_scale_a_channel_stays(case: str) -> None:
    net, shape = LEFT[case]
    before = recorded(net, weight(*shape))
    after = folded(before)
    assert same_function(before, after)
    assert {"mul", "div"} & {name_of(node) for node in form(after, after.outputs, EFFECTIVE).module.graph.nodes}


def test_a_weight_that_two_contractions_share_is_folded_for_each() -> None:
    net = Net(lambda m, x: m.c(m.c(x) * m.s).tanh(), c=nn.Linear(3, 3), s=weight(3))
    before = recorded(net, weight(5, 3))
    after = folded(before)
    assert same_function(before, after)
    made = [set(leaf.weights) for leaf in form(after, after.outputs, EFFECTIVE).leaves]
    assert sorted(map(sorted, made)) == [["c.bias"], ["c.bias", "s"], ["c.weight"], ["c.weight", "s"]]


def test_the_given_program_is_not_changed() -> None:
    before = recorded(Net(lambda m, x: m.n(m.c(x)), c=nn.Conv1d(3, 4, 2), n=nn.BatchNorm1d(4)), weight(2, 3, 5))
    spelled = str(before.graph)
    folded(before)
    assert str(before.graph) == spelled
