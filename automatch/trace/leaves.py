"""The tensors inside whatever a model returns or takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn


def tensor_leaves(value: object) -> tuple[torch.Tensor, ...]:
    """Every tensor inside a value, in order: of containers, of dataclasses, and of the attributes of other objects.

    Objects such as a key-value cache are no container that torch knows, but their tensors are outputs all the same.

    Example:
        >>> leaves = tensor_leaves({"a": torch.ones(1), "b": (3, [torch.ones(2)])})
        >>> [tuple(leaf.shape) for leaf in leaves]
        [(1,), (2,)]
    """
    return tuple(_walk(value, set()))


def _walk(value: object, above: set[int]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    if id(value) in above:  # an object that holds itself
        return
    above.add(id(value))
    for child in _children(value):
        yield from _walk(child, above)
    above.discard(id(value))


def _children(value: Any) -> tuple[object, ...]:
    if isinstance(value, Mapping):
        return tuple(value.values())
    if isinstance(value, (list, tuple)):
        return tuple(value)
    if isinstance(value, (str, bytes, int, float, complex, type, torch.dtype, torch.device, nn.Module)):
        return ()
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):  # each holds all of its recording
        return ()
    if is_dataclass(value):
        return tuple(getattr(value, field.name) for field in fields(value))
    return tuple(getattr(value, "__dict__", {}).values())
