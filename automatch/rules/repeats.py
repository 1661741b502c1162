"""Parts joined over every number that keys have in a place: `stack(experts.0.w, experts.1.w, ...)` as one part.

Example:
    >>> from automatch.core.graph import Weight
    >>> from automatch.rules.splitting import numbered
    >>> from automatch.rules.reading import read_term
    >>> from automatch.rules.wording import term_text
    >>> keys = numbered([Weight(f"experts.{e}.w", (2,), "float32") for e in range(3)])
    >>> print(term_text(repeated(read_term("stack(experts.0.w, experts.1.w, experts.2.w)"), keys)))
    stack(experts.{e}.w for e)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from automatch.errors import RulesError
from automatch.lift.keys import Keys, Numbers
from automatch.rules.formula import Number
from automatch.rules.pattern import Pattern, parse
from automatch.rules.splitting import fill, split
from automatch.rules.terms import Index, Join, Key, Term, children, formulas, keys, with_children, with_formulas

LOOPS = ("e", "f", "g", "h")
"""What loop variables are called, the outermost first."""

FEW = 4
"""So many slices of one kind may well be parts in another order, gates or thirds, rather than one for every head."""


def repeated(term: Term, known: Keys, depth: int = 0) -> Term:
    """The term with a loop in the place of parts that differ in one running number only.

    Args:
        term: A term whose keys have no holes.
        known: The source's keys: a loop must take all the numbers that they have in its place.
        depth: How many loops there are around it.
    """
    if isinstance(term, Join) and depth < len(LOOPS):
        looped = _looped(term, known, LOOPS[depth])
        if looped is not None:
            return with_children(looped, [repeated(part, known, depth + 1) for part in looped.parts])
    return with_children(term, [repeated(child, known, depth) for child in children(term)])


def _looped(term: Join, known: Keys, name: str) -> Join | None:
    count = len(term.parts)
    masks = [masked(part) for part in term.parts]
    for period in (p for p in range(1, count // 2 + 1) if count % p == 0):
        if any(mask != masks[place % period] for place, mask in enumerate(masks)):
            continue
        turns = [term.parts[start : start + period] for start in range(0, count, period)]
        places = _running(turns, known)
        if places:
            return replace(term, parts=tuple(_with_loop(term.parts[:period], places, name)), each=name)
    return None


def _running(turns: Sequence[Sequence[Term]], known: Keys) -> set[int]:
    """The places of the numbers that change from turn to turn, if they run over all there are; else none."""
    columns = list(zip(*map(_numbers, turns), strict=True))
    moving = {place for place, column in enumerate(columns) if len(set(column)) > 1}
    if len({columns[place] for place in moving}) != 1:
        return set()
    described = list(_places(turns[0]))
    for place in moving:
        key, own = described[place]
        pattern, numbers = split(key)
        if known.row(pattern, numbers, own) != columns[place]:
            return set()
    return moving


def _numbers(turn: Sequence[Term]) -> Numbers:
    """The numbers of the keys of some terms."""
    return tuple(number for part in turn for key in keys(part) for number in split(str(key))[1])


def _places(turn: Sequence[Term]) -> Iterator[tuple[str, int]]:
    """For every number of a turn, the key that it stands in and its place there."""
    for part in turn:
        for key in keys(part):
            yield from ((str(key), place) for place in range(len(split(str(key))[1])))


def _with_loop(parts: Sequence[Term], places: set[int], name: str) -> Iterator[Term]:
    done = 0
    for part in parts:
        count = len(_numbers([part]))
        here = {place - done for place in places}
        yield with_numbers(part, [f"{{{name}}}" if place in here else None for place in range(count)])
        done += count


def refuse_turns(term: Term) -> None:
    """Refuse slices of one weight that take turns, as the query, key and value of head after head.

    Their number is a size of the models at hand, and for another number no term of this form is right.

    Raises:
        RulesError: There are such turns.

    Example:
        >>> from automatch.rules.reading import read_term
        >>> refuse_turns(read_term("cat(qkv[4:8], qkv[0:4])"))
        >>> refuse_turns(read_term("cat(qkv[0:4], qkv[8:10].T, qkv[4:8], qkv[10:12].T)"))
        Traceback (most recent call last):
        automatch.errors.RulesError: it joins slices of qkv in 2 turns, and no rule says how many in other models
    """
    if isinstance(term, Join) and not term.each:
        period = _period([_bare(part) for part in term.parts])
        turns = len(term.parts) // period
        own = {str(key) for part in term.parts[:period] for key in keys(part)}
        one = all({str(key) for key in keys(part)} <= own for part in term.parts)
        if one and any(map(_sliced, term.parts)) and turns > (1 if period > 1 else FEW):
            read = ", ".join(sorted(own))
            raise RulesError(f"it joins slices of {read} in {turns} turns, and no rule says how many in other models")
    for child in children(term):
        refuse_turns(child)


def _period(parts: Sequence[Term]) -> int:
    count = len(parts)
    return next(p for p in range(1, count + 1) if count % p == 0 and list(parts) == list(parts[:p]) * (count // p))


def _bare(part: Term) -> Term:
    return with_formulas(part, [Number(0)] * len(formulas(part)))


def _sliced(term: Term) -> bool:
    return isinstance(term, Index) or any(map(_sliced, children(term)))


def masked(term: Term) -> Term:
    """The term without the numbers of its keys.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> str(masked(Key(parse("layers.3.w"))).pattern)
        'layers.{}.w'
    """
    if isinstance(term, Key):
        return Key(Pattern((split(str(term.pattern))[0],)))
    return with_children(term, [masked(child) for child in children(term)])


def with_numbers(term: Term, new: Sequence[str | None]) -> Term:
    """The term with other text in the places of its keys' numbers, left to right; None leaves a number."""
    if isinstance(term, Key):
        return Key(parse(filled(str(term.pattern), new)))
    parts: list[Term] = []
    done = 0
    for child in children(term):
        count = len(_numbers([child]))
        parts.append(with_numbers(child, new[done : done + count]))
        done += count
    return with_children(term, parts)


def filled(key: str, new: Sequence[str | None]) -> str:
    """A key with other text in the places of its numbers; None leaves a number.

    Example:
        >>> filled("layers.3.mlp.0.weight", ["{i}", None])
        'layers.{i}.mlp.0.weight'
    """
    pattern, numbers = split(key)
    return fill(pattern, [n if text is None else text for n, text in zip(numbers, new, strict=True)])
