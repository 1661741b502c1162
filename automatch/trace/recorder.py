"""The third rung: run the model once and record every operator (`make_fx`), along the branches that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from automatch.trace.inputs import Inputs, leaf_paths
from automatch.trace.isolate import duplicate, stand_in
from automatch.trace.recording import ONE_PATH, Origin, Recording
from automatch.trace.weights import Inventory, origin_of


def record(model: nn.Module, inputs: Inputs, inventory: Inventory) -> Recording:
    """Run a model on copies of its tensors and record the operators; a meta model runs on the meta device.

    The copies cost memory, but a forward may write to its parameters, and the caller's must not change.
    """
    leaves, spec = pytree.tree_flatten((inputs.args, inputs.kwargs))
    given = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    paths = leaf_paths(model, inputs)
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with stand_in(model) as copied, _module_paths(copied):

        def run(weights: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> Any:
            filled = list(leaves)
            for index, tensor in zip(given, tensors, strict=True):
                filled[index] = tensor
            args, kwargs = pytree.tree_unflatten(filled, spec)
            return torch.func.functional_call(copied, dict(zip(own, weights, strict=True)), args, kwargs)

        recorded = make_fx(
            run,
            tracing_mode="real",
            pre_dispatch=True,
            record_stack_traces=True,
            _error_on_data_dependent_ops=False,
        )([duplicate(tensor) for tensor in own.values()], [duplicate(leaves[index]) for index in given])
    origins = [origin_of(inventory, path, tensor) for path, tensor in own.items()]
    origins += [Origin("input", paths[index]) for index in given]
    placeholders = [node.name for node in recorded.graph.nodes if node.op == "placeholder"]
    return Recording(recorded, dict(zip(placeholders, origins, strict=True)), notes=(ONE_PATH,))


@contextmanager
def _module_paths(model: nn.Module) -> Iterator[None]:
    """Tells the recorder which submodule is running, which it does not find out by itself."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            for handle in _mark(path, module):
                stack.callback(RemovableHandle.remove, handle)
        yield


def _mark(path: str, module: nn.Module) -> tuple[RemovableHandle, RemovableHandle]:
    def enter(_module: nn.Module, _args: object) -> None:
        if (mode := get_proxy_mode()) is not None:
            mode.tracer.module_stack[path] = (path, type(module))

    def leave(_module: nn.Module, _args: object, _output: object) -> None:
        if (mode := get_proxy_mode()) is not None:
            mode.tracer.module_stack.pop(path, None)

    return module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)
