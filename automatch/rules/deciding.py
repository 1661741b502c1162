"""Sizes that one example leaves open, because other numbers were equal to them, and the word that decides them.

Example:
    >>> from automatch.rules.reading import read_reading
    >>> places = "source.config.num_heads", "source.config.head_dim"
    >>> size = Size("heads", tuple(map(read_reading, places)), example=8)
    >>> print(open_line(size))
    heads = 8 may be source.config.num_heads or source.config.head_dim, which were equal
    >>> is_open(size), is_open(Size("heads", size.readings[:1], example=8))
    (True, False)
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from automatch.errors import CoincidenceWarning, RulesError, together
from automatch.rules import formula as formulas
from automatch.rules.candidates import speaks_of_length
from automatch.rules.reading import read_reading
from automatch.rules.ruleset import Axis, Carried, Count, Derived, Reading, RuleSet, Size
from automatch.rules.used import sizes_of, used_sizes
from automatch.rules.wording import reading_text

HOW = (
    "Say which is meant (--size NAME=READING, or a number; sizes={...} in Python), or learn from a second pair of "
    "models in which these numbers differ."
)


_COUNTING = frozenset(("n", "num", "number", "of", "attention"))
"""Words that `n_head`, `num_heads` and `num_attention_heads` differ in, which mean one thing."""


def is_open(size: Size) -> bool:
    """Whether the likely readings of a size mean different things: by other names on one side, or by other formulas.

    What the two sides call one number by their own names is one thing.
    """
    meanings: dict[str, set[object]] = {}
    for reading in _likely(size.readings):
        place, meaning = _meaning(reading)
        meanings.setdefault(place, set()).add(meaning)
    derived = meanings.pop("", set())
    return len(derived) + (max(map(len, meanings.values())) if meanings else 0) > 1


def _likely(readings: Sequence[Reading]) -> list[Reading]:
    """Readings without formulas of several sizes, or of lengths, which give many a number by chance; all if all are."""
    plain = [each for each in readings if not isinstance(each, Derived) or _is_plain(set(formulas.names(each.formula)))]
    return plain or list(readings)


def _is_plain(names: Collection[str]) -> bool:
    return len(names) < 2 and not any(map(speaks_of_length, names))


def _meaning(reading: Reading) -> tuple[str, object]:
    match reading:
        case Carried(side=side, path=path):
            words = str(path).rsplit(".", 1)[-1].removesuffix("s").split("_")
            return side, frozenset(words) - _COUNTING
        case Axis(side=side) | Count(side=side):
            return side, reading
        case Derived(formula=formula):
            return "", formula


def plain(rules: RuleSet) -> RuleSet:
    """The rules with the likely readings alone, for code that takes the first that it can."""
    sizes = tuple(replace(size, readings=tuple(_likely(size.readings))) for size in rules.sizes)
    return replace(rules, sizes=sizes)


def open_sizes(rules: RuleSet) -> tuple[Size, ...]:
    """The open sizes that terms speak of, by order of first use."""
    spoken = {name for rule in rules.rules for name in sizes_of(rule, rules)}
    return tuple(size for size in rules.sizes if size.name in spoken and is_open(size))


def open_line(size: Size) -> str:
    """What an open size may be, as a line."""
    return f"{size.name} = {size.example} may be {' or '.join(map(reading_text, size.readings))}, which were equal"


def refuse_open(rules: RuleSet, what: str) -> None:
    """Refuse rules of which a size is open.

    Args:
        rules: The rules.
        what: What cannot be done with them.

    Raises:
        RulesError: Some are; all are listed.
    """
    found = open_sizes(rules)
    if found:
        headline = f"{what} would guess between numbers that were equal where the rules come from. {HOW}"
        raise together(RulesError, headline, list(map(open_line, found)))


def warn_of_open(rules: RuleSet, stacklevel: int) -> None:
    """Warn of open sizes, if there are any; `stacklevel` as for `warnings.warn`, from here."""
    found = open_sizes(rules)
    if found:
        lines = "".join(f"\n  {open_line(size)}" for size in found)
        message = f"the rules may mean either of numbers that are equal in these models:{lines}\n{HOW}"
        warnings.warn(message, CoincidenceWarning, stacklevel=stacklevel)


def decided(rules: RuleSet, sizes: Mapping[str, int | str]) -> RuleSet:
    """The rules, with sizes given.

    Args:
        rules: The rules.
        sizes: By the name of a size, or a pattern of several (`head_dim*`), a number, or where it is to be read:
            `source.config.num_heads`.

    Raises:
        RulesError: There is no such size, or a reading cannot be read or speaks of sizes that there are not; all of it
            is said.
    """
    if not sizes:
        return rules
    known = [size.name for size in rules.sizes]
    strange = [name for name in sizes if not any(fnmatchcase(each, name) for each in known)]
    if strange:
        raise RulesError(f"the rules have no size {', '.join(strange)}; they have {', '.join(known) or 'none'}")
    written = {name: value for name, value in sizes.items() if isinstance(value, str)}
    problems = [f"{name}: {problem}" for name, value in written.items() for problem in _unreadable(value, known)]
    if problems:
        raise together(RulesError, "these sizes cannot be given:", problems)
    made = [_given(size, sizes) for size in rules.sizes]
    found = replace(rules, sizes=used_sizes(rules.rules, made))
    said = {open_line(size) for size in open_sizes(rules)} - {open_line(size) for size in open_sizes(found)}
    return replace(found, notes=tuple(note for note in rules.notes if note not in said))


def _unreadable(written: str, known: Sequence[str]) -> Iterator[str]:
    try:
        reading = read_reading(written)
    except RulesError as error:
        yield str(error)
        return
    strange = set(formulas.names(reading.formula)) - set(known) if isinstance(reading, Derived) else set()
    if strange:
        yield f"the rules have no size {', '.join(sorted(strange))}; they have {', '.join(known)}"


def _given(size: Size, sizes: Mapping[str, int | str]) -> Size:
    for pattern, value in sizes.items():
        if fnmatchcase(size.name, pattern):
            if isinstance(value, int):
                return Size(size.name, (), value)
            return replace(size, readings=(read_reading(value),), otherwise=())
    return size
