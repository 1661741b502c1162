from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.errors import RulesError
from automatch.rules.formula import Binary, Formula, Name, Number, evaluate, names, parse, text
from tests.rules.drawn import FORMULAS, NAMES


@given(FORMULAS)
def test_a_formula_comes_back_from_its_text(formula: Formula) -> None:
    assert parse(text(formula)) == formula


@given(FORMULAS, st.fixed_dictionaries(dict.fromkeys(NAMES, st.integers(1, 50))))
def test_the_text_means_what_python_means_by_it(formula: Formula, values: dict[str, int]) -> None:
    try:
        wanted = eval(text(formula), {}, dict(values))  # the oracle: what Python makes of the text
    except ZeroDivisionError:
        with pytest.raises(RulesError, match="divides by zero"):
            evaluate(formula, values)
        return
    assert evaluate(formula, values) == wanted


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("a+b*c", "a + b * c"),
        ("(a+b)*c", "(a + b) * c"),
        ("a-(b-c)", "a - (b - c)"),
        ("a-b-c", "a - b - c"),
        ("a//(b//c)", "a // (b // c)"),
        ("a*(b//c)", "a * (b // c)"),
        ("-a//2", "-a // 2"),
        ("-(a//2)", "-(a // 2)"),
        ("2*-3", "2 * (-3)"),
        ("-3*a", "-3 * a"),
        ("  7 ", "7"),
    ],
)
def test_brackets_stand_where_they_are_needed(written: str, shown: str) -> None:
    assert text(parse(written)) == shown
    assert parse(shown) == parse(written)


def test_a_name_is_named_once() -> None:
    assert names(parse("b * a + b // 2")) == ("b", "a")
    assert names(Number(3)) == ()


@pytest.mark.parametrize(
    "written",
    [
        "",
        "a +",
        "a ** 2",
        "a / 2",
        "f(a)",
        "a.b",
        "a[0]",
        "1.5",
        "'a'",
        "True",
        "a if b else c",
        "a; b",
        "lambda: 1",
        "a\0",
    ],
)
def test_what_is_no_formula_is_refused(written: str) -> None:
    with pytest.raises(RulesError, match=r"is no formula; write names, whole numbers, \+ - \* // and brackets"):
        parse(written)


def test_a_formula_too_deep_to_read_is_refused() -> None:
    with pytest.raises(RulesError, match="is no formula"):
        parse("(" * 10_000 + "1" + ")" * 10_000)


def test_a_name_without_a_value_is_named() -> None:
    with pytest.raises(RulesError, match=r"^heads has no value$"):
        evaluate(parse("2 * heads"), {"width": 3})
    with pytest.raises(RulesError, match=r"^a // \(b - 1\) divides by zero$"):
        evaluate(parse("a // (b - 1)"), {"a": 4, "b": 1})


def test_division_rounds_down_as_in_python() -> None:
    assert evaluate(Binary("//", Number(-7), Number(2)), {}) == -4
    assert evaluate(Name("a"), {"a": 5}) == 5
