"""Where two models part because their operators differ, not their weights: which do, and in what constants.

An operator is to blame where both sides read the same numbers, in the same order, and make something else of them. That
needs no list of operators, and no weight can cause it. Four cases:

1. *A chain*: from one value, without weights and other data, each side goes on to a single result (an activation, a
   norm by hand or fused, what happens to attention scores). Where entries are treated one by one, order says nothing.
2. *A multiple*: both steps are alike, and one reads a constant multiple of what the other reads, though no weight made
   it one. The walk back ends where the factor comes in.
3. *A product*: the same weight meets the same value, and the results differ: padding, stride, a batch norm's
   epsilon.
4. *A table*: the same value meets constants of other numbers, such as the angles of positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from automatch.prove.rightness import PARTS
from automatch.prove.steps import Step
from automatch.prove.values import apart, same_content, same_layout, same_order, times
from automatch.prove.wording import named, same, told

BACK = 12
"""Steps that are walked back at most."""

UNEVEN = (*PARTS, "cat", "stack", "roll", "flip", "view_as_complex", "view_as_real", "rot90")
"""Operators that tell entries apart by their place: weights in another layout would do as well as other operators."""

SCALES = ("mul", "div")
"""Operators that may bring a factor in."""


FAR_APART = 1e-4
"""Tables of constants that differ by less may have been made with fewer digits."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why two models part, where it is no weight.

    Attributes:
        sentence: What a person is told; empty where a weight is a multiple of what it should be.
        factor: By what the target's values are multiplied, compared with the source's; None where that is not it.
        weights: Target weights that brought the factor in.
    """

    sentence: str
    factor: float | None = None
    weights: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Line:
    """One side's steps, and which of them are right."""

    steps: Sequence[Step]
    sound: Sequence[bool]
    close: float

    @cached_property
    def readers(self) -> dict[int, list[Step]]:
        """By place, the steps that read a step."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            for operand in step.operands:
                found.setdefault(operand, []).append(step)
        return found

    @cached_property
    def frontier(self) -> list[Step]:
        """Steps that are not right although all that they read is."""
        return [step for step in self.steps if not self.sound[step.index] and all(map(self.is_sound, step.operands))]

    def is_sound(self, place: int) -> bool:
        """Whether a step is right."""
        return self.sound[place]

    def like(self, value: Step) -> list[Step]:
        """Steps that hold the same numbers."""
        return [step for step in self.steps if same_content(step.value, value.value, self.close)]

    def back(self, step: Step) -> Iterator[Step]:
        """What a step is made of, as long as that is one value and no weight comes in; the step is not included."""
        for _ in range(BACK):
            if len(step.operands) != 1:
                return
            step = self.steps[step.operands[0]]
            yield step
            if step.weights or step.op == "input":
                return

    def chains(self, start: Step) -> list[list[Step]]:
        """What is made of a value alone, as groups of steps that belong together."""
        made: dict[int, int] = {}
        for step in self.steps[start.index + 1 :]:
            inner = [place for place in step.operands if place in made]
            if (
                step.weights
                or not step.operands
                or not all(place in made or place == start.index for place in step.operands)
            ):
                continue
            joined = {made[place] for place in inner}
            group = min(joined, default=step.index)
            made = {place: group if old in joined else old for place, old in made.items()} | {step.index: group}
        groups = dict.fromkeys(made.values())
        return [[self.steps[place] for place, group in made.items() if group == each] for each in groups]

    def ends(self, chain: Sequence[Step]) -> list[Step]:
        """Steps of a chain that are read outside of it, or by nothing."""
        inside = {step.index for step in chain}
        return [
            step
            for step in chain
            if not (after := self.readers.get(step.index)) or any(r.index not in inside for r in after)
        ]


def cause(parted: Step, mine: Step | None, target: Line, source: Line) -> Cause | None:
    """Why the target parts from the source at a step whose operands are right; None where a weight may be to blame.

    Args:
        parted: The target's step.
        mine: The source's step in its place.
        target: The target's side.
        source: The source's side.
    """
    found = (
        _multiple(parted, mine, target, source) or _product(parted, target, source) or _chain(parted, target, source)
    )
    found = found or _table(parted, target, source)
    if found or parted.weights:
        return found
    # half of what an activation lets through is right, whatever it does to the rest
    read = [target.steps[place] for place in parted.operands]
    partly = (_chain(step, target, source) for step in read if not source.like(step))
    return next((found for found in partly if found), None)


def _chain(parted: Step, target: Line, source: Line) -> Cause | None:
    if parted.weights or parted.op in PARTS:
        return None
    direct = True
    for start in target.back(parted):
        for like in source.like(start):
            found = _of_chains(parted, start, like, target, source, direct)
            if found:
                return found
        direct = False
    return None


def _of_chains(parted: Step, start: Step, like: Step, target: Line, source: Line, direct: bool) -> Cause | None:
    """What both sides make of one value, where it differs."""
    ours = next((chain for chain in target.chains(start) if parted in chain), [])
    wanted = _only(target.ends(ours))
    if wanted is None:
        return None
    for theirs in source.chains(like):
        end = _only(source.ends(theirs))
        if end is None or target.like(end) or end.value.numel() != wanted.value.numel():
            continue
        free = all(step.pointwise for step in (*ours, *theirs))
        if any(step.op in UNEVEN for step in (*ours, *theirs)):
            continue
        if not free and not same_layout(start, like, target.close):
            continue
        what = told(_from(parted, ours) if direct else ours, theirs)
        if not direct or not any(same(parted, step) for step in source.frontier):
            return Cause(f"the operators differ: {what}")
    return None


def _product(parted: Step, target: Line, source: Line) -> Cause | None:
    """The same weight meets the same value, and the result differs."""
    if not parted.weights or not parted.operands or parted.op.startswith(("embedding", *PARTS)):
        return None
    for step in source.steps:
        if source.sound[step.index] or len(step.given) != len(parted.given) or not step.operands:
            continue
        if not all(same_order(*pair, target.close) for pair in zip(parted.given, step.given, strict=True)):
            continue
        ours, theirs = _path(parted, target), _path(step, source)
        found = _met(ours, theirs, target.close)
        if found is not None and (what := told(*found)):
            return Cause(f"the operators differ: {what}")
    return None


def _table(parted: Step, target: Line, source: Line) -> Cause | None:
    """The same value meets a table of constants that has other numbers in it, not the same ones in another order."""
    if len(parted.tables) != 1 or len(parted.operands) != 1:
        return None
    (mine,), read = parted.tables, target.steps[parted.operands[0]]
    for step in source.steps:
        if source.sound[step.index] or step.op != parted.op or len(step.operands) != 1 or len(step.tables) != 1:
            continue
        difference = apart(mine, step.tables[0])
        if difference is None or difference < FAR_APART:
            continue
        if same_layout(read, source.steps[step.operands[0]], target.close):
            what = f"{parted.op} by a table of constants whose numbers are others there"
            return Cause(f"the operators differ: {what}, by up to {difference:.1e} of their size")
    return None


def _path(step: Step, line: Line) -> list[Step]:
    return [step, *line.back(step)]


def _met(ours: list[Step], theirs: list[Step], close: float) -> tuple[list[Step], list[Step]] | None:
    """What comes after the nearest value that two paths back have in common, in order of execution."""
    for far in range(1, len(ours)):
        for other in range(1, len(theirs)):
            if same_layout(ours[far], theirs[other], close):
                return ours[:far][::-1], theirs[:other][::-1]
    return None


def _multiple(parted: Step, mine: Step | None, target: Line, source: Line) -> Cause | None:
    """An operand that is a constant multiple of what it is on the other side."""
    if mine is None or mine.op != parted.op:
        return None
    for place in parted.operands:
        for other in mine.operands:
            factor = times(source.steps[other].value, target.steps[place].value, target.close)
            if factor is None or abs(factor - 1) < 1e3 * target.close:
                continue
            return _of_factor(factor, parted, (target, place), (source, other))
    return None


def _of_factor(factor: float, parted: Step, here: tuple[Line, int], there: tuple[Line, int]) -> Cause | None:
    (target, place), (source, other) = here, there
    entered, there_entered = _entered(target, place, source), _entered(source, other, target)
    origins = [step for step in (entered, there_entered) if step is not None]
    if not origins:
        return None
    if entered is not None and entered.weights:
        return Cause("", factor, entered.weights)
    if any(step.weights for step in origins):
        return None
    scaling = [step if step is not None and step.op in SCALES else None for step in (entered, there_entered)]
    scores = parted.op in ("softmax", "_softmax", "_safe_softmax")
    what = "the scores are" if scores else f"what {parted.op} reads is"
    return Cause(f"the operators differ: {what} {factor:.4g} times the source's{_scaled(scaling, scores)}", factor)


def _scaled(scaling: Sequence[Step | None], scores: bool) -> str:
    """Where a factor comes in."""
    here, there = (None if step is None else named(step) for step in scaling)
    if here and there:
        return f" ({here} here, {there} there)"
    what = "scales its attention" if scores else "multiplies it"
    return f": one side {what}, the other does not" + (
        f" ({here} here)" if here else f" ({there} there)" if there else ""
    )


def _entered(line: Line, place: int, other: Line) -> Step | None:
    """The step whose operands the other side knows as they are, and of whose value it knows a multiple alone."""
    step = line.steps[place]
    if other.like(step):
        return None
    for _ in range(BACK):
        unknown = [operand for operand in step.operands if not other.like(line.steps[operand])]
        if not unknown or step.weights:
            return step
        step = line.steps[unknown[0]]
    return None


def _only(steps: Sequence[Step]) -> Step | None:
    return steps[0] if len(steps) == 1 else None


def _from(step: Step, chain: Sequence[Step]) -> list[Step]:
    return [each for each in chain if each.index >= step.index]
