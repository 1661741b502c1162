"""From a finished search to expressions: sums, biases, what outputs do not speak of, shared and stacked weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.exact.pairs import Values, converted, discovered, numbers, texts, wrong
from tests.support import Forward, Net, heads, merged, weight

X = weight(2, 5, 6)


def test_a_bias_that_the_source_lacks_is_zeros() -> None:
    source, target = (Net(lambda m, x: m.a(x), a=nn.Linear(6, 4, bias=bias)) for bias in (False, True))
    found = discovered(source, target, X)
    assert wrong(found, source, lambda v: {"a.weight": v["a.weight"], "a.bias": torch.zeros(4).double()}) == []
    assert found.weights["a.bias"].expr.shape == (4,)


def test_a_scale_that_the_source_lacks_is_ones() -> None:
    def net(affine: bool) -> Net:
        return Net(lambda m, x: m.o(m.n(m.a(x))), a=nn.Linear(6, 4), n=nn.RMSNorm(4, 1e-6, affine), o=nn.Linear(4, 2))

    found = discovered(net(False), net(True), X)
    assert wrong(found, net(False), lambda v: {**v, "n.weight": torch.ones(4).double()}) == []


def recurrent(m: Net, x: Tensor) -> Tensor:
    state = x.new_zeros(2, 4)
    for step in x.unbind(1):
        state = (F.linear(step, m.wx, m.bx) + F.linear(state, m.wh)).tanh()
    return state


def test_two_biases_of_a_recurrent_layer_onto_one() -> None:
    source = Net(lambda m, x: m.r(x)[0][:, -1], r=nn.RNN(6, 4, batch_first=True))
    target = Net(recurrent, wx=weight(4, 6), bx=weight(4), wh=weight(4, 4))
    found = discovered(source, target, X)
    expected = {"wx": "r.weight_ih_l0", "wh": "r.weight_hh_l0", "bx": "r.bias_ih_l0 + r.bias_hh_l0"}
    assert texts(found) == expected


def test_one_bias_onto_two_is_a_free_choice_that_gives_the_sum() -> None:
    source = Net(recurrent, wx=weight(4, 6), bx=weight(4), wh=weight(4, 4))
    target = Net(lambda m, x: m.r(x)[0][:, -1], r=nn.RNN(6, 4, batch_first=True))
    found = discovered(source, target, X)
    made = converted(found, numbers(source))
    torch.testing.assert_close(made["r.bias_ih_l0"] + made["r.bias_hh_l0"], numbers(source)["bx"])
    assert found.weights["r.bias_ih_l0"].free


def joined_qkv(m: Net, x: Tensor) -> Tensor:
    q, k, v = map(heads, m.qkv(x).chunk(3, -1))
    return m.o(merged(F.scaled_dot_product_attention(q, k, v)))  # type: ignore[no-any-return]


def apart(m: Net, x: Tensor) -> Tensor:
    q, k, v = (heads(part(x)) for part in (m.q, m.k, m.v))
    return m.o(merged(F.scaled_dot_product_attention(q, k, v)))  # type: ignore[no-any-return]


def by_einsum(m: Net, x: Tensor) -> Tensor:
    q, k, v = (torch.einsum("bti,ihd->bthd", x, w) + b for w, b in ((m.wq, m.bq), (m.wk, m.bk), (m.wv, m.bv)))
    return m.o(merged(F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))))  # type: ignore[no-any-return]


def stacked(m: Net, x: Tensor) -> Tensor:
    q, k, v = (heads(F.linear(x, m.w[place], m.b[place])) for place in range(3))
    return m.o(merged(F.scaled_dot_product_attention(q, k, v)))  # type: ignore[no-any-return]


ATTENTIONS: dict[str, Net] = {
    "linear": Net(apart, **{name: nn.Linear(6, 6) for name in "qkvo"}),
    "joined": Net(joined_qkv, qkv=nn.Linear(6, 18), o=nn.Linear(6, 6)),
    "stacked": Net(stacked, w=weight(3, 6, 6), b=weight(3, 6), o=nn.Linear(6, 6)),
    "einsum": Net(
        by_einsum,
        **{f"w{name}": weight(6, 2, 3) for name in "qkv"},
        **{f"b{name}": weight(2, 3) for name in "qkv"},
        o=nn.Linear(6, 6),
    ),
}


def from_linear(values: Values, kind: str) -> dict[str, Tensor]:
    """The weights of separate linear layers in another attention's form."""
    rest = {name: values[name] for name in ("o.weight", "o.bias")}
    w, b = [values[f"{name}.weight"] for name in "qkv"], [values[f"{name}.bias"] for name in "qkv"]
    if kind == "linear":
        return dict(values)
    if kind == "joined":
        return {**rest, "qkv.weight": torch.cat(w), "qkv.bias": torch.cat(b)}
    if kind == "stacked":
        return {**rest, "w": torch.stack(w), "b": torch.stack(b)}
    kernels = {f"w{name}": one.T.reshape(6, 2, 3) for name, one in zip("qkv", w, strict=True)}
    return {**rest, **kernels, **{f"b{name}": one.reshape(2, 3) for name, one in zip("qkv", b, strict=True)}}


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_the_bias_of_the_keys_follows_their_weight(kind: str) -> None:
    source = ATTENTIONS["linear"]
    found = discovered(source, ATTENTIONS[kind], X)
    assert wrong(found, source, lambda values: from_linear(values, kind)) == []
    bias = {"linear": "k.bias", "joined": "qkv.bias", "stacked": "b", "einsum": "bk"}[kind]
    assert found.weights[bias].seen < found.weights[bias].of


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_the_bias_of_the_keys_follows_back(kind: str) -> None:
    target = ATTENTIONS["linear"]
    found = discovered(ATTENTIONS[kind], target, X)
    values = {name: value.double() for name, value in target.state_dict().items()}
    source = from_linear(values, kind)
    made = ATTENTIONS[kind]
    assert set(made.state_dict()) == set(source)
    for name, value in converted(found, source).items():
        torch.testing.assert_close(value, values[name])
    assert set(found.weights) == set(values)


def grouped(m: Net, x: Tensor) -> Tensor:
    """Four heads of queries, two of keys and values, apart."""
    q = m.q(x).view(2, 5, 4, 2).transpose(1, 2)
    k, v = (part(x).view(2, 5, 2, 2).transpose(1, 2).repeat_interleave(2, 1) for part in (m.k, m.v))
    return m.o(merged(F.scaled_dot_product_attention(q, k, v)))  # type: ignore[no-any-return]


def fused_by_group(m: Net, x: Tensor) -> Tensor:
    """Rows in groups: two heads of queries, then their key and their value."""
    parts = m.qkv(x).view(2, 5, 2, 4, 2)
    q, k, v = parts[..., :2, :], parts[..., 2:3, :], parts[..., 3:, :]
    q, k, v = (one.expand(2, 5, 2, 2, 2).reshape(2, 5, 4, 2).transpose(1, 2) for one in (q, k, v))
    return m.o(merged(F.scaled_dot_product_attention(q, k, v)))  # type: ignore[no-any-return]


def in_groups(values: Values) -> dict[str, Tensor]:
    def joined(kind: str) -> Tensor:
        q, k, v = (values[f"{name}.{kind}"] for name in "qkv")
        groups = zip(q.chunk(2), k.chunk(2), v.chunk(2), strict=True)
        return torch.cat([part for group in groups for part in group])

    return {"qkv.weight": joined("weight"), "qkv.bias": joined("bias"), "o.weight": values["o.weight"]}


def test_grouped_queries_fused_group_by_group() -> None:
    source = Net(grouped, q=nn.Linear(6, 8), k=nn.Linear(6, 4), v=nn.Linear(6, 4), o=nn.Linear(8, 6))
    target = Net(fused_by_group, qkv=nn.Linear(6, 16), o=nn.Linear(8, 6))
    assert wrong(discovered(source, target, X), source, in_groups) == []


ANGLES = torch.outer(torch.arange(1.0, 6), torch.tensor([1.0, 0.1]))


def halves(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = ANGLES.cos().to(x.dtype), ANGLES.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def pairs(x: Tensor) -> Tensor:
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = ANGLES.cos().to(x.dtype), ANGLES.sin().to(x.dtype)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


def rotary(turn: Forward) -> Net:
    def compute(m: Net, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(2, 5, 2, 4).transpose(1, 2) for part in (m.q, m.k, m.v))
        return m.o(merged(F.scaled_dot_product_attention(turn(q), turn(k), v)))  # type: ignore[no-any-return]

    return Net(compute, **{name: nn.Linear(6, 8, bias=False) for name in "qkv"}, o=nn.Linear(8, 6))


def test_rotary_halves_onto_pairs() -> None:
    def expected(values: Values) -> dict[str, Tensor]:
        turned = {
            name: values[name].view(2, 2, 2, 6).transpose(1, 2).reshape(8, 6) for name in ("q.weight", "k.weight")
        }
        return {**values, **turned}

    source = rotary(halves)
    assert wrong(discovered(source, rotary(pairs), X), source, expected) == []


def listed_experts(m: Net, x: Tensor) -> Tensor:
    gate = m.gate(x).softmax(-1)
    return sum(gate[..., place, None] * m.get_submodule(f"e{place}")(x).tanh() for place in range(3))  # type: ignore[no-any-return]


def stacked_experts(m: Net, x: Tensor) -> Tensor:
    gate = m.gate(x).softmax(-1)
    return torch.einsum("bte,bteo->bto", gate, (torch.einsum("bti,eoi->bteo", x, m.w) + m.b).tanh())


def test_experts_stacked() -> None:
    source = Net(listed_experts, gate=nn.Linear(6, 3), **{f"e{place}": nn.Linear(6, 4) for place in range(3)})
    target = Net(stacked_experts, gate=nn.Linear(6, 3), w=weight(3, 4, 6), b=weight(3, 4))

    def expected(values: Values) -> dict[str, Tensor]:
        w, b = (torch.stack([values[f"e{place}.{kind}"] for place in range(3)]) for kind in ("weight", "bias"))
        return {"gate.weight": values["gate.weight"], "gate.bias": values["gate.bias"], "w": w, "b": b}

    assert wrong(discovered(source, target, X), source, expected) == []


def test_uses_of_a_target_weight_that_ask_for_different_sources_leave_it_open() -> None:
    source = Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(6, 6, bias=False), b=nn.Linear(6, 6, bias=False))
    target = Net(lambda m, x: m.a(m.a(x).tanh()), a=nn.Linear(6, 6, bias=False))
    found = discovered(source, target, X)
    assert "a.weight" not in found.weights
    assert found.problems["a.weight"]


def test_one_source_weight_for_two_of_the_target() -> None:
    source = Net(lambda m, x: m.a(m.a(x).tanh()), a=nn.Linear(6, 6))
    target = Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(6, 6), b=nn.Linear(6, 6))
    expected = {"a.weight": "a.weight", "a.bias": "a.bias", "b.weight": "a.weight", "b.bias": "a.bias"}
    assert texts(discovered(source, target, X)) == expected


def test_a_weight_that_no_output_depends_on_is_not_answered() -> None:
    net = Net(lambda m, x: (m.b(x), m.a(x))[1], a=nn.Linear(6, 4), b=nn.Linear(6, 4))
    assert set(discovered(net, net, X).weights) == {"a.weight", "a.bias"}
