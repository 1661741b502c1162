"""Both models of a match: with numbers where they can be run, else on the meta device, where size costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from automatch.cli.inputs import Inputs
from automatch.cli.sides import SideRequest, make, model_of, with_inputs
from automatch.errors import ModelError

Placement: TypeAlias = Literal["auto", "meta", "cpu"]


Made: TypeAlias = tuple[Any, Inputs | None]
"""A model with its inputs."""


def make_both(source: SideRequest, target: SideRequest, placement: Placement, *, run: bool) -> tuple[Made, Made]:
    """Both models and their inputs.

    Args:
        source: The side that has the weights.
        target: The side that needs them.
        placement: Where factories build. `auto` builds on the meta device to count, and again on the CPU where both
            are modules that may be run; what holds numbers at once is not built twice.
        run: Whether the models are to be run.

    Raises:
        ModelError: A factory fails.
        InputsError: An inputs function fails, or there is no forward for the inputs.
    """
    if placement != "auto":
        return make(source, placement), make(target, placement)
    ours, theirs = _cheapest(source), _cheapest(target)
    if run and _may_be_run(ours) and _may_be_run(theirs):
        ours, theirs = _with_numbers(source, ours), _with_numbers(target, theirs)
    return with_inputs(source, ours), with_inputs(target, theirs)


def _cheapest(side: SideRequest) -> Any:
    """The model on the meta device; on the CPU where its code needs values while it is built."""
    with suppress(ModelError):
        return model_of(side, "meta")
    return model_of(side, "cpu")


def _may_be_run(model: Any) -> bool:
    from automatch.exact.readings import LARGEST

    return isinstance(model, nn.Module) and sum(tensor.numel() for tensor in _tensors(model)) <= LARGEST


def _with_numbers(side: SideRequest, model: nn.Module) -> Any:
    return model_of(side, "cpu") if any(tensor.is_meta for tensor in _tensors(model)) else model


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    return chain(model.parameters(), model.buffers())
