from __future__ import annotations

from dataclasses import replace

import pytest

from automatch.core.expr import Source
from automatch.core.mapping import Evidence, MappingRecord, ProofRecord, Shown, Verdict
from automatch.core.verdict import TO_PROVE, headline, is_good
from tests.apply.records import entry, record

AGREE = "the output agrees within 1.5e-07 of the scale in 5 draws of all source weights"


def proof(outcome: str, reason: str) -> ProofRecord:
    return ProofRecord(outcome, reason, 5, 1e-5, "f32[2]", "f32[2]")  # type: ignore[arg-type]


def proved() -> MappingRecord:
    """Two weights, both proved."""
    evidence = Evidence("colours", shown=Shown(4, 4, "every element would have shown"))
    entries = [replace(entry(key, Source(key, (4,)), "proved"), evidence=evidence) for key in "ab"]
    return replace(record(*entries), proof=proof("agree", AGREE))


def in_part() -> MappingRecord:
    """One weight proved, one that no output tells, one unmapped."""
    entries = (proved().entries[0], entry("b", Source("b", (4,))), entry("c", None))
    return replace(record(*entries), proof=proof("agree", AGREE))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (proved(), f"proved: all 2 weights; {AGREE}"),
        (in_part(), f"agrees, in part shown: 1 of 3 weights proved, 1 unmapped; {AGREE}"),
        (
            replace(in_part(), proof=proof("differ", "draw 1: output 0 differ by 1e+00 of their scale")),
            "refuted: draw 1: output 0 differ by 1e+00 of their scale",
        ),
        (
            replace(in_part(), proof=None, not_run="the source is on\nthe meta device.", next_step="pass twins."),
            "not run: the source is on the meta device; to prove it: pass twins",
        ),
        (
            replace(in_part(), proof=proof("nothing", "no outputs correspond")),
            "not run: no outputs correspond",
        ),
        (
            replace(in_part(), proof=None),
            f"not run: nobody ran both models under this mapping; to prove it: {TO_PROVE}",
        ),
    ],
)
def test_the_headline_is_the_verdict_and_how_far_it_goes(of: MappingRecord, said: str) -> None:
    assert headline(of) == said


@pytest.mark.parametrize(
    ("verdict", "good"), [("proved", True), ("agrees, in part shown", True), ("not run", False), ("refuted", False)]
)
def test_a_verdict_is_good_where_outputs_agreed(verdict: Verdict, good: bool) -> None:
    assert is_good(verdict) is good
