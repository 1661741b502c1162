"""The proof of any conversion: enough draws, fixed pairs of outputs, another length, and a verdict per weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from automatch.core.mapping import ComparedOutput, ProofRecord, Shown
from automatch.errors import InputsError, ModelError
from automatch.exact.budget import UNBOUNDED, Budget, OutOfBudget
from automatch.inputs.plan import Plan
from automatch.inputs.prepare import Prepared, prepare
from automatch.prove.divergence import Parting
from automatch.prove.influence import MARGIN, Ledger
from automatch.prove.loading import Conversion, Convert, of_function
from automatch.prove.other_inputs import Others, on_other_inputs
from automatch.prove.outputs import OutputPair, gap
from automatch.prove.precision import has_narrow_constants
from automatch.prove.trial import Draw, Setting, Trial, attempt
from automatch.prove.verdict import unshown, verdicts
from automatch.prove.weights import Drawing, Manner, state, tables, wide
from automatch.trace.inputs import Inputs, describe, needed
from automatch.trace.recordings import Both
from automatch.trace.undisturbed import undisturbed
from automatch.trace.weights import overlapping

DRAWS = 3
"""The fewest draws that a proof takes."""

TOLERANCE = 1e-5
"""The largest gap that counts as agreement where a model has numbers in float32, in units of the output's scale.

Tables that are made in float32 differ by 1e-7 between two spellings, and move outputs by 1e-6. A wrong weight moves
them by 1e-3 and more.
"""

EXACT = 1e-9
"""The same where all numbers are float64, which brings two spellings of one function within 1e-12.

A norm's epsilon makes a wrong factor before the norm all but invisible: 1e-7.
"""

EXTRA = 3
"""How many times the draws asked for may be made where some weights were shown but for a few elements."""

WORK = 300_000_000
"""Numbers of both models that such draws may draw together; one is made of any size."""

CONTRADICTED = "a key tied to it was given other values"
WRITTEN = "the model writes to it as it runs, so that a run says nothing of it"
OVERLAPS = "it shares a part of its memory with another weight, so that it cannot hold numbers of its own"

VARIES = 1e-3
"""How far an output must move between draws to say anything."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What running both models showed.

    Attributes:
        record: The whole, as it goes into the mapping.
        shown: Every mapped target key; empty unless the outputs agree.
        parting: Where the models part, if the outputs differ and somebody looked.
    """

    record: ProofRecord
    shown: Mapping[str, Shown]
    parting: Parting | None = None


@undisturbed
def prove_conversion(
    convert: Convert | Conversion,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    *,
    reads: Collection[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    outputs: Sequence[tuple[int, int]] | None = None,
    prepared: Prepared | None = None,
    budget: Budget = UNBOUNDED,
    say: Callable[[str], None] | None = None,
) -> Proof:
    """Run a conversion on fresh weights, and say what the outputs showed of every target weight.

    Args:
        convert: A source state dict in, target weights out; it must treat every source weight as a variable. Or the
            same in parts.
        source: The source model, with real tensors; it stays as it is.
        target: The target model, likewise.
        source_inputs: Example inputs of the source; None takes those that the model carries.
        target_inputs: The same for the target.
        reads: Source keys that the conversion reads; None finds out which buffers it does.
        draws: How many fresh draws of all weights.
        seed: Where all randomness starts.
        outputs: Which outputs to compare, as places among both models' output tensors; None pairs them by shape.
        prepared: What both are run on, where that is known already; it takes the place of both sides' inputs.
        budget: How long it may take, asked between runs. Where it ends before all draws are made and none of them
            differed, nothing is shown; after them, what is left out is noted.
        say: Told what begins.

    Raises:
        ModelError: A model is on the meta device.
        InputsError: Inputs are missing, or fewer draws are asked for than a proof takes.
        MappingError: The conversion does not fit the models.

    Example:
        >>> one, other = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> x = torch.randn(4, 3)
        >>> prove_conversion(lambda state: {"weight": -state["weight"]}, one, other, x, x).record.outcome
        'differ'
        >>> prove_conversion(lambda state: state, one, other, x, x).shown["weight"].whole
        True
    """
    if draws < DRAWS:
        raise InputsError(f"{draws} draws prove too little; ask for {DRAWS} or more")
    setting, start = arrange(
        convert, source, target, source_inputs, target_inputs, reads=reads, seed=seed, prepared=prepared
    )
    if setting.conflict:
        return Proof(replace(start, reason=setting.conflict), {})
    setting = replace(setting, budget=budget, say=say or setting.say)
    ledger = Ledger()
    pinned = None if outputs is None else tuple(OutputPair(*pair) for pair in outputs)
    try:
        trials = list(_trials(setting, draws, pinned, ledger))
    except OutOfBudget as error:
        return Proof(replace(start, reason=str(error)), {})
    coarse = start.tolerance > EXACT or any(trial.narrow for trial in trials)
    record = _judged(replace(start, tolerance=TOLERANCE if coarse else EXACT), trials)
    if record.outcome != "agree":
        return Proof(record, {})
    others = Others(replace(setting, narrow=trials[0].narrow), EXTRA * draws, trials[0].pairs, ledger)
    record, told = on_other_inputs(record, others)
    if record.outcome != "agree":
        return Proof(record, {})
    covered = setting.conversion.keys
    if told:
        why = f"but only on inputs like the examples: {told}"
        return Proof(replace(record, reason=f"{record.reason}, {why}"), unshown(target, covered, why))
    if any(trial.unmeasured for trial in trials):
        ledger = Ledger()  # what was entered was not controlled
    return Proof(record, verdicts(target, covered, ledger, _mute(target, trials)))


def _mute(target: nn.Module, trials: Sequence[Trial]) -> dict[str, str]:
    """Keys of which no run says anything, and why."""
    return {
        **dict.fromkeys(overlapping(state(target)), OVERLAPS),
        **{key: WRITTEN for trial in trials for key in trial.written},
        **{key: CONTRADICTED for trial in trials for key in trial.contradicted},
    }


def arrange(
    convert: Convert | Conversion,
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    *,
    reads: Collection[str] | None = None,
    seed: int = 0,
    prepared: Prepared | None = None,
) -> tuple[Setting, ProofRecord]:
    """What a proof starts from: inputs paired, constants told from weights; and the record before anything is run.

    The arguments are those of `prove_conversion`.

    Raises:
        ModelError: A model is on the meta device.
        InputsError: Inputs are missing.
    """
    prepared = prepared or prepared_for(source, target, source_inputs, target_inputs)
    conversion = convert if isinstance(convert, Conversion) else of_function(convert, source)
    reads = _buffers_read(conversion, source, target) if reads is None else reads
    kept = tables(source, reads.__contains__), tables(target, conversion.keys.__contains__)
    made = _wide(prepared.plan, source, target)
    drawings = Drawing.of(source, kept[0]), Drawing.of(target, kept[1])
    setting = Setting(conversion, source, target, made, drawings, seed, prepared.conflict)
    notes = (*_limits(made, kept), *prepared.remarks)
    coarse = has_narrow_constants(source, kept[0]) or has_narrow_constants(target, kept[1])
    tolerance = TOLERANCE if coarse else EXACT
    shapes = describe(prepared.source), describe(prepared.target)
    return setting, ProofRecord("nothing", "", 0, tolerance, *shapes, notes=notes)


def prepared_for(
    source: nn.Module,
    target: nn.Module,
    source_inputs: object,
    target_inputs: object,
    recordings: Both | None = None,
) -> Prepared:
    """What both models are run on, from what the caller gives.

    Raises:
        ModelError: A model is on the meta device.
        InputsError: Inputs are missing.
    """
    given = _inputs(source, source_inputs, "source"), _inputs(target, target_inputs, "target")
    return prepare((source, given[0]), (target, given[1]), recordings=recordings)


def _inputs(model: nn.Module, given: object, label: str) -> Inputs:
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ModelError(
            f"the {label} model {type(model).__name__} is on the meta device and cannot be run.\n"
            "Next: build it with real tensors; where it is too large, prove a smaller one of the same code."
        )
    return needed(model, given, label)


def _wide(made: Plan, source: nn.Module, target: nn.Module) -> Plan:
    """The inputs where the models are, in float64: so are the stand-ins, whatever the models are."""
    places = [next((tensor.device for tensor in (*m.parameters(), *m.buffers())), None) for m in (source, target)]

    def moved(leaf: object, device: torch.device | None) -> object:
        return wide(leaf.to(device)) if isinstance(leaf, Tensor) else leaf

    ours, theirs = (
        tuple(moved(leaf, device) for leaf in leaves)
        for leaves, device in zip((made.source, made.target), places, strict=True)
    )
    return replace(made, source=ours, target=theirs)


def _trials(setting: Setting, draws: int, pairs: tuple[OutputPair, ...] | None, ledger: Ledger) -> Iterator[Trial]:
    """One trial per draw, up to the first that fails or disagrees; more where chance may have hidden a few elements."""
    extra = max(1, min((EXTRA - 1) * draws, WORK // max(1, setting.numbers)))
    first: tuple[Tensor, ...] = ()
    for number in range(draws + extra):
        if number >= draws and (setting.budget.spent or not ledger.promising()):
            return
        setting.budget.check(f"before draw {min(number + 1, draws)} of {draws}", "the proof")
        setting.say(f"proving: draw {number + 1}")
        trial = Trial()
        for manner in _manners(number):
            trial = attempt(setting, Draw(number, manner), pairs, ledger)
            if "finite" not in trial.failure:
                break
        trial = _compared(trial, first) if first else trial
        first = first or trial.outputs
        yield trial
        if trial.failure or not _agrees(trial, TOLERANCE):
            return
        pairs, setting = trial.pairs, replace(setting, narrow=trial.narrow)


def _compared(trial: Trial, first: tuple[Tensor, ...]) -> Trial:
    """A later draw without its outputs, which are as large as logits are: how far they are from the first draw's."""
    both = zip(first, trial.outputs, strict=False)  # one that failed has none
    strays = tuple(gap(*pair).largest if pair[0].shape == pair[1].shape else math.inf for pair in both)
    return replace(trial, outputs=(), strays=strays)


def _manners(number: int) -> tuple[Manner, ...]:
    """How a draw is made, and how it is made again where the numbers run out of the models' domain."""
    mild = (Manner(), Manner(temper=0.4), Manner(temper=0.1))
    if number % 3 == 2 or number >= DRAWS:
        return mild[1:]  # in a deep model, weights at full spread make all tokens alike, and attention says nothing
    return (Manner(flipped=True), *mild) if number % 2 else mild


def _agrees(trial: Trial, tolerance: float) -> bool:
    return all(found.largest <= tolerance for found in trial.gaps)


def _judged(start: ProofRecord, trials: Sequence[Trial]) -> ProofRecord:
    last, count = trials[-1], len(trials)
    if last.failure:
        return replace(start, draws=count - 1, reason=f"draw {count}: {last.failure}")
    alone = [f"outputs without a partner were not compared: {_some(last.alone)}"] if last.alone else []
    record = replace(start, draws=count, outputs=tuple(_outputs(trials)), notes=(*start.notes, *alone))
    number = next((place for place, trial in enumerate(trials) if not _agrees(trial, start.tolerance)), None)
    if number is not None:
        worst = max(range(len(last.gaps)), key=lambda place: trials[number].gaps[place].largest)
        pair, found = last.pairs[worst], trials[number].gaps[worst].largest
        what = f"output {pair.source} of the source and {pair.target} of the target"
        reason = f"draw {number + 1}: {what} differ by {found:.1e} of their scale"
        return replace(record, outcome="differ", reason=reason)
    dull = [place for place in range(len(last.pairs)) if not _varies(trials, place)]
    if len(dull) == len(last.pairs):
        return replace(record, reason="the compared outputs are the same in all draws, whatever the weights")
    gaps = max(output.gap for output in record.outputs)
    moved = [max(found.largest for found in trial.jolted) for trial in trials if trial.jolted]
    if moved and min(moved) < MARGIN * max(gaps, TOLERANCE / MARGIN):
        change = f"changing every weight that matters by a hundredth moves the outputs by {min(moved):.1e} only"
        return replace(record, reason=f"the outputs say too little: {change}, and they differ by {gaps:.1e} anyway")
    unmeasured = [f"no weight could be shown: {trial.unmeasured}" for trial in trials if trial.unmeasured]
    notes = unmeasured[:1] + [
        f"output {last.pairs[place].source} is the same in all draws and shows nothing" for place in dull
    ]
    several = "the output agrees" if len(last.pairs) == 1 else f"all {len(last.pairs)} outputs agree"
    reason = f"{several} within {gaps:.1e} of the scale in {count} draws of all source weights"
    return replace(record, outcome="agree", reason=reason, notes=(*record.notes, *notes))


def _outputs(trials: Sequence[Trial]) -> Iterator[ComparedOutput]:
    for place, pair in enumerate(trials[0].pairs):
        moved = [trial.jolted[place].largest for trial in trials if trial.jolted]
        shape = tuple(trials[0].outputs[place].shape)
        largest = max(trial.gaps[place].largest for trial in trials)
        yield ComparedOutput(pair.source, pair.target, shape, largest, min(moved, default=None))


def _varies(trials: Sequence[Trial], place: int) -> bool:
    return any(trial.strays[place] > VARIES for trial in trials[1:])


def _limits(inputs: Plan, kept: tuple[Collection[str], Collection[str]]) -> Iterator[str]:
    """What the claim is limited by."""
    if inputs.loose:
        yield f"inputs without a partner kept their example values: {', '.join(inputs.loose)}"
    if inputs.kept:
        names = [inputs.names[place] for place in sorted(inputs.kept)]
        yield f"inputs kept their example values, since the models do not run on others: {', '.join(names)}"
    for side, keys in zip(("source", "target"), kept, strict=True):
        if keys:
            yield f"{side} buffers outside the mapping kept their values: {_some(keys)}"


def _some(keys: Collection[str], limit: int = 4) -> str:
    shown = ", ".join(list(keys)[:limit])
    return shown if len(keys) <= limit else f"{shown} and {len(keys) - limit} more"


def _buffers_read(conversion: Conversion, source: nn.Module, target: nn.Module) -> set[str]:
    """Source buffers that reach a key of the target: NaN in one of them comes out."""
    weights = {key: wide(tensor.detach()) for key, tensor in state(source).items()}
    keys, read = set(state(target)), set()
    for key in tables(source, _none):
        given = {**weights, key: torch.full_like(weights[key], torch.nan)}
        parts = [part for part in conversion.parts if key in part.reads]
        made = [item for part in parts for item in part.make({name: given[name] for name in part.reads}).items()]
        if any(bool(torch.isnan(value).any()) for name, value in made if name in keys):
            read.add(key)
    return read


def _none(_: str) -> bool:
    return False
