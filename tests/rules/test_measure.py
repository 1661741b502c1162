from __future__ import annotations

import pytest

from automatch.core.graph import Weight
from automatch.core.mapping import Side
from automatch.errors import RulesError
from automatch.rules.measure import Measure
from automatch.rules.reading import read_reading
from automatch.rules.ruleset import Size
from tests.rules.sides import side

SOURCE = side(
    {"l.0.w": (4, 6), "l.1.w": (4, 8), "l.3.w": (4, 6), "head": (9,), "scalar": ()},
    {"config.heads": 4, "l.*.attn.heads": 4, "stages.0.width": 2, "stages.1.width": 8, "kv.*.heads": 3},
)
TARGET = side({"h.0.q": (10, 2), "h.1.q": (10, 2)}, {"heads": 5})


def values(*readings: str, otherwise: tuple[str, ...] = (), words: dict[str, str] | None = None) -> tuple[int, ...]:
    size = Size("n", tuple(map(read_reading, readings)), None, tuple(map(read_reading, otherwise)))
    return Measure(SOURCE, TARGET, [size]).values("n", words or {})


@pytest.mark.parametrize(
    ("reading", "found"),
    [
        ("source.config.heads", (4,)),
        ("source.l.*.attn.heads", (4,)),
        ("source.l.{i}.attn.heads", (4,)),
        ("source.stages.{i}.width", (8,)),
        ("source.stages.*.width", ()),  # they differ
        ("source.stages.0.width", (2,)),
        ("source.config.width", ()),
        ("target.heads", (5,)),
        ("source[head][0]", (9,)),
        ("source[head][1]", ()),
        ("source[scalar][0]", ()),
        ("source[l.{i}.w][1]", (8,)),
        ("source[l.*.w][0]", (4,)),
        ("source[l.*.w][1]", ()),  # they differ
        ("source[l.{j}.w][1]", ()),  # no such variable
        ("source[m.*.w][0]", ()),
        ("target[h.*.q][0]", (10,)),
        ("source.count(l.*.w)", (3,)),
        ("source.count(m.*.w)", ()),
        ("7", (7,)),
    ],
)
def test_readings(reading: str, found: tuple[int, ...]) -> None:
    assert values(reading, words={"i": "1"}) == found


def test_several_readings_give_every_value_once_in_their_order() -> None:
    assert values("target.heads", "source.config.heads", "source.l.*.attn.heads", "source.gone") == (5, 4)


def test_what_is_otherwise_read_counts_only_if_nothing_else_is_there() -> None:
    assert values("source.gone", otherwise=("target.heads",)) == (5,)
    assert values("source.config.heads", otherwise=("target.heads",)) == (4,)
    assert values("source.gone", otherwise=("source.gone",)) == ()


SIZES = [
    Size("heads", (read_reading("source.config.heads"), read_reading("target.heads"))),
    Size("rows", (read_reading("target[h.*.q][0]"),)),
    Size("wide", (read_reading("rows * heads"),)),
    Size("broken", (read_reading("rows // (heads - 4)"),)),
    Size("given", (), 12),
    Size("open", ()),
    Size("circle", (read_reading("2 * ring"),)),
    Size("ring", (read_reading("circle // 2"),)),
]


def test_derived_sizes_take_every_value_of_what_they_come_from() -> None:
    measure = Measure(SOURCE, TARGET, SIZES)
    assert measure.values("wide", {}) == (40, 50)
    assert measure.values("broken", {}) == (10,)  # a division by zero is no value
    assert measure.values("given", {}) == (12,)
    assert measure.values("open", {}) == ()


def test_a_size_derived_from_itself_is_refused() -> None:
    with pytest.raises(RulesError, match="is derived from itself"):
        Measure(SOURCE, TARGET, SIZES).values("circle", {})


def test_tied_keys_count() -> None:
    tied = Side("", "names", (Weight("embed", (5, 2), "float32", aliases=("head",)),))
    assert Measure(tied, tied).read(read_reading("source[head][0]"), {}) == (5,)
