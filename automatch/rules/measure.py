"""What sizes are on two models at hand.

Example:
    >>> from automatch.core.graph import Weight
    >>> from automatch.core.mapping import Side
    >>> from automatch.rules.reading import read_reading
    >>> side = Side("", "names", (Weight("l.0.w", (4, 2), "float32"),), sizes=(("l.*.heads", 2),))
    >>> measure = Measure(side, side, (Size("heads", (read_reading("source.l.{i}.heads"),)),))
    >>> measure.values("heads", {"i": "0"})
    (2,)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from automatch.core.mapping import Side
from automatch.errors import RulesError
from automatch.lift.keys import Keys
from automatch.rules import formula as formulas
from automatch.rules import pattern as patterns
from automatch.rules.ruleset import Axis, Carried, Count, Derived, Reading, Size
from automatch.rules.splitting import numbered

_DEEPEST = 8


class Measure:
    """Reads sizes off two models.

    Args:
        source: The source.
        target: The target.
        sizes: What there is to be read.
    """

    def __init__(self, source: Side, target: Side, sizes: Sequence[Size] = ()) -> None:
        """Index both sides' keys."""
        self.source: Keys = numbered(source.weights)
        self.target: Keys = numbered(target.weights)
        self._carried = {"source": dict(source.sizes), "target": dict(target.sizes)}
        self._sizes = {size.name: size for size in sizes}
        self._starred: dict[tuple[str, str], list[str]] = {}

    def values(self, name: str, words: Mapping[str, str], depth: int = 0) -> tuple[int, ...]:
        """What a size may be, the readings' order kept; several where readings differ, none where none can be read.

        Args:
            name: The size's name.
            words: What the variables of the rule stand for.
            depth: How many sizes were derived from this one.

        Raises:
            RulesError: Sizes are derived from one another in a circle.
        """
        if depth > _DEEPEST:
            raise RulesError(f"size {name} is derived from itself")
        size = self._sizes[name]
        if not size.readings:
            return () if size.example is None else (size.example,)
        for readings in (size.readings, size.otherwise):
            found = [value for reading in readings for value in self.read(reading, words, depth)]
            if found:
                return tuple(dict.fromkeys(found))
        return ()

    def read(self, reading: Reading, words: Mapping[str, str], depth: int = 0) -> tuple[int, ...]:
        """What one reading gives here; nothing where the models do not have it."""
        if isinstance(reading, Derived):
            return self._derived(reading, words, depth)
        if isinstance(reading, Count):
            found = len(self._numbers(reading))
            return (found,) if found else ()
        try:
            filled = patterns.fill(reading.key if isinstance(reading, Axis) else reading.path, words)
        except RulesError:  # the reading speaks of variables that this rule does not have
            return ()
        value = self._axis(reading, filled) if isinstance(reading, Axis) else self._number(reading, filled)
        return () if value is None else (value,)

    def _derived(self, reading: Derived, words: Mapping[str, str], depth: int) -> tuple[int, ...]:
        names = formulas.names(reading.formula)
        options = [self.values(name, words, depth + 1) for name in names]
        found: list[int] = []
        for values in product(*options):
            try:
                found.append(formulas.evaluate(reading.formula, dict(zip(names, values, strict=True))))
            except RulesError:  # division by zero: no size here
                continue
        return tuple(dict.fromkeys(found))

    def _keys(self, side: str) -> Keys:
        return self.source if side == "source" else self.target

    def _axis(self, reading: Axis, filled: str) -> int | None:
        keys = self._keys(reading.side)
        shapes = [keys.shape(key) for key in self._matching(reading.side, filled)]
        sizes = {shape[reading.axis] if shape and reading.axis < len(shape) else None for shape in shapes}
        return sizes.pop() if len(sizes) == 1 else None

    def _matching(self, side: str, filled: str) -> list[str]:
        if "*" not in filled:
            return [filled]
        if (side, filled) not in self._starred:
            self._starred[side, filled] = [
                key for key in self._keys(side).weights if _fits(filled.split("."), key.split("."))
            ]
        return self._starred[side, filled]

    def _number(self, reading: Carried, filled: str) -> int | None:
        carried = self._carried[reading.side]
        words = filled.split(".")
        options = [(word, "*") if word.isdecimal() else (word,) for word in words]
        for path in map(".".join, product(*options)):
            if path in carried:
                return carried[path]
        if "*" not in filled:
            return None
        found = {value for path, value in carried.items() if _fits(words, path.split("."))}
        return found.pop() if len(found) == 1 else None

    def _numbers(self, reading: Count) -> set[int]:
        place = reading.key.split(".").index("*")
        found: set[int] = set()
        for key in self._matching(reading.side, reading.key):
            found.add(int(key.split(".")[place]))
        return found


def _fits(starred: Sequence[str], words: Sequence[str]) -> bool:
    return len(starred) == len(words) and all(
        mine == word or (mine == "*" and (word.isdecimal() or word == "*"))
        for mine, word in zip(starred, words, strict=True)
    )
