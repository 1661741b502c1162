"""Example inputs on the command line: a function beside the model's factory, or shapes such as `x=f32[1,16,1,8,8]`.

What a function gives is made on the CPU; tracing moves it to where the model is, which costs nothing for a model on
meta. Shapes come as tensors on meta: they have no content yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from automatch.cli.references import Factory, call, label, named, seeded
from automatch.core.graph import Shape
from automatch.errors import InputsError

if TYPE_CHECKING:
    from torch import Tensor

Inputs: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a `forward`."""

DTYPES: Mapping[str, str] = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "u8": "uint8",
    "bool": "bool",
}

GRAMMAR = f"[NAME=]DTYPE[SIZE,...] with DTYPE one of {' '.join(DTYPES)}, for example x=f32[1,16,8,8]"

_FORM = re.compile(r"(?:(?P<name>[^=]*)=)?\s*(?P<dtype>\w+)\s*\[(?P<sizes>[^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class InputShape:
    """One example input, as the user describes it.

    Attributes:
        name: The argument's name; empty for a positional one.
        dtype: Its dtype as torch spells it (`"float32"`).
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: Shape


def parse_shape(text: str) -> InputShape:
    """An input shape from its text.

    Raises:
        InputsError: The text does not follow the grammar.

    Example:
        >>> parse_shape("x=f32[1,16,8,8]")
        InputShape(name='x', dtype='float32', shape=(1, 16, 8, 8))
        >>> parse_shape("i64[]")
        InputShape(name='', dtype='int64', shape=())
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise InputsError(f"{text!r} is no input shape; the form is {GRAMMAR}")
    name, dtype, sizes = (form["name"] or "").strip(), form["dtype"], form["sizes"].strip()
    if name and not name.isidentifier():
        raise InputsError(f"{text!r}: {name!r} is no argument name; the form is {GRAMMAR}")
    if dtype not in DTYPES:
        raise InputsError(f"{text!r}: dtype {dtype!r} is unknown; the form is {GRAMMAR}")
    parts = [part.strip() for part in sizes.split(",")] if sizes else []
    wrong = [part for part in parts if not (part.isascii() and part.isdecimal())]
    if wrong:
        raise InputsError(f"{text!r}: {wrong[0]!r} is no size; the form is {GRAMMAR}")
    return InputShape(name, DTYPES[dtype], tuple(int(part) for part in parts))


def from_shapes(texts: Sequence[str]) -> Inputs:
    """Inputs of these shapes on the meta device, which say nothing of their content.

    Where a model is run, content is drawn by the use that it makes of an input: ids over the whole vocabulary, masks,
    positions in order.

    Args:
        texts: One text per input; those without a name are positional, in order.

    Raises:
        InputsError: A text does not follow the grammar, or a name comes twice.
    """
    shapes = [parse_shape(text) for text in texts]
    names = [shape.name for shape in shapes if shape.name]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InputsError(f"the input {twice[0]!r} is given more than once; give every argument one shape")
    args = tuple(_tensor(shape) for shape in shapes if not shape.name)
    return args, {shape.name: _tensor(shape) for shape in shapes if shape.name}


def from_factory(name: str, model: Factory) -> Inputs:
    """Inputs that a named function (or value) beside the model, or in another file or module, gives.

    Args:
        name: `NAME` in the model's own file or module, or `other.py:NAME`, or `package.module:NAME`.
        model: The model's factory.

    Raises:
        ModelError: The place is not there, or has nothing of that name.
        InputsError: The function needs arguments, raises, or returns something that is no inputs.
    """
    place, colon, attribute = name.rpartition(":")
    factory = named(place, attribute) if colon else named(model.reference, name)
    value = getattr(factory.module, factory.name)
    with seeded(0):  # of two functions that draw alike, both sides get the same content
        made = call(value, factory, "cpu", InputsError) if callable(value) else value
    return as_inputs(made, label(factory))


def beside(model: Factory) -> str | None:
    """The name of the inputs function that goes with a factory by its name, where there is one."""
    name = f"{model.name}_inputs"
    return name if hasattr(model.module, name) else None


def as_inputs(value: object, origin: str) -> Inputs:
    """Positional and keyword arguments from what an inputs function returns.

    Args:
        value: `(args, kwargs)`, a tuple or list of positional arguments, a dict of keyword arguments, or one argument.
        origin: What made it, for the message.

    Raises:
        InputsError: It is a bare word or number, or nothing.
    """
    from automatch.trace.inputs import normalise

    if value is None or isinstance(value, str | int | float):
        raise InputsError(
            f"{origin} gives {value!r}; expected (args, kwargs), a tuple of tensors, a dict of argument names to "
            "tensors, or one tensor"
        )
    inputs = normalise(value)
    return inputs.args, inputs.kwargs


def _tensor(shape: InputShape) -> Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, shape.dtype)
    return torch.empty(shape.shape, dtype=dtype, device="meta")
