"""The loops of an emitted function: over layers, experts and words, with the conditions under which rules speak."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import assert_never

from automatch.errors import RulesError
from automatch.exporters.block import Block
from automatch.exporters.code import WIDTH, Atom, Call, Item, Node, Suffixed, Text, flat
from automatch.exporters.expressions import renamed
from automatch.exporters.keytext import NUMBER, body, expression, regex, stem, string
from automatch.exporters.measures import Measured
from automatch.exporters.plan import Loop, Step, domain, found_by, rules_of, shared, sources
from automatch.rules import formula as formulas
from automatch.rules.pattern import Choice, Pattern
from automatch.rules.ruleset import Axis, Count, Derived, Rule

_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(slots=True)
class Walk:
    """Statements of a function that goes through weights' keys.

    Attributes:
        block: Where they go.
        sizes: The sizes by their names in the rules.
        helpers: The helpers that they use.
        rules: All rules.
        optional: The targets of rules that need not hold wherever they could.
        stems: Beginnings of keys, and the names that they have.
        shapes: Whether they need the target's shapes.
        doubtful: Whether the target may lack a key that rules speak of at this place.
    """

    block: Block
    sizes: dict[str, Measured]
    helpers: set[str]
    rules: Sequence[Rule] = ()
    optional: Collection[str] = ()
    stems: list[tuple[str, str]] = field(default_factory=list)
    shapes: bool = False
    doubtful: bool = False

    @property
    def names(self) -> dict[str, str]:
        """What formulas call the sizes."""
        return {name: size.used for name, size in self.sizes.items()}

    def key(self, pattern: Pattern) -> str:
        """A string that is a key, begun with the name of a stem where it begins so."""
        inside = body(pattern, self.names)
        for start, name in self.stems:
            if inside.startswith(f"{start}."):
                inside = f"{{{name}}}{inside.removeprefix(start)}"
        return string(inside)

    def read(self, pattern: Pattern) -> Node:
        """The expression that reads a weight."""
        return Item("weights", self.key(pattern))

    # Loops

    @contextmanager
    def under(self, step: Step) -> Iterator[None]:
        """Statements within hold for a rule's keys alone, not for those that another rule speaks of."""
        conditions = [self._there(step.rule)] if str(step.rule.target) in self.optional else []
        if self.doubtful:
            conditions.append(f"{self._named_key('target_key', step.rule.target, 'shapes')} in shapes")
        conditions += [self._unlike(names, values) for names, values in _excepted(step)]
        if not conditions:
            yield
            return
        if len(conditions) > 1 and 4 * self.block.indent + len(f"if {' and '.join(conditions)}:") > WIDTH:
            conditions = [self.named("is_there", Text(condition)) for condition in conditions]
        with self.block.deeper(f"if {' and '.join(conditions)}:"):
            yield

    def _there(self, rule: Rule) -> str:
        """The condition that what a rule reads is there."""
        known = {*rule.target.variables, *self.sizes}
        key = min(sources(rule), key=lambda key: len(set(key.variables) - known))
        lists = [name for name in key.variables if name not in known]
        if lists:
            return self.numbers_in(lists[0], [key], rule.target.variables)
        return f"{self._named_key('source_key', key, 'weights')} in weights"

    def _named_key(self, name: str, pattern: Pattern, where: str) -> str:
        """A key, or a name for it where the condition would be too long."""
        key = self.key(pattern)
        fits = 4 * self.block.indent + len(f"if {key} in {where}:") <= WIDTH
        return key if fits else self.named(name, Text(key))

    def sure(self, step: Step) -> bool:
        """Whether a rule speaks at every turn."""
        return not (step.excepted or self.doubtful or str(step.rule.target) in self.optional)

    @contextmanager
    def turns(self, loop: Loop, bound: Sequence[str]) -> Iterator[None]:
        """Statements within are a loop's.

        Where its numbers are the target's, not all of them need be there for all rules.
        """
        before = self.doubtful
        rules = list(rules_of(loop.steps))
        several = len(rules) > 1 or any(isinstance(piece, Choice) for piece in rules[0].target.pieces)
        self.doubtful = before or (loop.words is None and several and not self._domain(loop, bound))
        try:
            yield
        finally:
            self.doubtful = before

    def _unlike(self, names: str, values: list[str]) -> str:
        if len(values) == 1:
            return f"{names} != {values[0]}"
        written = f"{names} not in ({', '.join(values)})"
        if 4 * self.block.indent + len(f"if {written}:") <= WIDTH:
            return written
        return f"{names} not in {self.named('excepted', Call('', tuple(map(Atom, values)), '[]'))}"

    def loop(self, loop: Loop, bound: Sequence[str]) -> tuple[str, str]:
        """The head of a loop, and the name of the list of its numbers where it runs over the source's."""
        if loop.words is not None:
            return f"for {loop.variable} in {self._words(loop.words)}:", ""
        found = self._domain(loop, bound)
        if not found:
            return f"for {loop.variable} in {self._of_target(loop, bound)}:", ""
        name = self.numbers(found, _list_name(loop))
        return f"for {loop.variable} in {name}:", name

    def _domain(self, loop: Loop, bound: Sequence[str]) -> list[str]:
        return [] if shared(loop, self.rules) else domain(loop, bound)

    def _words(self, words: tuple[str, ...]) -> str:
        items = tuple(Atom(word if numbered(words) else string(word)) for word in words)
        written = flat(Call("", items)) if len(items) > 1 else f"({flat(items[0])},)"
        return (
            written if len(written) < WIDTH - 4 * self.block.indent - 20 else self.named("words", Call("", items, "[]"))
        )

    def _of_target(self, loop: Loop, bound: Sequence[str]) -> str:
        """A loop's numbers as the target's keys have them, where the source's keys have them in formulas alone."""
        self.shapes = True
        self.helpers.add("_numbers")
        found = found_by([rule.target for rule in rules_of(loop.steps)], loop.variable, bound)
        patterns = (Text(regex(each)) for each in found)
        return self.named(number_name(loop.target), Call("_numbers", (Atom("shapes"), *patterns)))

    def numbers_in(self, variable: str, keys: Sequence[Pattern], bound: Sequence[str]) -> str:
        """Name a list of the numbers that some keys have in the place of a variable; gives the name.

        Raises:
            RulesError: The variable stands in formulas.
        """
        places = [stem(key, variable) for key in keys]
        found = found_by(keys, variable, bound)
        if None in places or places[0] is None or not found:
            raise RulesError(f"{variable} runs over the numbers of keys, and cannot stand in a formula")
        return self.numbers(found, number_name(places[0]))

    def numbers(self, expressions: Sequence[str], called: str) -> str:
        """Name a list of the numbers that expressions find in keys; gives the name."""
        self.helpers.add("_numbers")
        return self.named(called, Call("_numbers", (Atom("weights"), *(Text(regex(each)) for each in expressions))))

    def named(self, called: str, node: Node) -> str:
        """Give a value a name; it is kept until the block ends."""
        name = self.block.called(called)
        self.block.assign(name, node)
        return name

    # Sizes

    def measure(self, names: Iterable[str], known: set[str]) -> None:
        """Give sizes their names, those aside that are known or the caller's to give; those they rest on first."""
        for name in dict.fromkeys(names):
            size = self.sizes.get(name)
            if size is None or size.given or name in known:
                continue
            if isinstance(size.reading, Derived):
                self.measure(formulas.names(size.reading.formula), known)
            known.add(name)
            self.block.assign(size.name, self._measured(size))

    def _measured(self, size: Measured) -> Node:
        match size.reading:
            case Derived(formula=formula):
                return Atom(formulas.text(renamed(formula, self.names)))
            case Axis(key=key, axis=axis):
                return self._axis(size.reading.side, key, axis, size.variables)
            case Count(key=key, side=side):
                self.helpers.add("_numbers")
                inside = re.escape(key).replace(r"\*", f"({NUMBER})", 1)
                return Call("len", (Call("_numbers", (self._side(side), Text(regex(f"{inside}$")))),))
            case None:
                raise AssertionError(f"{size.name} is given")
            case _:
                assert_never(size.reading)

    def _side(self, side: str) -> Node:
        self.shapes = self.shapes or side == "target"
        return Atom("weights" if side == "source" else "shapes")

    def _axis(self, side: str, key: Pattern, axis: int, bound: Sequence[str]) -> Node:
        where = self._side(side)
        if "*" not in str(key):
            return Suffixed(Item(flat(where), self.key(key)), f".shape[{axis}]" if side == "source" else f"[{axis}]")
        self.helpers.add("_size")
        return Call("_size", (where, Text(regex(expression(key, bound, self.names))), Atom(str(axis))))


def _excepted(step: Step) -> Iterator[tuple[str, list[str]]]:
    """Variables as code writes them, several as a tuple, and the values for which a rule does not speak."""
    found: dict[str, list[str]] = {}
    worded = {p.name for p in step.rule.target.pieces if isinstance(p, Choice) and not numbered(p.words)}
    for excepted in step.excepted:
        values = [string(value) if name in worded else value for name, value in excepted]
        one = len(excepted) == 1
        names = ", ".join(name for name, _ in excepted)
        found.setdefault(names if one else f"({names})", []).append(values[0] if one else f"({', '.join(values)})")
    for names, each in found.items():
        yield names, list(dict.fromkeys(each))


def numbered(words: Sequence[str]) -> bool:
    """Whether words are all numbers."""
    return all(word.isdecimal() for word in words)


def _list_name(loop: Loop) -> str:
    """What to call a loop's numbers: after the word before them in the source's keys."""
    found = (stem(key, loop.variable) for rule in rules_of(loop.steps) for key in sources(rule))
    return next((number_name(before) for before in found if before is not None), "numbers")


def number_name(before: Pattern) -> str:
    """What to call numbers that stand at the end of a pattern.

    Example:
        >>> from automatch.rules.pattern import parse
        >>> number_name(parse("model.layers.{i}")), number_name(parse("h.{i}"))
        ('layers', 'h_numbers')
    """
    words = _WORD.findall("".join(piece if isinstance(piece, str) else "." for piece in before.pieces))
    if not words:
        return "numbers"
    return words[-1] if words[-1].endswith("s") and len(words[-1]) > 2 else f"{words[-1]}_numbers"
