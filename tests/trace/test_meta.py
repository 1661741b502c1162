from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from automatch.trace import trace
from tests.trace import nets

LARGE = """
import resource, torch
from torch import nn
from automatch.trace import trace

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def model(width, layers):
    layer = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True, device="meta")
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

trace(model(64, 1), torch.ones(1, 4, 64))  # loads what torch loads for its first export
before = peak()
large = model(4096, 40)
graph = trace(large, torch.ones(1, 4, 4096))
assert all(tensor.is_meta for tensor in large.state_dict().values())
print(sum(p.numel() for p in large.parameters()), len(graph.weights), peak() - before)
"""


def test_forty_layers_of_eight_billion_parameters_take_no_memory_for_their_weights() -> None:
    out = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True).stdout
    parameters, weights, megabytes = map(int, out.split())
    assert parameters > 8e9
    assert weights == 480
    assert megabytes < 200


def test_meta_parameters_and_buffers_stay_meta_and_the_same_objects() -> None:
    with torch.device("meta"):
        model = nets.ConvNet()
    before = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    graph = trace(model, torch.ones(2, 3, 6, 6))
    after = model.state_dict(keep_vars=True)
    assert {name: id(tensor) for name, tensor in after.items()} == before
    assert all(tensor.is_meta for tensor in after.values())
    assert graph == trace(model, torch.ones(2, 3, 6, 6, device="meta"))


def test_a_meta_model_and_a_real_one_give_the_same_graph_but_for_devices() -> None:
    real = trace(nets.ConvNet(), torch.ones(2, 3, 6, 6))
    meta = trace(nets.ConvNet().to("meta"), torch.ones(2, 3, 6, 6))
    assert real == meta


def test_a_model_that_is_partly_on_the_meta_device_is_traced() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta"))
    graph = trace(model, torch.ones(2, 4))
    assert [node.op for node in graph.nodes][-2:] == ["linear", "linear"]
    assert [parameter.is_meta for parameter in model.parameters()] == [False, False, True, True]


def test_ties_are_found_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = nets.Tied()
    assert trace(model, torch.tensor([[1]])).weights[0].aliases == ("out.weight",)
