"""Numbers of the models at hand made into sizes: what stands in a term as 4 becomes `num_heads`, and where to read it.

Where a size follows from what is built (a reshape to the target's shape, a part that a target weight takes), it is read
there and nowhere else. Other numbers may come from several places, and one example does not tell which is meant: all
of them are kept, and `automatch.rules.adapt` finds out, or says that it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import gcd

from automatch.core.mapping import MappingRecord
from automatch.rules import pattern as patterns
from automatch.rules.build import Scope
from automatch.rules.candidates import Candidates, anywhere, is_length
from automatch.rules.cuts import Cuts, Part
from automatch.rules.derivations import derivations, products, renamed
from automatch.rules.folding import Group
from automatch.rules.following import Column, follow
from automatch.rules.formula import Binary, Formula, Name, Number, names
from automatch.rules.naming import free_name
from automatch.rules.pattern import parse
from automatch.rules.ruleset import Axis, Carried, Derived, Reading, Size
from automatch.rules.slots import Slot, slots
from automatch.rules.terms import Call, Index, Key, Scale, Term, Transpose, children, keys, with_children, with_formulas
from automatch.rules.wording import RESERVED, reading_text

SMALL = 4
"""A number up to this may well be the same in every model: two halves, three parts, four shards."""

MOST = 6
"""More formulas than that are not kept for a size that nothing carries."""

END = Number(-(2**62))
"""Stands for the end of an axis until the slice is trimmed."""

Row = tuple[Slot, ...]


@dataclass(slots=True)
class Sizing:
    """Makes sizes of numbers, and remembers what it made.

    Attributes:
        examples: The mappings that are learned from.
        groups: The groups of their entries.
        taken: Names that other sizes have.
        candidates: Where their numbers may come from.
        cuts: Where their weights are cut.
        rows: By the pattern of a group, the slots of its entries.
        made: The sizes, by their readings, and by the place that alone they are for.
        notes: By the pattern of target keys, what was taken to be the same in all models.
    """

    examples: Sequence[MappingRecord]
    groups: Sequence[Group]
    taken: frozenset[str] = frozenset()
    candidates: Candidates = field(init=False)
    cuts: Cuts = field(default_factory=Cuts)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    made: dict[tuple[tuple[Reading, ...], str], Size] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the examples, and note all cuts."""
        self.candidates = Candidates(self.examples)
        for group in self.groups:
            if group.term is not None:
                rows = self.rows[group.target] = [self._slots(group, place) for place in range(len(group.seen))]
                self.cuts.add(group, rows)

    def term(self, group: Group) -> Term | None:
        """A group's term, with sizes in the places of numbers."""
        if group.term is None:
            return None
        rows = self.rows[group.target]
        inferred = self._inferred(rows[0], group)
        formulas: dict[int, Formula] = dict.fromkeys(inferred, Number(-1))
        # From the inside out: the ends of a slice may be counted in axes of the reshape that it is taken of.
        for place in reversed(range(len(rows[0]))):
            around = self._around(rows[0], place, formulas)
            if place not in formulas:
                owner = f"{group.target}#{place}"
                formulas[place] = self._formula(
                    [row[place] for row in rows], group.columns[place], group, around, owner
                )
        return _trimmed(with_formulas(group.term, [formulas[place] for place in range(len(rows[0]))]))

    def _around(self, row: Row, place: int, formulas: Mapping[int, Formula]) -> list[Formula] | None:
        """What the end of a slice is divided by, counted in entries of all groups; None where nothing tells."""
        slot = row[place]
        axes = () if slot.cut is None else (*slot.cut.outer, *slot.cut.inner)
        found = [formulas[_first(row, slot.node + 1) + axis] for axis in axes]
        return None if Number(-1) in found else [each for each in found if each != Number(1)]

    def _slots(self, group: Group, place: int) -> Row:
        seen = group.seen[place]
        assert seen.term is not None
        source = self.candidates.measures[seen.example].source
        return slots(seen.term, Scope(source, {}, {}, seen.entry.shape))

    def _inferred(self, row: Row, group: Group) -> set[int]:
        """The sizes of reshapes that are left to the others: in each reshape the last one that nothing tells.

        Better the one that a slice is taken along: what other weights take tells the ends of the slice.
        """
        found: dict[int, int] = {}
        for slot in row:
            if slot.cut is not None and slot.cut.at is not None:
                place = _first(row, slot.node + 1) + slot.cut.at
                found |= {slot.node + 1: place} if max(group.columns[place]) > SMALL else {}
        unknown: dict[int, list[int]] = {}
        for place, (slot, column) in enumerate(zip(row, group.columns, strict=True)):
            told = slot.target_axis is not None or slot.source_axis is not None or max(column) <= SMALL
            if slot.kind != "view" or told:
                continue
            if all(is_length(each.reading) for each in self.candidates.singles(column, group, axes=False)):
                unknown.setdefault(slot.node, []).append(place)
        for node, places in unknown.items():
            found[node] = found[node] if found.get(node) in places else places[-1]
        return set(found.values())

    # One place

    def _formula(
        self, row: Sequence[Slot], column: Column, group: Group, around: Sequence[Formula] | None, owner: str
    ) -> Formula:
        """What stands in one place.

        Args:
            row: The place, in every entry.
            column: The number there, in every entry.
            group: The entries.
            around: What the end of a slice is divided by; None where nothing tells.
            owner: The place, as a name.
        """
        slot = row[0]
        if slot.kind == "stop" and all(each.cut and each.stop == each.cut.length for each in row):
            return END
        if set(column) in ({0}, {1}):
            return Number(column[0])
        if slot.kind == "single":
            own = {name: tuple(int(words[name]) for words in group.words) for name in group.words[0]}
            return follow(column, own) or self._open(slot, column, group, owner)
        found = self._certain(slot, column, group)
        if found is None and around is not None:
            found = self._cut(row, group, around)
        return found or self._open(slot, column, group, owner)

    def _certain(self, slot: Slot, column: Column, group: Group) -> Formula | None:
        """A size that the construction gives."""
        if slot.cut is not None or slot.kind not in ("view", "fill"):
            return None
        readings: list[Reading] = []
        if slot.target_axis is not None and slot.share > 1:
            whole = tuple(value * slot.share for value in column)
            total = self._known(Axis("target", parse(group.target), slot.target_axis), whole, group)
            return total and Binary("//", total, Number(slot.share))
        if slot.target_axis is not None:
            readings.append(Axis("target", parse(group.target), slot.target_axis))
        elif slot.source_axis is not None and group.term is not None:
            first = anywhere(keys(group.term)[0], group)
            readings.append(Axis("source", first, slot.source_axis))
        return next((found for each in readings if (found := self._known(each, column, group))), None)

    def _known(self, reading: Reading, column: Column, group: Group) -> Formula | None:
        """A size with one certain reading; what else has its value serves where that is not there."""
        if self.candidates.column(reading, group) != column:
            return None
        others = self.candidates.singles(column, group, axes=False)
        best = [each.reading for each in others if each.rank == others[0].rank]
        if isinstance(reading, Axis):
            reading = self._of_module(reading, column, group)
        best += self._products(column, group, reading_text(reading))
        return Name(self._named([reading], column[0], best))

    def _products(self, column: Column, group: Group, owner: str) -> list[Reading]:
        """The products of two carried numbers that give a number: `num_key_value_heads * head_dim`."""
        pool = [(each, values) for each, values in self.candidates.pool(group) if each.rank <= 1]
        known = list(dict.fromkeys(values for _, values in pool))
        # Nothing tells coincidences apart where no shape is known, so a number that may be several things is left out.
        plain = [self._plain(values, group) for values in known]
        found = [formula for formula in products(column, known) if all(plain[int(name[1:])] for name in names(formula))]

        def named(place: int) -> str:
            return self._named(plain[place], known[place][0], owner=f"{owner}:{known[place]}")

        return [Derived(renamed(formula, named)) for formula in found]

    def _plain(self, column: Column, group: Group) -> list[Reading]:
        """The carried readings of a number, if each model has it under one name; else none."""
        found = [each.reading for each in self.candidates.singles(column, group, axes=False)]
        carried = [reading for reading in found if isinstance(reading, Carried)]
        words = {(reading.side, str(reading.path).rsplit(".", 1)[-1]) for reading in carried}
        return found if len(words) == len({side for side, _ in words}) else []

    def _of_module(self, reading: Axis, column: Column, group: Group) -> Reading:
        """The same size read off the module's first parameter, so that a bias is cut as its weight is."""
        stem, dot, _ = str(reading.key).rpartition(".")
        side = self.examples[0].source if reading.side == "source" else self.examples[0].target
        owner = patterns.fill(reading.key, group.words[0]).rpartition(".")[0]
        names = (key for weight in side.weights for key in weight.keys)
        first = next((name for name in names if name.rpartition(".")[0] == owner), str(reading.key))
        found = Axis(reading.side, parse(f"{stem}{dot}{first.rpartition('.')[2]}"), reading.axis)
        return found if self.candidates.column(found, group) == column else reading

    def _cut(self, row: Sequence[Slot], group: Group, around: Sequence[Formula]) -> Formula | None:
        """An end of a slice, by the parts before it, counted in all groups and divided by what is around."""
        before: list[tuple[Part, ...]] = []
        for slot, seen in zip(row, group.seen, strict=True):
            if slot.cut is None:
                return None
            before.append(self.cuts.before(slot.cut, slot.value * slot.cut.unit, seen.example))
        if len({len(parts) for parts in before}) != 1:
            return None
        every = list(zip(*before, strict=True))
        found = _sum([self._taken(parts, group) for parts in every]) or self._share(row, len(every), group)
        if found is None and (around or len(every) > 1):
            counted = enumerate(self._counted(parts, group, f"{row[0].cut}#{n}") for n, parts in enumerate(every))
            found = _sum([self._taken(every[n], group) or length for n, length in counted])
        return None if found is None else _divided(found, around)

    def _counted(self, parts: Sequence[Part], group: Group, owner: str) -> Formula | None:
        """The length of a part that no target weight is: what the models carry, or a formula of that."""
        lengths = tuple(part.length for part in parts)
        if max(lengths) <= SMALL:
            return None
        found = self.candidates.singles(lengths, group, axes=False)
        readings: list[Reading] = [each.reading for each in found]
        if all(map(is_length, readings)):  # none, or some that are seldom meant
            readings = [*(Derived(formula) for formula in self._derived(lengths, group, owner)), *readings]
        return Name(self._named(readings, lengths[0], owner=owner)) if readings else None

    def _taken(self, parts: Sequence[Part], group: Group) -> Formula | None:
        """The length of a part, by the target weight that takes it."""
        taker = parts[0].taker
        if taker is None or any(part.taker != taker for part in parts):
            return None
        reading = Axis("target", parse(taker[0]), taker[1])
        return self._known(reading, tuple(part.length for part in parts), group)

    def _share(self, row: Sequence[Slot], count: int, group: Group) -> Formula | None:
        """The end of the first few of several equal parts of a source weight."""
        cuts = [slot.cut for slot in row if slot.cut is not None]
        wholes = {self.cuts.count(cut, seen.example) for cut, seen in zip(cuts, group.seen, strict=True)}
        whole = wholes.pop() if len(wholes) == 1 else 0
        axis = _origin(cuts[0].of, cuts[0].axis)
        if not whole or group.term is None or axis is None:
            return None
        lengths = tuple(cut.length * cut.groups for cut in cuts)
        for pattern in dict.fromkeys(keys(group.term)):
            total = self._known(Axis("source", anywhere(pattern, group), axis), lengths, group)
            if total is not None:
                count, whole = count // gcd(count, whole), whole // gcd(count, whole)
                times = total if count == 1 else Binary("*", Number(count), total)
                return Binary("//", times, Number(whole))
        return None

    def _open(self, slot: Slot, column: Column, group: Group, owner: str) -> Formula:
        """A number that may come from several places."""
        ends = slot.kind in ("start", "stop", "fill")
        singles = self.candidates.singles(column, group, beside=ends, axes=ends)
        literal = max(column) <= SMALL and len(set(column)) == 1
        if singles:
            readings = [each.reading for each in singles]
            if literal and slot.kind in ("view", "fill"):
                readings.append(Derived(Number(column[0])))
            if slot.kind == "view":  # beside an axis that is left to the others, no shape tells
                readings += self._halved(column, group, owner)
            shared = len(readings) > 1 and _one_meaning(readings)
            if slot.kind == "parts" and singles[0].rank > 0 and not shared:  # no shape tells a wrong number of heads
                readings += [Derived(formula) for formula in self._derived(column, group, owner)]
            return Name(self._named(readings, column[0], owner=owner))
        halved = self._halved(column, group, owner) if literal and slot.kind == "view" else []
        if halved:
            return Name(self._named([Derived(Number(column[0])), *halved], column[0], owner=owner))
        derived = [] if literal else self._derived(column, group, owner)
        if len(derived) == 1:
            return derived[0]
        if derived:
            return Name(self._named([Derived(formula) for formula in derived], column[0], owner=owner))
        if not literal or slot.kind == "parts":
            self.notes.setdefault(group.target, f"{column[0]} is taken to be the same in every model")
        return Number(column[0])

    def _halved(self, column: Column, group: Group, owner: str) -> list[Reading]:
        """Half of what the models carry: 4 may be half a head, where heads are small."""
        if max(column) <= 2:
            return []
        doubled = tuple(2 * value for value in column)
        singles = self.candidates.singles(doubled, group, axes=False)
        if not singles:
            return []
        name = self._named([each.reading for each in singles], doubled[0], owner=f"{owner}/2")
        return [Derived(Binary("//", Name(name), Number(2)))]

    def _derived(self, column: Column, group: Group, owner: str) -> list[Formula]:
        """The simplest formulas of other sizes that give a number."""
        known = list(dict.fromkeys(values for _, values in self.candidates.pool(group)))
        found = derivations(column, known)[:MOST]
        return [renamed(formula, lambda place: self._operand(known[place], group, owner)) for formula in found]

    def _operand(self, column: Column, group: Group, owner: str) -> str:
        """The name of a size that others are derived from."""
        singles = self.candidates.singles(column, group)
        best = [each.reading for each in singles if each.rank == singles[0].rank]
        return self._named(best, column[0], owner=f"{owner}:{column}")

    def _named(
        self, readings: Sequence[Reading], example: int, otherwise: Sequence[Reading] = (), owner: str = ""
    ) -> str:
        """The name of a size.

        Where one example does not tell which of its readings is meant, it is the size of one place alone: heads of
        queries and heads of keys may be equal in small models, and are not in others.
        """
        key = (tuple(readings), "" if _one_meaning(readings) else owner)
        if key not in self.made:
            taken = {size.name for size in self.made.values()} | self.taken
            self.made[key] = Size(free_name(_name(readings[0]), taken), key[0], example, tuple(otherwise))
        return self.made[key].name


def _origin(of: Term, axis: int) -> int | None:
    """The axis of the one source weight that an axis of something made of it is; None where it is none."""
    match of:
        case Key():
            return axis
        case Transpose(of=inner, axes=axes):
            return _origin(inner, axes[axis])
        case Scale(of=inner) | Call(of=inner):
            return _origin(inner, axis)
        case _:
            return None


def _one_meaning(readings: Sequence[Reading]) -> bool:
    """Whether readings say the same thing: one alone, or what both models carry under one name."""
    if len(readings) == 1:
        return True
    words = {str(each.path).rsplit(".", 1)[-1] if isinstance(each, Carried) else "" for each in readings}
    sides = [each.side for each in readings if isinstance(each, Carried)]
    return len(words) == 1 and len(set(sides)) == len(readings)


def _first(row: Row, node: int) -> int:
    """The place of an operator's first size."""
    return next(place for place, slot in enumerate(row) if slot.node == node)


def _sum(parts: Sequence[Formula | None]) -> Formula | None:
    """All parts together; None where one is not known, or there is none."""
    known = [part for part in parts if part is not None]
    return reduce(lambda one, other: Binary("+", one, other), known) if known and len(known) == len(parts) else None


def _divided(formula: Formula, by: Sequence[Formula]) -> Formula:
    return reduce(lambda one, other: Binary("//", one, other), by, formula)


def _name(reading: Reading) -> str:
    """What a size is called that is read there."""
    if isinstance(reading, Carried):
        return _word(str(reading.path).rsplit(".", 1)[-1])
    if isinstance(reading, Axis):
        plain = re.sub(r"\{[^{}]*\}", "", str(reading.key)).split(".")
        words = [word for word in plain if word and not word.isdecimal()]
        stem = words[-2] if len(words) > 1 else words[-1] if words else "weight"
        return _word(f"{stem}_{('rows', 'columns')[reading.axis] if reading.axis < 2 else f'axis{reading.axis}'}")
    return "size"


def _word(text: str) -> str:
    """A name that is no word of the language and no variable."""
    word = re.sub(r"\W+", "_", text).strip("_")
    return word if re.fullmatch(r"[^\W\d]\w+", word) and word not in RESERVED else f"size_{word}"


def _trimmed(term: Term) -> Term:
    """Slices without a start that is 0 and a stop that is the end."""
    term = with_children(term, [_trimmed(child) for child in children(term)])
    if not isinstance(term, Index):
        return term
    kept = []
    for bound in term.bounds:
        start = None if bound.start == Number(0) and not bound.single else bound.start
        kept.append(type(bound)(bound.axis, start, None if bound.stop == END else bound.stop, bound.single))
    return Index(term.of, tuple(kept))
