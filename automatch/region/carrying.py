"""What was found in one block, as a proposal for the others: the same expressions, of weights with their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from automatch.core.expr import Expr, Source, source_leaves
from automatch.core.expr_rewrite import with_sources
from automatch.core.graph import Shape
from automatch.core.mapping import Entry, MappingRecord
from automatch.lift.keys import Numbers, fill, split


@dataclass(frozen=True, slots=True)
class _Way:
    """How keys of one block become those of another.

    Attributes:
        known: By source key here, its key there, as the mapping so far has it.
        numbers: What numbers here become there.
    """

    known: Mapping[str, str]
    numbers: Mapping[int, int]

    def key(self, key: str) -> str:
        """A source's key there."""
        if key in self.known:
            return self.known[key]
        pattern, numbers = split(key)
        return fill(pattern, [*(self.numbers.get(number, number) for number in numbers[:1]), *numbers[1:]])


def carried(record: MappingRecord, found: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries of other blocks as those found in one are; those whose sizes do not agree are left out.

    Args:
        record: The mapping so far.
        found: New entries of keys of it.
    """
    new = {entry.target: entry for entry in found}
    old = {entry.target: entry for entry in record.entries}
    shapes = {key: weight.shape for weight in record.source.weights for key in weight.keys}
    made: dict[str, Entry] = {}
    for key, entry in new.items():
        for other in record.entries:
            alike = split(other.target)[0] == split(key)[0] and other.shape == entry.shape
            if not alike or other.target in new or other.target in made or entry.expr is None:
                continue
            expr = _there(entry.expr, _way(new, old, key, other.target), shapes)
            if expr is not None and expr != other.expr:
                made[other.target] = _as(other, expr, entry)
    return tuple(made.values())


def _way(new: Mapping[str, Entry], old: Mapping[str, Entry], here: str, there: str) -> _Way:
    """How keys become those of the block of another entry, told by the entries of both blocks so far."""
    numbers = dict(zip(split(here)[1], split(there)[1], strict=True))
    known: dict[str, str] = {}
    for key in (here, *(key for key in new if key != here)):
        other = there if key == here else _moved(key, here, there)
        if other in old and key in old:
            known = {**dict(_beside(old[key], old[other])), **known}
    sources = {a: b for one, other in known.items() for a, b in _changed(split(one)[1], split(other)[1])}
    return _Way(known, sources or numbers)


def _moved(key: str, here: str, there: str) -> str:
    """The key of another block that stands to one as two keys stand to each other."""
    (pattern, numbers), (_, before), (_, after) = split(key), split(here), split(there)
    length = next((place + 1 for place in reversed(range(len(before))) if before[place] != after[place]), 0)
    return fill(pattern, (*after[:length], *numbers[length:])) if numbers[:length] == before[:length] else key


def _beside(one: Entry, other: Entry) -> Iterator[tuple[str, str]]:
    """The sources of two entries, one by one, where they are of the same patterns."""
    ours, theirs = one.sources, other.sources
    if [split(key)[0] for key in ours] == [split(key)[0] for key in theirs]:
        yield from zip(ours, theirs, strict=True)


def _changed(before: Numbers, after: Numbers) -> Iterator[tuple[int, int]]:
    if len(before) == len(after):
        yield from ((a, b) for a, b in zip(before[:1], after[:1], strict=True) if a != b)


def _there(expr: Expr, way: _Way, shapes: Mapping[str, Shape]) -> Expr | None:
    """An expression of the other block's weights; None where one of them is not there, or has another size."""
    names = {leaf.key: way.key(leaf.key) for leaf in source_leaves(expr)}
    if any(shapes.get(new) != shapes.get(old) for old, new in names.items()):
        return None
    return with_sources(expr, lambda leaf: Source(names[leaf.key], leaf.shape))


def _as(other: Entry, expr: Expr, like: Entry) -> Entry:
    reason = f"as {like.target}, which gradients of the part where the models parted tell"
    evidence = replace(like.evidence, reasons=(reason, *like.evidence.reasons[1:]))
    return replace(other, expr=expr, status=like.status, evidence=evidence)
