"""A model's state dict as `Weight` entries, with tied weights found by the storage that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from automatch.checkpoint.dtypes import dtype_name
from automatch.core.graph import Weight
from automatch.interruption import let_through
from automatch.trace.recording import Origin

Kind: TypeAlias = Literal["parameter", "buffer", "tensor"]
Identity: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """The entries of one state dict.

    Attributes:
        weights: One entry for every distinct tensor, in state-dict order.
        first: For every state-dict key, the first key that holds the same tensor.
        by_tensor: The first key by the tensor's identity.
        notes: Entries that are not tensors, and ties.
    """

    weights: tuple[Weight, ...]
    first: Mapping[str, str]
    by_tensor: Mapping[Identity, str]
    notes: tuple[str, ...] = ()


def identity(tensor: torch.Tensor) -> Identity:
    """What two tensors have in common when they are the same numbers in the same memory; on the meta device too.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> identity(x) == identity(x.view(2, 3)), identity(x) == identity(x.t())
        (True, False)
    """
    if tensor.layout != torch.strided or tensor.numel() == 0:
        return ("object", id(tensor))
    try:
        storage = tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError) as error:  # a tensor that wraps others has no storage of its own
        let_through(error)
        return ("object", id(tensor))
    return (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def overlapping(tensors: Mapping[str, Tensor]) -> set[str]:
    """Keys of tensors that share memory with one that is not the same view of it, such as a transposed one.

    Example:
        >>> weight = torch.ones(3, 3)
        >>> sorted(overlapping({"a": weight, "b": weight.T, "c": torch.ones(3)}))
        ['a', 'b']
    """
    plain = [(key, tensor) for key, tensor in tensors.items() if type(tensor) in (Tensor, nn.Parameter)]
    held = [
        (key, tensor)
        for key, tensor in plain
        if tensor.numel() and tensor.layout == torch.strided and not tensor.is_meta
    ]
    spans = sorted(((tensor.data_ptr(), key, tensor) for key, tensor in held), key=lambda span: span[:2])
    found: set[str] = set()
    last: tuple[int, str, Tensor] | None = None
    for start, key, tensor in spans:
        if last is not None and start < last[0] and identity(tensor) != identity(last[2]):
            found |= {key, last[1]}
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        stop = start + tensor.element_size() * (1 + sum((size - 1) * stride for size, stride in steps))
        last = (stop, key, tensor) if last is None or stop > last[0] else last
    return found


def of_module(model: nn.Module) -> Inventory:
    """The inventory of a model's state dict, parameters told from buffers."""
    kinds: dict[Identity, Kind] = {identity(buffer): "buffer" for buffer in model.buffers()}
    kinds |= {identity(parameter): "parameter" for parameter in model.parameters()}
    return of_tensors(model.state_dict(keep_vars=True), kinds)


def of_tensors(state: Mapping[str, object], kinds: Mapping[Identity, Kind] | None = None) -> Inventory:
    """The inventory of names and tensors; what is not a tensor is left out, with a note.

    Args:
        state: State-dict keys to tensors, on any device.
        kinds: Parameter or buffer by identity, where known.
    """
    names: dict[Identity, list[str]] = {}
    tensors: dict[Identity, torch.Tensor] = {}
    others = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            names.setdefault(identity(value), []).append(key)
            tensors.setdefault(identity(value), value)
    weights = tuple(
        Weight(
            name=keys[0],
            shape=tuple(tensors[mark].shape),
            dtype=dtype_name(tensors[mark].dtype),
            kind=(kinds or {}).get(mark, "tensor"),
            aliases=tuple(keys[1:]),
        )
        for mark, keys in names.items()
    )
    first = {key: keys[0] for keys in names.values() for key in keys}
    return Inventory(weights, first, {mark: keys[0] for mark, keys in names.items()}, _notes(others))


def _notes(others: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"state-dict entry {key!r} is not a tensor and was left out" for key in others)


def origin_of(inventory: Inventory, path: str, tensor: torch.Tensor | None) -> Origin:
    """What the parameter or buffer at a module path is to the state dict; one that it lacks is a constant."""
    if tensor is not None and (name := inventory.by_tensor.get(identity(tensor))) is not None:
        return Origin("weight", name)
    if path in inventory.first:
        return Origin("weight", inventory.first[path])
    return Origin("constant", path)
