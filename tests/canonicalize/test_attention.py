from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support import (
    Forward,
    Net,
    canonical,
    heads,
    kinds,
    landmarks_of,
    linears,
    lines,
    merged,
    only,
    ops,
    uses_by_role,
    weight,
)

Core: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention between queries, keys and values of shape `[batch, heads, tokens, 4]`."""


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


def by_matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v


def scaled_before(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.matmul(F.softmax(torch.matmul(q * 0.5, k.mT), dim=-1), v)


def by_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    flat = [x.flatten(0, 1) for x in (q, k, v)]
    scores = torch.bmm(flat[0], flat[1].transpose(1, 2)) * 0.5
    return torch.bmm(scores.softmax(-1), flat[2]).view(q.shape)


def by_baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    flat = [x.flatten(0, 1) for x in (q, k, v)]
    empty = torch.empty(flat[0].shape[0], q.shape[2], k.shape[2])
    scores = torch.baddbmm(empty, flat[0], flat[1].transpose(1, 2), beta=0, alpha=0.5)
    return torch.bmm(scores.softmax(-1), flat[2]).view(q.shape)


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / 2
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v)


def by_einsum_keys_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bhkd,bhqd->bhqk", k, q) / 2
    return torch.einsum("bhkd,bhqk->bhqd", v, scores.softmax(-1))


def softmax_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / 2
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True) @ v


def in_another_dtype(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = F.softmax(q @ k.transpose(-1, -2) / 2, dim=-1, dtype=torch.float64).to(q.dtype)
    return F.dropout(scores, 0.1, training=False) @ v


CORES: dict[str, Core] = {
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "matmul": by_matmul,
    "scaled before": scaled_before,
    "bmm": by_bmm,
    "baddbmm": by_baddbmm,
    "einsum": by_einsum,
    "einsum, keys first": by_einsum_keys_first,
    "softmax by hand": softmax_by_hand,
    "another dtype": in_another_dtype,
}

every_core = pytest.mark.parametrize("core", CORES.values(), ids=list(CORES))


def around(core: Core) -> Forward:
    """Attention with separate projections around a core."""
    return lambda m, x: m.o(merged(core(heads(m.q(x)), heads(m.k(x)), heads(m.v(x)))))


@every_core
def test_the_table_computes_attention(core: Core) -> None:
    q, k, v = weight(2, 2, 3, 4), weight(2, 2, 5, 4), weight(2, 2, 5, 4)
    torch.testing.assert_close(core(q, k, v), F.scaled_dot_product_attention(q, k, v))


@every_core
def test_every_spelling_gives_the_same_landmarks(core: Core) -> None:
    assert lines(landmarks_of(Net(around(core), **linears("qkvo")), weight(2, 3, 8))) == PLAIN


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_gives_the_same_landmarks_from_one_product(need_weights: bool, batch_first: bool) -> None:
    attn = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    model = Net(lambda m, x: m.a(x, x, x, need_weights=need_weights)[0], a=attn)
    assert lines(landmarks_of(model, weight(2, 3, 8))) == [
        "0 input",
        "1 contraction(x=0) weight=a.in_proj_weight bias=a.in_proj_bias",
        "2 attention(query=1-, key=1-, value=1-)",
        "3 contraction(x=2) weight=a.out_proj.weight bias=a.out_proj.bias",
        "4 output(x=3)",
    ]


def test_multihead_attention_of_two_inputs_slices_its_weight() -> None:
    model = Net(lambda m, x, y: m.a(x, y, y, need_weights=False)[0], a=nn.MultiheadAttention(8, 2, batch_first=True))
    assert lines(landmarks_of(model, weight(2, 3, 8), weight(2, 5, 8)))[2:5] == [
        "2 contraction(x=0) weight=a.in_proj_weight[0:8] bias=a.in_proj_bias[0:8]",
        "3 contraction(x=1) weight=a.in_proj_weight[8:24] bias=a.in_proj_bias[8:24]",
        "4 attention(query=2, key=3-, value=3-)",
    ]


def test_multihead_attention_of_three_widths_has_three_weights() -> None:
    attn = nn.MultiheadAttention(8, 2, batch_first=True, kdim=6, vdim=5)
    model = Net(lambda m, x, y, z: m.a(x, y, z, need_weights=False)[0], a=attn)
    assert lines(landmarks_of(model, weight(2, 3, 8), weight(2, 5, 6), weight(2, 5, 5)))[3:7] == [
        "3 contraction(x=0) weight=a.q_proj_weight bias=a.in_proj_bias[0:8]",
        "4 contraction(x=1) weight=a.k_proj_weight bias=a.in_proj_bias[8:16]",
        "5 contraction(x=2) weight=a.v_proj_weight bias=a.in_proj_bias[16:24]",
        "6 attention(query=3, key=4, value=5)",
    ]


# What lies between the two products

Between: TypeAlias = Callable[[Tensor], Tensor]
CAUSAL = torch.full((3, 3), float("-inf")).triu(1)
BETWEEN: dict[str, Between] = {
    "a causal mask added": lambda scores: scores + CAUSAL,
    "a causal mask filled": lambda scores: scores.masked_fill(CAUSAL < 0, float("-inf")),
    "a causal mask by where": lambda scores: torch.where(CAUSAL < 0, torch.tensor(-1e9), scores),
    "a soft cap": lambda scores: 50 * torch.tanh(scores / 50),
    "a cap": lambda scores: scores.clamp(max=5e4),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=list(BETWEEN))
def test_masks_and_caps_between_the_products_are_looked_through(between: Between) -> None:
    model = Net(
        around(lambda q, k, v: between(q @ k.transpose(-1, -2) / 2).softmax(-1) @ v),
        **linears("qkvo"),
    )
    assert lines(landmarks_of(model, weight(2, 3, 8))) == PLAIN


def test_a_bias_learned_as_a_table_belongs_to_the_attention() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        table = m.table(torch.arange(9).view(3, 3)).permute(2, 0, 1)
        scores = heads(m.q(x)) @ heads(m.k(x)).transpose(-1, -2) + table
        return merged(scores.softmax(-1) @ heads(m.v(x)))

    model = Net(compute, table=nn.Embedding(9, 2), **linears("qkv"))
    attended = only(landmarks_of(model, weight(2, 3, 8)), "attention")
    assert uses_by_role(attended) == {"bias": "table.weight"}
    assert [edge.role for edge in attended.ins] == ["query", "key", "value"]


def test_a_learned_scale_of_the_scores_belongs_to_the_attention() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k = (F.normalize(heads(project(x)), dim=-1) for project in (m.q, m.k))
        return merged((q @ k.transpose(-1, -2) * m.temperature).softmax(-1) @ heads(m.v(x)))

    graph = landmarks_of(Net(compute, temperature=weight(2, 1, 1), **linears("qkv")), weight(2, 3, 8))
    assert uses_by_role(only(graph, "attention")) == {"scale": "temperature"}
    assert kinds(graph).count("norm") == 2


def test_a_bias_made_from_data_is_an_operand() -> None:
    def compute(m: Net, x: Tensor, pairs: Tensor) -> Tensor:
        scores = heads(m.q(x)) @ heads(m.k(x)).transpose(-1, -2) + m.bias(pairs).permute(0, 3, 1, 2)
        return merged(scores.softmax(-1) @ heads(m.v(x)))

    model = Net(compute, bias=nn.Linear(5, 2), **linears("qkv"))
    graph = landmarks_of(model, weight(2, 3, 8), weight(2, 3, 3, 5))
    attended = only(graph, "attention")
    assert [edge.role for edge in attended.ins] == ["query", "key", "value", "bias"]
    bias = graph.landmarks[attended.ins[3].source]
    assert uses_by_role(bias) == {"weight": "bias.weight", "bias": "bias.bias"}


MASK = torch.ones(3, 3, dtype=torch.bool).tril()
MASKED: dict[str, tuple[Forward, Tensor]] = {
    "bool, fused": (lambda q, k, v, a: F.scaled_dot_product_attention(q, k, v, attn_mask=a), MASK),
    "float, fused": (lambda q, k, v, a: F.scaled_dot_product_attention(q, k, v, a), MASK.float()),
    "float, made additive": (
        lambda q, k, v, a: F.scaled_dot_product_attention(q, k, v, (1 - a[None, None].expand(2, 1, 3, 3)) * -1e9),
        MASK.float(),
    ),
    "float, added": (lambda q, k, v, a: (q @ k.mT / 2 + a).softmax(-1) @ v, MASK.float()),
    "bool, filled": (lambda q, k, v, a: (q @ k.mT / 2).masked_fill(~a, -1e9).softmax(-1) @ v, MASK),
    "bool, where": (lambda q, k, v, a: torch.where(a, q @ k.mT / 2, torch.tensor(-1e9)).softmax(-1) @ v, MASK),
    "integer, made additive": (lambda q, k, v, a: (q @ k.mT / 2 + (1 - a) * -1e9).softmax(-1) @ v, MASK.long()),
}


@pytest.mark.parametrize(("core", "mask"), MASKED.values(), ids=list(MASKED))
def test_a_mask_that_is_an_input_does_not_appear(core: Forward, mask: Tensor) -> None:
    model = Net(lambda m, x, a: m.o(merged(core(heads(m.q(x)), heads(m.k(x)), heads(m.v(x)), a))), **linears("qkvo"))
    graph = landmarks_of(model, weight(2, 3, 8), mask)
    assert kinds(graph) == ["contraction"] * 3 + ["attention", "contraction"]
    assert [edge.role for edge in only(graph, "attention").ins] == ["query", "key", "value"]


# What is no attention


def test_two_products_without_a_softmax_are_products() -> None:
    model = Net(lambda m, x: m.q(x) @ (m.k(x).transpose(1, 2) @ m.v(x)), **linears("qkv"))
    assert kinds(landmarks_of(model, weight(2, 3, 8))) == ["contraction"] * 3 + ["product"] * 2


def test_a_softmax_over_features_is_an_activation() -> None:
    model = Net(lambda m, x: m.q(x).softmax(-1) @ (m.k(x).softmax(1).transpose(1, 2) @ m.v(x)), **linears("qkv"))
    assert "attention" not in kinds(landmarks_of(model, weight(2, 3, 8)))


def test_a_softmax_before_a_linear_layer_is_a_classifier() -> None:
    model = Net(lambda m, x: m.b(m.a(x).softmax(-1)), **linears("ab"))
    assert kinds(landmarks_of(model, weight(2, 8))) == ["contraction", "activation", "contraction"]


def test_learned_queries_attend_as_a_table() -> None:
    model = Net(lambda m, x: (m.q @ m.k(x).transpose(1, 2)).softmax(-1) @ m.v(x), q=weight(4, 8), **linears("kv"))
    assert lines(landmarks_of(model, weight(2, 3, 8)))[1:5] == [
        "1 contraction(x=0) weight=k.weight bias=k.bias",
        "2 contraction(x=0) weight=v.weight bias=v.bias",
        "3 embedding table=q",
        "4 attention(query=3, key=1, value=2)",
    ]


def test_the_graph_keeps_its_other_nodes() -> None:
    x = weight(2, 3, 8)
    by_hand = canonical(Net(around(by_matmul), **linears("qkvo")), x)
    assert "scaled_dot_product_attention" in ops(by_hand)
    assert not {"softmax", "matmul"} & set(ops(by_hand))
    assert [node.index for node in by_hand.nodes] == list(range(len(by_hand.nodes)))
