from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automatch.align.repeats import Repeat, longest_repeat


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        ("", None),
        ("a", None),
        ("abcd", None),
        ("abab", None),
        ("abcabc", Repeat(0, 6, 3)),
        ("ababab", Repeat(0, 6, 2)),
        ("aa", None),
        ("aaa", Repeat(0, 3, 1)),
        ("xyabcabcz", Repeat(2, 8, 3)),
        ("xabcabcabcay", Repeat(1, 11, 3)),
        ("abcdabcdxefgefgefgefgefg", Repeat(9, 24, 3)),
    ],
)
def test_the_stretch_that_repeats_is_found(symbols: str, expected: Repeat | None) -> None:
    assert longest_repeat(symbols) == expected


def test_a_period_shorter_than_least_must_repeat_three_times() -> None:
    assert longest_repeat("abcabc", least=4) is None
    assert longest_repeat("abcabcabc", least=4) == Repeat(0, 9, 3)
    assert longest_repeat("abab", least=2) == Repeat(0, 4, 2)


def test_what_covers_most_wins_over_what_repeats_most_often() -> None:
    # four of "a" inside two of a longer block
    assert longest_repeat("aaaabcaaaabc") == Repeat(0, 12, 6)


def test_leftover_positions_leave_the_phase_open() -> None:
    repeat = Repeat(1, 11, 3)
    assert (repeat.times, repeat.slack) == (3, 1)


def test_symbols_need_only_be_hashable() -> None:
    assert longest_repeat([("norm", 8), ("linear", (8, 8)), None] * 2) == Repeat(0, 6, 3)


@given(st.lists(st.sampled_from("abc"), max_size=24))
@settings(max_examples=100, deadline=None)
def test_whatever_is_found_does_repeat(symbols: list[str]) -> None:
    found = longest_repeat(symbols)
    if found is None:
        return
    assert 0 <= found.start < found.stop <= len(symbols)
    assert found.times >= (2 if found.period >= 3 else 3)
    stretch = symbols[found.start : found.stop]
    assert stretch[: -found.period] == stretch[found.period :]


@given(
    st.lists(st.integers(0, 3), max_size=4),
    st.lists(st.integers(10, 14), min_size=3, max_size=7, unique=True),
    st.integers(2, 6),
    st.lists(st.integers(4, 7), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_a_block_repeated_between_other_things_is_found_exactly(
    before: list[int], block: list[int], times: int, after: list[int]
) -> None:
    found = longest_repeat([*before, *block * times, *after])
    assert found == Repeat(len(before), len(before) + times * len(block), len(block))
