"""The last rung: names and shapes, no operators. Also what a state dict or a checkpoint without code becomes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from automatch.core.graph import Graph, Shape, Weight
from automatch.errors import CheckpointError, together
from automatch.trace.weights import of_tensors


def of_state(state: Mapping[str, object], name: str) -> Graph:
    """The graph without nodes of a state dict whose values are tensors (meta will do) or bare shapes.

    Example:
        >>> of_state({"w": (2, 3)}, "source").weights[0].shape
        (2, 3)

    Raises:
        CheckpointError: Keys are not strings, or no value is a tensor or a shape.
    """
    strange = [repr(key) for key in state if not isinstance(key, str)]
    if strange:
        raise together(CheckpointError, f"{name}: a state dict's keys are names, these are not:", strange)
    if any(isinstance(value, torch.Tensor) for value in state.values()):
        inventory = of_tensors(state)
        return Graph(inventory.weights, notes=inventory.notes, name=name)
    weights = tuple(Weight(key, shape, "") for key, value in state.items() if (shape := _shape(value)) is not None)
    if state and not weights:
        kinds = sorted({type(value).__name__ for value in state.values()})
        raise CheckpointError(
            f"{name}: a state dict maps names to tensors (or to shapes), this one to {', '.join(kinds)}.\n"
            "Next: pass the mapping of tensors itself, for example checkpoint['state_dict']."
        )
    return Graph(weights, name=name)


def _shape(value: object) -> Shape | None:
    if isinstance(value, (tuple, list)) and all(type(size) is int for size in value):
        return tuple(value)
    return None
