from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.align.slots import Rows, Slot, slots
from automatch.align.use_graph import UseGraph
from tests.support import Forward, Net, attend, heads, landmarks_of, linears, merged, weight

X = weight(2, 3, 8)
ONE_BY_ONE = [Rows(0, 8), Rows(8, 16), Rows(16, 24)]
PER_HEAD = [Rows(0, 4, 2), Rows(4, 8, 2), Rows(8, 12, 2)]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return merged(F.scaled_dot_product_attention(q, k, v))


def slots_of(model: nn.Module, *inputs: Tensor) -> tuple[UseGraph, tuple[Slot, ...]]:
    """The slots of a model's first contraction."""
    graph = UseGraph(landmarks_of(model, *(inputs or (X,))))
    first = next(mark for mark in graph.landmarks if mark.kind == "contraction")
    return graph, slots(graph, first)


def readers(graph: UseGraph, slot: Slot) -> list[str]:
    """Who reads a slot: `"attention.query"`."""
    found = {
        f"{mark.kind}.{edge.role}"
        for mark, edge in graph.readers(slot.landmark)
        if not slot.ports or slot.ports.intersection(edge.port)
    }
    return sorted(found)


def sliced(m: Net, x: Tensor) -> Tensor:
    y = m.p(x)
    return attend(y[..., :8], y[..., 8:16], y[..., 16:])


def narrowed(m: Net, x: Tensor) -> Tensor:
    y = m.p(x)
    return attend(*(y.narrow(-1, 8 * part, 8) for part in range(3)))


def unbound(m: Net, x: Tensor) -> Tensor:
    q, k, v = m.p(x).view(2, 3, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    return attention(q, k, v)


def indexed(m: Net, x: Tensor) -> Tensor:
    y = m.p(x).reshape(2, 3, 3, 2, 4).permute(2, 0, 3, 1, 4)
    return attention(y[0], y[1], y[2])


def per_head_selected(m: Net, x: Tensor) -> Tensor:
    y = m.p(x).view(2, 3, 2, 3, 4)
    q, k, v = (y[..., part, :].transpose(1, 2) for part in range(3))
    return attention(q, k, v)


def per_head_chunked(m: Net, x: Tensor) -> Tensor:
    return attention(*m.p(x).view(2, 3, 2, 12).transpose(1, 2).chunk(3, -1))


def per_head_sliced(m: Net, x: Tensor) -> Tensor:
    y = m.p(x).view(2, 3, 2, 12).transpose(1, 2)
    return attention(y[..., :4], y[..., 4:8], y[..., 8:])


QKV: dict[str, tuple[Forward, list[Rows]]] = {
    "chunk": (lambda m, x: attend(*m.p(x).chunk(3, -1)), ONE_BY_ONE),
    "split": (lambda m, x: attend(*m.p(x).split(8, dim=2)), ONE_BY_ONE),
    "split by sizes": (lambda m, x: attend(*m.p(x).split([8, 8, 8], -1)), ONE_BY_ONE),
    "slices": (sliced, ONE_BY_ONE),
    "narrow": (narrowed, ONE_BY_ONE),
    "unbind after view and permute": (unbound, ONE_BY_ONE),
    "indices after view and permute": (indexed, ONE_BY_ONE),
    "per head, selected": (per_head_selected, PER_HEAD),
    "per head, chunked": (per_head_chunked, PER_HEAD),
    "per head, sliced": (per_head_sliced, PER_HEAD),
}


@pytest.mark.parametrize(("compute", "rows"), QKV.values(), ids=list(QKV))
def test_a_fused_projection_parts_into_query_key_and_value(compute: Forward, rows: list[Rows]) -> None:
    graph, found = slots_of(Net(compute, p=nn.Linear(8, 24)))
    assert [slot.rows for slot in found] == rows
    assert [readers(graph, slot) for slot in found] == [["attention.query"], ["attention.key"], ["attention.value"]]


def test_slots_stand_in_channel_order_whatever_they_feed() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        v, q, k = m.p(x).chunk(3, -1)
        return attend(q, k, v)

    graph, found = slots_of(Net(compute, p=nn.Linear(8, 24)))
    assert [slot.rows for slot in found] == ONE_BY_ONE
    assert [readers(graph, slot) for slot in found] == [["attention.value"], ["attention.query"], ["attention.key"]]


def heads_then_two_more(m: Net, x: Tensor) -> Tensor:
    q, k, v = m.p(x).view(2, 3, 4, 4).transpose(1, 2).split([2, 1, 1], 1)
    return attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))


def three_widths(m: Net, x: Tensor) -> Tensor:
    y = m.p(x)
    k, v = (heads(part, 1).expand(2, 2, 3, 4) for part in (y[..., 8:12], y[..., 12:]))
    return attention(heads(y[..., :8]), k, v)


def in_groups(m: Net, x: Tensor) -> Tensor:
    """Two groups of two query heads, a key head and a value head of width 2."""
    y = m.p(x).view(2, 3, 2, 4, 2)
    q = y[:, :, :, :2].reshape(2, 3, 4, 2).transpose(1, 2)
    k, v = (y[:, :, :, part].transpose(1, 2).repeat_interleave(2, 1) for part in (2, 3))
    return attention(q, k, v)


@pytest.mark.parametrize(
    ("compute", "rows"),
    [
        (heads_then_two_more, [Rows(0, 8), Rows(8, 12), Rows(12, 16)]),
        (three_widths, [Rows(0, 8), Rows(8, 12), Rows(12, 16)]),
        (in_groups, [Rows(0, 4, 2), Rows(4, 6, 2), Rows(6, 8, 2)]),
    ],
)
def test_a_fused_projection_of_grouped_heads_parts_into_uneven_slots(compute: Forward, rows: list[Rows]) -> None:
    graph, found = slots_of(Net(compute, p=nn.Linear(8, 16)))
    assert [slot.rows for slot in found] == rows
    assert [readers(graph, slot) for slot in found] == [["attention.query"], ["attention.key"], ["attention.value"]]


@pytest.mark.parametrize(
    ("compute", "first", "second"),
    [
        (lambda m, a, b: m.d(F.silu(a) * b), "activation.x", "mul.x"),
        (lambda m, a, b: m.d(a * F.gelu(b)), "mul.x", "activation.x"),
    ],
    ids=["gate first", "gate last"],
)
def test_a_fused_gate_parts_into_gate_and_up(compute: Forward, first: str, second: str) -> None:
    model = Net(lambda m, x: compute(m, *m.p(x).chunk(2, -1)), p=nn.Linear(8, 16), d=nn.Linear(8, 8))
    graph, found = slots_of(model)
    assert [slot.rows for slot in found] == [Rows(0, 8), Rows(8, 16)]
    assert [readers(graph, slot) for slot in found] == [[first], [second]]


def test_keys_and_values_alone_may_be_fused() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        k, v = m.p(x).chunk(2, -1)
        return attend(m.q(x), k, v)

    _, found = slots_of(Net(compute, p=nn.Linear(8, 16), q=nn.Linear(8, 8)))
    assert [slot.rows for slot in found] == [Rows(0, 8), Rows(8, 16)]


def test_a_projection_fused_with_a_feed_forward_part_has_four_slots() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v, up = m.p(x).split([8, 8, 8, 16], -1)
        out: Tensor = attend(q, k, v) + m.d(F.gelu(up))
        return out

    graph, found = slots_of(Net(compute, p=nn.Linear(8, 40), d=nn.Linear(16, 8)))
    assert [slot.rows for slot in found] == [*ONE_BY_ONE, Rows(24, 40)]
    assert readers(graph, found[3]) == ["activation.x"]


def test_a_modulation_parts_into_its_members() -> None:
    def compute(m: Net, x: Tensor, c: Tensor) -> Tensor:
        scale, shift, gate = m.p(c)[:, None].chunk(3, -1)
        out: Tensor = x + gate * m.d(m.n(x) * (1 + scale) + shift)
        return out

    parts = {"p": nn.Linear(8, 24), "d": nn.Linear(8, 8), "n": nn.LayerNorm(8, elementwise_affine=False)}
    _, found = slots_of(Net(compute, **parts), X, weight(2, 8))
    assert [slot.rows for slot in found] == ONE_BY_ONE


def test_channels_of_a_convolution_part_too() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = (part.flatten(2).transpose(1, 2) for part in m.p(x).chunk(3, 1))
        return F.scaled_dot_product_attention(q, k, v)

    _, found = slots_of(Net(compute, p=nn.Conv2d(8, 24, 1)), weight(2, 8, 3, 3))
    assert [slot.rows for slot in found] == ONE_BY_ONE


def test_multihead_attention_parts_inside() -> None:
    model = Net(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(8, 2, batch_first=True))
    _, found = slots_of(model)
    assert [slot.rows for slot in found] == ONE_BY_ONE


# Rotary embedding also takes parts, and parts nothing

COS, SIN = weight(3, 4), weight(3, 4)


def by_halves(x: Tensor) -> Tensor:
    return x * COS + torch.cat((-x[..., 2:], x[..., :2]), -1) * SIN


def by_chunks(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((a * COS[:, :2] - b * SIN[:, :2], b * COS[:, :2] + a * SIN[:, :2]), -1)


def by_pairs(x: Tensor) -> Tensor:
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * COS[:, :2] - b * SIN[:, :2], a * SIN[:, :2] + b * COS[:, :2]), -1).flatten(-2)


every_rotary = pytest.mark.parametrize("rotary", [by_halves, by_chunks, by_pairs])


@every_rotary
def test_rotary_halves_of_one_projection_do_not_split_it(rotary: Callable[[Tensor], Tensor]) -> None:
    model = Net(lambda m, x: attention(rotary(heads(m.q(x))), rotary(heads(m.k(x))), heads(m.v(x))), **linears("qkv"))
    _, found = slots_of(model)
    assert [slot.rows for slot in found] == [None]


@every_rotary
def test_rotary_halves_do_not_split_a_fused_projection_further(rotary: Callable[[Tensor], Tensor]) -> None:
    def one_by_one(m: Net, x: Tensor) -> Tensor:
        q, k, v = (heads(part) for part in m.p(x).chunk(3, -1))
        return attention(rotary(q), rotary(k), v)

    def per_head(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.p(x).view(2, 3, 2, 12).transpose(1, 2).chunk(3, -1)
        return attention(rotary(q), rotary(k), v)

    assert [slot.rows for slot in slots_of(Net(one_by_one, p=nn.Linear(8, 24)))[1]] == ONE_BY_ONE
    assert [slot.rows for slot in slots_of(Net(per_head, p=nn.Linear(8, 24)))[1]] == PER_HEAD


# What stays whole


@pytest.mark.parametrize(
    "taken",
    [
        lambda y: y,
        lambda y: y[..., :8],
        lambda y: y[..., :8] * F.relu(y[..., 16:]),
        lambda y: y[..., :16] * F.relu(y[..., 8:]),
        lambda y: y[:, :1] + F.relu(y[:, 1:]),
        lambda y: F.relu(y).sum() + y[..., :8] * y[..., 8:16].sum(),
        lambda y: F.glu(y, -1),
    ],
    ids=["all of it", "one part", "a gap", "an overlap", "tokens", "all of it and parts", "one operator"],
)
def test_a_product_whose_channels_do_not_part_completely_stays_whole(taken: Callable[[Tensor], Tensor]) -> None:
    _, found = slots_of(Net(lambda m, x: taken(m.p(x)), p=nn.Linear(8, 24)))
    assert [(slot.ports, slot.rows) for slot in found] == [(frozenset(), None)]


def test_what_is_no_product_stays_whole() -> None:
    graph = UseGraph(landmarks_of(Net(lambda m, x: attend(*m.n(x).repeat(1, 1, 3).chunk(3, -1)), n=nn.LayerNorm(8)), X))
    norm = next(mark for mark in graph.landmarks if mark.kind == "norm")
    assert slots(graph, norm) == (Slot(norm.index),)
