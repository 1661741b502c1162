"""Whole matches of tiny models: the expression as a person reads it, and the numbers that it gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

import automatch
from tests.support import Net, attend, attention, linears, matched, merged, statuses, texts, weight

X = weight(2, 3, 8)
IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])


def one_by_one(order: str = "qkv", width: int = 8) -> Net:
    """Attention with one projection for all three, one after another."""

    def compute(m: Net, x: Tensor) -> Tensor:
        parts = dict(zip(order, m.p(x).chunk(3, -1), strict=True))
        out: Tensor = m.o(attend(parts["q"], parts["k"], parts["v"]))
        return out

    return Net(compute, p=nn.Linear(width, 3 * width), o=nn.Linear(width, width))


def per_head() -> Net:
    """Attention with one projection for all three, in turn for every head."""

    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.p(x).view(2, 3, 2, 12).transpose(1, 2).chunk(3, -1)
        out: Tensor = m.o(merged(F.scaled_dot_product_attention(q, k, v)))
        return out

    return Net(compute, p=nn.Linear(8, 24), o=nn.Linear(8, 8))


def transposed() -> Net:
    """Attention with one projection, stored as inputs by outputs."""

    def compute(m: Net, x: Tensor) -> Tensor:
        y = torch.addmm(m.b, x.reshape(-1, 8), m.w).view(2, 3, 24)
        out: Tensor = m.o(attend(*y.chunk(3, -1)))
        return out

    return Net(compute, w=weight(8, 24), b=weight(24), o=nn.Linear(8, 8))


def keys_and_values() -> Net:
    """Attention with one projection for keys and values."""

    def compute(m: Net, x: Tensor) -> Tensor:
        k, v = m.p(x).chunk(2, -1)
        out: Tensor = m.o(attend(m.q(x), k, v))
        return out

    return Net(compute, q=nn.Linear(8, 8), p=nn.Linear(8, 16), o=nn.Linear(8, 8))


def torchs_own() -> Net:
    attn = nn.MultiheadAttention(8, 2, batch_first=True)
    nn.init.normal_(attn.in_proj_bias)
    return Net(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=attn)


ATTENTION: dict[str, Callable[[], Net]] = {
    "separate": attention,
    "one by one": one_by_one,
    "values first": lambda: one_by_one("vqk"),
    "per head": per_head,
    "transposed": transposed,
    "keys and values": keys_and_values,
    "torch's own": torchs_own,
}


@cache
def program(layout: str) -> ExportedProgram:
    """One layout of attention, traced once in a test run."""
    return torch.export.export(ATTENTION[layout](), (X,), strict=False)


@cache
def attention_onto(source: str, target: str) -> automatch.Mapping:
    """One layout of attention matched with another."""
    return automatch.match(program(source), program(target))


@pytest.mark.parametrize("target", ATTENTION)
@pytest.mark.parametrize("source", ATTENTION)
def test_every_layout_of_attention_gives_every_other_the_same_function(source: str, target: str) -> None:
    mapping = attention_onto(source, target)
    teacher, student = ATTENTION[source](), ATTENTION[target]()
    student.load_state_dict(mapping.apply(teacher.state_dict()), strict=True)
    torch.testing.assert_close(student(X), teacher(X))
    assert set(statuses(mapping).values()) == {"structural"}


PER_HEAD = "interleave({0}, {1}, {2}, groups=2)"


@pytest.mark.parametrize(
    ("source", "target", "key", "expected"),
    [
        ("separate", "one by one", "p.weight", "cat(q.weight, k.weight, v.weight)"),
        ("separate", "one by one", "p.bias", "cat(q.bias, k.bias, v.bias)"),
        ("separate", "values first", "p.weight", "cat(v.weight, q.weight, k.weight)"),
        ("separate", "per head", "p.weight", PER_HEAD.format("q.weight", "k.weight", "v.weight")),
        ("separate", "torch's own", "a.in_proj_weight", "cat(q.weight, k.weight, v.weight)"),
        ("separate", "transposed", "w", "cat(q.weight, k.weight, v.weight).T"),
        ("one by one", "separate", "k.weight", "p.weight[8:16]"),
        ("one by one", "torch's own", "a.in_proj_weight", "p.weight"),
        ("one by one", "torch's own", "a.in_proj_bias", "p.bias"),
        ("one by one", "values first", "p.weight", "cat(p.weight[16:24], p.weight[0:8], p.weight[8:16])"),
        ("per head", "per head", "p.weight", "p.weight"),
        ("per head", "per head", "p.bias", "p.bias"),
        ("per head", "separate", "k.bias", "p.bias.reshape(2, 12)[:, 4:8].reshape(8)"),
        ("transposed", "torch's own", "a.in_proj_weight", "w.T"),
        ("torch's own", "transposed", "w", "a.in_proj_weight.T"),
        ("transposed", "transposed", "w", "w"),
        ("torch's own", "separate", "v.bias", "a.in_proj_bias[16:24]"),
        ("keys and values", "separate", "v.weight", "p.weight[8:16]"),
    ],
)
def test_fused_and_separate_projections_read_as_a_person_would_write_them(
    source: str, target: str, key: str, expected: str
) -> None:
    assert texts(attention_onto(source, target))[key] == expected


def test_keys_without_a_bias_leave_zeros_in_the_second_third() -> None:
    teacher = attention()
    teacher.k = nn.Linear(8, 8, bias=False)
    student = torchs_own()
    mapping = matched(teacher, student, X)
    assert texts(mapping)["a.in_proj_bias"] == "cat(q.bias, zeros(8), v.bias)"
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(X), teacher(X))


def test_the_keys_rows_of_a_narrower_fused_weight_come_from_the_keys() -> None:
    """The student's third rows are the teacher's keys, wherever the teacher keeps them."""
    narrow = Net(
        lambda m, x: m.down(m.a(*3 * [m.up(x)], need_weights=False)[0]),
        up=nn.Linear(8, 4),
        a=nn.MultiheadAttention(4, 2, batch_first=True),
        down=nn.Linear(4, 8),
    )
    teacher = Net(
        lambda m, x: m.down(m.o(attend(*m.p(m.up(x)).chunk(3, -1)))), **linears(["up", "o", "down"]), p=nn.Linear(8, 24)
    )
    mapping = matched(teacher, narrow, X)
    filled = mapping.apply(teacher.state_dict())
    stored = teacher.state_dict()["p.weight"]
    expected = torch.cat([stored[start : start + 4, :4] for start in (0, 8, 16)]) * sqrt(8 / 4)
    torch.testing.assert_close(filled["a.in_proj_weight"], expected)
    biases = teacher.state_dict()["p.bias"]
    assert torch.equal(filled["a.in_proj_bias"], torch.cat([biases[start : start + 4] for start in (0, 8, 16)]))
    assert len(mapping["a.in_proj_weight"].evidence.resized) == 3
    assert narrow.load_state_dict(filled).missing_keys == []


# Feed-forward parts


def gated(order: str | None) -> Net:
    """A gated feed-forward part, separate or fused in an order."""

    def separate(m: Net, x: Tensor) -> Tensor:
        out: Tensor = m.d(F.silu(m.g(x)) * m.u(x))
        return out

    def fused(m: Net, x: Tensor) -> Tensor:
        parts = dict(zip(order or "", m.p(x).chunk(2, -1), strict=True))
        out: Tensor = m.d(F.silu(parts["g"]) * parts["u"])
        return out

    return Net(separate, **linears("gud")) if order is None else Net(fused, p=nn.Linear(8, 16), d=nn.Linear(8, 8))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (None, "gu", {"p.weight": "cat(g.weight, u.weight)", "p.bias": "cat(g.bias, u.bias)"}),
        (None, "ug", {"p.weight": "cat(u.weight, g.weight)", "p.bias": "cat(u.bias, g.bias)"}),
        ("gu", None, {"g.weight": "p.weight[0:8]", "u.weight": "p.weight[8:16]"}),
        ("ug", None, {"g.weight": "p.weight[8:16]", "u.bias": "p.bias[0:8]"}),
        ("gu", "gu", {"p.weight": "p.weight", "p.bias": "p.bias"}),
        ("gu", "ug", {"p.weight": "cat(p.weight[8:16], p.weight[0:8])"}),
    ],
)
def test_gate_and_up_are_told_apart(source: str | None, target: str | None, expected: dict[str, str]) -> None:
    teacher, student = gated(source), gated(target)
    mapping = matched(teacher, student, X)
    assert {key: texts(mapping)[key] for key in expected} == expected
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(X), teacher(X))


# Norms


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def behind(norm: nn.Module) -> nn.Module:
    return nn.Sequential(norm, nn.Linear(8, 8))


def one_plus() -> nn.Module:
    return Net(lambda m, x: rms(x) * (1 + m.g), g=weight(8))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (nn.RMSNorm(8, eps=1e-6), one_plus(), {"0.g": "-1 + 0.weight"}),
        (one_plus(), nn.RMSNorm(8, eps=1e-6), {"0.weight": "1 + 0.g"}),
        (one_plus(), one_plus(), {"0.g": "0.g"}),
        (nn.LayerNorm(8, elementwise_affine=False), nn.LayerNorm(8), {"0.weight": "ones(8)", "0.bias": "zeros(8)"}),
        (nn.LayerNorm(8, bias=False), nn.LayerNorm(8), {"0.weight": "0.weight", "0.bias": "zeros(8)"}),
    ],
    ids=["onto 1 + g", "from 1 + g", "1 + g onto itself", "without weights", "without bias"],
)
def test_norms_are_converted_exactly(source: nn.Module, target: nn.Module, expected: dict[str, str]) -> None:
    teacher, student = behind(source), behind(target)
    mapping = matched(teacher, student, X)
    assert {key: texts(mapping)[key] for key in expected} == expected
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(X), teacher(X))


def test_a_batch_norm_is_converted_with_its_statistics() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))

    teacher, student, image = model(), model().eval(), weight(2, 3, 8, 8)
    teacher(image)  # its statistics are no longer those of a new norm
    teacher.eval()
    mapping = matched(teacher, student, image)
    assert texts(mapping) == {key: key for key in student.state_dict()}
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(image), teacher(image))


# Tables, ties, kernels


def language(tied: bool) -> Net:
    parts = {"e": nn.Embedding(10, 8), "l": nn.Linear(8, 8), "h": nn.Linear(8, 10, bias=False)}
    model = Net(lambda m, i: m.h(F.relu(m.l(m.e(i)))), **parts)
    if tied:
        model.h.weight = model.e.weight
    return model


def test_a_tied_target_from_an_untied_source_is_guessed_with_the_rival_listed() -> None:
    mapping = matched(language(tied=False), language(tied=True), IDS)
    for key in ("e.weight", "h.weight"):
        entry = mapping[key]
        assert (entry.status, entry.sources) == ("guessed", ("e.weight",))
        assert ("h.weight",) in [rival.sources for rival in entry.evidence.rivals]


def test_an_untied_target_takes_both_from_a_tied_source() -> None:
    teacher, student = language(tied=True), language(tied=False)
    mapping = matched(teacher, student, IDS)
    assert texts(mapping)["e.weight"] == texts(mapping)["h.weight"] == "e.weight"
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(IDS), teacher(IDS))


def positions(table: nn.Module | Tensor, compute: Callable[[Net], Tensor]) -> Net:
    parts = {"e": nn.Embedding(10, 8), "l": nn.Linear(8, 8)}
    return Net(lambda m, i: F.relu(m.l(m.e(i) + compute(m))), **parts, pos=table)


@pytest.mark.parametrize(
    ("source", "target", "key", "expected"),
    [
        ("looked up", "sliced", "pos", "pos.weight.reshape(1, 6, 8)"),
        ("sliced", "looked up", "pos.weight", "pos.reshape(6, 8)"),
        ("sliced", "sliced", "pos", "pos"),
    ],
)
def test_tables_of_positions_are_converted_whole(source: str, target: str, key: str, expected: str) -> None:
    models = {
        "looked up": lambda: positions(nn.Embedding(6, 8), lambda m: m.pos(torch.arange(3))),
        "sliced": lambda: positions(weight(1, 6, 8), lambda m: m.pos[:, :3]),
    }
    teacher, student = models[source](), models[target]()
    mapping = matched(teacher, student, IDS)
    assert texts(mapping)[key] == expected
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(IDS), teacher(IDS))


def patches(layer: nn.Module) -> Net:
    """Patches of 2 x 2 pixels, by a convolution or by a linear layer on unfolded pixels."""

    def compute(m: Net, x: Tensor) -> Tensor:
        unfolded = isinstance(m.c, nn.Linear)
        y = m.c(F.unfold(x, 2, stride=2).transpose(1, 2)) if unfolded else m.c(x).flatten(2).transpose(1, 2)
        out: Tensor = m.o(F.relu(y))
        return out

    return Net(compute, c=layer, o=nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (nn.Conv2d(3, 8, 2, 2), nn.Linear(12, 8), "c.weight.reshape(8, 12)"),
        (nn.Linear(12, 8), nn.Conv2d(3, 8, 2, 2), "c.weight.reshape(8, 3, 2, 2)"),
    ],
    ids=["conv2d onto linear", "linear onto conv2d"],
)
def test_a_kernel_and_a_linear_layer_on_unfolded_pixels_are_the_same(
    source: nn.Module, target: nn.Module, expected: str
) -> None:
    image = weight(1, 3, 6, 6)
    teacher, student = patches(source), patches(target)
    mapping = matched(teacher, student, image)
    assert texts(mapping)["c.weight"] == expected
    student.load_state_dict(mapping.apply(teacher.state_dict()))
    torch.testing.assert_close(student(image), teacher(image))


def test_a_kernel_over_frames_becomes_one_over_an_image() -> None:
    def on_frames(m: Net, x: Tensor) -> Tensor:
        out: Tensor = m.o(F.relu(m.c(x[:, :, None].expand(-1, -1, 3, -1, -1))[:, :, 0]))
        return out

    teacher = Net(on_frames, c=nn.Conv3d(3, 8, (3, 2, 2)), o=nn.Conv2d(8, 4, 1))
    student = Net(lambda m, x: m.o(F.relu(m.c(x))), c=nn.Conv2d(3, 8, 2), o=nn.Conv2d(8, 4, 1))
    mapping = matched(teacher, student, weight(1, 3, 6, 6))
    filled = mapping.apply(teacher.state_dict())
    torch.testing.assert_close(filled["c.weight"], teacher.state_dict()["c.weight"][:, :, 1] * sqrt(3))
    assert "entry 1 of 3 along axis 2" in mapping["c.weight"].evidence.resized[0]


def test_a_refused_weight_is_left_to_the_student() -> None:
    parts = {"e": nn.Embedding(10, 8), "l": nn.Linear(8, 8)}
    teacher = Net(lambda m, i: F.relu(m.l(m.e(i))), **parts)
    student = positions(weight(1, 6, 8), lambda m: m.pos[:, :3])
    mapping = matched(teacher, student, IDS)
    assert mapping["pos"].status == "unmapped"
    assert mapping["pos"].evidence.reasons == ("nothing in the source plays the role of this embedding",)
    assert student.load_state_dict(mapping.apply(teacher.state_dict()), strict=False).missing_keys == ["pos"]
