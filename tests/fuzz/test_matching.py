"""The exact matcher on random pairs: right, or not called proved."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings

from tests.fuzz.campaign import answer, run
from tests.fuzz.judge import judge
from tests.fuzz.pair import Pair, pairs

SEEDS = range(40)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(pairs())
def test_what_is_proved_is_right(pair: Pair) -> None:
    verdict = judge(pair, answer(pair))
    assert verdict.outcome != "false_proof", f"{pair.description}\nproved and wrong: {verdict.proved_wrong}"


def test_nearly_every_pair_is_exact() -> None:
    results = [run(seed) for seed in SEEDS]
    others = "\n".join(result.line for result in results if result.outcome != "exact")
    assert Counter(result.outcome for result in results)["exact"] >= 0.95 * len(SEEDS), others


def test_a_weight_that_is_split_and_joined_again_ends_no_search() -> None:
    """A recurrent layer's weight, all parts of which are read at once where the two models part."""
    result = run(72)
    assert result.outcome == "exact", result.line
