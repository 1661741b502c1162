from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automatch.errors import RulesError
from automatch.rules.formula import Name, Number
from automatch.rules.pattern import parse
from automatch.rules.reading import read_reading, read_term
from automatch.rules.ruleset import Axis, Carried, Count, Derived, Reading
from automatch.rules.terms import Fill, Index, Key, Power, Scale, Term, Transpose, formulas, with_formulas
from automatch.rules.wording import reading_text, term_text
from tests.rules.drawn import FORMULAS, TERMS


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TERMS)
def test_a_term_comes_back_from_its_text(term: Term) -> None:
    written = term_text(term)
    assert read_term(written) == term
    assert term_text(read_term(written)) == written


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TERMS)
def test_a_terms_formulas_are_put_back_where_they_were(term: Term) -> None:
    assert with_formulas(term, formulas(term)) == term
    changed = with_formulas(term, [Number(7)] * len(formulas(term)))
    assert formulas(changed) == (Number(7),) * len(formulas(term))


SIDES = st.sampled_from(("source", "target"))
READINGS: st.SearchStrategy[Reading] = st.one_of(
    st.builds(Axis, SIDES, st.sampled_from([*map(parse, ("l.{i}.w", "layers.*.q.weight", "w"))]), st.integers(0, 3)),
    st.builds(Carried, SIDES, st.sampled_from([*map(parse, ("config.heads", "l.{i}.heads", "l.*.heads", "heads"))])),
    st.builds(Count, SIDES, st.sampled_from(("layers.*.w", "experts.*.down"))),
    st.builds(Derived, FORMULAS),
)


@given(READINGS)
def test_a_reading_comes_back_from_its_text(reading: Reading) -> None:
    assert read_reading(reading_text(reading)) == reading


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("cat( a.w ,b.w , dim = 1 )", "cat(a.w, b.w, dim=1)"),
        ("stack(e.{e}.w for e, dim=1)", "stack(e.{e}.w for e, dim=1)"),
        ("cat(e.{e}.w1, e.{e}.w3 for e)", "cat(e.{e}.w1, e.{e}.w3 for e)"),
        ("interleave(q, k, groups=heads * 2)", "interleave(q, k, groups=heads * 2)"),
        ("w[0:n]", "w[0:n]"),
        ("w[:, :n]", "w[:, :n]"),
        ("w[-n:, 3]", "w[-n:, 3]"),
        ("w.T.T", "w.T.T"),
        ("w.T.sum(dim=0)", "w.T.sum(dim=0)"),
        ("w[0].T", "w[0].T"),
        ("w.reshape(heads,-1).permute(1, 0)", "w.reshape(heads, -1).T"),
        ("(w)", "w"),
        ("1+w", "1 + w"),
        ("w + 1", "1 + w"),
        ("w - v", "w + -v"),
        ("-w", "-w"),
        ("2*w*v", "2 * (w * v)"),
        ("w / v", "w / v"),
        ("1 / w", "1 / w"),
        ("{heads ** 0.5} * w", "{heads ** 0.5} * w"),
        ("{2 * heads} * w", "{2 * heads} * w"),
        ("exp(log(w))", "exp(log(w))"),
        ("w.mean(dim=(0, 1), keepdim=True)", "w.mean(dim=(0, 1), keepdim=True)"),
        ("weight_norm(g, v, dim=None)", "weight_norm(g, v, dim=None)"),
        ("rotary_pairs(w, heads=heads, first=n // 2)", "rotary_pairs(w, heads=heads, first=n // 2)"),
        ("resize(w, 3, n, form=vector)", "resize(w, 3, n, form=vector)"),
        ("resize(w)", "resize(w)"),
        (
            "resize(w, form=table, dim0=rows, dim1=inputs, new=zeros)",
            "resize(w, form=table, dim0=rows, dim1=inputs, new=zeros)",
        ),
        ("zeros", "zeros"),
        ("ones(heads, 4)", "ones(heads, 4)"),
        ("full[-0.5](3)", "full[-0.5](3)"),
        ('"a key"', '"a key"'),
        ('"plain.key"', "plain.key"),
        ('"w.T".T', '"w.T".T'),
        ('"1.5"', '"1.5"'),
        ('"zeros"', '"zeros"'),
    ],
)
def test_how_terms_are_written(written: str, shown: str) -> None:
    assert term_text(read_term(written)) == shown
    assert read_term(shown) == read_term(written)


def test_a_key_may_be_called_anything_in_quotes() -> None:
    assert read_term('"w.T"') == Key(parse("w.T"))
    assert read_term("w.T") == Transpose(Key(parse("w")), (1, 0))
    assert read_term('"a(b) + \\"c\\""') == Key(parse('a(b) + "c"'))
    assert read_term("for.w") == Key(parse("for.w"))


def test_numbers_in_front_of_weights() -> None:
    w = Key(parse("w"))
    assert read_term("2 * w") == Scale(w, 2.0)
    assert read_term("1e-3 * w + 0.5") == Scale(w, 1e-3, 0.5)
    assert read_term("1 - w") == Scale(w, -1.0, 1.0)
    assert read_term("{heads ** -0.5} * w") == Scale(w, Power(Name("heads"), -0.5))
    assert read_term("full[2.5]") == Fill(2.5)


def test_a_single_entry_and_a_range_are_told_apart() -> None:
    one, some = read_term("w[3]"), read_term("w[3:]")
    assert isinstance(one, Index)
    assert isinstance(some, Index)
    assert (one.bounds[0].single, some.bounds[0].single) == (True, False)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", "expected a weight's key or a function at ''"),
        ("2", "expected a weight, not a number alone, at ''"),
        ("cat(a, b", "expected ')' at ''"),
        ("cat(a, b))", "expected the end at ')'"),
        ("a b", "expected the end at 'b'"),
        ("a +", "expected a weight's key or a function at ''"),
        ("1 + a + 2", "expected one number to be added, not two, at ''"),
        ("2 * a * 3", "expected one number as a factor, and none to divide by, at ''"),
        ("a / 2", "expected one number as a factor, and none to divide by, at ''"),
        ("-{n} * a", "expected no minus before sizes in braces at ''"),
        ("turn(a)", "there is no function turn; there are cat, stack, interleave, rotary_pairs"),
        ("a.flip(0)", "there is no .flip; there are .reshape, .permute, .T, .sum, .mean, .norm"),
        ("interleave(a, b)", "expected groups=... with interleave, and with nothing else, at ''"),
        ("cat(a, b, groups=2)", "expected groups=... with interleave, and with nothing else, at ''"),
        ("cat(a, axis=1)", "expected no axis=... before at ''"),
        ("cat(a, dim=-1)", "expected dim=... to be an axis at ''"),
        ("rotary_pairs(a)", "expected heads=... in rotary_pairs at ''"),
        ("weight_norm(a)", "expected weight_norm to be given two weights before at ''"),
        ("exp(a, b)", "expected exp to be given one weight before at ''"),
        ("exp(a, dim=1)", "expected no dim=... before at ''"),
        ("a.permute(n)", "expected permute to be given axes before at ''"),
        ("a.sum(0)", "expected sum(dim=...) before at ''"),
        ("a[:, :]", "expected entries to be taken before at ''"),
        ("a[1", "expected one of ':,]' at ''"),
        ("a[1.5]", "'1.5' is no formula"),
        ("resize(a, dim0=words)", "expected dim0=... to be one of inputs, patches, rows, positions, grid, relative"),
        ("resize(a, form1=table)", "expected form1=... to be one of nothing"),
        ("resize(a, form=round)", "expected form=... to be one of matrix, vector, table, other before at ')'"),
        ("full[x]", "expected a number"),
        ("{n ** x} * a", "{n ** x}: 'x' is no exponent"),
        ('"a', "expected a weight's key or a function at '\"a'"),
        ('"\\x"', "is no quoted key; write it as in JSON"),
        ("a.{i.w", "expected the end at '{i.w'"),
        ('"a.{i.w"', "a brace is not closed"),
    ],
)
def test_a_refusal_says_what_was_expected_and_where(written: str, expected: str) -> None:
    with pytest.raises(RulesError) as caught:
        read_term(written)
    assert expected in str(caught.value)


@pytest.mark.parametrize("written", ["(" * 500 + "a", "exp(" * 500 + "a", "cat(" * 2000])
def test_a_term_nested_too_deep_is_refused(written: str) -> None:
    with pytest.raises(RulesError, match="nested too deep"):
        read_term(written)


@settings(deadline=None)
@given(st.text('abT.{}i:|()[]+-*/, "0123=groups', max_size=30))
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    try:
        term = read_term(text)
    except RulesError:
        return
    assert read_term(term_text(term)) == term


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("source.count(layers.w)", "what is counted is one star"),
        ("source.count(layers.*.w.*)", "what is counted is one star"),
        ("heads / 2", "is no place to read a size from; write source.config.num_heads"),
        ("middle.config.heads", "is no place to read a size from"),
        ("", "is no place to read a size from"),
        ("source[w.{i]", "is no place to read a size from"),
        ("source.l.{i.heads", "a brace is not closed"),
    ],
)
def test_what_is_no_reading_is_refused(written: str, message: str) -> None:
    with pytest.raises(RulesError) as caught:
        read_reading(written)
    assert message in str(caught.value)


def test_minus_nothing_is_nothing() -> None:
    assert read_term("a.b - 0") == read_term("a.b")
