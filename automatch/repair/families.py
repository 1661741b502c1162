"""Which entries an edit is made to: those that are the same but for their numbers, and the bias beside a weight."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from automatch.core.expr import Source
from automatch.core.expr_rewrite import with_sources
from automatch.core.graph import Shape
from automatch.core.mapping import Entry, MappingRecord
from automatch.lift.keys import fill, split
from automatch.repair.edits import Change

SIBLINGS = 12
"""Sources of the same name with other numbers that are tried at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change of a mapping.

    Attributes:
        label: What it does, in words.
        entries: The entries as they would be.
    """

    label: str
    entries: tuple[Entry, ...]


def family(record: MappingRecord, key: str) -> tuple[Entry, ...]:
    """The entries whose keys differ from one in their numbers alone; first of all its own."""
    pattern = split(key)[0]
    alike = [entry for entry in record.entries if entry.expr is not None and split(entry.target)[0] == pattern]
    return tuple(sorted(alike, key=lambda entry: entry.target != key))


def beside(key: str, keys: Collection[str]) -> tuple[str, ...]:
    """The key with others of the same module among some."""
    module = key.rpartition(".")[0]
    return (key, *(other for other in keys if other != key and module and other.rpartition(".")[0] == module))


def changed(entries: Iterable[Entry], change: Change) -> tuple[Entry, ...]:
    """What an edit makes of entries; those that it does nothing to are left out."""
    made = []
    for entry in entries:
        new = None if entry.expr is None else change(entry.expr)
        if new is not None and new != entry.expr and new.shape == entry.shape:
            made.append(replace(entry, expr=new))
    return tuple(made)


def exchanges(record: MappingRecord, key: str, keys: Collection[str]) -> Iterator[tuple[Candidate, ...]]:
    """An entry that changes places with another, in its layer alone and in all.

    The other is one of the keys, or one with the same numbers.
    """
    by_key = {entry.target: entry for entry in record.entries if entry.expr is not None}
    shape, numbers = by_key[key].shape, split(key)[1]
    near = [other for other in by_key if split(other)[1] == numbers and other not in keys] if numbers else []
    for other in (*keys, *near):
        if other == key or by_key[other].shape != shape or by_key[other].expr == by_key[key].expr:
            continue
        label = f"exchanged with {split(other)[0].replace('{}', '*')}"
        yield tuple(_both_ways(label, by_key, _modules(key, other, by_key)))


def replaced(record: MappingRecord, key: str) -> Iterator[tuple[Candidate, ...]]:
    """An entry that is made of a source that nothing takes, or of the same with other numbers; alone, and with all."""
    entry = next(entry for entry in record.entries if entry.target == key)
    shapes = {name: weight.shape for weight in record.source.weights for name in weight.keys}
    patterns, numbers = {split(old)[0] for old in entry.sources}, split(key)[1]
    others = [name for name in shapes if split(name)[0] in patterns and name not in entry.sources]
    others.sort(key=lambda name: split(name)[1] != numbers)
    beside = [name for name in shapes if split(name)[1] == numbers and name not in (*others, *entry.sources)]
    for name in dict.fromkeys((*record.unused, *others[:SIBLINGS], *beside[:SIBLINGS])):
        for old in entry.sources:
            if shapes[old] == shapes[name]:
                yield tuple(_instead(name, old, shapes, record, entry))


def _modules(key: str, other: str, by_key: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """The pairs of keys that change places when two modules do."""
    one, two = key.rpartition(".")[0], other.rpartition(".")[0]
    names = [name.removeprefix(f"{one}.") for name in by_key if name.rpartition(".")[0] == one]
    pairs = [(f"{one}.{name}", f"{two}.{name}") for name in names if f"{two}.{name}" in by_key]
    same = all(by_key[a].shape == by_key[b].shape for a, b in pairs)
    return pairs if same and (key, other) in pairs else [(key, other)]


def _both_ways(label: str, by_key: Mapping[str, Entry], pairs: list[tuple[str, str]]) -> Iterator[Candidate]:
    """Here alone, then everywhere where the same keys exist with other numbers."""
    pattern = [(split(a), split(b)) for a, b in pairs]
    everywhere = [
        (a, b)
        for a in by_key
        for (one, _), (two, _) in pattern
        if split(a)[0] == one
        for b in [_like(a, one, two, pairs)]
        if b in by_key
    ]
    for chosen in (pairs, everywhere) if len(everywhere) > len(pairs) else (pairs,):
        made = [replace(by_key[a], expr=by_key[b].expr) for a, b in chosen]
        made += [replace(by_key[b], expr=by_key[a].expr) for a, b in chosen]
        if len({entry.target for entry in made}) == len(made):
            yield Candidate(label, tuple(made))


def _like(key: str, one: str, two: str, pairs: list[tuple[str, str]]) -> str:
    """The key that stands to one as the second of a pair does to the first; itself where that cannot be told."""
    example = next((pair for pair in pairs if (split(pair[0])[0], split(pair[1])[0]) == (one, two)), None)
    if example is None:
        return ""
    old, new, mine = split(example[0])[1], split(example[1])[1], split(key)[1]
    if len(old) != len(new):
        return ""
    return fill(two, [n if o != n else m for o, n, m in zip(old, new, mine, strict=True)])


def _instead(
    name: str, old: str, shapes: Mapping[str, Shape], record: MappingRecord, entry: Entry
) -> Iterator[Candidate]:
    """One source in the place of another, in one entry and in its family."""
    label = f"made of {name} in place of {old}"
    alone = _with(entry, old, name, shapes)
    yield Candidate(label, tuple(alone))
    (old_pattern, _), (pattern, _) = split(old), split(name)
    if pattern == old_pattern or pattern.count("{}") != old_pattern.count("{}"):
        return
    many: list[Entry] = []
    for other in family(record, entry.target):
        taken = next((key for key in other.sources if split(key)[0] == old_pattern), "")
        many += _with(other, taken, fill(pattern, split(taken)[1]), shapes) if taken else []
    if len(many) > 1:
        yield Candidate(label, tuple(many))


def _with(entry: Entry, old: str, new: str, shapes: Mapping[str, Shape]) -> list[Entry]:
    if entry.expr is None or not old or shapes.get(new) != shapes.get(old):
        return []
    made = with_sources(entry.expr, lambda leaf: Source(new, leaf.shape) if leaf.key == old else leaf)
    return [replace(entry, expr=made)]
