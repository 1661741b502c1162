"""The ladder: try each way to record a model in turn, and say which one it was and why those before it failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from automatch.checkpoint import open_checkpoint
from automatch.checkpoint.config import config_beside
from automatch.core.graph import Graph, Rung
from automatch.errors import InputsError, ModelError, TraceError
from automatch.interruption import let_through
from automatch.trace import draft, export, names, recorder
from automatch.trace.from_fx import Converted, convert
from automatch.trace.imagine import imagined
from automatch.trace.inputs import Inputs, derived, describe, fitted, missing, normalise, signature
from automatch.trace.isolate import duplicate, stand_in
from automatch.trace.lines import blame
from automatch.trace.recording import Recording
from automatch.trace.sizes import sizes_of
from automatch.trace.weights import Identity, Inventory, Kind, identity, of_module, of_tensors

Side: TypeAlias = "nn.Module | ExportedProgram | Mapping[str, object] | str | os.PathLike[str]"
Progress: TypeAlias = Callable[[str], None]
Record: TypeAlias = Callable[[nn.Module, Inputs, Inventory], Recording]


@dataclass(frozen=True, slots=True)
class _Attempt:
    rung: Rung
    said: str
    record: Record
    on: tuple[Literal["real", "meta"], ...] = ("real", "meta")


_LADDER = (
    _Attempt("export", "torch.export", export.record),
    _Attempt("export", "torch.export, meta tensors as CPU", export.record_imagined, on=("meta",)),
    _Attempt("draft_export", "torch.export.draft_export", draft.record, on=("real",)),  # it lives on real numbers
    _Attempt("recorder", "make_fx on a run", recorder.record),
)


@dataclass(frozen=True, slots=True)
class Take:
    """A module as a rung recorded it.

    Attributes:
        rung: The rung.
        recording: What it gave.
        converted: The same as nodes of a graph.
    """

    rung: Rung
    recording: Recording
    converted: Converted


@dataclass(frozen=True, slots=True)
class Tried:
    """What the ladder came to.

    Attributes:
        take: What the first rung gave that could record the module; None where none could.
        failures: Why those before it could not.
    """

    take: Take | None
    failures: tuple[str, ...] = ()


Taking: TypeAlias = Callable[[nn.Module, Inputs, Inventory, Progress], Tried]
"""Records a module on inputs that fit it; told what begins."""


def tried(model: nn.Module, inputs: Inputs, inventory: Inventory, say: Progress) -> Tried:
    """Record a module on the first rung that can."""
    failures: list[str] = []
    for attempt in _LADDER:
        if ("meta" if _has_meta(model) else "real") not in attempt.on:
            continue
        say(f"tracing {type(model).__name__} with {attempt.said}")
        try:
            recording = attempt.record(model, inputs, inventory)
            return Tried(Take(attempt.rung, recording, convert(recording)), tuple(failures))
        except Exception as error:  # torch and the model's own code raise whatever they like
            let_through(error)
            failures.append(f"{attempt.said} failed: {blame(error)}")
    return Tried(None, tuple(failures))


def trace(
    side: Side,
    inputs: object = None,
    *,
    label: str = "source",
    allow_untraced: bool = False,
    names_only: bool = False,
    progress: Progress | None = None,
    taking: Taking = tried,
) -> Graph:
    """Record one side of a match as a graph.

    1. A module is exported, or else drafted, or else run once and recorded; the caller's module does not change,
       and one on the meta device stays there.
    2. An exported program is read as it is.
    3. A state dict (tensors, meta tensors or bare shapes by name) or a checkpoint's path gives weights without nodes.

    Args:
        side: The model, program, state dict or path.
        inputs: Example inputs of a module: `(args, kwargs)`, a tuple of arguments, a dict of keyword arguments, or one
            tensor; None takes those that the model carries.
        label: What error messages call this side: `"source"` or `"target"`.
        allow_untraced: Whether a module that cannot be recorded is taken by names and shapes alone.
        names_only: Whether a module's code is left aside: names and shapes are all that is asked for.
        progress: Called with a line of text before each slow step.
        taking: What records a module; the ladder, or one that keeps what the ladder gives.

    Raises:
        InputsError: Inputs are missing, or the model's forward refuses them.
        TraceError: The module cannot be recorded.
        CheckpointError: The path is not a checkpoint that can be read.
        ModelError: `side` is none of the above.
    """
    say = progress or _silent
    if isinstance(side, nn.Module) and names_only:
        inventory = of_module(side)
        return Graph(inventory.weights, notes=inventory.notes, name=type(side).__name__, sizes=sizes_of(side))
    if isinstance(side, nn.Module):
        return _of_module(side, inputs, label, allow_untraced, say, taking)
    if isinstance(side, ExportedProgram):
        return _of_program(side)
    if isinstance(side, Mapping):
        return names.of_state(side, label)
    if isinstance(side, (str, os.PathLike)):
        say(f"{label}: reading {os.fspath(side)}")
        catalog = open_checkpoint(side)
        return Graph(catalog.weights, notes=catalog.notes, name=Path(side).name, sizes=config_beside(side))
    raise ModelError(
        f"the {label} is a {type(side).__name__}.\n"
        "Next: pass an nn.Module, a torch.export.ExportedProgram, a state dict, or the path of a checkpoint."
    )


def _silent(_line: str) -> None:
    return None


def _of_module(
    model: nn.Module, given: object, label: str, allow_untraced: bool, say: Progress, taking: Taking
) -> Graph:
    lazy = [name for name, value in model.named_parameters() if is_lazy(value)]
    if lazy:
        raise ModelError(f"the {label} model has parameters without a shape yet: {lazy[0]}.\nNext: run it once.")
    inventory = of_module(model)
    untraced = Graph(inventory.weights, notes=inventory.notes, name=type(model).__name__, sizes=sizes_of(model))
    asked = derived(model) if given is None else normalise(given)
    if asked is None and not allow_untraced:
        raise missing(model, label)
    if asked is None:
        return replace(untraced, notes=(*untraced.notes, "not traced: no example inputs"))
    inputs = fitted(model, asked)
    found = taking(model, inputs, inventory, lambda sentence: say(f"{label}: {sentence}"))
    if found.take is not None:
        made = found.take.converted
        notes = (*untraced.notes, *found.failures, *made.notes)
        return replace(untraced, nodes=made.nodes, outputs=made.outputs, rung=found.take.rung, notes=notes)
    _refuse_misfit(model, inputs, label)
    if allow_untraced:
        return replace(untraced, notes=(*untraced.notes, *found.failures))
    raise TraceError(
        "\n".join(
            [
                f"the {label} model {type(model).__name__} could not be traced:",
                *(f"  {failure}" for failure in found.failures),
                f"Next: change what stopped it, or pass model.state_dict() as the {label} (or allow_untraced=True) "
                "to match by names and shapes alone.",
            ]
        )
    )


def _has_meta(model: nn.Module) -> bool:
    return any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def _refuse_misfit(model: nn.Module, inputs: Inputs, label: str) -> None:
    """Runs the model once, to tell inputs that it refuses from code that cannot be traced."""
    try:
        _run_once(model, inputs)
    except Exception as error:  # the model's own code raises whatever it likes
        let_through(error)
        if _is_about_tracing(error):
            return
        raise InputsError(
            f"the {label} model {type(model).__name__} does not run on {inputs.source}: {blame(error)}\n"
            f"  its forward: {signature(model)}\n"
            f"  it was given: {describe(inputs)}\n"
            f"Next: pass {label}_inputs=(args, kwargs) that the model runs on."
        ) from error


def _run_once(model: nn.Module, inputs: Inputs) -> None:
    if _has_meta(model):
        with imagined(model, inputs) as (mode, copied, given), mode:
            copied(*given.args, **given.kwargs)
        return
    with stand_in(model, duplicate) as copied:
        args, kwargs = pytree.tree_map_only(Tensor, duplicate, (inputs.args, inputs.kwargs))
        copied(*args, **kwargs)


_ABOUT_TRACING = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
    GuardOnDataDependentSymNode,
    NotImplementedError,
)


def _is_about_tracing(error: Exception) -> bool:
    """Whether a run failed for want of numbers or of a rule for an operator's shapes, not for its inputs."""
    return isinstance(error, _ABOUT_TRACING) or "meta tensor" in str(error)


def _of_program(program: ExportedProgram) -> Graph:
    state = program.state_dict
    names_of_parameters = set(program.graph_signature.parameters)
    kinds: dict[Identity, Kind] = {
        identity(tensor): "parameter" if name in names_of_parameters else "buffer" for name, tensor in state.items()
    }
    inventory = of_tensors(state, kinds)
    converted = convert(export.of_program(program, inventory, state))
    notes = (*inventory.notes, *converted.notes)
    return Graph(inventory.weights, converted.nodes, converted.outputs, "export", notes, "ExportedProgram")
