from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automatch.core.graph import Graph, Node, operands
from automatch.trace import trace
from tests.trace import nets


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes if node.op not in ("weight", "input", "constant")]


def nodes_of(graph: Graph, op: str) -> list[Node]:
    return [node for node in graph.nodes if node.op == op]


def weights_used(graph: Graph) -> set[str]:
    return {node.target for node in graph.nodes if node.op == "weight"}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_transformer_encoder_keeps_linear_norm_and_attention_whole(device: str) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, device=device)
    graph = trace(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.ones(2, 5, 8))
    assert graph.rung == "export"
    assert graph.name == "TransformerEncoder"
    assert ops(graph).count("scaled_dot_product_attention") == 2
    assert ops(graph).count("layer_norm") == 4
    assert ops(graph).count("linear") == 8
    assert weights_used(graph) == {weight.name for weight in graph.weights}


def test_nodes_come_after_what_they_read_and_are_numbered_in_order() -> None:
    graph = trace(nets.Attention(), torch.ones(2, 5, 8))
    assert [node.index for node in graph.nodes] == list(range(len(graph.nodes)))
    assert all(index < node.index for node in graph.nodes for index in operands(node))


def test_attention_is_recorded_as_parts_although_its_fast_path_was_on() -> None:
    assert torch.backends.mha.get_fastpath_enabled()
    graph = trace(nets.Attention(), torch.ones(2, 5, 8))
    assert "scaled_dot_product_attention" in ops(graph)
    assert "_native_multi_head_attention" not in ops(graph)
    assert torch.backends.mha.get_fastpath_enabled()


def test_batch_norm_is_recorded_in_eval_mode_and_the_model_stays_in_train_mode() -> None:
    model = nets.ConvNet().train()
    graph = trace(model, torch.ones(2, 3, 6, 6))
    (norm,) = nodes_of(graph, "batch_norm")
    assert norm.args[5] is False
    assert norm.module == "norm"
    assert all(module.training for module in model.modules())
    kinds = {weight.name: weight.kind for weight in graph.weights}
    assert kinds["norm.running_mean"] == "buffer"
    assert kinds["norm.weight"] == "parameter"
    assert "norm.num_batches_tracked" in kinds
    assert "norm.num_batches_tracked" not in weights_used(graph)


def test_in_place_operators_and_sliced_assignment_are_recorded_as_they_are() -> None:
    graph = trace(nets.InPlace(), torch.ones(2, 4))
    assert "relu_" in ops(graph)
    assert "copy_" in ops(graph)
    assert "fill_" in ops(graph)
    assert graph.nodes[graph.outputs[0]].op == "add"


def test_tied_weights_are_one_entry_with_aliases_and_one_node() -> None:
    graph = trace(nets.Tied(), torch.tensor([[1, 2, 3]]))
    assert [(weight.name, weight.aliases) for weight in graph.weights] == [
        ("embed.weight", ("out.weight",)),
        ("unused.weight", ()),
        ("unused.bias", ()),
    ]
    assert weights_used(graph) == {"embed.weight"}
    (table,) = nodes_of(graph, "weight")
    assert all(table.index in operands(node) for node in nodes_of(graph, "embedding") + nodes_of(graph, "linear"))


def test_keyword_arguments_keep_their_names_in_any_order_and_outputs_are_the_tensor_leaves() -> None:
    left, right = torch.ones(2, 4), torch.ones(3, 2, 4)
    graph = trace(nets.KeywordsOnly(), {"right": right, "twice": False, "left": left})
    assert {node.target: node.shape for node in nodes_of(graph, "input")} == {"left": (2, 4), "right": (3, 2, 4)}
    assert [graph.nodes[index].op for index in graph.outputs] == ["add", "input", "abs"]


def test_nested_inputs_are_named_by_their_path() -> None:
    class Nested(nn.Module):
        def forward(self, batch: dict[str, Tensor], *rest: Tensor) -> Tensor:
            return batch["a"] + batch["b"] + rest[0] + rest[1]

    one = torch.ones(2)
    graph = trace(Nested(), ({"a": one, "b": one}, one, one))
    assert [node.target for node in nodes_of(graph, "input")] == ["batch['a']", "batch['b']", "rest[0]", "rest[1]"]


def test_tensors_inside_unknown_output_objects_are_outputs() -> None:
    graph = trace(nets.WithCache(), torch.ones(2, 4))
    assert graph.rung == "export"
    assert [graph.nodes[index].op for index in graph.outputs] == ["add", "linear", "mul"]


def test_gradient_and_autocast_regions_are_inlined() -> None:
    graph = trace(nets.Regions(), torch.ones(2, 4))
    assert graph.rung == "export"
    assert ops(graph) == ["linear", "mul", "mean", "sub", "einsum"]
    assert nodes_of(graph, "constant")[0].target == "scale"
    assert {node.module for node in graph.nodes if node.op == "linear"} == {"proj"}


def test_control_flow_stays_one_opaque_node_with_a_note() -> None:
    class Cond(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.cond(x.sum() > 0, lambda y: self.proj(y), lambda y: y * 2, (x,))
            return out

    graph = trace(Cond(), torch.ones(2, 4))
    (cond,) = nodes_of(graph, "cond")
    assert len(operands(cond)) == 4  # the predicate, x, and both weights
    assert any("opaque" in note for note in graph.notes)


def test_module_paths_are_those_of_named_modules_also_for_shared_modules() -> None:
    model = nets.Shared()
    graph = trace(model, torch.ones(2, 4))
    paths = dict(model.named_modules())
    assert [node.module for node in nodes_of(graph, "linear")] == ["first.0", "first.0"]
    assert all(node.module in paths for node in graph.nodes)


def test_lines_point_into_the_models_code_not_into_torch() -> None:
    graph = trace(nets.ConvNet(), torch.ones(1, 3, 6, 6))
    assert all(node.line.startswith("nets.py:") for node in graph.nodes if node.op not in ("weight", "input"))


def test_sizes_dtypes_and_lists_become_plain_values() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.view(x.shape[0], -1).to(torch.float64)
            return torch.cat([y, torch.zeros(x.shape[0], 2, dtype=torch.float64, device=x.device)], dim=1)

    graph = trace(Plain(), torch.ones(2, 3, 4))
    view, cast, zeros, cat = (graph.nodes[index] for index in range(1, 5))
    assert view.args[1] == (2, -1)
    assert "float64" in (*cast.args, *dict(cast.kwargs).values())
    assert dict(zeros.kwargs)["device"] == "cpu"
    assert cat.shape == (2, 14)
    assert cat.dtype == "float64"


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_one_operator(kind: type[nn.LSTM | nn.GRU], device: str) -> None:
    graph = trace(kind(4, 6, 2, device=device), torch.ones(5, 1, 4))
    assert sum(op in ("lstm", "gru") for op in ops(graph)) == 1
    assert weights_used(graph) == {weight.name for weight in graph.weights}


def test_weight_norm_reads_its_two_parameters() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    graph = trace(model, torch.ones(1, 3))
    assert "_weight_norm" in ops(graph)
    assert weights_used(graph) == {weight.name for weight in graph.weights}


def test_two_traces_of_one_model_are_equal() -> None:
    model, x = nets.ConvNet(), torch.ones(2, 3, 6, 6)
    assert trace(model, x) == trace(model, x)


def test_inputs_are_cast_to_the_models_dtype() -> None:
    graph = trace(nets.Attention().double(), torch.ones(2, 5, 8))
    assert nodes_of(graph, "input")[0].dtype == "float64"


def test_a_forward_set_on_the_instance_is_the_one_that_is_traced() -> None:
    model = nets.ConvNet()
    plain = model.forward

    def doubled(x: Tensor) -> Tensor:
        return plain(x) * 2

    model.forward = doubled  # type: ignore[method-assign]
    graph = trace(model.train(), torch.ones(1, 3, 6, 6))
    assert graph.nodes[graph.outputs[0]].op == "mul"
    assert nodes_of(graph, "batch_norm")[0].args[5] is False
    assert model.training
    assert model.norm.training
