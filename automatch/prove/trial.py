"""One draw: both models on the same fresh weights and inputs, and what the target's weights do to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from automatch.errors import MappingError, together
from automatch.inputs.draws import Cut, drawn, own
from automatch.inputs.plan import Call, Plan
from automatch.interruption import let_through
from automatch.prove.influence import DifferentiableStatistics, Ledger, disturbance, enough, gradients
from automatch.prove.outputs import Gap, OutputPair, common, gap, paired, real_floats
from automatch.prove.precision import Watch, Widened
from automatch.prove.weights import Manner, double_stand_in, load, redraw, state
from automatch.trace.lines import blame
from automatch.trace.weights import identity

Convert: TypeAlias = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
"""A source state dict in, target weights out."""

JOLT = 0.01
"""The relative disturbance of the control: every living weight at once."""


LOST = 1e-3
"""A gap above which nothing else about a draw is of interest."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over all draws.

    Attributes:
        convert: The conversion, frozen.
        source: The caller's source model.
        target: The caller's target model.
        inputs: The example inputs of both, paired.
        kept: Keys of each side that keep their values: constants of the code.
        seed: Where all randomness starts.
        conflict: Why the inputs of both sides cannot be used together; empty where they can.
    """

    convert: Convert
    source: nn.Module
    target: nn.Module
    inputs: Plan
    kept: tuple[Collection[str], Collection[str]]
    seed: int
    conflict: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one draw gave.

    Attributes:
        outputs: The source's compared outputs.
        pairs: Which outputs were compared.
        alone: Outputs of either side that have no partner, as `"0 of the source"`.
        gaps: How far they are apart.
        jolted: How far they are after a small disturbance of all living weights; empty where it was not run.
        unmeasured: Why the influence of weights could not be had; empty where it could.
        contradicted: Keys that a tied key overwrote with other values.
        narrow: Whether a model or the conversion has numbers in less than float64.
        failure: Why the draw proves nothing; empty where it does.
    """

    outputs: tuple[Tensor, ...] = ()
    pairs: tuple[OutputPair, ...] = ()
    alone: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    jolted: tuple[Gap, ...] = ()
    unmeasured: str = ""
    contradicted: tuple[str, ...] = ()
    narrow: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Draw:
    """One draw to make.

    Attributes:
        number: Which one; the first takes the example inputs as they are.
        manner: How weights are drawn.
        cut: An axis size to shorten in the inputs.
        padded: Whether masks are drawn anew as well.
    """

    number: int
    manner: Manner = Manner()
    cut: Cut = None
    padded: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """Two stand-ins, ready to be run: fresh weights in the source, what the mapping makes of them in the target.

    Attributes:
        source: The source's stand-in; it returns the tuple of tensors in its output.
        target: The target's.
        ours: What to call the source with.
        theirs: What to call the target with.
        contradicted: Keys that a tied key overwrote with other values.
        narrow: Whether the conversion made numbers in less than float64.
        generator: Where further randomness of the draw comes from.
    """

    source: nn.Module
    target: nn.Module
    ours: Call
    theirs: Call
    contradicted: tuple[str, ...]
    narrow: bool
    generator: torch.Generator


@contextmanager
def loaded(setting: Setting, draw: Draw) -> Iterator[Loaded]:
    """Make a draw: both models, loaded, with the same fresh content for both.

    Stand-ins are made for every draw, so that nothing a forward keeps reaches another one.

    Raises:
        MappingError: The conversion gives keys or shapes that the target does not have.
        TypeError: A model cannot be copied.
    """
    generator = torch.Generator().manual_seed(1_000_003 * setting.seed + draw.number)
    ours, theirs = drawn(setting.inputs, generator if draw.number else None, draw.cut, draw.padded)
    with double_stand_in(setting.source) as source, double_stand_in(setting.target) as target:
        redraw(source, setting.kept[0], generator, draw.manner)
        redraw(target, setting.kept[1], generator, draw.manner)
        with Watch() as watch:
            weights = _converted(setting.convert, source, target)
        yield Loaded(source, target, ours, theirs, load(target, weights), watch.narrow, generator)


def attempt(setting: Setting, draw: Draw, pairs: tuple[OutputPair, ...] | None, ledger: Ledger | None) -> Trial:
    """Make a draw, run both models, compare, and enter what each weight does.

    Args:
        setting: The two models and what is between them.
        draw: The draw.
        pairs: Which outputs are compared; None finds out.
        ledger: Where influences are entered; None only compares.

    Raises:
        MappingError: The conversion gives keys or shapes that the target does not have.
    """
    try:
        with loaded(setting, draw) as ready:
            bench = _Bench(ready.target, ready.theirs, draw.number, ready.generator)
            with Watch() as watch:
                first, failure = _run(ready.source, ready.ours, draw.number, "source")
            if failure:
                return Trial(failure=failure)
            trial = _compared(bench, first, pairs, ledger)
            return replace(trial, contradicted=ready.contradicted, narrow=trial.narrow or watch.narrow or ready.narrow)
    except TypeError as error:
        let_through(error)
        return Trial(failure=str(error))


@dataclass(frozen=True, slots=True)
class _Bench:
    """The loaded target and what it is called with."""

    target: nn.Module
    call: Call
    number: int
    generator: torch.Generator


def _compared(
    bench: _Bench, first: tuple[Tensor, ...], pairs: tuple[OutputPair, ...] | None, ledger: Ledger | None
) -> Trial:
    with Watch() as watch:
        second, failure = _run(bench.target, own(bench.call), bench.number, "target")
    if failure:
        return Trial(failure=failure)
    pairs = paired(first, second) if pairs is None else pairs
    failure = _uncomparable(first, second, pairs)
    if failure:
        return Trial(failure=failure)
    both = [common(first[pair.source], second[pair.target]) for pair in pairs]
    gaps = tuple(gap(*pair) for pair in both)
    trial = Trial(tuple(one for one, _ in both), pairs, _alone(first, second, pairs), gaps, narrow=watch.narrow)
    if ledger is None or any(not found.largest <= LOST for found in gaps):
        return trial
    return _measured(bench, first, trial, ledger)


def _measured(bench: _Bench, first: tuple[Tensor, ...], trial: Trial, ledger: Ledger) -> Trial:
    """Enter one backward pass, then disturb what is alive and see how far the outputs move."""
    weights = _differentiable(bench.target)
    with DifferentiableStatistics():
        second, failure = _run(bench.target, own(bench.call), bench.number, "target", graph=True)
    if failure:
        return replace(trial, unmeasured=failure)
    try:
        with torch.enable_grad():  # a stand-in is run without
            outputs = [common(first[pair.source], second[pair.target])[1] for pair in trial.pairs]
        found = gradients(outputs, weights, bench.generator)
    except RuntimeError as error:  # no output has a graph, or an operator no derivative
        let_through(error)
        return replace(trial, unmeasured=blame(error))
    if not all(bool(torch.isfinite(gradient).all()) for gradient in found.values()):
        return replace(trial, unmeasured="gradients are not finite")
    values = {key: tensor.detach().cpu() for key, tensor in weights.items()}
    ledger.add(found, values, enough(trial.gaps), 1.0 if bench.number % 2 else -0.7)
    _jolt(weights, ledger, bench.generator)
    third, failure = _run(bench.target, own(bench.call), bench.number, "target")
    if failure:
        return replace(trial, unmeasured=failure)
    return replace(trial, jolted=tuple(gap(*common(first[pair.source], third[pair.target])) for pair in trial.pairs))


def _converted(convert: Convert, source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """What the conversion makes of the source's present weights.

    Raises:
        MappingError: It gives keys that the target does not have, or other shapes; all of them are listed.
    """
    made = convert({key: tensor.detach() for key, tensor in state(source).items()})
    holds = {key: tuple(tensor.shape) for key, tensor in state(target).items()}
    wrong = [
        f"{key}: {list(value.shape)} in the mapping, {list(holds[key]) if key in holds else 'not there'} in the model"
        for key, value in made.items()
        if holds.get(key) != tuple(value.shape)
    ]
    if wrong:
        raise together(MappingError, "the mapping was made for another target; match again:", wrong)
    return dict(made)


def _run(
    model: nn.Module, call: Call, number: int, side: str, *, graph: bool = False
) -> tuple[tuple[Tensor, ...], str]:
    """A model's outputs in float64, or why there are none.

    Code that casts to float32 by itself does not always run on float64 weights; its casts are then widened.
    """
    for manner in (nullcontext(), Widened()):
        torch.manual_seed(number)  # whatever a forward draws is the same on both sides
        try:
            with manner, torch.set_grad_enabled(graph):
                outputs = real_floats(model(*call[0], **call[1]))
            break
        except Exception as error:  # the model's own code raises whatever it likes
            let_through(error)
            failure = f"the {side} does not run in float64: {blame(error)}"
            if "dtype" not in str(error):
                return (), failure
    else:
        return (), failure
    if not all(bool(torch.isfinite(output).all()) for output in outputs):
        return (), f"{side} outputs are not finite"
    return outputs, ""


def _differentiable(target: nn.Module) -> dict[str, Tensor]:
    """Every floating tensor of the target's state dict under its first key, made to take gradients."""
    found = {identity(tensor): key for key, tensor in reversed(state(target).items())}
    weights = {key: tensor for key, tensor in state(target).items() if found[identity(tensor)] == key}
    weights = {key: tensor for key, tensor in weights.items() if tensor.is_floating_point() and tensor.is_leaf}
    for tensor in weights.values():
        tensor.requires_grad_(True)
    return weights


def _jolt(weights: Mapping[str, Tensor], ledger: Ledger, generator: torch.Generator) -> None:
    """Change every living element a little."""
    with torch.no_grad():
        for key, tensor in weights.items():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            change = JOLT * disturbance(tensor.cpu()) * noise * ledger.found[key].alive
            tensor.add_(change.to(tensor.device))


def _uncomparable(first: tuple[Tensor, ...], second: tuple[Tensor, ...], pairs: tuple[OutputPair, ...]) -> str:
    """Why these outputs cannot be compared; empty where they can."""
    if not pairs:
        ours, theirs = (
            ", ".join(str(list(output.shape)) for output in side if output.numel()) for side in (first, second)
        )
        return f"no floating output of one has the shape of one of the other: {ours or 'none'} and {theirs or 'none'}"
    for pair in pairs:
        if pair.source >= len(first) or pair.target >= len(second):
            return f"there is no output {pair.source} of the source or {pair.target} of the target"
        one, other = first[pair.source].squeeze(), second[pair.target].squeeze()
        if one.dim() != other.dim() or not one.numel() or not other.numel():
            return f"output {pair.source} is {list(one.shape)}, its partner {list(other.shape)}"
    return ""


def _alone(first: tuple[Tensor, ...], second: tuple[Tensor, ...], pairs: tuple[OutputPair, ...]) -> tuple[str, ...]:
    used = {pair.source for pair in pairs}, {pair.target for pair in pairs}
    return tuple(
        f"{place} of the {side}"
        for side, outputs, taken in zip(("source", "target"), (first, second), used, strict=True)
        for place, output in enumerate(outputs)
        if output.numel() and place not in taken
    )


def _shapes(outputs: tuple[Tensor, ...]) -> str:
    return ", ".join(str(list(output.shape)) for output in outputs if output.numel()) or "none"
