"""The whole numbers that a model carries: those of its configuration, and plain attributes of its modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass

from torch import Tensor, nn

from automatch.core.sizes import Sizes, folded, is_size, of_config


def sizes_of(model: nn.Module) -> Sizes:
    """The sizes of a model, by path; see `automatch.core.sizes`.

    Leaf modules of torch are left out: their sizes are those of their weights.

    Example:
        >>> dict(sizes_of(nn.TransformerEncoderLayer(8, 4)))["self_attn.num_heads"]
        4
    """
    found = dict(_of_configs(model))
    for path, module in model.named_modules():
        if type(module).__module__.startswith("torch.nn") and not any(True for _ in module.children()):
            continue
        for name, value in vars(module).items():
            if is_size(value, name):
                found[f"{path}.{name}" if path else name] = value
    return folded(found)


def _of_configs(model: nn.Module) -> Iterator[tuple[str, int]]:
    # Some libraries keep the configuration among properties, out of the reach of vars().
    held = dict(vars(model))
    with suppress(AttributeError):
        held.setdefault("config", model.config)
    for name, value in held.items():
        if not name.startswith("_") and not isinstance(value, nn.Module | Tensor):
            yield from of_config(_members(value), name)


def _members(value: object) -> Mapping[object, object]:
    """What a configuration says, whatever kind of object it is."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return {}
    if is_dataclass(value):  # those with slots have no vars()
        return {each.name: getattr(value, each.name, None) for each in fields(value)}
    as_dict = getattr(value, "to_dict", None)
    if not hasattr(value, "__dict__"):
        return {}
    found: object = as_dict() if callable(as_dict) else vars(value)
    return dict(found) if isinstance(found, Mapping) else {}
