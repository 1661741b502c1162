"""Entries of a mapping that are alike but for numbers in keys, as groups: one target pattern, one term with variables.

Sizes stay what they are in the models at hand; `automatch.rules.sizing` makes names of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from automatch.core.mapping import Entry
from automatch.lift.keys import Numbers
from automatch.rules.depths import Depths
from automatch.rules.following import Column, Sampling, follow
from automatch.rules.formula import Number, text
from automatch.rules.repeats import filled, masked, with_numbers
from automatch.rules.splitting import split
from automatch.rules.terms import Index, Term, children, formulas, keys, with_formulas

VARIABLES = "ijklmnpqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Seen:
    """One entry, taken apart.

    Attributes:
        entry: The entry.
        term: What it is made of, with the keys and sizes of the models at hand, loops found; None for an unmapped one.
        example: Which of the mappings it is from.
    """

    entry: Entry
    term: Term | None
    example: int = 0

    @property
    def template(self) -> str:
        """The target's key without its numbers."""
        return split(self.entry.target)[0]

    @property
    def numbers(self) -> Numbers:
        """The numbers of the target's key."""
        return split(self.entry.target)[1]


@dataclass(frozen=True, slots=True)
class Group:
    """Entries that one rule speaks of.

    Attributes:
        target: The keys' pattern, as text.
        term: What they are made of: variables in the keys, and the sizes of the first entry.
        seen: The entries.
        words: For every entry, what the variables stand for.
    """

    target: str
    term: Term | None
    seen: tuple[Seen, ...]
    words: tuple[Mapping[str, str], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """For every formula of the term, its value in each entry."""
        rows = [[_literal(f) for f in formulas(seen.term)] for seen in self.seen if seen.term is not None]
        return tuple(zip(*rows, strict=True))


def _literal(formula: object) -> int:
    assert isinstance(formula, Number)
    return formula.value


def fold(seen: Sequence[Seen], depths: Depths) -> list[Group]:
    """The fewest groups that entries fall into, in the order of each group's first entry.

    1. Keys that differ in numbers only, made of keys that differ in numbers only, in the same way, belong together.
    2. Where keys of one template are made in several ways, the numbers that tell them apart are written out: of
       `layers.0.mlp.0` and `layers.0.mlp.2` the last one, not the layer's.
    3. The numbers of sources must follow from the target's; where they do not, the group is split.
    """
    by_template: dict[str, list[Seen]] = {}
    for each in seen:
        by_template.setdefault(each.template, []).append(each)
    places = {each.entry.target: place for place, each in reversed(list(enumerate(seen)))}
    found = [group for each in by_template.values() for group in _of_template(each, depths)]
    return sorted(found, key=lambda group: min(places[each.entry.target] for each in group.seen))


def _of_template(seen: Sequence[Seen], depths: Depths) -> Iterator[Group]:
    ways: dict[object, list[Seen]] = {}
    for each in seen:
        ways.setdefault(_way(each), []).append(each)
    groups = _joined(list(ways.values()))
    fixed = _telling(groups)
    for group in groups:
        for part in _parted(group, fixed):
            yield from _groups(part, depths)


def _way(seen: Seen) -> object:
    """What entries of one group have in common."""
    if seen.term is None:
        return None
    return _form(seen), tuple(_shares(seen.term))


def _form(seen: Seen) -> Term | None:
    """An entry's term without its numbers."""
    bare = None if seen.term is None else masked(seen.term)
    return None if bare is None else with_formulas(bare, [Number(0)] * len(formulas(bare)))


def _joined(groups: Sequence[list[Seen]]) -> list[list[Seen]]:
    """The groups, those of one form that speak of the same keys in several examples made one.

    Which share a slice is may differ from model to model: keys start at 4/6 of a fused weight here, at 8/10 there.
    """
    kept: list[list[Seen]] = []
    for group in groups:
        numbers = {each.numbers for each in group}
        same = (k for k in kept if _form(k[0]) == _form(group[0]) and numbers & {each.numbers for each in k})
        first = next(same, None)
        if first is None:
            kept.append(list(group))
        else:
            first += group
    return kept


def _shares(term: Term) -> Iterator[int]:
    """For every slice, which share of what is cut it takes: the first part, the second, ..."""
    for bound in term.bounds if isinstance(term, Index) else ():
        start, stop = (f.value if isinstance(f, Number) else 0 for f in (bound.start, bound.stop))
        if not bound.single and stop > start:
            yield start // (stop - start)
    for child in children(term):
        yield from _shares(child)


def _telling(groups: Sequence[Sequence[Seen]]) -> tuple[int, ...]:
    """The fewest places of numbers in the target's key that tell the groups apart; those with few numbers first."""
    every = [each.numbers for group in groups for each in group]
    places = sorted(range(len(every[0])), key=lambda place: (len({n[place] for n in every}), -place))
    for count in range(len(places) + 1 if len(groups) > 1 else 0):
        for chosen in combinations(places, count):
            marks = [{tuple(each.numbers[place] for place in chosen) for each in group} for group in groups]
            if sum(map(len, marks)) == len(set().union(*marks)):
                return chosen
    return ()


def _parted(seen: Sequence[Seen], places: tuple[int, ...]) -> list[list[Seen]]:
    parts: dict[Numbers, list[Seen]] = {}
    for each in seen:
        parts.setdefault(tuple(each.numbers[place] for place in places), []).append(each)
    return list(parts.values())


def _groups(seen: Sequence[Seen], depths: Depths) -> Iterator[Group]:
    """One group if the sources' numbers follow; else the parts that some place of a number splits it into."""
    group = _group(seen, depths)
    if group is not None:
        yield group
        return
    own = [each.numbers for each in seen]
    varying = [place for place in range(len(own[0])) if len({numbers[place] for numbers in own}) > 1]
    splits = [_parted(seen, (place,)) for place in reversed(varying)]
    best = min(splits, key=lambda parts: (not all(_group(part, depths) for part in parts), len(parts)))
    for part in best:
        yield from _groups(part, depths)


def _group(seen: Sequence[Seen], depths: Depths) -> Group | None:
    own = list(zip(*(each.numbers for each in seen), strict=True))
    varying = [place for place, column in enumerate(own) if len(set(column)) > 1]
    names = dict(zip(varying, VARIABLES, strict=False))
    variables: dict[str, Column] = {names[place]: own[place] for place in varying}
    words = tuple({name: str(column[place]) for name, column in variables.items()} for place in range(len(seen)))
    first = seen[0]
    target = filled(first.entry.target, [f"{{{names[p]}}}" if p in names else None for p in range(len(own))])
    if first.term is None:
        return Group(target, None, tuple(seen), words)
    shown: list[str | None] = []
    places = [place for key in keys(first.term) for place in range(len(split(str(key))[1]))]
    owners = [at for at, key in enumerate(keys(first.term)) for _ in split(str(key))[1]]
    for number, column in enumerate(zip(*(_numbers(each.term) for each in seen if each.term is not None), strict=True)):
        samplings = [_sampling(seen, names[p], p, owners[number], places[number], depths) for p in varying]
        formula = follow(column, variables, samplings)
        if formula is None:
            return None
        shown.append(None if isinstance(formula, Number) else f"{{{text(formula)}}}")
    return Group(target, with_numbers(first.term, shown), tuple(seen), words)


def _sampling(seen: Sequence[Seen], variable: str, own: int, leaf: int, place: int, depths: Depths) -> Sampling:
    """How the layers in one place of a source's key may have been sampled by those in a place of the target's."""
    theirs = [(each.example, each.entry.target) for each in seen]
    ours = [(each.example, str(keys(each.term)[leaf])) for each in seen if each.term is not None]
    examples = [each.example for each in seen]
    counts = depths.column("source", ours, place), depths.column("target", theirs, own)
    return Sampling(
        variable,
        *counts,
        lambda: (depths.name("source", ours[0], place), depths.name("target", theirs[0], own)),
        len(set(zip(examples, *counts, strict=True))) == len(set(examples)),
    )


def _numbers(term: Term) -> Numbers:
    return tuple(number for key in keys(term) for number in split(str(key))[1])
