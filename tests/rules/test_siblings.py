from __future__ import annotations

import pytest

from automatch.rules.pattern import parse
from automatch.rules.reading import read_term
from automatch.rules.ruleset import Claim, Rule
from automatch.rules.siblings import merged
from automatch.rules.wording import term_text


def rule(target: str, term: str | None, claim: Claim = "proved", reason: str = "") -> Rule:
    return Rule(parse(target), None if term is None else read_term(term), claim, reason)


def shown(*rules: Rule) -> list[str]:
    return [f"{each.target} = {each.reason if each.term is None else term_text(each.term)}" for each in merged(rules)]


def pairs(**made: str) -> tuple[Rule, ...]:
    return tuple(rule(target.replace("_", "."), term) for target, term in made.items())


def test_a_word_that_carries_over_is_a_choice() -> None:
    rules = [rule(f"h.{{i}}.{x}.weight", f"l.{{i}}.{x}_proj.weight") for x in "qkv"]
    assert shown(*rules) == ["h.{i}.{x:q|k|v}.weight = l.{i}.{x}_proj.weight"]


def test_two_words_are_two_choices() -> None:
    rules = [rule(f"h.{x}.{y}", f"l.{x}.{y}.T") for x in ("up", "down") for y in ("weight", "bias")]
    assert shown(*rules) == ["h.{x:up|down}.{y:weight|bias} = l.{x}.{y}.T"]


def test_a_part_of_a_word_carries_over() -> None:
    assert shown(rule("wq", "q_proj"), rule("wk", "k_proj")) == ["w{x:q|k} = {x}_proj"]
    assert shown(rule("fc1", "mlp.1"), rule("fc2", "mlp.2")) == ["fc{x:1|2} = mlp.{x}"]


def test_a_word_carries_over_in_every_part() -> None:
    rules = [rule(x, f"cat(a.{x}.w, b.{x}.w)") for x in ("one", "two", "three")]
    assert shown(*rules) == ["{x:one|two|three} = cat(a.{x}.w, b.{x}.w)"]


@pytest.mark.parametrize(
    "rules",
    [
        (rule("q", "k.w"), rule("k", "q.w")),
        (rule("q", "q.w"), rule("k", "k.w.T")),
        (rule("q", "q.w", "proved"), rule("k", "k.w", "guessed")),
        (rule("q", "q.w", "proved", "why"), rule("k", "k.w", "proved", "why not")),
        (rule("q", "q.w[0:2]"), rule("k", "k.w[2:4]")),
        (rule("a", "w"), rule("b", "w")),
    ],
)
def test_rules_that_differ_in_more_than_a_word_stay_apart(rules: tuple[Rule, ...]) -> None:
    assert merged(rules) == rules


def test_rules_without_sources_are_one_where_they_say_the_same() -> None:
    rules = [rule(f"h.{{i}}.{x}", None, "unmapped", "no counterpart") for x in ("mask", "table")]
    assert shown(*rules) == ["h.{i}.{x:mask|table} = no counterpart"]
    assert shown(rule("a.bias", "zeros"), rule("b.bias", "zeros")) == ["{x:a|b}.bias = zeros"]


def test_the_order_is_that_of_the_first_of_each() -> None:
    rules = (rule("q", "q.w"), rule("norm.weight", "ln.T"), rule("k", "k.w"))
    assert shown(*rules) == ["{x:q|k} = {x}.w", "norm.weight = ln.T"]
