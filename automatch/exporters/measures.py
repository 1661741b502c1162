"""Where emitted code takes a rule set's sizes from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from automatch.errors import RulesError
from automatch.exporters.block import RESERVED, safe
from automatch.rules import formula as formulas
from automatch.rules.formula import Number
from automatch.rules.pattern import Pattern
from automatch.rules.ruleset import Axis, Carried, Count, Derived, Reading, Rule, RuleSet, Size
from automatch.rules.terms import formulas as formulas_in
from automatch.rules.terms import keys
from automatch.rules.wording import reading_text

_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """A size as code knows it.

    Attributes:
        size: The size.
        name: What code calls it.
        reading: Where code reads it, in the source's weights or among the target's shapes; None for what the caller
            gives.
        variables: Variables of rules that it depends on.
    """

    size: Size
    name: str
    reading: Axis | Count | Derived | None
    variables: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether the caller has to give it."""
        return self.reading is None

    @property
    def used(self) -> str:
        """How formulas speak of it."""
        return f"{self.name}[{self.variables[0]}]" if self.given and self.variables else self.name

    @property
    def origin(self) -> str:
        """Where a caller finds it."""
        places = " or ".join(map(reading_text, self.size.readings))
        fallback = " or ".join(map(reading_text, self.size.otherwise))
        example = "" if self.size.example is None else f", {self.size.example} where the rules come from"
        each = f"; one for every {self.variables[0]}" if self.variables else ""
        return f"{places}{f', or else {fallback}' if fallback else ''}{each}{example}"


def measured(rules: RuleSet, mentioned: Sequence[str]) -> dict[str, Measured]:
    """Where every size that is mentioned comes from, by its name in the rules; sizes come after those they rest on.

    What can be read from the source's weights is read there; the rest is given.

    Raises:
        RulesError: A size is given and depends on more than one variable, or is derived from itself.
    """
    sizes = {size.name: size for size in rules.sizes}
    wanted = {name for name in mentioned if name in sizes}
    found: dict[str, Measured] = {}
    for name in dict.fromkeys(name for name in mentioned if name in sizes):
        _add(name, sizes, wanted, found, 0)
    return found


def _add(name: str, sizes: Mapping[str, Size], wanted: Collection[str], found: dict[str, Measured], depth: int) -> None:
    if name in found:
        return
    if depth > _DEEPEST:
        raise RulesError(f"the size {name} is derived from itself")
    reading = _reading(sizes[name], sizes, wanted, depth)
    variables = _variables(reading or sizes[name].readings[0])
    if isinstance(reading, Derived):
        below = formulas.names(reading.formula)
        for other in below:
            _add(other, sizes, wanted, found, depth + 1)
        variables = tuple(dict.fromkeys(each for other in below for each in found[other].variables))
    if reading is None and len(variables) > 1:
        raise RulesError(f"the size {name} depends on {' and '.join(variables)} and is not read from the weights")
    taken = RESERVED | {"weights", "converted", "shapes", "old", "new", "key", "part", "allow_unused"}
    found[name] = Measured(sizes[name], safe(name, taken), reading, variables)


def _reading(
    size: Size, sizes: Mapping[str, Size], wanted: Collection[str], depth: int
) -> Axis | Count | Derived | None:
    """How code finds a size, without asking for more than it asks for anyway where it can; None where it has to ask."""
    if not size.readings:
        return Derived(Number(size.example or 0))
    for reading in size.readings:
        if isinstance(reading, Axis | Count) and reading.side == "source":
            return reading
    derived = [reading for reading in size.readings if isinstance(reading, Derived)]
    for reading in derived:
        if all(name in wanted or _free(name, sizes, wanted, depth) for name in formulas.names(reading.formula)):
            return reading
    first = size.readings[0]
    if isinstance(first, Axis | Count):
        return first  # of the target, whose shapes are asked for
    return derived[0] if len(derived) == len(size.readings) else None


def _free(name: str, sizes: Mapping[str, Size], wanted: Collection[str], depth: int) -> bool:
    if name not in sizes or depth > _DEEPEST:
        return False
    reading = _reading(sizes[name], sizes, wanted, depth + 1)
    below = formulas.names(reading.formula) if isinstance(reading, Derived) else ()
    return reading is not None and all(_free(other, sizes, wanted, depth + 1) for other in below)


def _variables(reading: Reading) -> tuple[str, ...]:
    match reading:
        case Axis(key=key):
            return key.variables
        case Carried(path=path):
            return path.variables
        case Count() | Derived():
            return ()


def names_in_terms(rule: Rule) -> Iterator[str]:
    """The names in a rule's formulas and in the numbers of its sources' keys."""
    if rule.term is None:
        return
    for formula in formulas_in(rule.term):
        yield from formulas.names(formula)
    yield from names_in_keys(keys(rule.term))


def names_in_keys(patterns: Sequence[Pattern]) -> Iterator[str]:
    """The names in the numbers of keys."""
    for pattern in patterns:
        yield from pattern.variables
