"""Example inputs: given in any of the usual forms or derived, then moved to where the model is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.utils import _pytree as pytree

from automatch.checkpoint.dtypes import dtype_name
from automatch.errors import InputsError
from automatch.interruption import let_through

_CASTABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


GIVEN = "the given inputs"
"""Where inputs of the caller's come from, as a message says it."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model's forward is called with.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        source: Where they come from, as an error message says it.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    source: str = GIVEN


def derived(model: nn.Module) -> Inputs | None:
    """The inputs that a model carries: `example_input_array` (Lightning) or `dummy_inputs` (transformers)."""
    for attribute in ("example_input_array", "dummy_inputs"):
        found = getattr(model, attribute, None)
        if found is not None:
            return replace(normalise(found), source=f"the model's own {attribute}")
    return None


def needed(model: nn.Module, given: object, label: str) -> Inputs:
    """The inputs that the caller gives, or those that the model carries.

    Raises:
        InputsError: There are none.
    """
    found = derived(model) if given is None else normalise(given)
    if found is None:
        raise missing(model, label)
    return found


def missing(model: nn.Module, label: str) -> InputsError:
    """The error for a model without inputs."""
    return InputsError(
        f"the {label} model {type(model).__name__} needs example inputs to be traced: "
        f"its forward is {signature(model)}, and it carries neither example_input_array nor dummy_inputs.\n"
        f"Next: pass {label}_inputs=(args, kwargs), for example a tuple of tensors; "
        f"or pass model.state_dict() to go by names and shapes alone."
    )


def normalise(inputs: object) -> Inputs:
    """`(args, kwargs)`, a tuple of arguments, a dict of keyword arguments, or one argument.

    Example:
        >>> normalise((torch.ones(2), 3)).args[1]
        3
        >>> normalise({"x": 1}).kwargs
        {'x': 1}
        >>> normalise(((), {"x": 1})).kwargs
        {'x': 1}
    """
    if isinstance(inputs, (tuple, list)):
        if len(inputs) == 2 and isinstance(inputs[0], (tuple, list)) and _is_kwargs(inputs[1]):
            return Inputs(tuple(inputs[0]), dict(inputs[1]))
        return Inputs(tuple(inputs), {})
    if _is_kwargs(inputs):
        return Inputs((), dict(inputs))
    return Inputs((inputs,), {})


def _is_kwargs(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def fitted(model: nn.Module, inputs: Inputs) -> Inputs:
    """The inputs on the model's device and, if floating, in the dtype of its first floating parameter.

    A model with anything on the meta device gets meta inputs; one without tensors leaves them as they are. The
    caller's tensors are not changed.

    Raises:
        InputsError: An input has no numbers (it is on the meta device) but the model has.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if not tensors:
        return inputs
    device = next((tensor.device for tensor in tensors if tensor.is_meta), tensors[0].device)
    dtype = next((tensor.dtype for tensor in tensors if tensor.dtype in _CASTABLE), None)

    def fit(value: object) -> object:
        if not isinstance(value, torch.Tensor):
            return value
        if value.is_meta and device.type != "meta":
            raise InputsError(
                f"the model is on {device}, but {inputs.source} are on the meta device: {describe(inputs)}.\n"
                "Next: pass inputs with numbers, or build the model on the meta device too."
            )
        return value.to(device, dtype if value.dtype in _CASTABLE else None)

    args, kwargs = pytree.tree_map(fit, (inputs.args, inputs.kwargs))
    return replace(inputs, args=args, kwargs=kwargs)


def leaf_paths(model: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    """The argument path of every leaf of `(args, kwargs)`, in pytree order: `"x"`, `"states[0]"`, `"batch['ids']"`."""
    names = _positional_names(model, len(inputs.args))
    found, _ = pytree.tree_flatten_with_path((inputs.args, inputs.kwargs))
    return tuple(_path(keys, names) for keys, _ in found)


def _path(keys: tuple[Any, ...], names: tuple[str, ...]) -> str:
    side, entry, rest = keys[0], keys[1], keys[2:]
    head = names[entry.idx] if side.idx == 0 else str(entry.key)
    return head + pytree.keystr(rest)


def _positional_names(model: nn.Module, count: int) -> tuple[str, ...]:
    names: list[str] = []
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError) as error:  # a forward that is not Python has no signature
        let_through(error)
        parameters = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{index}]" for index in range(count - len(names))]
        elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return (*names[:count], *(f"args[{index}]" for index in range(len(names), count)))


def signature(model: nn.Module) -> str:
    """The forward's signature as one reads it in the code, without annotations.

    Example:
        >>> signature(nn.Linear(2, 2))
        'forward(input)'
    """
    try:
        found = inspect.signature(model.forward)
    except (TypeError, ValueError) as error:
        let_through(error)
        return "forward(...)"
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    return f"forward{found.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"


def describe(inputs: Inputs) -> str:
    """Shapes and dtypes of the inputs on one line.

    Example:
        >>> describe(Inputs((torch.ones(2, 3),), {"scale": 2}))
        'float32[2, 3], scale=2'
    """
    positional = [_describe(value) for value in inputs.args]
    return ", ".join([*positional, *(f"{name}={_describe(value)}" for name, value in inputs.kwargs.items())]) or "none"


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{dtype_name(value.dtype)}{list(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(_describe(item) for item in value) + ")"
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__
