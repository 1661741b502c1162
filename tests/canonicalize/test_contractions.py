from __future__ import annotations

from typing import TypeAlias

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automatch.core.alignment import View
from tests.support import Forward, Net, kinds, landmarks_of, lines, only, seen_value, uses_by_role, weight

X = weight(2, 3, 8)

Shapes: TypeAlias = dict[str, tuple[int, ...]]
AS_STORED: Shapes = {"w": (5, 8), "b": (5,)}
TRANSPOSED: Shapes = {"w": (8, 5), "b": (5,)}
LINEAR: dict[str, tuple[Forward, Shapes]] = {
    "F.linear": (lambda m, x: F.linear(x, m.w, m.b), AS_STORED),
    "bias afterwards": (lambda m, x: F.linear(x, m.w) + m.b, AS_STORED),
    "bias first": (lambda m, x: m.b + F.linear(x, m.w), AS_STORED),
    "bias in place": (lambda m, x: F.linear(x, m.w).add_(m.b), AS_STORED),
    "x @ w": (lambda m, x: x @ m.w + m.b, TRANSPOSED),
    "x @ w.T": (lambda m, x: x @ m.w.T + m.b, AS_STORED),
    "transpose": (lambda m, x: torch.matmul(x, m.w.transpose(0, 1)) + m.b, AS_STORED),
    "permute": (lambda m, x: torch.matmul(x, m.w.permute(1, 0)) + m.b, AS_STORED),
    "addmm": (lambda m, x: torch.addmm(m.b, x.view(-1, 8), m.w).view(2, 3, 5), TRANSPOSED),
    "addmm, transposed": (lambda m, x: torch.addmm(m.b, x.view(-1, 8), m.w.t()).view(2, 3, 5), AS_STORED),
    "mm": (lambda m, x: torch.mm(x.view(-1, 8), m.w).view(2, 3, 5) + m.b, TRANSPOSED),
    "einsum": (lambda m, x: torch.einsum("bni,oi->bno", x, m.w) + m.b, AS_STORED),
    "einsum, transposed": (lambda m, x: torch.einsum("bni,io->bno", x, m.w) + m.b, TRANSPOSED),
    "einsum, weight first": (lambda m, x: torch.einsum("oi,bni->bno", m.w, x) + m.b, AS_STORED),
    "einsum, channels before tokens": (
        lambda m, x: torch.einsum("bni,oi->bon", x, m.w).transpose(1, 2) + m.b,
        AS_STORED,
    ),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=([2], [0])) + m.b, TRANSPOSED),
    "w @ x": (lambda m, x: (m.w @ x.transpose(1, 2) + m.b[:, None]).transpose(1, 2), AS_STORED),
    "conv1d": (lambda m, x: F.conv1d(x.transpose(1, 2), m.w[..., None], m.b).transpose(1, 2), AS_STORED),
    "conv2d": (
        lambda m, x: F.conv2d(x.mT[..., None], m.w[..., None, None], m.b)[..., 0].mT,
        AS_STORED,
    ),
}


@pytest.mark.parametrize(("compute", "shapes"), LINEAR.values(), ids=list(LINEAR))
def test_every_spelling_of_a_linear_layer_is_one_contraction_seen_as_outputs_by_inputs(
    compute: Forward, shapes: Shapes
) -> None:
    model = Net(compute, **{name: weight(*shape) for name, shape in shapes.items()})
    graph = landmarks_of(model, X)
    assert kinds(graph) == ["contraction"]
    mark = only(graph, "contraction")
    assert uses_by_role(mark) == {"weight": "w", "bias": "b"}
    assert [(use.form, use.exact) for use in mark.uses] == [("matrix", True), ("vector", True)]
    matrix, bias = (seen_value(graph, mark.use(role), model) for role in ("weight", "bias"))
    torch.testing.assert_close(model(X), F.linear(X, matrix.reshape(5, 8), bias.reshape(5)))
    assert mark.channels is not None
    assert mark.shape[mark.channels] == 5


def test_a_weight_scaled_on_its_way_is_seen_scaled() -> None:
    model = Net(lambda m, x: F.linear(x, m.w * 0.5, 3 - m.b), w=weight(5, 8), b=weight(5))
    graph = landmarks_of(model, X)
    assert lines(graph)[1] == "1 contraction(x=0) weight=0.5 * w bias=3 - b"
    matrix, bias = (seen_value(graph, use, model) for use in only(graph, "contraction").uses)
    torch.testing.assert_close(model(X), F.linear(X, matrix, bias))


def test_a_matrix_per_head_is_seen_as_one_matrix() -> None:
    model = Net(lambda m, x: torch.einsum("bni,ihd->bnhd", x, m.w), w=weight(8, 2, 5))
    graph = landmarks_of(model, X)
    matrix = seen_value(graph, only(graph, "contraction").use("weight"), model)
    torch.testing.assert_close(model(X).flatten(2), F.linear(X, matrix))


def test_heads_joined_by_einsum_are_seen_as_one_matrix() -> None:
    model = Net(
        lambda m, x: torch.einsum("bnhd,hdo->bno", x.view(2, 3, 2, 4), m.w) + m.b, w=weight(2, 4, 5), b=weight(5)
    )
    graph = landmarks_of(model, X)
    mark = only(graph, "contraction")
    matrix, bias = (seen_value(graph, use, model) for use in mark.uses)
    torch.testing.assert_close(model(X), F.linear(X, matrix, bias))


def test_experts_of_one_einsum_are_one_weight_whose_view_does_not_tell_all() -> None:
    model = Net(lambda m, x: torch.einsum("ebi,eio->ebo", x, m.w), w=weight(2, 8, 5))
    (use,) = only(landmarks_of(model, X), "contraction").uses
    assert (use.role, use.weight, use.exact) == ("weight", "w", False)


@pytest.mark.parametrize(
    ("layer", "seen"),
    [
        (nn.Conv2d(8, 6, 3), (6, 8, 3, 3)),
        (nn.Conv2d(8, 6, 3, groups=2), (6, 4, 3, 3)),
        (nn.ConvTranspose2d(8, 6, 3), (6, 8, 3, 3)),
    ],
    ids=["conv2d", "grouped", "transposed"],
)
def test_convolutions_are_seen_as_outputs_by_inputs_by_kernel(layer: nn.Module, seen: tuple[int, ...]) -> None:
    graph = landmarks_of(layer, weight(1, 8, 5, 5))
    mark = only(graph, "contraction")
    assert tuple(seen_value(graph, mark.use("weight"), layer).shape) == seen
    assert mark.channels == 1
    assert uses_by_role(mark) == {"weight": "weight", "bias": "bias"}


def test_a_transposed_convolution_is_seen_with_its_first_two_axes_swapped() -> None:
    graph = landmarks_of(nn.ConvTranspose1d(8, 6, 3), weight(1, 8, 5))
    use = only(graph, "contraction").use("weight")
    assert use is not None
    assert use.view == View(axes=(1, 0, 2))


@pytest.mark.parametrize(
    ("added", "shape"),
    [
        (lambda m, y: y + m.b[:, None, None], (6,)),
        (lambda m, y: y + m.b.view(1, -1, 1, 1), (6,)),
        (lambda m, y: y + m.b, (1, 6, 1, 1)),
        (lambda m, y: m.b.unsqueeze(-1) + y, (6, 1)),
    ],
    ids=["indexed", "viewed", "stored broadcast", "one axis stored"],
)
def test_a_bias_added_after_a_convolution_is_absorbed(added: Forward, shape: tuple[int, ...]) -> None:
    model = Net(lambda m, x: added(m, m.c(x)), c=nn.Conv2d(8, 6, 3, bias=False), b=weight(*shape))
    graph = landmarks_of(model, weight(1, 8, 5, 5))
    assert kinds(graph) == ["contraction"]
    assert uses_by_role(only(graph, "contraction")) == {"weight": "c.weight", "bias": "b"}


def test_a_second_bias_stays_an_addition() -> None:
    model = Net(lambda m, x: m.l(x) + m.b, l=nn.Linear(8, 8), b=weight(8))
    assert lines(landmarks_of(model, X)) == [
        "0 input",
        "1 contraction(x=0) weight=l.weight bias=l.bias",
        "2 add(x=1) addend=b",
        "3 output(x=2)",
    ]


def test_a_product_with_a_fixed_matrix_is_no_landmark() -> None:
    model = Net(lambda m, x: m.l(m.basis @ x), l=nn.Linear(8, 5), basis=nn.Buffer(weight(3, 3)))
    assert lines(landmarks_of(model, X))[1] == "1 contraction(x=0) weight=l.weight bias=l.bias"
