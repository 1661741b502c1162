"""Rules that differ in a word only, which carries over from the target's key to the sources', as one rule.

Example:
    >>> from automatch.rules.pattern import parse
    >>> from automatch.rules.reading import read_term
    >>> rules = [Rule(parse(f"h.{{i}}.w{x}.weight"), read_term(f"layers.{{i}}.{x}_proj.weight")) for x in "qkv"]
    >>> for rule in merged(rules):
    ...     print(rule.target, "=", rule.term and str(rule.term.pattern))
    h.{i}.w{x:q|k|v}.weight = layers.{i}.{x}_proj.weight
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from automatch.rules.pattern import Pattern, Piece, parse
from automatch.rules.ruleset import Rule
from automatch.rules.terms import Key, Term, children, keys, with_children

NAMES = ("x", "y", "z")

_PARTS = re.compile(r"[A-Za-z]+|\d+")
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Merge:
    """What rules have in common that differ in one word.

    Attributes:
        target: The target's key with a mark in the word's place.
        term: The term with marks where the word carries over.
        claim: How sure the rules are.
        reason: What is said of them.
        partial: Whether they hold for some numbers only.
    """

    target: str
    term: Term | None
    claim: str
    reason: str
    partial: bool


_MARK = "\0"


def merged(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules with siblings made one, most at a time, in the order of each one's first.

    A word may stand for itself alone or be a part of a longer one: `q` of `wq` and of `q_proj`. Rules without sources
    are merged where they say the same.
    """
    found = list(rules)
    for name in NAMES:
        found = _pass(found, name)
    return tuple(found)


def _pass(rules: list[Rule], name: str) -> list[Rule]:
    """All merges of one word each, a rule in one of them at most."""
    offers: dict[_Merge, dict[int, str]] = {}
    for place, rule in enumerate(rules):
        for merge, word in _offers(rule, name):
            offers.setdefault(merge, {}).setdefault(place, word)
    taken: dict[int, Rule | None] = {}
    for merge, members in sorted(offers.items(), key=lambda item: (-len(item[1]), min(item[1]))):
        free = {place: word for place, word in members.items() if place not in taken}
        if len(free) < 2 or len(set(free.values())) < len(free):
            continue
        first = min(free)
        taken |= dict.fromkeys(free)
        taken[first] = _rule(merge, rules[first], name, tuple(free.values()))
    kept = [taken.get(place, rule) for place, rule in enumerate(rules)]
    return [rule for rule in kept if rule is not None]


def _offers(rule: Rule, name: str) -> Iterator[tuple[_Merge, str]]:
    """Every word of the target's key, with what is left when it is taken out wherever it carries over."""
    if name in rule.target.variables:
        return
    text = str(rule.target)
    for start, stop in _words(text):
        word = text[start:stop]
        target = text[:start] + _MARK + text[stop:]
        if rule.term is None or not keys(rule.term):
            yield _Merge(target, rule.term, rule.claim, rule.reason, rule.partial), word
            continue
        term = _without(rule.term, word)
        if term != rule.term:
            yield _Merge(target, term, rule.claim, rule.reason, rule.partial), word


def _words(text: str) -> Iterator[Span]:
    """Where words stand outside holes: whole ones between dots, parts of them, and single letters of two."""
    at = 0
    for token in re.split(r"(\.)", text):
        if "{" not in token and "}" not in token and token not in ("", "."):
            yield (at, at + len(token))
            for part in _PARTS.finditer(token):
                if part.group() != token:
                    yield (at + part.start(), at + part.end())
            if len(token) == 2 and token.isalpha():
                yield from ((at, at + 1), (at + 1, at + 2))
        at += len(token)


def _without(term: Term, word: str) -> Term:
    """The term with a mark wherever its keys have the word."""
    if isinstance(term, Key):
        return Key(Pattern(tuple(_marked(piece, word) for piece in term.pattern.pieces)))
    return with_children(term, [_without(child, word) for child in children(term)])


def _marked(piece: Piece, word: str) -> Piece:
    if not isinstance(piece, str):
        return piece
    spans = [span for span in _words(piece) if piece[slice(*span)] == word]
    for start, stop in sorted(set(spans), reverse=True):
        piece = piece[:start] + _MARK + piece[stop:]
    return piece


def _rule(merge: _Merge, first: Rule, name: str, words: tuple[str, ...]) -> Rule:
    target = parse(merge.target.replace(_MARK, f"{{{name}:{'|'.join(words)}}}"))
    return replace(first, target=target, term=None if merge.term is None else _named(merge.term, name))


def _named(term: Term, name: str) -> Term:
    if isinstance(term, Key):
        pieces = tuple(f"{_text(piece)}".replace(_MARK, f"{{{name}}}") for piece in term.pattern.pieces)
        return Key(parse("".join(pieces)))
    return with_children(term, [_named(child, name) for child in children(term)])


def _text(piece: Piece) -> str:
    return piece if isinstance(piece, str) else str(Pattern((piece,)))
