from __future__ import annotations

from math import prod

from hypothesis import given
from hypothesis import strategies as st

from automatch.lift.keys import split
from automatch.report.patterns import collapse, ranges, shortened

WORDS = st.sampled_from(["blocks", "w", "ffn", "0", "1", "2", "3", "10", "007", "weight1", ""])
KEYS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map(".".join), unique=True, max_size=30)


def texts(*keys: str) -> list[str]:
    return [pattern.text for pattern in collapse(keys)]


def test_keys_of_all_layers_become_one_pattern() -> None:
    (pattern,) = collapse(f"blocks.{i}.cross_attn.q.weight" for i in range(40))
    assert pattern.text == "blocks.{0..39}.cross_attn.q.weight"
    assert len(pattern.keys) == 40


def test_two_numbers_collapse_where_every_combination_is_there() -> None:
    assert texts("a.0.b.0", "a.0.b.2", "a.1.b.0", "a.1.b.2") == ["a.{0,1}.b.{0,2}"]


def test_a_missing_combination_is_not_claimed() -> None:
    assert sorted(texts("a.0.b.0", "a.0.b.2", "a.1.b.0")) == ["a.0.b.2", "a.{0,1}.b.0"]


def test_numbers_that_are_part_of_a_word_stay() -> None:
    assert texts("layer1.weight", "layer2.weight") == ["layer1.weight", "layer2.weight"]


def test_padded_numbers_are_words_because_they_could_not_be_written_back() -> None:
    assert texts("a.01.w", "a.02.w") == ["a.01.w", "a.02.w"]


def test_nothing_gives_nothing() -> None:
    assert collapse([]) == ()


@given(KEYS)
def test_patterns_hold_every_key_once_and_claim_no_other(keys: list[str]) -> None:
    patterns = collapse(keys)
    assert sorted(key for pattern in patterns for key in pattern.keys) == sorted(keys)
    for pattern in patterns:
        columns = zip(*(split(key)[1] for key in pattern.keys), strict=True)
        assert prod(len(set(column)) for column in columns) == len(pattern.keys)


def test_ranges_shorten_runs_of_three_and_keep_the_order() -> None:
    assert ranges((5, 6, 7, 1, 2)) == "5..7,1,2"
    assert ranges(()) == ""


def test_a_line_is_cut_only_where_it_is_too_long() -> None:
    assert shortened("abcdefgh", 8) == "abcdefgh"
    assert shortened("abcdefghi", 8) == "abcde..."
