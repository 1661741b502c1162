"""From two models to exact entries of a mapping, where both can be run and compute the same function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, Side
from automatch.errors import TraceError
from automatch.exact import readings
from automatch.exact.answer import Determined
from automatch.exact.budget import UNBOUNDED, Budget, OutOfBudget
from automatch.exact.discover import Discovery, discover
from automatch.exact.form import Recipe
from automatch.interruption import let_through
from automatch.trace.inputs import Inputs, derived, normalise
from automatch.trace.program import Program
from automatch.trace.recordings import Both, both
from automatch.trace.sizes import sizes_of

_LARGE = 10_000
"""Numbers of a weight above which it does not pay to keep them."""


@dataclass(frozen=True, slots=True)
class Exact:
    """What running both models said.

    Attributes:
        sides: Source and target, where both were recorded.
        entries: By target key, for the weights that were determined.
        problems: By target key, why a weight was not.
        note: Why nothing was found; empty where something was.
        partial: By target key, for the weights of which some elements were determined; the others are zeros.
        determined: By target key, what the outputs said of it, element by element.
        balanced: Whether every element found a partner; else the two may not be one function.
        gave_up: Whether the budget was spent.
    """

    sides: tuple[Side, ...] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    partial: Mapping[str, Entry] = field(default_factory=dict)
    determined: Mapping[str, Determined] = field(default_factory=dict)
    balanced: bool = False
    gave_up: bool = False

    @property
    def complete(self) -> bool:
        """Whether every key of the target is determined."""
        return len(self.sides) == 2 and all(key in self.entries for key in _keys(self.sides[1].weights))

    def in_order(self) -> tuple[Entry, ...]:
        """All entries in the order of the target's state dict."""
        return tuple(self.entries[key] for key in _keys(self.sides[1].weights))


def exact_entries(
    source: object,
    target: object,
    source_inputs: object,
    target_inputs: object,
    say: Callable[[str], None],
    budget: Budget = UNBOUNDED,
    recordings: Both | None = None,
) -> Exact:
    """Record both models and find the exact conversion; models that cannot be run give a note instead.

    Args:
        source: Where weights come from.
        target: What they are for.
        source_inputs: Inputs of the source, with the same content as the target's; None takes those it carries.
        target_inputs: Inputs of the target.
        say: Told what begins.
        budget: How long the search may take.
        recordings: What was recorded of both already.
    """
    if not isinstance(source, nn.Module) or not isinstance(target, nn.Module):
        return Exact()
    refused = _unfit(source, "source") or _unfit(target, "target")
    ours, theirs = _inputs(source, source_inputs), _inputs(target, target_inputs)
    if refused or ours is None or theirs is None:
        return Exact(note=refused)
    programs: list[Program] = []
    for recorded, inputs in zip(recordings or both(source, target), (ours, theirs), strict=True):
        say(f"{recorded.label}: recording {type(recorded.model).__name__} in float64")
        try:
            programs.append(_without_numbers(recorded.program(inputs)))
        except TraceError as error:
            return Exact(
                note=f"no exact match was tried: the {recorded.label} could not be recorded for running: {error}"
            )
    try:
        found = discover(programs[0], programs[1], say=say, budget=budget)
    except OutOfBudget as error:
        return Exact(note=f"no exact match was found: {error}", gave_up=True)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:  # recorded code met odd values
        let_through(error)
        return Exact(note=f"no exact match was found: {type(error).__name__}: {error}")
    if isinstance(found, str):
        return Exact(note=f"no exact match was found: {found}")
    sides = tuple(
        Side(type(model).__name__, program.rung, program.inventory, sizes=sizes_of(model))
        for model, program in zip((source, target), programs, strict=True)
    )
    return told(found, programs[1].inventory, sides)


def told(found: Discovery, target: tuple[Weight, ...], sides: tuple[Side, ...] = ()) -> Exact:
    """What a search determined, by the keys of the target.

    Args:
        found: What was discovered.
        target: The weights of the target's program.
        sides: Both models, where all of them was searched.
    """
    entries, problems = _entries(found, found.weights, target), _problems(found, target)
    partial = _entries(found, found.partial, target)
    known = {**found.partial, **found.weights}
    determined = {key: known[weight.name] for weight in target if weight.name in known for key in weight.keys}
    return Exact(sides, entries, problems, "", partial, determined, found.fault == 0)


def _without_numbers(program: Program) -> Program:
    """The program, its large weights all ones, which take no memory: what they hold plays no part in the search."""
    values = {
        name: torch.ones((), dtype=value.dtype).expand(value.shape)
        if value.is_floating_point() and value.numel() > _LARGE
        else value
        for name, value in program.values.items()
    }
    return replace(program, values=values)


def _keys(weights: tuple[Weight, ...]) -> tuple[str, ...]:
    return tuple(key for weight in weights for key in weight.keys)


def _unfit(model: nn.Module, label: str) -> str:
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        return f"no exact match was tried: the {label} is on the meta device"
    size = sum(tensor.numel() for tensor in tensors)
    if size > readings.LARGEST:
        return f"no exact match was tried: the {label} holds {size:,} numbers, more than {readings.LARGEST:,}"
    return ""


def _inputs(model: nn.Module, given: object) -> Inputs | None:
    if isinstance(given, Inputs):
        return given
    return derived(model) if given is None else normalise(given)


def _problems(found: Discovery, target: tuple[Weight, ...]) -> dict[str, str]:
    return {
        key: found.problems[weight.name] for weight in target if weight.name in found.problems for key in weight.keys
    }


def _entries(found: Discovery, weights: Mapping[str, Determined], target: tuple[Weight, ...]) -> dict[str, Entry]:
    made: dict[str, Entry] = {}
    for weight in target:
        determined = weights.get(weight.name)
        if determined is None:
            continue
        evidence = Evidence("colours", reasons=tuple(_reasons(determined, found.recipe)))
        for key in weight.keys:
            made[key] = Entry(key, weight.shape, weight.dtype, "structural", determined.expr, evidence)
    return made


def _reasons(found: Determined, recipe: Recipe) -> list[str]:
    reasons = [f"gradients of both models agree element by element{_how(recipe)}"]
    if found.seen < found.of:
        reasons.append(
            f"{found.of - found.seen:,} of {found.of:,} elements have no gradient for these inputs; they follow the "
            "others along the weight's axes, or the weight whose bias they are; zeros stand where nothing is known"
        )
    if found.free:
        reasons.append("one of several equivalent choices: outputs depend on a combination with other weights only")
    return reasons


def _how(recipe: Recipe) -> str:
    words = []
    if recipe.effective:
        words.append("values that several weights make together taken as one")
    if recipe.folded:
        words.append("scales moved into the weights before them")
    if recipe.by_use:
        words.append("every use of a shared weight taken by itself")
    return f" ({'; '.join(words)})" if words else ""
