from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.core.alignment import View
from tests.support import Forward, Net, kinds, landmarks_of, linears, lines, only, uses_by_role, weight

X = weight(2, 3, 8)
IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])

# Norms

Shapes: TypeAlias = dict[str, tuple[int, ...]]
G: Shapes = {"g": (8,)}
GB: Shapes = {"g": (8,), "b": (8,)}


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt((x - mean).pow(2).mean(-1, keepdim=True) + 1e-5)


NORM: dict[str, tuple[Forward, Shapes]] = {
    "F.rms_norm": (lambda m, x: F.rms_norm(x, (8,), m.g), G),
    "scale after": (lambda m, x: rms(x) * m.g, G),
    "scale before": (lambda m, x: m.g * rms(x), G),
    "cast before the scale": (lambda m, x: m.g * rms(x.double()).to(x.dtype), G),
    "x / sqrt": (lambda m, x: x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * m.g, G),
    "F.normalize": (lambda m, x: F.normalize(x, dim=-1) * math.sqrt(8) * m.g, G),
    "x / norm": (lambda m, x: x / x.norm(dim=-1, keepdim=True) * 8**0.5 * m.g, G),
    "F.layer_norm": (lambda m, x: F.layer_norm(x, (8,), m.g, m.b), GB),
    "scale and shift after": (lambda m, x: F.layer_norm(x, (8,)) * m.g + m.b, GB),
    "(x - mean) / sqrt(variance)": (lambda m, x: layer_norm(x) * m.g + m.b, GB),
    "shift first": (lambda m, x: m.b + m.g * layer_norm(x), GB),
}


@pytest.mark.parametrize(("compute", "shapes"), NORM.values(), ids=list(NORM))
def test_every_spelling_of_a_norm_is_one_landmark_with_its_weights(compute: Forward, shapes: Shapes) -> None:
    graph = landmarks_of(Net(compute, **{name: weight(*shape) for name, shape in shapes.items()}), X)
    assert lines(graph)[1:] == [
        "1 norm(x=0) weight=g" + (" bias=b" if "b" in shapes else ""),
        "2 output(x=1)",
    ]
    assert {use.form for use in only(graph, "norm").uses} == {"vector"}


@pytest.mark.parametrize(
    ("layer", "shape", "roles"),
    [
        (nn.LayerNorm(8), (2, 3, 8), "weight bias"),
        (nn.LayerNorm(8, bias=False), (2, 3, 8), "weight"),
        (nn.LayerNorm(8, elementwise_affine=False), (2, 3, 8), ""),
        (nn.RMSNorm(8), (2, 3, 8), "weight"),
        (nn.GroupNorm(2, 8), (2, 8, 3), "weight bias"),
        (nn.InstanceNorm1d(8, affine=True), (2, 8, 3), "weight bias"),
        (
            nn.InstanceNorm1d(8, affine=True, track_running_stats=True),
            (2, 8, 3),
            "weight bias running_mean running_var",
        ),
        (nn.BatchNorm1d(8), (2, 8, 3), "weight bias running_mean running_var"),
        (nn.BatchNorm2d(8, affine=False), (2, 8, 3, 3), "running_mean running_var"),
        (nn.BatchNorm2d(8, track_running_stats=False), (2, 8, 3, 3), "weight bias"),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Module) else "",
)
def test_norm_layers_have_their_weights_by_role(layer: nn.Module, shape: tuple[int, ...], roles: str) -> None:
    graph = landmarks_of(layer.eval(), weight(*shape))
    assert kinds(graph) == ["norm"]
    assert uses_by_role(only(graph, "norm")) == {role: role for role in roles.split()}


@pytest.mark.parametrize(
    ("scale", "shift", "factor"),
    [
        (lambda g: 1 + g, 1.0, 1.0),
        (lambda g: g + 1.0, 1.0, 1.0),
        (lambda g: 1 - g, 1.0, -1.0),
        (lambda g: 2 * g, 0.0, 2.0),
        (lambda g: (1 + g) / 2, 0.5, 0.5),
    ],
    ids=["1 + g", "g + 1", "1 - g", "2 * g", "(1 + g) / 2"],
)
def test_a_scale_made_from_its_weight_is_seen_as_an_affine(
    scale: Callable[[Tensor], Tensor], shift: float, factor: float
) -> None:
    graph = landmarks_of(Net(lambda m, x: rms(x) * scale(m.g), g=weight(8)), X)
    use = only(graph, "norm").use("weight")
    assert use is not None
    assert (use.view, use.exact) == (View(scale=factor, shift=shift), True)


def test_a_norm_and_what_modulates_it_stay_apart() -> None:
    def compute(m: Net, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = m.l(F.silu(c)).chunk(2, -1)
        out: Tensor = m.n(x) * (1 + scale[:, None]) + shift[:, None]
        return out

    model = Net(compute, n=nn.LayerNorm(8, elementwise_affine=False), l=nn.Linear(8, 16))
    assert lines(landmarks_of(model, X, weight(2, 8)))[2:] == [
        "2 activation(x=1)",
        "3 contraction(x=2) weight=l.weight bias=l.bias",
        "4 norm(x=0)",
        "5 mul(x=4, x=3-)",
        "6 add(x=5, x=3-)",
        "7 output(x=6)",
    ]


def test_a_scale_on_a_branch_is_a_product_of_its_own() -> None:
    model = Net(lambda m, x: x + m.l(x) * m.g, l=nn.Linear(8, 8), g=weight(8))
    assert lines(landmarks_of(model, X))[1:4] == [
        "1 contraction(x=0) weight=l.weight bias=l.bias",
        "2 mul(x=1) scale=g",
        "3 add(x=0, x=2)",
    ]


# Activations

ACTIVATIONS: dict[str, Forward] = {
    "silu": lambda m, x: F.silu(x),
    "x * sigmoid(x)": lambda m, x: x * torch.sigmoid(x),
    "quick gelu": lambda m, x: x * torch.sigmoid(1.702 * x),
    "gelu": lambda m, x: F.gelu(x),
    "gelu by erf": lambda m, x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu by tanh": lambda m, x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "relu": lambda m, x: F.relu(x),
    "relu in place": lambda m, x: F.relu_(x * 1),
    "squared relu": lambda m, x: F.relu(x).square(),
    "leaky relu": lambda m, x: F.leaky_relu(x, 0.2),
    "tanh": lambda m, x: torch.tanh(x),
    "softmax": lambda m, x: F.softmax(x, -1),
}


@pytest.mark.parametrize("compute", ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_every_activation_is_one_landmark(compute: Forward) -> None:
    assert lines(landmarks_of(Net(compute), X)) == ["0 input", "1 activation(x=0)", "2 output(x=1)"]


def test_a_learned_slope_belongs_to_its_activation() -> None:
    assert lines(landmarks_of(nn.PReLU(3), X))[1] == "1 activation(x=0) weight=weight"


def test_a_gate_is_a_product_of_two_branches() -> None:
    model = Net(lambda m, x: m.d(F.silu(m.g(x)) * m.u(x)), **linears("gud"))
    assert lines(landmarks_of(model, X))[1:6] == [
        "1 contraction(x=0) weight=g.weight bias=g.bias",
        "2 activation(x=1)",
        "3 contraction(x=0) weight=u.weight bias=u.bias",
        "4 mul(x=2, x=3)",
        "5 contraction(x=4) weight=d.weight bias=d.bias",
    ]


# Tables

POSITIONS: dict[str, tuple[Forward, nn.Module | Tensor, str]] = {
    "looked up at arange": (lambda m, x: x + m.pos(torch.arange(3)), nn.Embedding(6, 8), "pos.weight"),
    "looked up, expanded": (
        lambda m, x: x + m.pos(torch.arange(3)[None].expand(2, -1)),
        nn.Embedding(6, 8),
        "pos.weight",
    ),
    "looked up with an offset": (lambda m, x: x + m.pos(torch.arange(3) + 2), nn.Embedding(6, 8), "pos.weight"),
    "indexed at arange": (lambda m, x: x + m.pos[torch.arange(3)], weight(6, 8), "pos"),
    "slice": (lambda m, x: x + m.pos[: x.shape[1]], weight(6, 8), "pos[0:3]"),
    "slice of a batch of one": (lambda m, x: x + m.pos[:, : x.shape[1]], weight(1, 6, 8), "pos[:, 0:3]"),
    "slice of an embedding's weight": (lambda m, x: x + m.pos.weight[:3], nn.Embedding(6, 8), "pos.weight[0:3]"),
    "added whole": (lambda m, x: x + m.pos, weight(3, 8), "pos"),
    "added whole, first": (lambda m, x: m.pos + x, weight(1, 3, 8), "pos"),
}


@pytest.mark.parametrize(("compute", "table", "seen"), POSITIONS.values(), ids=list(POSITIONS))
def test_every_table_of_positions_is_an_embedding_that_is_added(
    compute: Forward, table: nn.Module | Tensor, seen: str
) -> None:
    graph = landmarks_of(Net(compute, pos=table), X)
    assert kinds(graph) == ["embedding", "add"]
    assert only(graph, "embedding").ins == ()
    assert f"embedding table={seen}" in lines(graph)[1]


@pytest.mark.parametrize(
    ("compute", "weights"),
    [
        (lambda m, i: m.e(i), {"e": nn.Embedding(10, 8)}),
        (lambda m, i: F.embedding(i, m.e.weight), {"e": nn.Embedding(10, 8)}),
        (lambda m, i: m.e.weight[i], {"e": nn.Embedding(10, 8)}),
        (lambda m, i: m.e(i) * math.sqrt(8), {"e": nn.Embedding(10, 8)}),
    ],
    ids=["nn.Embedding", "F.embedding", "indexed", "scaled"],
)
def test_a_lookup_of_ids_is_an_embedding(compute: Forward, weights: dict[str, nn.Module]) -> None:
    assert lines(landmarks_of(Net(compute, **weights), IDS)) == [
        "0 input",
        "1 embedding(index=0) table=e.weight",
        "2 output(x=1)",
    ]


def test_a_table_that_is_a_buffer_does_not_appear() -> None:
    assert lines(landmarks_of(Net(lambda m, x: m.l(x + m.pos), l=nn.Linear(8, 8), pos=nn.Buffer(weight(3, 8))), X))[
        1
    ] == ("1 contraction(x=0) weight=l.weight bias=l.bias")


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, x: torch.cat([m.cls.expand(2, -1, -1), x], 1),
        lambda m, x: torch.cat([m.cls.repeat(2, 1, 1), x], 1),
        lambda m, x: torch.cat((m.cls.expand(x.shape[0], 1, 8), x), dim=1),
    ],
    ids=["expand", "repeat", "sizes"],
)
def test_a_class_token_is_a_table_that_is_concatenated(compute: Forward) -> None:
    graph = landmarks_of(Net(compute, cls=weight(1, 1, 8)), X)
    assert lines(graph)[1:3] == ["1 embedding table=cls", "2 concat(0=1, 1=0)"]


@pytest.mark.parametrize(
    ("compute", "queries"),
    [
        (lambda m, x: m.a(m.q.expand(2, -1, -1), x, x, need_weights=False)[0], weight(1, 4, 8)),
        (lambda m, x: m.a(m.q.weight.expand(2, -1, -1), x, x, need_weights=False)[0], nn.Embedding(4, 8)),
        (lambda m, x: m.a(m.q.weight.unsqueeze(0).repeat(2, 1, 1), x, x, need_weights=False)[0], nn.Embedding(4, 8)),
    ],
    ids=["parameter", "embedding", "repeated"],
)
def test_learned_queries_are_a_table(compute: Forward, queries: nn.Module | Tensor) -> None:
    graph = landmarks_of(Net(compute, a=nn.MultiheadAttention(8, 2, batch_first=True), q=queries), X)
    table = only(graph, "embedding")
    assert {use.role for use in table.uses} == {"table"}
    reader = next(mark for mark in graph.landmarks if any(edge.source == table.index for edge in mark.ins))
    assert uses_by_role(reader) == {"weight": "a.in_proj_weight", "bias": "a.in_proj_bias"}


def test_a_table_that_several_operators_read_is_one_landmark_that_comes_first() -> None:
    model = Net(lambda m, x: m.b(m.a(x) + m.p) + m.p, p=weight(3, 8), **linears("ab"))
    assert lines(landmarks_of(model, X)) == [
        "0 input",
        "1 embedding table=p",
        "2 contraction(x=0) weight=a.weight bias=a.bias",
        "3 add(x=2, x=1)",
        "4 contraction(x=3) weight=b.weight bias=b.bias",
        "5 add(x=4, x=1)",
        "6 output(x=5)",
    ]


def test_a_tied_weight_works_in_both_places_under_one_name() -> None:
    model = Net(lambda m, i: m.out(m.e(i)), e=nn.Embedding(10, 8), out=nn.Linear(8, 10, bias=False))
    model.out.weight = model.e.weight
    assert lines(landmarks_of(model, IDS))[1:3] == [
        "1 embedding(index=0) table=e.weight",
        "2 contraction(x=1) weight=e.weight",
    ]
