"""Patterns of keys as Python strings and as regular expressions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import product

from automatch.exporters.code import quoted
from automatch.exporters.expressions import renamed
from automatch.rules import formula as formulas
from automatch.rules.formula import Name
from automatch.rules.pattern import Choice, Hole, Pattern, Piece

NUMBER = r"\d+"


def body(pattern: Pattern, names: Mapping[str, str] | None = None) -> str:
    """The inside of an f-string that is a key.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> body(parse("h.{2 * i}.{x:q|k}.weight"))
        'h.{2 * i}.{x}.weight'
    """
    return "".join(_piece(piece, names or {}) for piece in pattern.pieces)


def _piece(piece: Piece, names: Mapping[str, str]) -> str:
    if isinstance(piece, str):
        return quoted(piece)
    if isinstance(piece, Choice):
        return f"{{{piece.name}}}"
    return f"{{{formulas.text(renamed(piece.formula, names))}}}"


def string(inside: str) -> str:
    """A string or, where it has something in braces, an f-string."""
    mark = "f" if "{" in inside else ""
    if inside.count('\\"') <= inside.count("'"):
        return f'{mark}"{inside}"'
    # formatters take the quotes that leave fewer to be escaped
    single = re.sub(r"\\(.)|'", lambda found: "\\'" if found[0] == "'" else found[0].replace('\\"', '"'), inside)
    return f"{mark}'{single}'"


def regex(inside: str) -> str:
    """A raw string of a regular expression; not raw where it has quotes or what cannot be printed."""
    if inside.isprintable() and '"' not in inside:
        return f'r{"f" if "{" in inside else ""}"{inside}"'
    return string(quoted(inside))


def expression(pattern: Pattern, bound: Collection[str] = (), names: Mapping[str, str] | None = None) -> str:
    r"""The inside of a regular expression that a pattern's keys fit; stars are numbers.

    Args:
        pattern: The pattern.
        bound: Variables that have a value where the expression is used.
        names: What sizes are called.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> print(expression(parse("h.{i}.experts.{e}.*.{x:q|k}.weight"), bound={"i"}))
        h\.{i}\.experts\.\d+\.\d+\.(?:q|k)\.weight
    """
    return "".join(_loose(piece, bound, names or {}) for piece in pattern.pieces)


def _loose(piece: Piece, bound: Collection[str], names: Mapping[str, str]) -> str:
    if isinstance(piece, str):
        return re.escape(piece).replace(r"\*", NUMBER)
    if set(Pattern((piece,)).variables) <= set(bound):
        return _piece(piece, names)
    if isinstance(piece, Choice):
        return f"(?:{'|'.join(map(re.escape, piece.words))})"
    return NUMBER


def stem(pattern: Pattern, variable: str) -> Pattern | None:
    """A pattern up to the place where it has a variable's number; None where it has it only in formulas.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> print(stem(parse("h.{i}.mlp.weight"), "i"))
        h.{i}
    """
    for place, piece in enumerate(pattern.pieces):
        if isinstance(piece, Hole) and piece.formula == Name(variable):
            return Pattern(pattern.pieces[: place + 1])
    return None


def plainly(pattern: Pattern) -> list[str]:
    """Keys of a pattern as text, every choice of words made, numbers as stars.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> plainly(parse("h.{i}.{x:q|k}.weight"))
        ['h.*.q.weight', 'h.*.k.weight']
    """
    choices = [_choices(piece) for piece in pattern.pieces]
    return ["".join(words) for words in product(*choices)]


def _choices(piece: Piece) -> Sequence[str]:
    if isinstance(piece, str):
        return (piece,)
    return piece.words if isinstance(piece, Choice) else ("*",)


def overlap(first: str, second: str) -> bool:
    """Whether two texts with stars for numbers may be the same key.

    Example:
        >>> overlap("h.*.w", "h.0.w"), overlap("h.*.w", "h.x.w")
        (True, False)
    """
    one, two = first.split("."), second.split(".")
    return len(one) == len(two) and all(map(_same, one, two))


def _same(first: str, second: str) -> bool:
    if first == second:
        return True
    return any(
        "*" in loose and re.fullmatch(re.escape(loose).replace(r"\*", NUMBER), word.replace("*", "0"))
        for loose, word in ((first, second), (second, first))
    )
