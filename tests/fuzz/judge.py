"""What a mapping of a pair is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from tests.fuzz.layout import Weights
from tests.fuzz.pair import Pair, gap

TIGHT = 1e-9
REDRAWS = (101, 102)
Outcome: TypeAlias = Literal["exact", "unsure", "false_proof"]


class Entry(Protocol):
    """An answer for one key."""

    @property
    def status(self) -> str: ...


class Answer(Protocol):
    """What a matcher hands back."""

    def __getitem__(self, target: str, /) -> Entry: ...
    def apply(self, state_dict: Mapping[str, Tensor], /) -> dict[str, Tensor]: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome; `equal` says whether every tensor is the reference's; `gap` is the worst between outputs.

    Where outputs differ, `wrong` are the keys that differ from the reference. Where they agree, what differs from it is
    a freedom that changes nothing. `missing` are the keys without a value.
    """

    outcome: Outcome
    equal: bool
    gap: float
    wrong: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    proved_wrong: tuple[str, ...] = ()


def judge(pair: Pair, mapping: Answer) -> Verdict:
    """Apply a mapping to two redraws of the source, each with inputs of its own, and compare outputs.

    Exact: all keys are there and the outputs agree. A false proof: they do not, and a key that differs from the
    reference is called proved. Such a key may still be right beside wrong ones, if it uses a freedom that they break
    (hidden units in another order, one side of a sum), so look before you blame it.
    """
    redraws = [pair.redraw(seed) for seed in REDRAWS]
    given = [mapping.apply(state) for state in redraws]
    right = [pair.reference(state) for state in redraws]
    missing = tuple(key for key in right[0] if key not in given[0])
    cases = zip(REDRAWS, redraws, given, right, strict=True)
    worst = max(_gap(pair, seed, ours, theirs, expected) for seed, ours, theirs, expected in cases)
    wrong = tuple(key for key in right[0] if any(_differs(key, *both) for both in zip(given, right, strict=True)))
    if worst < TIGHT and not missing:
        return Verdict("exact", not wrong, worst)
    proved = tuple(key for key in wrong if mapping[key].status == "proved")
    return Verdict("false_proof" if proved else "unsure", False, worst, wrong, missing, proved)


def _gap(pair: Pair, seed: int, ours: Weights, theirs: Weights, expected: Weights) -> float:
    """The gap with what was given; infinite where something lacks or does not fit."""
    fits = all(key in theirs and theirs[key].shape == value.shape for key, value in expected.items())
    used = {key: theirs[key] for key in expected} if fits else {}
    return gap(pair, ours, used, pair.fresh(seed)) if fits else float("inf")


def _differs(key: str, given: Weights, right: Weights) -> bool:
    if key not in given:
        return False
    if given[key].shape != right[key].shape:
        return True
    return bool((given[key].double() - right[key]).abs().max() > TIGHT * right[key].abs().max())
