"""Numbers of parts that were 1 in an example: what is done along such an axis does not show.

With one head, heads one after the other and heads in turn are the same; with several they are not.
"""

from __future__ import annotations

from collections.abc import Sequence

from automatch.core.mapping import MappingRecord
from automatch.rules.measure import Measure
from automatch.rules.pattern import parse
from automatch.rules.ruleset import Carried, RuleSet, Side
from automatch.rules.wording import reading_text

_PARTS = {"head", "heads", "group", "groups", "expert", "experts", "kv", "query"}
"""Words in names of numbers of parts that an axis may be cut into."""


def ones_of(records: Sequence[MappingRecord], measures: Sequence[Measure]) -> tuple[Carried, ...]:
    """The numbers of parts that are 1 in all examples; `measures` reads sizes off each."""
    found: list[Carried] = []
    sides: tuple[Side, Side] = ("source", "target")
    for side in sides:
        first = records[0].source if side == "source" else records[0].target
        for path, value in first.sizes:
            if value == 1 and _PARTS & set(path.rsplit(".", 1)[-1].split("_")):
                reading = Carried(side, parse(path))
                found += [reading] if all(measure.read(reading, {}) == (1,) for measure in measures) else []
    return tuple(found)


def grown(rules: RuleSet, measure: Measure) -> str:
    """What to say where numbers of parts that were 1 are larger here; empty where none is."""
    larger = {reading_text(reading): measure.read(reading, {}) for reading in rules.ones}
    said = [f"{name} is {values[0]} here" for name, values in larger.items() if values and values[0] > 1]
    if not said:
        return ""
    return f"{' and '.join(said)}, and was 1 where the rules were learned: what is done along that axis did not show"
