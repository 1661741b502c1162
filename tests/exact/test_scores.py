"""The scale of attention scores, inside the weights that make the queries: the function stays, and spellings match."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.exact.fold import folded
from automatch.exact.form import form
from automatch.exact.graph_copy import draft
from automatch.exact.scores import scores_scaled
from automatch.trace.program import Program, name_of
from tests.exact.pairs import EFFECTIVE, Values, mismatched, operators, recorded, same_function
from tests.support import Forward, Net, weight

WIDTH, HEADS, LENGTH = 12, 2, 5  # no power of two, so that no rounding of the scale goes unseen
SCALE = (WIDTH / HEADS) ** -0.5
X = weight(2, LENGTH, WIDTH)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def heads(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:-1], -1, WIDTH // HEADS).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def separate(attend: Attend, m: Net, x: Tensor) -> Tensor:
    return m.o(joined(attend(heads(m.q(x)), heads(m.k(x)), heads(m.v(x)))))  # type: ignore[no-any-return]


def fused(attend: Attend, m: Net, x: Tensor) -> Tensor:
    return m.o(joined(attend(*map(heads, m.qkv(x).chunk(3, -1)))))  # type: ignore[no-any-return]


def interleaved(attend: Attend, m: Net, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).view(2, LENGTH, HEADS, 3, -1).permute(3, 0, 2, 1, 4)
    return m.o(joined(attend(q, k, v)))  # type: ignore[no-any-return]


def eager(scale: Callable[[Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scale(q @ k.transpose(-1, -2)).softmax(-1) @ v


MASK = torch.zeros(LENGTH, LENGTH).masked_fill(torch.ones(LENGTH, LENGTH).triu(1) > 0, -1e9)


ROTATION = torch.rand(LENGTH, WIDTH // HEADS // 2, generator=torch.Generator().manual_seed(1)).double().repeat(1, 2)


def rotary(x: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * ROTATION.cos() + torch.cat([-right, left], -1) * ROTATION.sin()


def written_in_halves(x: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    cos, sin = (table[:, : WIDTH // HEADS // 2] for table in (ROTATION.cos(), ROTATION.sin()))
    made = torch.empty_like(x)
    made[..., : WIDTH // HEADS // 2] = left * cos - right * sin
    made[..., WIDTH // HEADS // 2 :] = right * cos + left * sin
    return made.type_as(x)


def as_complex(x: Tensor) -> Tensor:
    angles = ROTATION[:, : WIDTH // HEADS // 2]
    turned = torch.view_as_complex(x.reshape(*x.shape[:-1], 2, -1).transpose(-1, -2).contiguous())
    turned = turned * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).transpose(-1, -2).flatten(-2)


SPELLINGS: dict[str, Attend] = {
    "fused": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "own scale": lambda q, k, v: F.scaled_dot_product_attention(q * SCALE, k, v, scale=1.0),
    "scores divided": lambda q, k, v: eager(lambda s: s * SCALE, q, k, v),
    "scores divided by a tensor": lambda q, k, v: eager(
        lambda s: s / torch.tensor(2.0).double() / torch.tensor(0.5 / SCALE).double(), q, k, v
    ),
    "queries scaled": lambda q, k, v: eager(lambda s: s, q * SCALE, k, v),
    "keys scaled": lambda q, k, v: eager(lambda s: s, q, k * SCALE, v),
    "both scaled": lambda q, k, v: eager(lambda s: s, q * SCALE**0.5, k * SCALE**0.5, v),
    "moved scores": lambda q, k, v: eager(lambda s: s.flatten(0, 1).view(2, HEADS, LENGTH, LENGTH) * SCALE, q, k, v),
    "einsum": lambda q, k, v: (torch.einsum("bhid,bhjd->bhij", q, k) * SCALE).softmax(-1) @ v,
    "keys first": lambda q, k, v: (k @ q.transpose(-1, -2) * SCALE).softmax(-2).transpose(-1, -2) @ v,
    "transposed scores": lambda q, k, v: ((k @ q.transpose(-1, -2)).transpose(-1, -2) * SCALE).softmax(-1) @ v,
    "added in the product": lambda q, k, v: joined_baddbmm(q, k, v),
}


def joined_baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    flat = [part.flatten(0, 1) for part in (q, k, v)]
    scores = torch.baddbmm(q.new_zeros(1, LENGTH, LENGTH), flat[0], flat[1].transpose(1, 2), beta=1.0, alpha=SCALE)
    return (scores.softmax(-1) @ flat[2]).view(q.shape)


def layers(*names: str) -> dict[str, nn.Module]:
    return {name: nn.Linear(WIDTH, WIDTH * (3 if name == "qkv" else 1)) for name in (*names, "o")}


def separate_net(attend: Attend) -> Net:
    return Net(lambda m, x: separate(attend, m, x), **layers("q", "k", "v"))


def fused_net(attend: Attend, spelled: Callable[[Attend, Net, Tensor], Tensor] = fused) -> Net:
    return Net(lambda m, x: spelled(attend, m, x), **layers("qkv"))


def scaled(net: nn.Module) -> Program:
    before = recorded(net, X)
    after = scores_scaled(before)
    assert same_function(before, after)
    return after


def factors(program: Program) -> dict[str, float]:
    """By weight, the factor that the form's leaf has on it."""
    return {leaf.weights[0]: leaf.scale for leaf in form(program, program.outputs, EFFECTIVE).leaves}


def arithmetic(program: Program) -> set[str]:
    module = form(program, program.outputs, EFFECTIVE).module
    return {name_of(node) for node in module.graph.nodes} & {"mul", "div"}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_has_the_scale_in_the_weights_of_the_queries(spelling: str) -> None:
    after = scaled(separate_net(SPELLINGS[spelling]))
    found = factors(after)
    assert found.pop("q.weight") == pytest.approx(SCALE)
    assert found.pop("q.bias") == pytest.approx(SCALE)
    assert set(found.values()) == {1.0}
    assert arithmetic(after) == set()
    assert all(node.kwargs.get("alpha", 1.0) == 1 for node in after.graph.nodes)


def same(values: Values) -> Values:
    return values


def with_scaled_queries(values: Values) -> Values:
    return {name: value * SCALE if name.startswith("q.") else value for name, value in values.items()}


def split(values: Values) -> Values:
    made = {name: value for name, value in values.items() if name.startswith("o.")}
    for end in ("weight", "bias"):
        parts = values[f"qkv.{end}"].chunk(3)
        made.update({f"{name}.{end}": part for name, part in zip("qkv", parts, strict=True)})
    return made


def split_by_heads(values: Values) -> Values:
    moved = dict(values)
    for end in ("weight", "bias"):
        rows = values[f"qkv.{end}"]
        parted = rows.reshape(HEADS, 3, WIDTH // HEADS, *rows.shape[1:])
        moved[f"qkv.{end}"] = parted.transpose(0, 1).flatten(0, 2)
    return split(moved)


def unscaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return eager(lambda scores: scores, q, k, v)


whole = SPELLINGS["fused"]


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return eager(lambda scores: scores / SCALE**-1 + MASK, q, k, v)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def capped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return eager(lambda scores: 5 * (scores * SCALE / 5).tanh(), q, k, v)


def capped_after(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return eager(lambda scores: 5 * scores.tanh(), q * (SCALE / 5), k, v)


def turned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return whole(rotary(q), rotary(k), v)


def turned_after(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return unscaled(rotary(q * SCALE), rotary(k), v)


def turned_as_complex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return whole(as_complex(q), as_complex(k), v)


def turned_in_halves(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return unscaled(written_in_halves(q), written_in_halves(k * SCALE), v)


def in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([whole(part, k, v) for part in torch.split(q, 3, 2)], 2)


def grouped(attend: Attend, m: Net, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).split([WIDTH, WIDTH // 2, WIDTH // 2], -1)
    k, v = (heads(part).repeat_interleave(HEADS, 1) for part in (k, v))
    return m.o(joined(attend(heads(q), k, v)))  # type: ignore[no-any-return]


def grouped_net(attend: Attend) -> Net:
    return Net(lambda m, x: grouped(attend, m, x), qkv=nn.Linear(WIDTH, 2 * WIDTH), o=nn.Linear(WIDTH, WIDTH))


PAIRS: dict[str, tuple[Net, Net, Callable[[Values], Values]]] = {
    "scale in the weights": (separate_net(whole), separate_net(unscaled), with_scaled_queries),
    "fused, separate": (fused_net(whole), separate_net(SPELLINGS["both scaled"]), split),
    "interleaved, separate": (fused_net(whole, interleaved), separate_net(SPELLINGS["queries scaled"]), split_by_heads),
    "grouped": (grouped_net(whole), grouped_net(SPELLINGS["keys scaled"]), same),
    "mask": (fused_net(masked), separate_net(causal), split),
    "cap": (separate_net(capped), separate_net(capped_after), same),
    "rotary": (fused_net(turned), separate_net(turned_after), split),
    "rotary, complex": (fused_net(turned), separate_net(turned_as_complex), split),
    "rotary, written in halves": (fused_net(turned_in_halves), separate_net(turned), split),
    "queries in parts": (separate_net(in_parts), separate_net(SPELLINGS["keys scaled"]), same),
}


@pytest.mark.parametrize("rest", [scores_scaled, lambda program: folded(scores_scaled(program))])
@pytest.mark.parametrize("pair", PAIRS)
def test_spellings_match(pair: str, rest: Callable[[Program], Program]) -> None:
    source, target, convert = PAIRS[pair]
    before = recorded(source, X), recorded(target, X)
    after = rest(before[0]), rest(before[1])
    assert all(same_function(*programs) for programs in zip(before, after, strict=True))
    assert mismatched(*after, convert) == []


def normed_by_hand(x: Tensor, norm: nn.Module) -> Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * norm.get_parameter("weight")


def with_norms(attend: Attend, norm: Callable[[Tensor, nn.Module], Tensor], **norms: nn.Module) -> Net:
    def compute(m: Net, x: Tensor) -> Tensor:
        return separate(lambda q, k, v: attend(norm(q, m.nq), norm(k, m.nk), v), m, x)

    return Net(compute, **layers("q", "k", "v"), **norms)


def rms_norms() -> dict[str, nn.Module]:
    return {name: nn.RMSNorm(WIDTH // HEADS, eps=1e-6) for name in ("nq", "nk")}


def with_scaled_norm(values: Values) -> Values:
    return {**values, "nq.weight": values["nq.weight"] * SCALE}


def test_a_norm_of_the_queries_takes_the_scale() -> None:
    source = with_norms(turned, lambda x, norm: norm(x), **rms_norms())
    target = with_norms(lambda q, k, v: unscaled(rotary(q), rotary(k), v), normed_by_hand, **rms_norms())
    programs = scaled(source), scaled(target)
    assert [factors(program)["nq.weight"] for program in programs] == [pytest.approx(SCALE), 1.0]
    assert [factors(program)["q.weight"] for program in programs] == [1.0, 1.0]
    assert mismatched(*programs, with_scaled_norm) == []


def test_a_norm_with_a_bias_takes_it_on_both() -> None:
    norms = {name: nn.LayerNorm(WIDTH // HEADS) for name in ("nq", "nk")}
    found = factors(scaled(with_norms(whole, lambda x, norm: norm(x), **norms)))
    assert {name: found[name] for name in ("nq.weight", "nq.bias", "nk.weight", "q.weight")} == {
        "nq.weight": pytest.approx(SCALE),
        "nq.bias": pytest.approx(SCALE),
        "nk.weight": 1.0,
        "q.weight": 1.0,
    }


def test_torch_s_own_attention_module_matches() -> None:
    source = Net(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(WIDTH, HEADS, batch_first=True))

    def convert(values: Values) -> Values:
        made = {f"o.{end}": values[f"a.out_proj.{end}"] for end in ("weight", "bias")}
        for end in ("weight", "bias"):
            parts = values[f"a.in_proj_{end}"].chunk(3)
            made.update({f"{name}.{end}": part for name, part in zip("qkv", parts, strict=True)})
        return made

    assert mismatched(scaled(source), scaled(separate_net(whole)), convert) == []


def test_a_rotary_table_that_stored_frequencies_make_takes_nothing() -> None:
    places = torch.arange(LENGTH)[:, None]

    def compute(m: Net, x: Tensor) -> Tensor:
        table = (places * m.frequencies).repeat(1, 2)
        return separate(lambda q, k, v: whole(q * table.cos() + q.roll(3, -1) * table.sin(), k, v), m, x)

    net = Net(compute, frequencies=nn.Buffer(torch.rand(WIDTH // HEADS // 2)), **layers("q", "k", "v"))
    assert factors(scaled(net))["q.weight"] == pytest.approx(SCALE)


def test_queries_that_are_weights_themselves_are_scaled() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        return m.o(joined(whole(heads(m.query), heads(m.k(x)), heads(m.v(x)))))  # type: ignore[no-any-return]

    net = Net(compute, query=weight(2, 3, WIDTH), **layers("k", "v"))
    assert factors(scaled(net))["query"] == pytest.approx(SCALE)


def test_two_queries_of_one_contraction_take_each_its_own_scale() -> None:
    def twice(m: Net, x: Tensor) -> Tensor:
        one, two, k = map(heads, m.qkv(x).chunk(3, -1))
        left = F.scaled_dot_product_attention(one, k, k, scale=0.3)
        right = F.scaled_dot_product_attention(two, k, k, scale=0.7)
        return m.o(joined(left - right))  # type: ignore[no-any-return]

    before = recorded(Net(twice, **layers("qkv")), X)
    after = scores_scaled(before)
    assert same_function(before, after)
    assert [node.kwargs["scale"] for node in after.graph.nodes if name_of(node).startswith("scaled_dot")] == [1.0, 1.0]
    constants = [after.fixed[node].flatten().tolist() for node in after.fixed if node not in before.fixed]
    rows = [[0.3, 1.0, 1.0], [1.0, 0.7, 1.0]]
    assert sorted(row for row in constants if len(row) == 3 * WIDTH) == sorted(
        [value for value in row for _ in range(WIDTH)] for row in 2 * rows
    )


def test_scores_under_two_softmaxes_are_scaled_once() -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        scores = heads(m.q(x)) @ heads(m.k(x)).transpose(-1, -2) * 0.3
        return m.o(joined((scores.softmax(-1) - (2 * scores).softmax(-1)) @ heads(m.v(x))))  # type: ignore[no-any-return]

    found = factors(scaled(Net(compute, **layers("q", "k", "v"))))
    assert found["q.weight"] == pytest.approx(0.3)


def also_read(m: Net, x: Tensor) -> Tensor:
    q = m.q(x)
    return m.o(joined(whole(heads(q), heads(m.k(x)), heads(m.v(x)))) * q.tanh())  # type: ignore[no-any-return]


def of_two_scales(m: Net, x: Tensor) -> Tensor:
    q, k, v = heads(m.q(x)), heads(m.k(x)), heads(m.v(x))
    return m.o(joined(whole(q, k, v) - F.scaled_dot_product_attention(q, k, v, scale=1.5)))  # type: ignore[no-any-return]


ALONE: dict[str, Forward] = {
    "queries without a scale of their own": lambda m, x: separate(
        lambda q, k, v: whole(F.normalize(q, dim=-1), k, v), m, x
    ),
    "queries that something else reads": also_read,
    "queries that are keys": lambda m, x: m.o(joined(whole(q := heads(m.q(x)), q, heads(m.k(x))))) + m.v(x),
    "stored queries that are keys": lambda m, x: whole(
        q := heads(m.q.weight[None]), q, heads(m.k(x).repeat(1, 3, 1)[:, :WIDTH])
    ),
    "one query at two scales": of_two_scales,
    "a shifted query": lambda m, x: separate(lambda q, k, v: whole(q + 1, k, v), m, x),
    "queries times data": lambda m, x: separate(lambda q, k, v: whole(q * v, k, v), m, x),
    "a router": lambda m, x: m.o((x @ m.q.weight / 2).softmax(-1)) + m.k(x) + m.v(x),
}


@pytest.mark.parametrize("case", ALONE)
def test_what_cannot_be_scaled_alone_stays(case: str) -> None:
    net = Net(ALONE[case], **layers("q", "k", "v"))
    before = recorded(net, X)
    after = scores_scaled(before)
    assert same_function(before, after)
    live = draft(before).finished()
    assert operators(after) == operators(live)
    assert [node.kwargs for node in after.graph.nodes] == [node.kwargs for node in live.graph.nodes]


def test_a_scale_that_values_share_stays_where_it_is() -> None:
    assert "mul" in arithmetic(scaled(fused_net(whole, half)))


def half(attend: Attend, m: Net, x: Tensor) -> Tensor:
    return m.o(joined(attend(*map(heads, (m.qkv(x) * 0.5).chunk(3, -1)))))  # type: ignore[no-any-return]
