"""What was recorded of one model, kept while it is needed: one recording for each shape of its inputs.

A recording serves the structural graph and every program that is run: in search, and wherever two models part. Weights
and inputs are its leaves, so that other numbers are put in and nothing is recorded again. What a recording may have
baked in (a branch that data chose, a number of another precision) is found out by running: a program that does not give
what the model gives is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from automatch.core.graph import Graph, Rung
from automatch.interruption import let_through
from automatch.trace.inputs import Inputs, fitted
from automatch.trace.isolate import stand_in
from automatch.trace.ladder import Progress, Tried, trace, tried
from automatch.trace.program import Program, of_recording, outputs_of, record
from automatch.trace.weights import Inventory, of_module
from automatch.trace.widened import Widened, wide, wide_copy, widened

SAME = 1e-8
"""How close a program's outputs are to its model's, in units of their size; float64 keeps them within 1e-11."""

Shapes: TypeAlias = tuple[object, ...]
"""All of a model's inputs but the content of tensors."""


@dataclass(slots=True)
class Recordings:
    """One model, and what was recorded of it.

    Attributes:
        model: The caller's model, which stays as it is.
        label: What messages call it: `"source"` or `"target"`.
        takes: By shapes of the inputs, what the ladder came to.
        programs: By shapes of the inputs, the program that was right last; without weights.
    """

    model: nn.Module
    label: str = "source"
    takes: dict[Shapes, Tried] = field(default_factory=dict)
    programs: dict[Shapes, Program] = field(default_factory=dict)

    def graph(self, inputs: object, *, allow_untraced: bool = False, progress: Progress | None = None) -> Graph:
        """The model's graph, as `ladder.trace` gives it; the arguments are its own."""
        return trace(
            self.model,
            inputs,
            label=self.label,
            allow_untraced=allow_untraced,
            progress=progress,
            taking=self._taken,
        )

    def program(self, inputs: Inputs, model: nn.Module | None = None) -> Program:
        """The model as a program on these inputs, that gives what the model gives.

        Args:
            inputs: The inputs.
            model: A stand-in with other numbers, whose weights are taken; None takes the model's own.

        Raises:
            TraceError: No rung could record it.
        """
        numbers = self.model if model is None else model
        given = _placed(numbers, inputs)
        shapes = shapes_of(given)
        kept = self.programs.get(shapes) or self._converted(given, shapes)
        found = None if kept is None else _right(kept, numbers, given)
        if found is None:
            found = record(numbers, given, self._rung(shapes))
        self.programs[shapes] = replace(found, values={})  # what is kept holds no weights in float64
        return found

    def _rung(self, shapes: Shapes) -> Rung:
        """The rung that could record the model as it stands: those before it will hardly do better in float64."""
        known = self.takes.get(shapes)
        return "export" if known is None or known.take is None else known.take.rung

    def _taken(self, model: nn.Module, inputs: Inputs, inventory: Inventory, say: Progress) -> Tried:
        """What the ladder comes to on inputs of these shapes; it is climbed once."""
        shapes = shapes_of(inputs)
        if shapes not in self.takes:
            self.takes[shapes] = tried(model, inputs, inventory, say)
        return self.takes[shapes]

    def _converted(self, given: Inputs, shapes: Shapes) -> Program | None:
        """What was recorded of the model as it stands, as a program; None where it is none."""
        inventory = of_module(self.model)
        take = self._taken(self.model, fitted(self.model, given), inventory, lambda _: None).take
        if take is None:
            return None
        try:
            return of_recording(take.recording, self.model, given, inventory, take.rung)
        except Exception as error:  # torch decomposes what it recorded, and may refuse as it may any model
            let_through(error)
            return None


Both: TypeAlias = tuple[Recordings, Recordings]
"""Source and target."""


def both(source: nn.Module, target: nn.Module) -> Both:
    """Two models of which nothing was recorded yet."""
    return Recordings(source, "source"), Recordings(target, "target")


def shapes_of(inputs: Inputs) -> Shapes:
    """What inputs must have in common to share a recording: all but the content of tensors and the bits of floats.

    Example:
        >>> kinds = (torch.float32, torch.float64)
        >>> one, other = (Inputs((torch.ones(2, 3, dtype=kind), 5), {}) for kind in kinds)
        >>> shapes_of(one) == shapes_of(other), shapes_of(one) == shapes_of(Inputs((one.args[0], 6), {}))
        (True, False)
    """
    leaves, spec = pytree.tree_flatten((inputs.args, inputs.kwargs))
    return (str(spec), *map(_shape, leaves))


def _shape(leaf: object) -> object:
    if isinstance(leaf, Tensor):
        return "float" if leaf.is_floating_point() else leaf.dtype, tuple(leaf.shape)
    plain = leaf is None or isinstance(leaf, (bool, int, float, complex, str))
    return type(leaf), leaf if plain else id(leaf)


def _placed(model: nn.Module, inputs: Inputs) -> Inputs:
    """Inputs in float64, where the model is."""
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), None)
    if device is not None:
        args, kwargs = pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), (inputs.args, inputs.kwargs))
        inputs = replace(inputs, args=args, kwargs=kwargs)
    return widened(inputs)


def _right(program: Program, model: nn.Module, inputs: Inputs) -> Program | None:
    """A program on a model's numbers and on inputs; None where it does not give what the model gives."""
    try:
        made = program.on(inputs, _values(program, model))
        outputs = outputs_of(made)
    except Exception as error:  # recorded code met numbers for which it was not recorded
        let_through(error)
        return None
    wanted = _ran(model, inputs)
    return made if wanted is None or _same(outputs, wanted) else None


def _values(program: Program, model: nn.Module) -> Mapping[str, Tensor]:
    state = model.state_dict(keep_vars=True)
    return {weight.name: wide(state[weight.name].detach()) for weight in program.inventory}


def _ran(model: nn.Module, inputs: Inputs) -> tuple[Tensor, ...] | None:
    """What a model gives in float64 throughout; None where it does not run so."""
    try:
        with stand_in(model, wide_copy) as copied, Widened():
            args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (inputs.args, inputs.kwargs))
            outputs: tuple[Tensor, ...] = copied.double()(*args, **kwargs)
    except Exception as error:  # the model's own code raises whatever it likes
        let_through(error)
        return None
    return outputs


def _same(outputs: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> bool:
    """Whether outputs agree, as far as both are there."""
    return len(outputs) != len(wanted) or all(map(_close, outputs, wanted))


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    kind = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    one, other = one.to(kind), other.to(kind)
    finite = other[other.isfinite()].abs()
    size = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=SAME * size, equal_nan=True)
