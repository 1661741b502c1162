"""Where two models whose outputs differ first part, and which weights are to blame.

1. Both programs run once on the same generic numbers, with every intermediate value kept (`steps`). Values are
   recognised by their content alone (`values`): one that both sides compute is the same in every layout, fused or not.
2. A value is *right* where the other side computes it, or computes something right from it: what depends on a wrong
   number is wrong. So the values between two spellings of one thing, which only one side has, are right as well.
3. The models part where a value is not right though all that it is made of is. Of several such steps, one that reads a
   weight is preferred, then one that brings several values together (q and k exchanged show in their scores).
4. Suspected are the weights that this step reads, then those that made its operands, nearest first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from automatch.core.graph import Shape
from automatch.prove.operators import Line, cause
from automatch.prove.rightness import first_wrong, leading_to, maker, right, whole_sum
from automatch.prove.spelled import SPELLINGS
from automatch.prove.steps import Step, run
from automatch.prove.suspects import blamed
from automatch.prove.values import CLOSE, Known, apart, has_order, known, ordered, same_content, same_order
from automatch.trace.program import Program

SUSPECTS = 4
"""Weights that are named at most."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator in a model.

    Attributes:
        name: Its bare name.
        module: Path of the module that calls it; empty for the model itself.
        line: The line of the model's code, as `"model.py:41"`; empty where it is not known.
        shape: The shape of its value.
    """

    name: str
    module: str
    line: str
    shape: Shape

    def __str__(self) -> str:
        """The operation as a person would point at it."""
        place = f" in {self.module}" if self.module else ""
        line = f" ({self.line})" if self.line else ""
        return f"{self.name}{place}{line}, {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A target weight that may be wrong.

    Attributes:
        key: Its key.
        sources: The source keys that the mapping makes it of; empty where that is not known, or none.
    """

    key: str
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The key, and where it comes from."""
        return f"{self.key} (from {', '.join(self.sources)})" if self.sources else self.key


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where two models compute different values.

    Attributes:
        target: The target's operation: all that it is made of is right, and its value is not.
        source: The operation in its place in the source; None where none is like it.
        difference: How far the two values are apart, in units of their size, both sorted; where their sizes differ,
            how far the outputs are.
        share: The share of the target's value that the source computes nowhere.
        weights: Suspected target weights, most likely first; empty where the operators differ.
        cause: Why they part, where it is an operator and no weight, as a sentence.
        factor: By what the values are multiplied on the target's side, where that is all; None where it is not.
        suspected: All target weights that may be to blame, also those that are not named.
        leading: Target weights that lead to the place, whatever is to blame there.
        behind: Target weights that come in where the models part or after it, so that no run confirms them.
        elsewhere: Target weights that lead to other places where they part, on branches of their own.
    """

    target: Operation
    source: Operation | None
    difference: float
    share: float
    weights: tuple[Suspect, ...]
    cause: str = ""
    factor: float | None = None
    suspected: tuple[str, ...] = ()
    leading: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person is told."""
        there = "nothing like it was found in the source" if self.source is None else f"in its place: {self.source}"
        suspects = "; ".join(map(str, self.weights)) or "none: no weight leads there"
        place = (
            f"the models first part at {self.target}",
            f"{there}; they differ by {self.difference:.1e} of their size, "
            f"{_percent(self.share)} of the values occur nowhere in the source",
        )
        return (self.cause, *place) if self.cause else (*place, f"suspected weights, most likely first: {suspects}")


@dataclass(frozen=True, slots=True)
class Parting:
    """What was found out about outputs that differ.

    Attributes:
        divergence: Where the models part; None where it was not found.
        reason: Why it was not; empty where it was.
    """

    divergence: Divergence | None
    reason: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person is told."""
        if self.divergence is not None:
            return self.divergence.sentences
        return (f"where the models first part was not found: {self.reason}",)


def first_divergence(
    source: Program,
    target: Program,
    *,
    outputs: Sequence[tuple[int, int]] = (),
    output_gap: float = 1.0,
    sources: Mapping[str, tuple[str, ...]] | None = None,
    close: float = CLOSE,
) -> Divergence | None:
    """Find where two recorded models part; None where all that the target's outputs are made of is right.

    Args:
        source: The source, on generic weights.
        target: The target, on what the mapping makes of them, with the same inputs.
        outputs: Places of outputs of both that were seen to differ; empty means that nothing is known of them.
        output_gap: How far the outputs are apart.
        sources: By target key, the source keys that the mapping reads.
        close: How close two numbers must be to be the same.

    Raises:
        ValueError: The models compute too many numbers to compare.
    """
    return compared(run(source, SPELLINGS), run(target, SPELLINGS), target.values, outputs, output_gap, sources, close)


Ran: TypeAlias = tuple[Sequence[Step], Sequence[int | None]]
"""The steps of a program, and for each output the step that it is."""


def compared(
    ours_run: Ran,
    theirs_run: Ran,
    weights: Mapping[str, Tensor],
    outputs: Sequence[tuple[int, int]] = (),
    output_gap: float = 1.0,
    sources: Mapping[str, tuple[str, ...]] | None = None,
    close: float = CLOSE,
    other: Known | None = None,
    sound: Sequence[bool] | None = None,
) -> Divergence | None:
    """`first_divergence` of programs that were run already; `weights` are the target's.

    `other` is what the source computes, and `sound` which of the target's steps are right by it, where that is known.
    """
    (ours, our_ends), (theirs, their_ends) = ours_run, theirs_run
    wanted = [their_ends[pair[1]] for pair in outputs] or their_ends
    if other is None or other.close != close:
        other, sound = known(ours, close), None
    relevant = leading_to(theirs, [end for end in wanted if end is not None])
    here = Line(theirs, sound or right(theirs, relevant, other), close)
    there = Line(ours, right(ours, range(len(ours)), known(theirs, close)), close)
    parted = first_wrong(theirs, here.sound, relevant, other)
    if parted is not None:
        mine = _counterpart(parted, ours, theirs, there.sound, close)
    elif outputs and None not in (ends := (our_ends[outputs[0][0]], their_ends[outputs[0][1]])):
        # all its numbers are there, in another order
        mine, parted = (maker(side[end or 0], side, other) for side, end in zip((ours, theirs), ends, strict=True))
    else:
        return None
    settled = _settled(parted, theirs, mine, ours, close)
    # where numbers are only in another order, no weight was left out
    plain = set() if _reordered(parted, theirs, mine, ours, close) else _plain(weights)
    found = cause(parted, mine, here, there)
    blame = blamed(whole_sum(parted, theirs), theirs, plain, settled)
    suspected = () if found and found.sentence else tuple(dict.fromkeys((*(found.weights if found else ()), *blame)))
    difference = None if mine is None else apart(mine.value, parted.value)
    origins = sources or {}
    return Divergence(
        _operation(parted),
        None if mine is None else _operation(mine),
        output_gap if difference is None or difference < 100 * close else difference,
        1 - other.share(parted.value),
        tuple(Suspect(key, origins.get(key, ())) for key in suspected[:SUSPECTS]),
        found.sentence if found else "",
        found.factor if found else None,
        suspected,
        tuple(dict.fromkeys((*suspected, *blame))),
        _behind(parted, theirs, here.sound, relevant),
        _elsewhere(parted, here, relevant, plain),
    )


def _elsewhere(parted: Step, here: Line, relevant: Collection[int], plain: Collection[str]) -> tuple[str, ...]:
    """Weights that lead to other places where the models part: on branches that do not meet before."""
    places = [step for step in here.frontier if step.index in relevant and step.index != parted.index]
    found = (blamed(whole_sum(step, here.steps), here.steps, plain) for step in places)
    return tuple(dict.fromkeys(key for keys in found for key in keys[:1]))


def _behind(parted: Step, steps: Sequence[Step], sound: Sequence[bool], relevant: Collection[int]) -> tuple[str, ...]:
    """Weights that no step reads whose value is right and which comes before the parted one in dataflow."""
    after = {parted.index}
    for step in steps[parted.index + 1 :]:
        if not after.isdisjoint(step.operands):
            after.add(step.index)
    reads = [step for step in steps if step.index in relevant]
    confirmed = {key for step in reads if sound[step.index] and step.index not in after for key in step.weights}
    return tuple(dict.fromkeys(key for step in reads for key in step.weights if key not in confirmed))


def _plain(weights: Mapping[str, Tensor]) -> set[str]:
    return {key for key, value in weights.items() if value.numel() and bool((value == value.flatten()[0]).all())}


def _counterpart(
    parted: Step, ours: Sequence[Step], theirs: Sequence[Step], sound: Sequence[bool], close: float
) -> Step | None:
    """The source's step that reads the same values and makes something else of them.

    Of those whose value the target does not compute, the one that is most alike: by its operands, whether they are
    right, and its operator; then by its size.
    """
    read = [theirs[operand].value for operand in parted.operands]

    def likeness(step: Step) -> tuple[int, ...]:
        mine = [ours[operand].value for operand in step.operands]
        shared = sum(any(same_content(value, other, close) for other in mine) for value in read)
        first = all(sound[operand] for operand in step.operands)
        size, same = step.value.numel() == parted.value.numel(), step.op == parted.op
        return (shared + same + first, same, size, bool(step.weights) == bool(parted.weights))

    missing = [step for step in ours if not sound[step.index] and step.value.numel()]
    best = max(missing, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] else None


def _reordered(parted: Step, theirs: Sequence[Step], mine: Step | None, ours: Sequence[Step], close: float) -> bool:
    """Whether a step reads the same numbers as its counterpart."""
    if mine is None or mine.op != parted.op:
        return False
    read = [ours[operand].value for operand in mine.operands]
    wanted = [theirs[operand].value for operand in parted.operands]
    return all(any(same_content(value, other, close) for other in read) for value in wanted)


def _settled(parted: Step, theirs: Sequence[Step], mine: Step | None, ours: Sequence[Step], close: float) -> set[int]:
    """Steps that hold the same numbers in the same order as one of the source's.

    The operands of the parted step are compared with those of its counterpart alone: q in the place of k is not right.
    Terms of a sum have no place.
    """
    like = mine is not None and (mine.op, len(mine.operands)) == (parted.op, len(parted.operands))
    orders = ordered(ours, close)
    settled = {step.index for step in theirs[: parted.index] if has_order(orders, step.value, close)}
    beside = [ours[operand].value for operand in mine.operands] if mine is not None and like else []
    operands = {place: theirs[place].value for place in parted.operands}
    same = {place for place, value in operands.items() if any(same_order(value, other, close) for other in beside)}
    return settled - (set() if parted.op == "add" else set(operands)) | same


def _operation(step: Step) -> Operation:
    return Operation(step.op, step.module, step.line, step.shape)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 or share == 0 else "less than 1%"
