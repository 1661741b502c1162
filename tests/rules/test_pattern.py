from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.errors import RulesError
from automatch.rules.formula import Name
from automatch.rules.pattern import Choice, Hole, Pattern, check_target, fill, loose, match, parse
from automatch.rules.splitting import split
from tests.rules.drawn import patterns


@given(patterns())
def test_a_pattern_comes_back_from_its_text(pattern: Pattern) -> None:
    assert parse(str(pattern)) == pattern


@given(st.integers(0, 200), st.sampled_from(("q", "k", "v")), st.integers(0, 9))
def test_what_matches_is_filled_back(i: int, word: str, j: int) -> None:
    pattern = parse("h.{i}.{x:q|k|v}.block{j}.{i}.weight")
    key = f"h.{i}.{word}.block{j}.{i}.weight"
    assert match(pattern, key) == {"i": str(i), "x": word, "j": str(j)}
    assert fill(pattern, {"i": str(i), "x": word, "j": str(j)}) == key
    assert loose(pattern, split(key)[0])


@pytest.mark.parametrize(
    "key", ["h.1.o.w", "h.01.q.w", "h.-1.q.w", "h.1.q.w.x", "x.h.1.q.w", "h.1.qk.w", "h.1.q|k.w", "h..q.w", "hx1.q.w"]
)
def test_what_does_not_fit_does_not_match(key: str) -> None:
    assert match(parse("h.{i}.{x:q|k}.w"), key) is None


def test_a_variable_that_comes_twice_must_be_the_same_twice() -> None:
    pattern = parse("s.{i}.b.{i}")
    assert match(pattern, "s.3.b.3") == {"i": "3"}
    assert match(pattern, "s.3.b.4") is None


def test_words_of_a_choice_are_plain_text_and_may_be_numbers() -> None:
    assert parse("mlp.{x:0|2}.w").pieces == ("mlp.", Choice("x", ("0", "2")), ".w")
    assert match(parse("mlp.{x:0|2}.w"), "mlp.2.w") == {"x": "2"}
    assert match(parse("a.{x:w*|b}"), "a.www") is None
    assert fill(parse("mlp.{x + 1}.w"), {"x": "2"}) == "mlp.3.w"


def test_formulas_of_a_source_are_worked_out() -> None:
    assert fill(parse("h.{2 * i + n}.w"), {"i": "3"}, {"n": 1}) == "h.7.w"
    assert parse("h.{i}.{j + n}").variables == ("i", "j", "n")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("h.{i.w", "a brace is not closed"),
        ("h.i}.w", "a brace is not closed"),
        ("h.{}.w", "is no formula"),
        ("h.{{i}}.w", "a brace is not closed"),
        ("h.{i ** 2}.w", "is no formula"),
        ("h.{x:}.w", "should be a name, a colon, and words with | between them"),
        ("h.{x:a||b}.w", "should be a name, a colon, and words with | between them"),
        ("h.{2x:a|b}.w", "should be a name, a colon, and words with | between them"),
        ("h.{x:a.b|c}.w", "should be a name, a colon, and words with | between them"),
    ],
)
def test_what_is_no_pattern_is_refused(written: str, message: str) -> None:
    with pytest.raises(RulesError) as caught:
        parse(written)
    assert message in str(caught.value)
    assert written in str(caught.value)


def test_a_target_has_variables_and_no_formulas() -> None:
    check_target(parse("h.{i}.{x:q|k}"))
    with pytest.raises(RulesError, match=r"h\.\{i \+ 1\}: a target's key has variables"):
        check_target(parse("h.{i + 1}"))


def test_a_number_below_zero_or_without_a_value_is_refused() -> None:
    with pytest.raises(RulesError, match=r"i - 1 is -1, which is no number of a key"):
        fill(parse("h.{i - 1}.w"), {"i": "0"})
    with pytest.raises(RulesError, match=r"h\.\{j\}\.w: j has no value"):
        fill(parse("h.{j}.w"), {"i": "0"})


def test_a_pattern_of_nothing_but_a_hole() -> None:
    assert parse("{i}").pieces == (Hole(Name("i")),)
    assert match(parse("{i}"), "12") == {"i": "12"}
