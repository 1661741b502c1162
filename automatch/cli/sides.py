"""One side of a match, from what the command line says of it to a model and its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from automatch.cli.inputs import Inputs, beside, from_factory, from_shapes, parse_shape
from automatch.cli.references import Device, Factory, build, label, parse
from automatch.errors import InputsError


@dataclass(frozen=True, slots=True)
class SideRequest:
    """What the user says of one side, read but not yet run.

    Attributes:
        which: The side, as its options are called.
        model: The model's factory, or the path of a checkpoint.
        inputs: The name of an inputs function; empty for none.
        shapes: Texts of input shapes.
    """

    which: Literal["source", "target"]
    model: Factory | Path
    inputs: str
    shapes: tuple[str, ...]


def request(
    which: Literal["source", "target"], reference: str, inputs: str | None, shapes: Sequence[str]
) -> SideRequest:
    """Read what the user says of one side; the module of a named factory is imported, the factory not yet called.

    Raises:
        ModelError: The reference names nothing.
        InputsError: A shape is malformed, or inputs are given twice, or for a checkpoint.
    """
    if inputs and shapes:
        raise InputsError(f"give either --{which}-inputs or --{which}-input, not both")
    for shape in shapes:
        parse_shape(shape)
    model = parse(reference)
    if isinstance(model, Path) and (inputs or shapes):
        raise InputsError(_no_forward(which, str(model)))
    return SideRequest(which, model, inputs or "", tuple(shapes))


def make(side: SideRequest, device: Device) -> tuple[Any, Inputs | None]:
    """The model (or state dict, or checkpoint path) on a device, and its inputs; None for inputs that nobody gave.

    Raises:
        ModelError: The factory fails.
        InputsError: The inputs function fails, or there is no forward for the inputs.
    """
    return with_inputs(side, model_of(side, device))


def model_of(side: SideRequest, device: Device) -> Any:
    """The model, or the state dict, that the factory makes on a device; the path of a checkpoint as it is.

    Raises:
        ModelError: The factory fails.
    """
    return side.model if isinstance(side.model, Path) else build(side.model, device)


def with_inputs(side: SideRequest, model: Any) -> tuple[Any, Inputs | None]:
    """A side's model with its inputs.

    Raises:
        InputsError: The inputs function fails, or there is no forward for the inputs.
    """
    if isinstance(side.model, Path):
        return model, None
    if not isinstance(model, dict):
        return model, _inputs(side, side.model)
    if side.inputs or side.shapes:
        raise InputsError(_no_forward(side.which, label(side.model)))
    return model, None


def _inputs(side: SideRequest, model: Factory) -> Inputs | None:
    if side.shapes:
        return from_shapes(side.shapes)
    name = side.inputs or beside(model)
    return from_factory(name, model) if name else None


def _no_forward(which: str, name: str) -> str:
    return f"the {which} {name} holds tensors and no code, so it takes no inputs: drop --{which}-input(s)"
