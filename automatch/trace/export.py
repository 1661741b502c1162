"""The first rung: `torch.export`, on the tensors as they are or, for a meta model, on imagined ones on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from automatch.trace.imagine import imagined
from automatch.trace.inputs import Inputs, leaf_paths
from automatch.trace.isolate import stand_in
from automatch.trace.recording import Origin, Recording, shared_modules
from automatch.trace.weights import Inventory, origin_of


def record(model: nn.Module, inputs: Inputs, inventory: Inventory) -> Recording:
    """Export a model as it stands, real or on the meta device; parameters are not copied."""
    with stand_in(model) as copied:
        program = torch.export.export(copied, inputs.args, inputs.kwargs, strict=False)
    return of_export(program, model, inputs, inventory)


def record_imagined(model: nn.Module, inputs: Inputs, inventory: Inventory) -> Recording:
    """Export a meta model as if it were on the CPU, still without memory for its weights."""
    with imagined(model, inputs) as (_mode, copied, given):
        program = torch.export.export(copied, given.args, given.kwargs, strict=False)
    return of_export(program, model, inputs, inventory)


def of_export(program: ExportedProgram, model: nn.Module, inputs: Inputs, inventory: Inventory) -> Recording:
    """The recording of a program that was exported from a model just now."""
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    recording = of_program(program, inventory, tensors, leaf_paths(model, inputs))
    return replace(recording, shared_modules=shared_modules(model))


def of_program(
    program: ExportedProgram, inventory: Inventory, tensors: Mapping[str, torch.Tensor], paths: tuple[str, ...] = ()
) -> Recording:
    """An exported program as a recording.

    Args:
        program: The program.
        inventory: The state dict that its parameters belong to.
        tensors: The model's parameters and buffers by path.
        paths: The path of every user input, in order; without them, inputs keep the program's own names.
    """
    specs = program.graph_signature.input_specs
    users = [spec.arg.name for spec in specs if spec.kind == InputKind.USER_INPUT]
    named = dict(zip(users, paths if len(paths) == len(users) else users, strict=True))
    origins = {
        # Numbers and flags are placeholders as well, but the recorded arguments have taken them in.
        spec.arg.name: _origin(spec, inventory, tensors, named)
        for spec in specs
        if isinstance(spec.arg, TensorArgument)
    }
    return Recording(program.graph_module, origins, exported=program)


def _origin(
    spec: InputSpec, inventory: Inventory, tensors: Mapping[str, torch.Tensor], named: Mapping[str, str]
) -> Origin:
    if spec.kind == InputKind.USER_INPUT:
        return Origin("input", named[spec.arg.name])
    path = spec.target or spec.arg.name
    return origin_of(inventory, path, tensors.get(path))
