"""Which values of a program are right, given what the other one computes, and which is the first that is not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from automatch.prove.steps import Step
from automatch.prove.values import NEARLY, Known, known, telling

PARTS = (
    *("getitem", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "tensor_split", "unbind"),
    *("index", "index_select", "gather"),
)
"""Operators that take a part of a value."""


def right(steps: Sequence[Step], relevant: Collection[int], other: Known) -> list[bool]:
    """Of every step, whether its value is right.

    1. It is, where the other side computes it, or something right is made of it. A part that is right does not speak
       for the whole that it is taken from; all parts together do.
    2. What tells nothing (ones, zeros, masks) is as right as what it is made of.
    3. So is a sum that only goes into sums: in which order terms are added is a matter of spelling.

    Args:
        steps: The steps of a program.
        relevant: Places of those that count as readers.
        other: What the other side computes.
    """
    tells, found = [], []
    for step in steps:
        entries = telling(step.value)
        tells.append(entries.numel() > 0)
        found.append(step.op == "input" or (tells[-1] and other.holds(entries)))
    _certify(steps, relevant, found)
    readers = _readers(steps, relevant)
    for step in steps:
        inner = _is_sum(step) and step.index in readers and all(map(_is_sum, readers[step.index]))
        if inner or not tells[step.index]:
            found[step.index] = found[step.index] or _ready(step, found)
    return found


def _certify(steps: Sequence[Step], relevant: Collection[int], found: list[bool]) -> None:
    """What something right is made of is right."""
    parts: dict[int, list[bool]] = {}
    for step in reversed(steps):
        found[step.index] = found[step.index] or all(parts.get(step.index, (False,)))
        # what a mask or a whole number was made of may be wrong although what is made of it is right
        if step.index not in relevant or not step.value.numel():
            continue
        for operand in step.operands:
            if step.op in PARTS and step.value.numel() < steps[operand].value.numel():
                parts.setdefault(operand, []).append(found[step.index])
            else:
                found[operand] = found[operand] or found[step.index]


def leading_to(steps: Sequence[Step], ends: Sequence[int]) -> set[int]:
    """Places of the steps that some are made of, and of those themselves."""
    reached = set(ends)
    for step in reversed(steps):
        if step.index in reached:
            reached.update(step.operands)
    return reached


def first_wrong(steps: Sequence[Step], sound: Sequence[bool], relevant: Collection[int], other: Known) -> Step | None:
    """The step that is not right though all that it is made of is; None where all are right.

    Of several, one that reads a weight, then one that brings values together, then the earliest: a value that only one
    side computes, before what is wrong ends all comparison, is made of one value most often.
    """
    candidates = [
        maker(step, steps, other)
        for step in steps
        if step.index in relevant and not sound[step.index] and _ready(step, sound)
    ]
    return min(candidates, key=lambda step: (_kind(step), step.index), default=None)


def maker(step: Step, steps: Sequence[Step], other: Known) -> Step:
    """The step that computed what is wrong in this one, where this one only moves it, or its operand is wrong too."""
    while len(step.operands) == 1:
        before = steps[step.operands[0]]
        moved = not step.weights and known([before], other.close).share(step.value) >= NEARLY
        part = 0 < other.share(before.value) < min(NEARLY, other.share(step.value) + 0.01)
        if before.op == "input" or not (moved or part):
            return step
        step = before
    return step


def whole_sum(step: Step, steps: Sequence[Step]) -> Step:
    """A step with the terms of the sums that it only goes into; the order of terms says nothing about them."""
    readers = _readers(steps, range(len(steps)))
    outer = step
    while outer.op == "add" and [reader.op for reader in readers.get(outer.index, ())] == ["add"]:
        before, (outer,) = outer.index, readers[outer.index]
        terms = (*step.operands, *(place for place in outer.operands if place != before))
        weights = (*step.weights, *outer.weights)
        step = replace(step, operands=tuple(dict.fromkeys(terms)), weights=tuple(dict.fromkeys(weights)))
    return step


def _kind(step: Step) -> int:
    return 0 if step.weights else 1 if len(step.operands) > 1 else 2


def _ready(step: Step, sound: Sequence[bool]) -> bool:
    return all(sound[operand] for operand in step.operands)


def _is_sum(step: Step) -> bool:
    return step.op == "add" and len(step.operands) > 1


def _readers(steps: Sequence[Step], relevant: Collection[int]) -> dict[int, list[Step]]:
    found: dict[int, list[Step]] = {}
    for step in steps:
        for operand in step.operands if step.index in relevant else ():
            found.setdefault(operand, []).append(step)
    return found
