"""One draw: both models on the same fresh weights and inputs, and what the target's weights do to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from automatch.core.memory import give_back
from automatch.exact.budget import UNBOUNDED, Budget
from automatch.inputs.draws import Cut
from automatch.inputs.draws import drawn as inputs_drawn
from automatch.inputs.plan import Call, Plan
from automatch.interruption import let_through
from automatch.prove import measuring
from automatch.prove.influence import Ledger
from automatch.prove.loading import Conversion, Filled, drawn, filled
from automatch.prove.measuring import measured
from automatch.prove.outputs import Gap, OutputPair, common, gap, paired
from automatch.prove.runs import Ran
from automatch.prove.weights import Drawing, Manner, state

LOST = 1e-3
"""A gap above which nothing else about a draw is of interest."""

NOT_COMPARABLE = "no floating output of one has the shape of one of the other"
"""Why two models are not compared at all, as the reason of a draw begins."""

_DRAWS = 1024
"""More than the draws of one seed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over all draws.

    Attributes:
        conversion: The conversion, frozen.
        source: The caller's source model.
        target: The caller's target model.
        inputs: The example inputs of both, paired.
        drawings: Fresh numbers for each side's weights; those that are constants of the code keep their values.
        seed: Where all randomness starts.
        conflict: Why the inputs of both sides cannot be used together; empty where they can.
        budget: How long all runs may take.
        say: Told what begins.
        narrow: Whether numbers in less than float64 take part in any run, where a draw has shown it.
    """

    conversion: Conversion
    source: nn.Module
    target: nn.Module
    inputs: Plan
    drawings: tuple[Drawing, Drawing]
    seed: int
    conflict: str = ""
    budget: Budget = UNBOUNDED
    say: Callable[[str], None] = field(default=lambda _: None)
    narrow: bool | None = None

    @property
    def numbers(self) -> int:
        """How many numbers both models hold."""
        return sum(tensor.numel() for model in (self.source, self.target) for tensor in state(model).values())


@dataclass(frozen=True, slots=True)
class Trial:
    """What one draw gave.

    Attributes:
        outputs: The source's compared outputs; let go in later draws of a proof.
        strays: In these, how far each was from the first draw's.
        pairs: Which outputs were compared.
        alone: Outputs of either side that have no partner, as `"0 of the source"`.
        gaps: How far they are apart.
        jolted: How far they are after a small disturbance of all living weights; empty where it was not run.
        unmeasured: Why the influence of weights could not be had; empty where it could.
        contradicted: Keys that a tied key overwrote with other values.
        written: Keys that the target itself writes to as it runs.
        narrow: Whether a model or the conversion has numbers in less than float64.
        failure: Why the draw proves nothing; empty where it does.
    """

    outputs: tuple[Tensor, ...] = ()
    strays: tuple[float, ...] = ()
    pairs: tuple[OutputPair, ...] = ()
    alone: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    jolted: tuple[Gap, ...] = ()
    unmeasured: str = ""
    contradicted: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
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
    """

    source: nn.Module
    target: nn.Module
    ours: Call
    theirs: Call


@contextmanager
def loaded(setting: Setting, draw: Draw) -> Iterator[Loaded]:
    """Make a draw: both models at once, loaded, with the same fresh content for both.

    Raises:
        MappingError: The conversion gives keys or shapes that the target does not have.
        TypeError: A model cannot be copied.
    """
    ours, theirs = _calls(setting, draw)
    source, others = _drawings(setting, draw)
    with (
        drawn(setting.source, source) as first,
        filled(setting.conversion, source, setting.target, others) as second,
        first.stand_in() as one,
        second.numbers.stand_in() as other,
    ):
        yield Loaded(one, other, ours, theirs)


def _drawings(setting: Setting, draw: Draw) -> tuple[Drawing, Drawing]:
    """Fresh weights of the source, and of what the conversion leaves open in the target."""
    first = 2 * (_DRAWS * setting.seed + draw.number)
    source, target = setting.drawings
    return source.again(first, draw.manner), target.again(first + 1, draw.manner)


def _calls(setting: Setting, draw: Draw) -> tuple[Call, Call]:
    """What to call both models with; the first draw takes the examples as they are."""
    generator = torch.Generator().manual_seed(1_000_003 * setting.seed + draw.number) if draw.number else None
    return inputs_drawn(setting.inputs, generator, draw.cut, draw.padded)


def attempt(
    setting: Setting, draw: Draw, pairs: tuple[OutputPair, ...] | None, ledger: Ledger | None, most: float = LOST
) -> Trial:
    """Make a draw, run both models, compare, and enter what each weight does.

    Args:
        setting: The two models and what is between them.
        draw: The draw.
        pairs: Which outputs are compared; None finds out.
        ledger: Where influences are entered; None only compares.
        most: The gap above which nothing is entered.

    Raises:
        MappingError: The conversion gives keys or shapes that the target does not have.
        OutOfBudget: The setting's budget is spent between two runs.
    """
    return attempts([(setting, draw)], pairs, ledger, most)[0]


def attempts(
    tried: Sequence[tuple[Setting, Draw]],
    pairs: tuple[OutputPair, ...] | None,
    ledger: Ledger | None = None,
    most: float = LOST,
    until: Callable[[Trial], bool] = lambda _: False,
) -> list[Trial]:
    """Draws that differ in their inputs alone, on one set of weights: the source runs on all, then the target on each.

    No more than one model is held in float64 at once.

    Args:
        tried: The draws; settings differ in their inputs, draws in cuts and padding.
        pairs: Which outputs are compared; None finds out, for each.
        ledger: Where influences are entered; None only compares.
        most: The gap above which nothing is entered.
        until: Tells of what one gave whether the others can be left out.

    Returns:
        What each gave, in order.

    Raises:
        MappingError: The conversion gives keys or shapes that the target does not have.
        OutOfBudget: The setting's budget is spent between two runs.
    """
    setting, draw = tried[0]
    calls = [_calls(*each) for each in tried]
    source, others = _drawings(setting, draw)
    made: list[Trial] = []
    try:
        give_back(setting.numbers)
        ran = _source_ran(setting, source, [ours for ours, _ in calls])
        give_back(setting.numbers)
        if all(each.failure for each in ran):
            return [Trial(failure=each.failure) for each in ran]
        setting.budget.check("before the target was run", "the proof")
        with filled(setting.conversion, source, setting.target, others) as ready:
            for first, (_, theirs) in zip(ran, calls, strict=True):
                one = _Bench(ready, theirs, draw.number, first, most, setting.narrow, setting.budget)
                made.append(one.trial(pairs, ledger))
                if until(made[-1]):
                    break
    except TypeError as error:
        let_through(error)
        return [Trial(failure=str(error))]
    return made


def _source_ran(setting: Setting, drawing: Drawing, calls: Sequence[Call]) -> list[Ran]:
    with drawn(setting.source, drawing) as numbers:
        return [Ran.of(numbers, call, "source", setting.narrow) for call in calls]


@dataclass(frozen=True, slots=True)
class _Bench:
    """The filled target, what it is called with, and what the source gave."""

    target: Filled
    call: Call
    number: int
    first: Ran
    most: float
    narrow: bool | None
    budget: Budget

    def trial(self, pairs: tuple[OutputPair, ...] | None, ledger: Ledger | None) -> Trial:
        """Run the target, compare, and enter what each weight does."""
        trial = self.compared(pairs)
        if trial.failure or ledger is None or any(not found.largest <= self.most for found in trial.gaps):
            return trial
        self.budget.check("before it was measured what each weight does", "the proof")
        first, numbers = self.first.outputs, self.target.numbers
        bench = measuring.Bench(numbers, self.call, self.number, first, trial.pairs, trial.gaps, trial.narrow)
        made = measured(bench, ledger)
        return replace(trial, jolted=made.jolted, unmeasured=made.unmeasured, written=numbers.keys_written())

    def compared(self, pairs: tuple[OutputPair, ...] | None) -> Trial:
        """Run the target and compare; its outputs are let go."""
        if self.first.failure:
            return Trial(failure=self.first.failure)
        ran = Ran.of(self.target.numbers, self.call, "target", self.narrow)
        if ran.failure:
            return Trial(failure=ran.failure)
        first, second = self.first.outputs, ran.outputs
        pairs = paired(first, second) if pairs is None else pairs
        failure = _uncomparable(first, second, pairs)
        if failure:
            return Trial(failure=failure)
        both = [common(first[pair.source], second[pair.target]) for pair in pairs]
        gaps = tuple(gap(*pair) for pair in both)
        narrow = self.first.narrow or ran.narrow or self.target.narrow
        outputs, alone = tuple(one for one, _ in both), _alone(first, second, pairs)
        return Trial(outputs, (), pairs, alone, gaps, contradicted=self.target.contradicted, narrow=narrow)


def _uncomparable(first: tuple[Tensor, ...], second: tuple[Tensor, ...], pairs: tuple[OutputPair, ...]) -> str:
    """Why these outputs cannot be compared; empty where they can."""
    if not pairs:
        ours, theirs = (
            ", ".join(str(list(output.shape)) for output in side if output.numel()) for side in (first, second)
        )
        return f"{NOT_COMPARABLE}: {ours or 'none'} and {theirs or 'none'}"
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
