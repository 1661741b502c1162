from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.canonicalize import to_landmarks
from automatch.core.graph import Graph
from tests.support import (
    Net,
    attend,
    attention,
    heads,
    kinds,
    landmarks_of,
    linears,
    lines,
    merged,
    only,
    uses_by_role,
    weight,
)

X = weight(2, 3, 8)
PLAIN = [
    "0 input",
    "1 contraction(x=0) weight=q.weight bias=q.bias",
    "2 contraction(x=0) weight=k.weight bias=k.bias",
    "3 contraction(x=0) weight=v.weight bias=v.bias",
    "4 attention(query=1, key=2, value=3)",
    "5 contraction(x=4) weight=o.weight bias=o.bias",
    "6 output(x=5)",
]
"""Attention with separate projections."""

# What is transparent

COS, SIN = weight(3, 4), weight(3, 4)
Rotary: TypeAlias = Callable[[Tensor], Tensor]


def by_halves(x: Tensor) -> Tensor:
    return x * COS + torch.cat((-x[..., 2:], x[..., :2]), -1) * SIN


def by_chunks(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = COS[:, :2], SIN[:, :2]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def by_pairs(x: Tensor) -> Tensor:
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = COS[:, :2], SIN[:, :2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def by_complex_numbers(x: Tensor) -> Tensor:
    turned = torch.view_as_complex(x.reshape(*x.shape[:-1], 2, 2)) * torch.complex(COS[:, :2], SIN[:, :2])
    return torch.view_as_real(turned).flatten(-2).type_as(x)


def of_a_part(x: Tensor) -> Tensor:
    turned = x[..., :2] * COS[:, :2] + torch.cat((-x[..., 1:2], x[..., :1]), -1) * SIN[:, :2]
    return torch.cat((turned, x[..., 2:]), -1)


@pytest.mark.parametrize("rotary", [by_halves, by_chunks, by_pairs, by_complex_numbers, of_a_part])
def test_rotary_embedding_vanishes(rotary: Rotary) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = (heads(project(x)) for project in (m.q, m.k, m.v))
        out: Tensor = m.o(merged(F.scaled_dot_product_attention(rotary(q), rotary(k), v)))
        return out

    graph = landmarks_of(Net(compute, **linears("qkvo")), X)
    assert [_without_ports(line) for line in lines(graph)] == PLAIN


def _without_ports(line: str) -> str:
    return line.replace("-,", ",").replace("-)", ")")


def test_rotary_embedding_at_given_positions_vanishes_with_its_input() -> None:
    def compute(m: Net, x: Tensor, places: Tensor) -> Tensor:
        angles = places[:, None].float() * m.frequencies[None]
        cos, sin = (torch.cat((part, part), -1) for part in (angles.cos(), angles.sin()))

        def turned(y: Tensor) -> Tensor:
            return y * cos + torch.cat((-y[..., 2:], y[..., :2]), -1) * sin

        q, k, v = (heads(project(x)) for project in (m.q, m.k, m.v))
        out: Tensor = m.o(merged(F.scaled_dot_product_attention(turned(q), turned(k), v)))
        return out

    model = Net(compute, frequencies=nn.Buffer(torch.ones(2)), **linears("qkvo"))
    graph = landmarks_of(model, X, torch.arange(3))
    assert kinds(graph) == ["contraction"] * 3 + ["attention", "contraction"]
    assert not any(edge.source == 1 for mark in graph.landmarks for edge in mark.ins)


@pytest.mark.parametrize(
    "repeated",
    [
        lambda x: x.repeat_interleave(2, 1),
        lambda x: x[:, :, None].expand(2, 1, 2, 3, 4).reshape(2, 2, 3, 4),
        lambda x: x.unsqueeze(2).repeat(1, 1, 2, 1, 1).flatten(1, 2),
        lambda x: torch.stack((x, x), 2).flatten(1, 2),
        lambda x: torch.cat((x, x), 1),
    ],
    ids=["repeat_interleave", "expand", "repeat", "stack", "cat"],
)
def test_the_repetition_of_grouped_heads_vanishes(repeated: Callable[[Tensor], Tensor]) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = heads(m.q(x)), heads(m.k(x), 1), heads(m.v(x), 1)
        out: Tensor = m.o(merged(F.scaled_dot_product_attention(q, repeated(k), repeated(v))))
        return out

    model = Net(compute, **linears("qo"), **linears("kv", outputs=4))
    assert lines(landmarks_of(model, X)) == PLAIN


def test_grouped_heads_inside_the_operator_need_no_repetition() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = heads(m.q(x)), heads(m.k(x), 1), heads(m.v(x), 1)
        out: Tensor = m.o(merged(F.scaled_dot_product_attention(q, k, v, enable_gqa=True)))
        return out

    model = Net(compute, **linears("qo"), **linears("kv", outputs=4))
    assert lines(landmarks_of(model, X)) == PLAIN


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x.view(6, 8).view(2, 3, 8),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.double().float(),
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: x * 3 + 1,
        lambda x: x.mean(1, keepdim=True).expand(2, 3, 8),
        lambda x: F.pad(x, (0, 0, 1, 0))[:, 1:].roll(1, 1),
        lambda x: (x + x) / 2,
        lambda x: x + torch.arange(8.0),
    ],
    ids=["view", "transpose", "cast", "dropout", "affine", "mean", "pad and roll", "with itself", "with a constant"],
)
def test_movement_casts_and_scalar_arithmetic_are_transparent(between: Callable[[Tensor], Tensor]) -> None:
    graph = landmarks_of(Net(lambda m, x: m.b(between(m.a(x))), **linears("ab")), X)
    assert [_without_ports(line) for line in lines(graph)] == [
        "0 input",
        "1 contraction(x=0) weight=a.weight bias=a.bias",
        "2 contraction(x=1) weight=b.weight bias=b.bias",
        "3 output(x=2)",
    ]


@pytest.mark.parametrize("taken", [lambda x: x[:], lambda x: x[:, 0:], lambda x: x[..., None].squeeze(-1)])
def test_a_slice_that_takes_all_opens_no_port(taken: Callable[[Tensor], Tensor]) -> None:
    graph = landmarks_of(Net(lambda m, x: m.b(taken(m.a(x))), **linears("ab")), X)
    assert lines(graph)[2] == "2 contraction(x=1) weight=b.weight bias=b.bias"


def test_a_slice_that_takes_a_part_opens_a_port() -> None:
    graph = landmarks_of(Net(lambda m, x: m.b(m.a(x)[:, 1:]), **linears("ab")), X)
    assert lines(graph)[2] == "2 contraction(x=1-) weight=b.weight bias=b.bias"


def test_a_mask_of_booleans_on_the_output_is_transparent() -> None:
    model = Net(lambda m, x, mask: m.a(x) * mask[..., None], **linears("a"))
    graph = landmarks_of(model, X, torch.ones(2, 3, dtype=torch.bool))
    assert kinds(graph) == ["contraction"]


# Functions of weights alone


@pytest.mark.parametrize("layer", [nn.Linear(8, 5), nn.Conv1d(8, 5, 3)], ids=["linear", "conv1d"])
def test_weight_norm_is_a_blend_led_by_the_direction(layer: nn.Module) -> None:
    wrapped = nn.utils.parametrizations.weight_norm(layer)
    x = X if isinstance(layer, nn.Linear) else X.transpose(1, 2)
    mark = only(landmarks_of(Net(lambda m, x: m.l(x), l=wrapped), x), "contraction")
    assert uses_by_role(mark) == {
        "weight": "l.parametrizations.weight.original1",
        "weight+1": "l.parametrizations.weight.original0",
        "bias": "l.bias",
    }
    assert [use.exact for use in mark.uses] == [False, False, True]


def test_the_older_weight_norm_is_the_same_blend() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch says that there is a newer one
        layer = nn.utils.weight_norm(nn.Linear(8, 5))
    mark = only(landmarks_of(layer, X), "contraction")
    assert uses_by_role(mark) == {"weight": "weight_v", "weight+1": "weight_g", "bias": "bias"}


def test_a_low_rank_update_is_a_blend_led_by_the_whole_matrix() -> None:
    model = Net(lambda m, x: F.linear(x, m.w + m.b @ m.a), w=weight(5, 8), a=weight(2, 8), b=weight(5, 2))
    mark = only(landmarks_of(model, X), "contraction")
    assert next(use.weight for use in mark.uses if use.role == "weight") == "w"
    assert {use.weight for use in mark.uses} == {"w", "a", "b"}
    assert not any(use.exact for use in mark.uses)


# The whole


def test_what_reaches_no_output_is_left_out_and_numbers_have_no_gaps() -> None:
    graph = landmarks_of(Net(lambda m, x: (m.dead(x), m.a(m.b(x)))[1], **linears(["dead", "a", "b"])), X)
    assert [mark.index for mark in graph.landmarks] == list(range(len(graph.landmarks)))
    assert lines(graph)[1:] == [
        "1 contraction(x=0) weight=b.weight bias=b.bias",
        "2 contraction(x=1) weight=a.weight bias=a.bias",
        "3 output(x=2)",
    ]


def test_every_output_is_a_landmark_and_unused_inputs_stay() -> None:
    graph = landmarks_of(Net(lambda m, x, y: {"one": m.a(x), "two": m.b(x)}, **linears("ab")), X, X)
    assert [mark.kind for mark in graph.landmarks].count("output") == 2
    assert [mark.kind for mark in graph.landmarks].count("input") == 2


def test_fused_projections_keep_the_places_where_they_part() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        return attend(*m.qkv(x).chunk(3, -1))

    graph = landmarks_of(Net(compute, qkv=nn.Linear(8, 24)), X)
    assert lines(graph)[2] == "2 attention(query=1-, key=1-, value=1-)"
    parts = [edge.port for edge in only(graph, "attention").ins]
    assert len(set(parts)) == 3
    assert all(graph.graph.nodes[node].op in ("getitem", "slice") for port in parts for node in port)


def test_parts_put_together_again_are_the_whole() -> None:
    model = Net(lambda m, x: m.b(torch.cat(m.a(x).chunk(2, -1)[::-1], -1)), **linears("ab"))
    assert lines(landmarks_of(model, X))[2] == "2 contraction(x=1) weight=b.weight bias=b.bias"


def test_an_operator_that_no_rule_knows_is_a_landmark_and_is_listed() -> None:
    graph = landmarks_of(nn.GRU(8, 8, batch_first=True), X)
    assert graph.unknown == ("gru",)
    assert only(graph, "other").label == "gru"
    assert {use.weight for use in only(graph, "other").uses} == {
        "weight_ih_l0",
        "weight_hh_l0",
        "bias_ih_l0",
        "bias_hh_l0",
    }


def test_what_is_known_is_not_listed_as_unknown() -> None:
    assert landmarks_of(attention(), X).unknown == ()


def test_a_graph_without_nodes_has_no_landmarks() -> None:
    assert to_landmarks(Graph(())).landmarks == ()
