"""What a recorded model computes: which changes the digest and the operators see, and which they must not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from automatch.core.function import function_of
from automatch.core.graph import Function, Graph, Node, Ref
from automatch.core.mapping import Side
from automatch.trace.ladder import trace

X = Node(0, "input", shape=(2, 4), dtype="float32", target="x")


def graph(*nodes: Node, outputs: tuple[int, ...] | None = None) -> Graph:
    """A graph of an input and these nodes; the last is what it returns."""
    found = (X, *nodes)
    return Graph((), found, (len(found) - 1,) if outputs is None else outputs, "export")


def op(index: int, name: str, *args: object, **kwargs: object) -> Node:
    return Node(index, name, args, tuple(sorted(kwargs.items())), (2, 4), "float32")  # type: ignore[arg-type]


def function(built: Graph) -> Function:
    found = function_of(built)
    assert found is not None
    return found


class Block(nn.Module):
    """A small model with nearly everything that a constant can hide in."""

    def __init__(
        self, names: tuple[str, str] = ("enter", "leave"), eps: float = 1e-5, wide: int = 8, act: str = "gelu"
    ) -> None:
        super().__init__()
        self.names, self.act = names, act
        self.norm = nn.LayerNorm(4, eps=eps)
        # The order in which they are registered differs from that in which they are used, as names do.
        sizes = {names[0]: (4, wide), names[1]: (wide, 4)}
        for name in sorted(names):
            self.add_module(name, nn.Linear(*sizes[name]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        enter, leave = (self.get_submodule(name) for name in self.names)
        hidden: torch.Tensor = getattr(functional, self.act)(enter(self.norm(x)))
        done: torch.Tensor = leave(hidden)
        return done


def recorded(model: nn.Module, *, rows: int = 2, device: str = "cpu") -> Function:
    return function(trace(model.to(device), torch.zeros(rows, 4, device=device)))


def test_names_seeds_and_the_device_play_no_part() -> None:
    torch.manual_seed(0)
    one = recorded(Block())
    torch.manual_seed(1)
    assert recorded(Block(("to_wide", "back"))) == one
    assert recorded(Block(), device="meta") == one


@pytest.mark.parametrize(
    ("model", "rows"), [(Block(eps=1e-6), 2), (Block(wide=12), 2), (Block(act="relu"), 2), (Block(), 3)]
)
def test_a_constant_a_size_an_operator_or_another_input_is_another_function(model: nn.Module, rows: int) -> None:
    assert recorded(model, rows=rows).digest != recorded(Block()).digest


def test_operators_are_counted_with_the_constants_that_matter() -> None:
    assert recorded(Block(eps=1e-6)).operators == (("gelu", 1), ("layer_norm(1e-06)", 1), ("linear", 2))


def test_what_is_counted_of_attention_and_moves() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = x.view(2, 2, 2).transpose(1, 2).contiguous()
            out = functional.scaled_dot_product_attention(q, q, q, is_causal=True)
            return functional.gelu(out, approximate="tanh").pow(2).mean(-1, keepdim=True)

    assert [name for name, _ in recorded(Attention()).operators] == [
        "gelu(tanh)",
        "mean",
        "pow(2)",
        "scaled_dot_product_attention(is_causal=True)",
    ]


CODE = """
import torch
from torch import nn
from automatch.core.function import function_of
from automatch.trace.ladder import trace
model = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.LayerNorm(4))
print(function_of(trace(model, torch.zeros(2, 4))).digest)
"""


def test_another_process_and_hash_seed_give_the_same_digest() -> None:
    def digest(seed: str) -> str:
        env = os.environ | {"PYTHONHASHSEED": seed}
        return subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True).stdout

    assert digest("1") == digest("2") != ""


def test_where_nothing_was_recorded_there_is_no_function() -> None:
    bare = trace({"w": torch.zeros(2)})
    assert function_of(bare) is None
    assert Side.of(bare).function is None


def test_a_side_remembers_its_function() -> None:
    built = graph(op(1, "relu", Ref(0)))
    assert Side.of(built).function == function_of(built)


def test_what_nothing_reads_does_not_matter_but_what_writes_does() -> None:
    plain = graph(op(1, "relu", Ref(0)))
    weight = Node(1, "weight", shape=(4,), dtype="float32", target="unused")
    unread = graph(weight, op(2, "exp", Ref(0)), op(3, "relu", Ref(0)))
    written = graph(op(1, "exp_", Ref(0)), op(2, "relu", Ref(0)))
    assert function_of(unread) == function_of(plain)
    assert function(written).digest != function(plain).digest


def test_leaves_are_numbered_as_they_are_read() -> None:
    def scaled(places: tuple[int, int], added: int, times: int) -> Function:
        """`(x + added) * times`, the wide weight and the narrow one in these places of the graph."""
        leaves = [Node(0, "weight", shape=shape, dtype="float32") for shape in ((2, 4), (4,))]
        nodes = tuple(replace(leaves[places.index(place)], index=place) for place in (1, 2))
        return function(graph(*nodes, op(3, "add", Ref(0), Ref(added)), op(4, "mul", Ref(3), Ref(times))))

    assert scaled((1, 2), 1, 2) == scaled((2, 1), 2, 1)
    assert scaled((1, 2), 1, 2).digest != scaled((1, 2), 2, 1).digest
    assert scaled((1, 2), 1, 2).digest != scaled((1, 2), 1, 1).digest


NORM = op(1, "layer_norm", Ref(0), (4,), None, None, 1e-5, False)
ATTENTION = op(1, "scaled_dot_product_attention", Ref(0), Ref(0), Ref(0), None, 0.0, False, scale=0.5)
RESIZED = op(1, "upsample_bilinear2d", Ref(0), None, True, (2.0, 2.0))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (replace(NORM, args=(*NORM.args[:-1], True)), NORM),
        (op(1, "to", Ref(0), "cuda:1"), op(1, "to", Ref(0), "cpu")),
        (op(1, "zeros_like", Ref(0), device="cpu", pin_memory=False), op(1, "zeros_like", Ref(0), device="meta")),
        (replace(op(1, "relu", Ref(0)), module="a.b", line="m.py:3"), op(1, "relu", Ref(0))),
    ],
)
def test_the_machine_and_the_place_in_the_code_play_no_part(one: Node, other: Node) -> None:
    assert function_of(graph(one)) == function_of(graph(other))


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (op(1, "add", Ref(0), Ref(0), alpha=2), "add(alpha=2)"),
        (op(1, "add", Ref(0), 1e-6), "add(1e-06)"),
        (op(1, "mul_", Ref(0), 2), "mul_(2)"),
        (op(1, "softmax", Ref(0), -1), "softmax"),
        (op(1, "to", Ref(0), "bfloat16"), "to(bfloat16)"),
        (op(1, "to", Ref(0), "cpu"), "to"),
        (op(1, "var", Ref(0), (-1,), False, True), "var(unbiased=False)"),
        (op(1, "var", Ref(0), (-1,), correction=0), "var(correction=0)"),
        (op(1, "einsum", "bi,bi->b", (Ref(0), Ref(0))), "einsum(bi,bi->b)"),
        (NORM, "layer_norm(1e-05)"),
        (ATTENTION, "scaled_dot_product_attention(0.5)"),
        (RESIZED, "upsample_bilinear2d(align_corners=True, 2.0, 2.0)"),
    ],
)
def test_how_an_operator_is_told(node: Node, told: str) -> None:
    assert function(graph(node)).operators == ((told, 1),)


def test_which_values_are_returned_matters() -> None:
    nodes = (op(1, "relu", Ref(0)), op(2, "exp", Ref(1)))
    assert function(graph(*nodes, outputs=(1, 2))).digest != function(graph(*nodes, outputs=(2, 1))).digest
