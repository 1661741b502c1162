"""Patterns of keys: `layers.{i}.self_attn.{x:q|k|v}_proj.weight`.

`{i}` stands for any number, `{x:q|k|v}` for one of some words (or numbers). On the source's side of a rule `{i}` and
`{x}` stand for what the target's key had there, and numbers may be formulas: `{i + 1}`, `{2 * i}`.

Example:
    >>> pattern = parse("layers.{i}.{x:q|k}_proj.weight")
    >>> match(pattern, "layers.3.q_proj.weight")
    {'i': '3', 'x': 'q'}
    >>> fill(parse("h.{2 * i}.{x}.weight"), {"i": "3", "x": "q"})
    'h.6.q.weight'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, assert_never

from automatch.errors import RulesError
from automatch.rules import formula as formulas
from automatch.rules.formula import Formula, Name

_HOLE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[^\W\d]\w*")
_WORD = re.compile(r"[^\s{}|:.]+")


@dataclass(frozen=True, slots=True)
class Hole:
    """A number: of a target's key, a variable of its own; of a source's key, a formula of them."""

    formula: Formula


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words.

    Attributes:
        name: The variable that holds the word.
        words: The words there are.
    """

    name: str
    words: tuple[str, ...]


Piece: TypeAlias = str | Hole | Choice


@dataclass(frozen=True, slots=True)
class Pattern:
    """A key with holes: literal text and holes in turn."""

    pieces: tuple[Piece, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """The names that the pattern has, in order."""
        found: dict[str, None] = {}
        for piece in self.pieces:
            found |= dict.fromkeys(_names(piece))
        return tuple(found)

    def __str__(self) -> str:
        """The pattern as it is written."""
        return "".join(map(_text, self.pieces))


def parse(written: str) -> Pattern:
    """Read a pattern.

    Raises:
        RulesError: A brace is left open, or what is in braces is neither a formula nor a choice of words.
    """
    parts = _HOLE.split(written)
    literal = "".join(parts[::2])
    if "{" in literal or "}" in literal:
        raise RulesError(f"{written!r}: a brace is not closed")
    pieces = [_hole(part, written) if place % 2 else part for place, part in enumerate(parts)]
    return Pattern(tuple(piece for piece in pieces if piece != ""))


def _hole(inner: str, written: str) -> Piece:
    name, colon, words = inner.partition(":")
    if not colon:
        try:
            return Hole(formulas.parse(inner))
        except RulesError as error:
            raise RulesError(f"{written!r}: {error}") from None
    choices = tuple(words.split("|"))
    if not _NAME.fullmatch(name) or not all(_WORD.fullmatch(word) for word in choices):
        raise RulesError(f"{written!r}: {{{inner}}} should be a name, a colon, and words with | between them")
    return Choice(name, choices)


def _text(piece: Piece) -> str:
    match piece:
        case str():
            return piece
        case Hole(formula=formula):
            return f"{{{formulas.text(formula)}}}"
        case Choice(name=name, words=words):
            return f"{{{name}:{'|'.join(words)}}}"
        case _:
            assert_never(piece)


def _names(piece: Piece) -> tuple[str, ...]:
    match piece:
        case str():
            return ()
        case Hole(formula=formula):
            return formulas.names(formula)
        case Choice(name=name):
            return (name,)
        case _:
            assert_never(piece)


def match(pattern: Pattern, key: str) -> dict[str, str] | None:
    """What a target's key has in the places of a pattern's variables; None where it does not fit."""
    found = _expression(pattern).fullmatch(key)
    return None if found is None else found.groupdict()


@cache
def _expression(pattern: Pattern) -> re.Pattern[str]:
    written: list[str] = []
    seen: set[str] = set()
    for piece in pattern.pieces:
        if isinstance(piece, str):
            written.append(re.escape(piece))
            continue
        name = _variable(piece, pattern)
        choices = "|".join(map(re.escape, piece.words)) if isinstance(piece, Choice) else "0|[1-9][0-9]*"
        written.append(f"(?P={name})" if name in seen else f"(?P<{name}>{choices})")
        seen.add(name)
    return re.compile("".join(written))


def _variable(piece: Hole | Choice, pattern: Pattern) -> str:
    if isinstance(piece, Choice):
        return piece.name
    if isinstance(piece.formula, Name):
        return piece.formula.name
    raise RulesError(f"{pattern}: a target's key has variables such as {{i}} in its holes, no formulas")


def check_target(pattern: Pattern) -> None:
    """Refuse a pattern that no target's key can be compared with.

    Raises:
        RulesError: It has a formula in a hole.
    """
    _expression(pattern)


def fill(pattern: Pattern, values: Mapping[str, str], sizes: Mapping[str, int] | None = None) -> str:
    """The key that a pattern stands for.

    Args:
        pattern: The pattern.
        values: What its variables are; numbers and words, as text.
        sizes: Further numbers that its formulas speak of.

    Raises:
        RulesError: A name has no value, or a number of the key would be negative.
    """
    numbers = {**(sizes or {}), **{name: int(value) for name, value in values.items() if value.isdecimal()}}
    return "".join(_filled(piece, values, numbers, pattern) for piece in pattern.pieces)


def _filled(piece: Piece, values: Mapping[str, str], numbers: Mapping[str, int], pattern: Pattern) -> str:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Choice):
        return values[piece.name]
    if isinstance(piece.formula, Name) and piece.formula.name in values:
        return values[piece.formula.name]
    try:
        number = formulas.evaluate(piece.formula, numbers)
    except RulesError as error:
        raise RulesError(f"{pattern}: {error}") from None
    if number < 0:
        raise RulesError(f"{pattern}: {formulas.text(piece.formula)} is {number}, which is no number of a key")
    return str(number)


def loose(pattern: Pattern, template: str) -> bool:
    """Whether a pattern may fit some key with `{}` in the places of its numbers.

    Example:
        >>> loose(parse("layers.{i}.{x:q|k}.weight"), "layers.{}.k.weight")
        True
    """
    return _loose(pattern).fullmatch(template) is not None


@cache
def _loose(pattern: Pattern) -> re.Pattern[str]:
    written = ""
    for piece in pattern.pieces:
        if isinstance(piece, Hole):
            written += r"(?:\{\}|[0-9]+)"
        elif isinstance(piece, Choice):
            written += f"(?:{'|'.join(map(_any_numbers, piece.words))})"
        else:
            written += _any_numbers(piece)
    return re.compile(written)


def _any_numbers(text: str) -> str:
    """An expression for text whose numbers may be masked."""
    parts = re.split(r"([0-9]+)", text)
    return "".join(rf"(?:\{{\}}|{part})" if part.isdecimal() else re.escape(part) for part in parts)
