from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automatch.canonicalize.self_products import recognise_self_products
from automatch.core.graph import Arg, Graph, Node, Ref
from automatch.trace import trace
from tests.support import Forward, Net, canonical, ops, weight


def graph(*lines: tuple[str, tuple[Arg, ...]]) -> Graph:
    """A graph from (op, arguments), one line a node, that returns its last node."""
    nodes = tuple(Node(i, op, args, shape=(2, 4), dtype="float32") for i, (op, args) in enumerate(lines))
    return Graph((), nodes, (len(nodes) - 1,))


def said(graph: Graph) -> list[str]:
    """One line a node: `"3 mul(0, 2)"`."""
    return [f"{node.index} {node.op}({', '.join(map(_said, node.args))})" for node in graph.nodes]


def _said(arg: Arg) -> str:
    return str(arg.node) if isinstance(arg, Ref) else repr(arg)


X = ("input", ())


def test_a_product_with_a_statistic_of_itself_is_a_norm() -> None:
    before = graph(
        X,
        ("pow", (Ref(0), 2)),
        ("mean", (Ref(1), (-1,), True)),
        ("add", (Ref(2), 1e-6)),
        ("rsqrt", (Ref(3),)),
        ("mul", (Ref(0), Ref(4))),
    )
    assert said(recognise_self_products(before))[-1] == "5 norm_by_hand(0)"


def test_the_order_of_the_factors_does_not_matter() -> None:
    before = graph(X, ("sum", (Ref(0), (-1,), True)), ("sqrt", (Ref(1),)), ("mul", (Ref(2), Ref(0))))
    assert said(recognise_self_products(before))[-1] == "3 norm_by_hand(0)"


def test_a_norm_is_taken_of_what_the_mean_was_subtracted_from() -> None:
    before = graph(
        X,
        ("mean", (Ref(0), (-1,), True)),
        ("sub", (Ref(0), Ref(1))),
        ("pow", (Ref(2), 2)),
        ("mean", (Ref(3), (-1,), True)),
        ("sqrt", (Ref(4),)),
        ("div", (Ref(2), Ref(5))),
    )
    assert said(recognise_self_products(before))[-1] == "6 norm_by_hand(0)"


def test_a_division_by_the_sum_of_exponentials_is_a_softmax() -> None:
    before = graph(
        X,
        ("amax", (Ref(0), (-1,), True)),
        ("sub", (Ref(0), Ref(1))),
        ("exp", (Ref(2),)),
        ("sum", (Ref(3), (-1,), True)),
        ("div", (Ref(3), Ref(4))),
    )
    assert said(recognise_self_products(before))[-1] == "5 softmax(0)"


@pytest.mark.parametrize(
    ("function", "name"),
    [("sigmoid", "swish_by_hand"), ("softplus", "swish_by_hand"), ("erf", "gelu_by_hand"), ("tanh", "gelu_by_hand")],
)
def test_a_product_with_a_squashed_self_is_an_activation(function: str, name: str) -> None:
    before = graph(X, (function, (Ref(0),)), ("mul", (Ref(0), Ref(1))))
    assert said(recognise_self_products(before))[-1] == f"2 {name}(0)"


@pytest.mark.parametrize(
    "lines",
    [
        [X, ("mul", (Ref(0), Ref(0)))],
        [X, ("mul", (Ref(0), 2))],
        [X, X, ("sigmoid", (Ref(1),)), ("mul", (Ref(0), Ref(2)))],
        [X, X, ("add", (Ref(0), Ref(1))), ("sigmoid", (Ref(2),)), ("mul", (Ref(0), Ref(3)))],
        [X, ("linear", (Ref(0),)), ("sigmoid", (Ref(1),)), ("mul", (Ref(0), Ref(2)))],
        [X, ("sigmoid", (Ref(0),)), ("div", (Ref(1), Ref(0)))],
        [X, ("cos", (Ref(0),)), ("mul", (Ref(0), Ref(1)))],
    ],
    ids=["square", "scalar", "gate", "function of two", "layer between", "wrong way round", "no statistic"],
)
def test_other_products_stay_as_they_are(lines: list[tuple[str, tuple[Arg, ...]]]) -> None:
    before = graph(*lines)
    assert recognise_self_products(before) == before


def test_the_nodes_keep_their_numbers_and_shapes() -> None:
    before = graph(X, ("sigmoid", (Ref(0),)), ("mul", (Ref(0), Ref(1))), ("relu", (Ref(2),)))
    after = recognise_self_products(before)
    assert [(node.index, node.shape) for node in after.nodes] == [(node.index, node.shape) for node in before.nodes]
    assert after.nodes[3] == before.nodes[3]


# Spellings that people use, traced


def by_mean_and_variance(m: Net, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).pow(2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def by_var_mean(m: Net, x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, -1, keepdim=True, unbiased=False)
    return (x - mean) * torch.rsqrt(variance + 1e-5)


def centred_first(m: Net, x: Tensor) -> Tensor:
    y = x.double()
    y = y - y.mean(-1, keepdim=True)
    return (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


NORMS: dict[str, Forward] = {
    "x * rsqrt(mean(x^2))": lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "rsqrt first": lambda m, x: torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * x,
    "through another dtype": lambda m, x: (
        x.double() * torch.rsqrt(x.double().pow(2).mean(-1, keepdim=True) + 1e-6)
    ).type_as(x),
    "x / sqrt": lambda m, x: x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "x / norm": lambda m, x: x / (x.norm(dim=-1, keepdim=True) * 8**-0.5 + 1e-8),
    "x / root of the sum": lambda m, x: x / ((x**2).sum(-1, keepdim=True) / 8).sqrt(),
    "power of -0.5": lambda m, x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).pow(-0.5),
    "times 1 / sqrt": lambda m, x: x * (1 / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()),
    "F.normalize": lambda m, x: F.normalize(x, dim=-1) * math.sqrt(8),
    "(x - mean) / sqrt(variance)": by_mean_and_variance,
    "var_mean": by_var_mean,
    "centred first": centred_first,
    "unbiased deviation": lambda m, x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6),
}


@pytest.mark.parametrize("compute", NORMS.values(), ids=list(NORMS))
def test_every_spelling_of_a_norm_is_a_norm_of_the_input(compute: Forward) -> None:
    graph = canonical(Net(compute), weight(2, 3, 8))
    (norm,) = (node for node in graph.nodes if node.op == "norm_by_hand")
    (read,) = (arg.node for arg in norm.args if isinstance(arg, Ref))
    behind = graph.nodes[read]
    while behind.op != "input":  # a cast may stand between
        assert behind.op in ("to", "_to_copy", "type_as")
        behind = graph.nodes[behind.args[0].node]  # type: ignore[union-attr]  # a cast's first argument is a node
    assert set(ops(graph)) <= {"norm_by_hand", "to", "_to_copy", "type_as", "mul"}


GELU = math.sqrt(2 / math.pi)
ACTIVATIONS: dict[str, tuple[Forward, Forward]] = {
    "x * sigmoid(x)": (lambda m, x: x * torch.sigmoid(x), lambda m, x: F.silu(x)),
    "sigmoid(x) * x": (lambda m, x: torch.sigmoid(x) * x, lambda m, x: F.silu(x)),
    "x / (1 + exp(-x))": (lambda m, x: x / (1 + torch.exp(-x)), lambda m, x: F.silu(x)),
    "gelu by erf": (lambda m, x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), lambda m, x: F.gelu(x)),
    "gelu by erf, factored": (lambda m, x: x * (torch.erf(x * 0.5**0.5) + 1) / 2, lambda m, x: F.gelu(x)),
    "gelu by tanh": (
        lambda m, x: 0.5 * x * (1 + torch.tanh(GELU * (x + 0.044715 * x.pow(3)))),
        lambda m, x: F.gelu(x, approximate="tanh"),
    ),
    "gelu by tanh, factored": (
        lambda m, x: 0.5 * x * (1 + torch.tanh(x * GELU * (1 + 0.044715 * x * x))),
        lambda m, x: F.gelu(x, approximate="tanh"),
    ),
    "mish": (lambda m, x: x * torch.tanh(F.softplus(x)), lambda m, x: F.mish(x)),
    "hard swish": (lambda m, x: x * F.relu6(x + 3) / 6, lambda m, x: F.hardswish(x)),
}


@pytest.mark.parametrize(("by_hand", "whole"), ACTIVATIONS.values(), ids=list(ACTIVATIONS))
def test_every_spelling_of_an_activation_is_one_operator(by_hand: Forward, whole: Forward) -> None:
    x = weight(2, 8)
    torch.testing.assert_close(Net(by_hand)(x), Net(whole)(x))  # the table itself is right
    found = [op for op in ops(canonical(Net(by_hand), x)) if op not in ("mul", "div")]
    assert found in (["swish_by_hand"], ["gelu_by_hand"])


@pytest.mark.parametrize("safe", [True, False])
def test_a_softmax_by_hand_is_a_softmax(safe: bool) -> None:
    def compute(m: Net, x: Tensor) -> Tensor:
        powers = (x - x.amax(-1, keepdim=True) if safe else x).exp()
        return powers / powers.sum(-1, keepdim=True)

    graph = canonical(Net(compute), weight(2, 8))
    assert ops(graph) == ["softmax"]


def test_a_gate_is_no_norm_and_no_activation() -> None:
    model = Net(lambda m, x: m.up(x) * torch.sigmoid(m.gate(x)), up=nn.Linear(8, 8), gate=nn.Linear(8, 8))
    recorded = trace(model, (weight(2, 8),))
    assert [node.op for node in recognise_self_products(recorded).nodes] == [node.op for node in recorded.nodes]
