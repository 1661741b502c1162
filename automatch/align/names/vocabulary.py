"""What words in state-dict keys mean: tokens, generic deep-learning synonyms, abbreviations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

HOLE = "{}"
"""Stands for the number of a repeated block in a collapsed path."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Generic words: those of `synonyms.json`, and the synonyms that `learned.json` adds from known mappings.

    Attributes:
        kinds: What a parameter is called, by what it is (`"gamma"` is a `"weight"`).
        groups: For every word, the groups of synonyms it is in.
        compounds: Words that are several words (`"qkv"`).
        numbered: Components whose number is part of what they mean, as words.
        weak: Words that say little.
        implied: Words that say little where the other side leaves them out (`"self"` attention).
        orders: Roles in the order in which they are usually joined.
        stages: Parts of a block in the order in which they usually run.
        modulation: Words for what makes shifts, scales and gates together.
        before: Words that put something in front of what else is named.
        after: Words that put something behind it.
        elsewhere: Words for attention to something else than the stream itself.
        initials: Letters that stand for parts of attention where a word has no others (`"gqkv"`).
        functions: Words that say that numbers are stored as a function of what is used.
    """

    kinds: dict[str, str]
    groups: dict[str, frozenset[int]]
    compounds: dict[str, tuple[str, ...]]
    numbered: dict[str, tuple[str, ...]]
    weak: frozenset[str]
    implied: frozenset[str]
    orders: tuple[tuple[str, ...], ...]
    stages: tuple[tuple[str, ...], ...]
    modulation: frozenset[str]
    before: frozenset[str]
    after: frozenset[str]
    elsewhere: frozenset[str]
    initials: frozenset[str]
    functions: frozenset[str]


_in_place: list[tuple[tuple[str, str], ...]] = []
"""Learned words in the place of the shipped ones, of which the last count; empty but inside `with_learned`."""


@cache
def vocabulary() -> Vocabulary:
    """The words that ship with the package, or those that `with_learned` puts in the place of the learned ones."""
    data = _data("synonyms.json")
    learned = _in_place[-1] if _in_place else [row[:2] for row in _data("learned.json")["synonyms"]]
    groups: dict[str, frozenset[int]] = {}
    for number, words in enumerate([*data["synonyms"], *learned]):
        for word in words:
            groups[word] = groups.get(word, frozenset()) | {number}
    return Vocabulary(
        kinds={word: kind for kind, words in data["kinds"].items() for word in words},
        groups=groups,
        compounds={word: tuple(parts) for word, parts in data["compounds"].items()},
        numbered={name: tuple(words) for name, words in data["numbered"].items()},
        weak=frozenset(data["weak"]),
        implied=frozenset(data["implied"]),
        orders=tuple(tuple(order) for order in data["orders"]),
        stages=tuple(tuple(names) for names in data["stages"]),
        modulation=frozenset(data["modulation"]),
        before=frozenset(data["before"]),
        after=frozenset(data["after"]),
        elsewhere=frozenset(data["elsewhere"]),
        initials=frozenset(data["initials"]),
        functions=frozenset(data["functions"]),
    )


@contextmanager
def with_learned(words: Iterable[tuple[str, str]]) -> Iterator[None]:
    """Go by other learned words: for measuring what they are worth. It holds for the whole process, threads included.

    Args:
        words: Two words each that stand for each other.

    Example:
        >>> with with_learned([("trunk", "backbone")]):
        ...     inside = resemblance("trunk", "backbone")
        >>> inside, resemblance("trunk", "backbone")
        (0.9, 0.0)
    """
    _in_place.append(tuple(words))
    _forget()
    try:
        yield
    finally:
        _in_place.pop()
        _forget()


def _forget() -> None:
    for each in (vocabulary, tokens, resemblance):
        each.cache_clear()


def _data(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("automatch.align.names").joinpath(name).read_text(encoding="utf-8"))
    return found


@cache
def tokens(component: str) -> tuple[str, ...]:
    """Lower-case words of one path component, without numbers, compounds taken apart, plurals made singular.

    Example:
        >>> tokens("selfAttn_qkv2"), tokens("layers"), tokens("LayerNorm")
        (('self', 'attn', 'q', 'k', 'v'), ('layer',), ('layer', 'norm'))
    """
    if component in vocabulary().numbered:
        return vocabulary().numbered[component]
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", component).lower()
    return tuple(part for word in re.findall(r"[a-z]+", spaced) for part in _parts(word))


@cache
def resemblance(a: str, b: str) -> float:
    """How likely two words are spellings of one: 1 for equal words, 0.9 for synonyms, less for abbreviations.

    Example:
        >>> resemblance("attn", "attention"), resemblance("embed", "embeddings"), resemblance("q", "norm")
        (0.9, 0.75, 0.0)
    """
    if a == b:
        return 1.0
    groups = vocabulary().groups
    if groups.get(a, frozenset()) & groups.get(b, frozenset()):
        return 0.9
    short, long = sorted((a, b), key=len)
    if long.startswith(short):
        return 0.75 if len(short) >= 3 else 0.4
    if len(short) >= 3 and short[0] == long[0] and _is_subsequence(short, long):
        return 0.6
    if len(short) >= 4 and short in long:
        return 0.6
    return 0.5 if a[:4] == b[:4] and len(short) >= 4 else 0.0


def role(words: tuple[str, ...]) -> tuple[int, int] | None:
    """Which usual order of joining a module's words name, and the place in it; None where they name none or several.

    Example:
        >>> role(("q", "proj")), role(("value",)), role(("out",))
        ((0, 0), (0, 2), None)
    """
    found = {
        (number, place)
        for number, order in enumerate(vocabulary().orders)
        for place, name in enumerate(order)
        if any(resemblance(word, name) >= 0.9 for word in words)
    }
    return found.pop() if len(found) == 1 else None


def stage(words: tuple[str, ...]) -> float | None:
    """When in a block something runs, as far as its words tell; only good for comparison with its siblings.

    Example:
        >>> stage(("input", "norm")), stage(("attn", "norm")), stage(("post", "attn", "norm")), stage(("ffn", "ln"))
        (-1.0, 0.0, 0.4, 2.0)
    """
    known = vocabulary()
    parts = [
        at
        for at, names in enumerate(known.stages)
        if any(resemblance(word, name) >= 0.9 for word in words for name in names)
    ]
    early, late = not known.before.isdisjoint(words), not known.after.isdisjoint(words)
    if parts:
        return max(parts) - 0.4 * early + 0.4 * late
    if early or late:
        return -1.0 if early else float(len(known.stages))
    return None


def _parts(word: str) -> tuple[str, ...]:
    if word in vocabulary().compounds:
        return vocabulary().compounds[word]
    if len(word) > 2 and set(word) <= vocabulary().initials and len(set(word)) == len(word):
        return tuple(word)
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "bias"))
    return (word[:-1] if plural else word,)


def _is_subsequence(short: str, long: str) -> bool:
    letters = iter(long)
    return all(letter in letters for letter in short)
