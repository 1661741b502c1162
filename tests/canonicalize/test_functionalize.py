from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from automatch.canonicalize.functionalize import functionalize
from automatch.core.graph import Arg, Graph, Node, Ref, Shape, operands
from automatch.trace import trace


def build(*lines: tuple[str, Sequence[Arg], Shape | None], outputs: Sequence[int]) -> Graph:
    """A graph from (op, arguments, shape), one line a node; all floating point unless the op names a dtype."""
    nodes = []
    for index, (name, args, shape) in enumerate(lines):
        op, _, dtype = name.partition(":")
        nodes.append(Node(index, op, tuple(args), shape=shape, dtype=None if shape is None else dtype or "float32"))
    return Graph((), tuple(nodes), tuple(outputs))


def text(graph: Graph) -> list[str]:
    """One line a node, inputs left out: `"3 view(1, [4]) [4]"`; the first argument is a node, sizes are lists."""

    def said(arg: Arg) -> str:
        if isinstance(arg, Ref):
            return str(arg.node)
        return repr(list(arg)) if isinstance(arg, tuple) else repr(arg)

    lines = [
        f"{node.index} {node.op}({', '.join(said(arg) for arg in node.args)})"
        + ("" if node.shape is None else f" {list(node.shape)}")
        for node in graph.nodes
        if node.op != "input"
    ]
    return [*lines, f"return {', '.join(map(str, graph.outputs))}"]


X = ("input", (), (2, 4))


def test_a_graph_without_in_place_operators_comes_back_as_it_is() -> None:
    graph = build(X, ("add", (Ref(0), 1), (2, 4)), outputs=(1,))
    assert functionalize(graph) is graph


def test_later_readers_see_the_new_value_and_earlier_ones_the_old() -> None:
    before = build(
        X,
        ("mul", (Ref(0), 2), (2, 4)),
        ("add_", (Ref(0), 1), (2, 4)),
        ("sub", (Ref(0), Ref(2)), (2, 4)),
        outputs=(1, 3, 0),
    )
    assert text(functionalize(before)) == [
        "1 mul(0, 2) [2, 4]",
        "2 add(0, 1) [2, 4]",
        "3 sub(2, 2) [2, 4]",
        "return 1, 3, 2",
    ]


@pytest.mark.parametrize(
    ("op", "plain"),
    [
        ("add_", "add"),
        ("relu_", "relu"),
        ("masked_fill_", "masked_fill"),
        ("index_put_", "index_put"),
        ("iadd", "add"),
        ("__iadd__", "add"),
        ("__imul__", "mul"),
        ("itruediv", "div"),
    ],
)
def test_names_lose_the_mark_of_being_in_place(op: str, plain: str) -> None:
    graph = functionalize(build(X, (op, (Ref(0), Ref(0)), (2, 4)), outputs=(0,)))
    assert text(graph) == [f"1 {plain}(0, 0) [2, 4]", "return 1"]


@pytest.mark.parametrize("op", ["__and__", "__or__", "__invert__"])
def test_operators_whose_names_only_end_alike_are_left_alone(op: str) -> None:
    graph = build(X, (op, (Ref(0), Ref(0)), (2, 4)), ("relu_", (Ref(0),), (2, 4)), outputs=(1,))
    assert functionalize(graph).nodes[1].op == op


def test_a_copy_is_what_it_copies() -> None:
    before = build(
        X, ("input", (), (2, 4)), ("copy_", (Ref(0), Ref(1)), (2, 4)), ("relu", (Ref(0),), (2, 4)), outputs=(3,)
    )
    assert text(functionalize(before)) == ["2 relu(1) [2, 4]", "return 2"]


def test_a_copy_is_cast_and_expanded_where_needed() -> None:
    before = build(X, ("input:int64", (), (4,)), ("copy_", (Ref(0), Ref(1)), (2, 4)), outputs=(0,))
    after = functionalize(before)
    assert text(after) == ["2 to(1, 'float32') [4]", "3 expand(2, [2, 4]) [2, 4]", "return 3"]
    assert [node.dtype for node in after.nodes] == ["float32", "int64", "float32", "float32"]


def test_a_fill_is_a_constant_or_an_expanded_value() -> None:
    filled = build(X, ("fill_", (Ref(0), 3.0), (2, 4)), outputs=(0,))
    assert text(functionalize(filled)) == ["1 full([2, 4], 3.0) [2, 4]", "return 1"]
    zeroed = build(X, ("zero_", (Ref(0),), (2, 4)), outputs=(0,))
    assert text(functionalize(zeroed)) == ["1 full([2, 4], 0) [2, 4]", "return 1"]
    value = build(X, ("input", (), ()), ("fill_", (Ref(0), Ref(1)), (2, 4)), outputs=(0,))
    assert text(functionalize(value)) == ["2 expand(1, [2, 4]) [2, 4]", "return 2"]


def test_a_write_through_a_view_scatters_into_its_base() -> None:
    before = build(
        X,
        ("slice", (Ref(0), 1, 1, 3), (2, 2)),
        ("input", (), (2, 2)),
        ("copy_", (Ref(1), Ref(2)), (2, 2)),
        ("relu", (Ref(0),), (2, 4)),
        ("neg", (Ref(1),), (2, 2)),
        outputs=(4, 5),
    )
    assert text(functionalize(before)) == [
        "1 slice(0, 1, 1, 3) [2, 2]",
        "3 scatter(0, 2) [2, 4]",
        "4 relu(3) [2, 4]",
        "5 neg(2) [2, 2]",
        "return 4, 5",
    ]


def test_writes_one_after_another_build_on_each_other() -> None:
    before = build(
        X,
        ("select", (Ref(0), 1, 0), (2,)),
        ("fill_", (Ref(1), 1.0), (2,)),
        ("select", (Ref(0), 1, 1), (2,)),
        ("fill_", (Ref(3), 2.0), (2,)),
        outputs=(0,),
    )
    assert text(functionalize(before)) == [
        "1 select(0, 1, 0) [2]",
        "2 full([2], 1.0) [2]",
        "3 scatter(0, 2) [2, 4]",
        "4 select(3, 1, 1) [2]",
        "5 full([2], 2.0) [2]",
        "6 scatter(3, 5) [2, 4]",
        "return 6",
    ]


def test_another_view_of_the_base_is_taken_anew() -> None:
    before = build(
        X,
        ("transpose", (Ref(0), 0, 1), (4, 2)),
        ("select", (Ref(1), 0, 0), (2,)),
        ("mul_", (Ref(0), 2), (2, 4)),
        ("sum", (Ref(2),), ()),
        outputs=(4,),
    )
    assert text(functionalize(before)) == [
        "1 transpose(0, 0, 1) [4, 2]",
        "2 select(1, 0, 0) [2]",
        "3 mul(0, 2) [2, 4]",
        "4 transpose(3, 0, 1) [4, 2]",
        "5 select(4, 0, 0) [2]",
        "6 sum(5) []",
        "return 6",
    ]


def test_a_write_through_a_view_of_a_view_reaches_both() -> None:
    before = build(
        X,
        ("transpose", (Ref(0), 0, 1), (4, 2)),
        ("select", (Ref(1), 0, 0), (2,)),
        ("mul_", (Ref(2), 2), (2,)),
        outputs=(1,),
    )
    assert text(functionalize(before)) == [
        "1 transpose(0, 0, 1) [4, 2]",
        "2 select(1, 0, 0) [2]",
        "3 mul(2, 2) [2]",
        "4 scatter(0, 3) [2, 4]",
        "5 transpose(4, 0, 1) [4, 2]",
        "return 5",
    ]


def test_a_write_through_a_whole_view_is_viewed_back() -> None:
    before = build(
        X,
        ("view", (Ref(0), (8,)), (8,)),
        ("unsqueeze", (Ref(1), 0), (1, 8)),
        ("relu_", (Ref(2),), (1, 8)),
        ("neg", (Ref(0),), (2, 4)),
        outputs=(4,),
    )
    assert text(functionalize(before))[2:] == [
        "3 relu(2) [1, 8]",
        "4 view(3, [2, 4]) [2, 4]",
        "5 neg(4) [2, 4]",
        "return 5",
    ]


def test_a_write_through_a_full_slice_is_the_value_itself() -> None:
    before = build(
        X,
        ("slice", (Ref(0), 0, 0, 9), (2, 4)),
        ("input", (), (2, 4)),
        ("copy_", (Ref(1), Ref(2)), (2, 4)),
        outputs=(0,),
    )
    assert text(functionalize(before)) == ["1 slice(0, 0, 0, 9) [2, 4]", "return 2"]


def test_a_rebuilt_base_that_nobody_reads_is_left_out() -> None:
    before = build(X, ("select", (Ref(0), 0, 0), (4,)), ("relu_", (Ref(1),), (4,)), outputs=(2,))
    assert text(functionalize(before)) == ["1 select(0, 0, 0) [4]", "2 relu(1) [4]", "return 2"]


def test_parts_of_a_split_share_memory_with_the_whole() -> None:
    before = build(
        X,
        ("chunk", (Ref(0), 2, 1), None),
        ("getitem", (Ref(1), 0), (2, 2)),
        ("getitem", (Ref(1), 1), (2, 2)),
        ("relu_", (Ref(2),), (2, 2)),
        ("neg", (Ref(3),), (2, 2)),
        outputs=(5, 0),
    )
    assert text(functionalize(before)) == [
        "1 chunk(0, 2, 1)",
        "2 getitem(1, 0) [2, 2]",
        "3 getitem(1, 1) [2, 2]",
        "4 relu(2) [2, 2]",
        "5 scatter(0, 4) [2, 4]",
        "6 chunk(5, 2, 1)",
        "7 getitem(6, 1) [2, 2]",
        "8 neg(7) [2, 2]",
        "return 8, 5",
    ]


def test_results_of_other_operators_have_memory_of_their_own() -> None:
    before = build(
        X,
        ("topk", (Ref(0), 2), None),
        ("getitem", (Ref(1), 0), (2, 2)),
        ("clone", (Ref(2),), (2, 2)),
        ("relu_", (Ref(3),), (2, 2)),
        outputs=(0, 2, 3),
    )
    assert text(functionalize(before))[-2:] == ["4 relu(3) [2, 2]", "return 0, 2, 4"]


def test_a_cast_to_the_same_dtype_is_the_same_memory_and_another_is_not() -> None:
    same = build(X, ("to", (Ref(0), "float32"), (2, 4)), ("relu_", (Ref(1),), (2, 4)), outputs=(0,))
    assert text(functionalize(same))[-1] == "return 2"
    other = build(X, ("to:float64", (Ref(0), "float64"), (2, 4)), ("relu_", (Ref(1),), (2, 4)), outputs=(0,))
    assert text(functionalize(other))[-1] == "return 0"


def test_dropout_outside_training_returns_its_argument_itself() -> None:
    before = build(X, ("dropout", (Ref(0), 0.1, False), (2, 4)), ("add_", (Ref(1), 1), (2, 4)), outputs=(0,))
    assert text(functionalize(before)) == ["1 dropout(0, 0.1, False) [2, 4]", "2 add(1, 1) [2, 4]", "return 2"]


def test_assignment_by_an_index_scatters() -> None:
    before = build(
        X, ("input", (), (4,)), ("setitem", (Ref(0), 0, Ref(1)), None), ("neg", (Ref(0),), (2, 4)), outputs=(3,)
    )
    assert text(functionalize(before)) == ["2 scatter(0, 1) [2, 4]", "3 neg(2) [2, 4]", "return 3"]


def test_operators_that_only_change_the_view_do_not_write() -> None:
    before = build(X, ("unsqueeze_", (Ref(0), 0), (1, 2, 4)), ("detach_", (Ref(0),), (1, 2, 4)), outputs=(0,))
    assert text(functionalize(before)) == ["1 unsqueeze(0, 0) [1, 2, 4]", "return 1"]


def test_keyword_arguments_are_followed_too() -> None:
    x, other = Node(0, "input", shape=(2,), dtype="float32"), Node(1, "input", shape=(2,), dtype="float32")
    write = Node(2, "relu_", (Ref(0),), shape=(2,), dtype="float32")
    read = Node(3, "add", (Ref(1),), (("alpha", 2), ("other", Ref(0))), shape=(2,), dtype="float32")
    after = functionalize(Graph((), (x, other, write, read), (3,)))
    assert after.nodes[3].kwargs == (("alpha", 2), ("other", Ref(2)))


class Writer(nn.Module):
    """Writes through whole views, parts and bases, and reads what it wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(6, 6)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj(x)
        flat = y.view(-1)
        self.act(flat)
        y += 1
        flat.mul_(2)
        z = torch.zeros_like(y)
        z.copy_(x)
        z.add_(y).sub_(flat.view_as(y), alpha=0.5)
        out: Tensor = z.clamp_(min=-1) + self.act(y)
        return out


def run(graph: Graph, values: dict[str, Tensor]) -> list[Tensor]:
    """Runs a graph by torch's own operators of the same names."""
    done: list[object] = []

    def given(arg: Arg) -> object:
        if isinstance(arg, Ref):
            return done[arg.node]
        if isinstance(arg, tuple):
            return [given(item) for item in arg]
        return getattr(torch, arg) if arg in ("float32", "int64") else arg

    for node in graph.nodes:
        if node.op in ("input", "weight"):
            done.append(values[node.target])
            continue
        kwargs = {name: given(value) for name, value in node.kwargs if name not in ("device", "pin_memory", "layout")}
        done.append(getattr(torch.ops.aten, node.op)(*map(given, node.args), **kwargs))
    return [done[index] for index in graph.outputs]  # type: ignore[misc]


def test_a_traced_model_computes_the_same_without_in_place_operators() -> None:
    torch.manual_seed(0)
    model, x = Writer().eval(), torch.randn(3, 6)
    recorded = trace(model, x)
    graph = functionalize(recorded)
    assert any(node.op.endswith("_") for node in recorded.nodes)
    assert not any(node.op.endswith("_") for node in graph.nodes)
    assert [node.index for node in graph.nodes] == list(range(len(graph.nodes)))
    assert all(index < node.index for node in graph.nodes for index in operands(node))
    (got,) = run(graph, {**model.state_dict(), "x": x})
    torch.testing.assert_close(got, model(x.clone()), rtol=0, atol=0)


def test_a_traced_slice_assignment_reaches_the_output() -> None:
    class Assigns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(4, 4)
            self.right = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out = torch.zeros(x.shape[0], 8)
            out[:, :4] = self.left(x)
            out[:, 4:] = self.right(x)
            return out

    graph = functionalize(trace(Assigns(), torch.ones(2, 4)))
    last = graph.nodes[graph.outputs[0]]
    assert last.op == "scatter"
    reached, todo = set(), [last.index]
    while todo:
        node = graph.nodes[todo.pop()]
        reached.add(node.target)
        todo += operands(node)
    assert {"left.weight", "left.bias", "right.weight", "right.bias"} <= reached
