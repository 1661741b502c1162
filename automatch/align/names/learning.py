"""Which words stand for each other, learned from known mappings: a test of independence over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from automatch.align.names.vocabulary import tokens, vocabulary
from automatch.core.mapping import MappingRecord

Words: TypeAlias = frozenset[str]
KeyPair: TypeAlias = tuple[str, str]
"""A source key and the target key that takes its place, without the numbers of blocks."""

FAMILIES = 3
"""In how many mappings two words must stand for each other, mostly."""
SIGNIFICANT = 23.93
"""The chi-square from which independence is refused: one chance in a million, for many pairs of words are looked at."""
MOSTLY = 0.5
"""Share of their occurrences (Dice's coefficient) in which two words must stand for each other."""
BESIDE = 0.2
"""Words that stand side by side in this share of the keys of the rarer one do not mean the same."""


@dataclass(frozen=True, slots=True, order=True)
class Learned:
    """Two words that stand for each other.

    Attributes:
        words: The words, sorted.
        families: In how many mappings they do.
        chi_square: How far from chance, over all mappings (Cochran, 1954; Mantel and Haenszel, 1959).
    """

    words: tuple[str, str]
    families: int
    chi_square: float


def known_pairs(record: MappingRecord) -> tuple[KeyPair, ...]:
    """Keys that a proved mapping puts in each other's place, one to one, repeats in other blocks left out.

    Only `proved` entries count, and only those that read one source which nothing else reads: a part and the whole that
    holds it do not mean the same.
    """
    readers = Counter(source for entry in record.entries for source in entry.sources)
    found: dict[KeyPair, None] = {}
    for entry in record.entries:
        alone = len(entry.sources) == 1 and readers[entry.sources[0]] == 1
        if entry.status == "proved" and alone:
            found[_without_numbers(entry.sources[0]), _without_numbers(entry.target)] = None
    return tuple(found)


def learn(known: Sequence[Sequence[KeyPair]]) -> tuple[Learned, ...]:
    """Words that stand for each other in several mappings, and more often than chance explains.

    What a mapping repeats of an earlier one, in whichever direction, is no news and is left out. In each mapping, the
    words of a source key that its target key lacks are tabled against those that the target key has instead.

    Args:
        known: The pairs of keys of every mapping, in a fixed order.

    Example:
        >>> def family(letters):
        ...     apart = [(f"h.attn.{each}", f"blocks.attention.{each}") for each in letters]
        ...     return apart + [(f"h.mlp.{each}", f"blocks.mlp.{each}") for each in letters]
        >>> [found.words for found in learn([family("abcdef"), family("ghijkl"), family("mnopqr")])]
        [('attention', 'attn')]
    """
    families = _news(known)
    beside, seen = _side_by_side(pair for family in families for pair in family)
    tables = [_tables(family) for family in families if len(family) > 1]
    found = []
    for words in sorted({words for table in tables for words in table}):
        cells = [table[words] for table in tables if words in table]
        standing = sum(cell.share >= MOSTLY for cell in cells)
        apart = beside[words] < BESIDE * min(seen[words[0]], seen[words[1]])
        chi_square = _chi_square(cells)
        share = 2 * sum(cell.both for cell in cells) / sum(cell.first + cell.second for cell in cells)
        if standing >= FAMILIES and share >= MOSTLY and apart and chi_square >= SIGNIFICANT:
            found.append(Learned(words, standing, round(chi_square, 1)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Cell:
    """How often a word stands on one side, another on the other, and both, in one mapping."""

    both: int
    first: int
    second: int
    among: int

    @property
    def share(self) -> float:
        return 2 * self.both / (self.first + self.second)

    @property
    def expected(self) -> float:
        return self.first * self.second / self.among

    @property
    def variance(self) -> float:
        spread = self.first * (self.among - self.first) * self.second * (self.among - self.second)
        return spread / (self.among**2 * (self.among - 1))


def _news(known: Sequence[Sequence[KeyPair]]) -> list[list[tuple[Words, Words]]]:
    """Every mapping's pairs as words, without those that an earlier mapping or an earlier pair has."""
    told: set[frozenset[Words]] = set()
    families = []
    for pairs in known:
        news = []
        for source, target in pairs:
            words = _words(source), _words(target)
            if frozenset(words) not in told:
                news.append(words)
            told.add(frozenset(words))
        families.append(news)
    return families


def _tables(family: Sequence[tuple[Words, Words]]) -> Mapping[tuple[str, str], _Cell]:
    """For every two words, one each side, how often they stand where the other key has something else."""
    first = Counter(word for source, target in family for word in source - target)
    second = Counter(word for source, target in family for word in target - source)
    both = Counter((a, b) for source, target in family for a in source - target for b in target - source)
    found: dict[tuple[str, str], _Cell] = {}
    for (a, b), count in sorted(both.items()):
        words = (a, b) if a < b else (b, a)
        cell = _Cell(count, first[a], second[b], len(family))
        if words not in found or found[words].both < count:
            found[words] = cell
    return found


def _chi_square(cells: Sequence[_Cell]) -> float:
    """The Cochran-Mantel-Haenszel statistic with the correction for continuity; 0 where words avoid each other."""
    excess = sum(cell.both - cell.expected for cell in cells) - 0.5
    variance = sum(cell.variance for cell in cells)
    return excess**2 / variance if excess > 0 and variance > 0 else 0.0


def _side_by_side(pairs: Iterable[tuple[Words, Words]]) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """How often two words stand in one key, and how often each stands in any."""
    beside: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter()
    for pair in pairs:
        for words in pair:
            seen.update(words)
            ordered = sorted(words)
            beside.update((a, b) for at, a in enumerate(ordered) for b in ordered[at + 1 :])
    return beside, seen


def _without_numbers(key: str) -> str:
    return ".".join(part for part in key.split(".") if not part.isdecimal())


def _words(key: str) -> Words:
    """The words of a key; what parameter it is says nothing about the module."""
    kinds = vocabulary().kinds
    return frozenset(word for part in key.split(".") for word in tokens(part) if word not in kinds)
