"""The few pairings of what neither gradients nor structure speak of."""

from __future__ import annotations

from automatch.core.expr import Source
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.exact.leftovers import completed

OPEN = Evidence("structure", ("nothing fits",))
SETTLED = Evidence("colours")


def side(**shapes: tuple[int, ...]) -> Side:
    return Side("Net", "export", tuple(Weight(name, shape, "float32") for name, shape in shapes.items()))


def unmapped(name: str, shape: tuple[int, ...]) -> Entry:
    return Entry(name, shape, "float32", "unmapped", None, OPEN)


def mapped(name: str, source: str, shape: tuple[int, ...]) -> Entry:
    return Entry(name, shape, "float32", "structural", Source(source, shape), SETTLED)


def guessed(name: str, source: str, shape: tuple[int, ...]) -> Entry:
    return Entry(name, shape, "float32", "guessed", Source(source, shape), OPEN)


def pairings(source: Side, *entries: Entry) -> list[dict[str, tuple[str, ...]]]:
    shapes = {entry.target: entry.shape for entry in entries}
    record = MappingRecord(source, side(**shapes), entries)
    return [{entry.target: entry.sources for entry in made.entries} for made in completed(record)]


def test_two_unused_and_two_open_weights_of_a_shape_are_paired_both_ways() -> None:
    found = pairings(side(a=(2,), b=(2,)), unmapped("x", (2,)), unmapped("y", (2,)))
    assert found == [{"x": ("a",), "y": ("b",)}, {"x": ("b",), "y": ("a",)}]


def test_at_most_six_pairings_are_tried() -> None:
    names = "abcd"
    source = side(**{name: (2,) for name in names})
    assert len(pairings(source, *(unmapped(name, (2,)) for name in names))) == 6


def test_weights_of_other_shapes_are_paired_apart() -> None:
    assert len(pairings(side(a=(2,), b=(3,)), unmapped("x", (2,)), unmapped("y", (3,)))) == 1


def test_where_counts_differ_nothing_is_filled_in() -> None:
    assert pairings(side(a=(2,)), unmapped("x", (2,)), unmapped("y", (2,))) == [{"x": (), "y": ()}]


def test_a_used_weight_is_not_offered() -> None:
    found = pairings(side(a=(2,), b=(2,)), mapped("x", "a", (2,)), unmapped("y", (2,)))
    assert found == [{"x": ("a",), "y": ("b",)}]


def test_a_guess_of_structure_is_open_and_its_source_free() -> None:
    found = pairings(side(a=(2,), b=(2,)), guessed("x", "a", (2,)), unmapped("y", (2,)))
    assert {tuple(sorted(one.items())) for one in found} == {
        (("x", ("a",)), ("y", ("b",))),
        (("x", ("b",)), ("y", ("a",))),
    }


def test_what_is_filled_in_is_a_guess_with_its_rivals() -> None:
    record = MappingRecord(side(a=(2,), b=(2,)), side(x=(2,), y=(2,)), (unmapped("x", (2,)), unmapped("y", (2,))))
    entry = next(completed(record)).entries[0]
    assert entry.status == "guessed"
    assert [rival.sources for rival in entry.evidence.rivals] == [("b",)]
    assert "nothing fits" in entry.evidence.reasons


def test_of_many_pairings_few_are_made() -> None:
    weights = tuple(Weight(f"w{i}", (3,), "float32") for i in range(12))
    entries = tuple(Entry(f"t{i}", (3,), "float32", "unmapped", None, Evidence("structure")) for i in range(12))
    targets = tuple(Weight(entry.target, (3,), "float32") for entry in entries)
    record = MappingRecord(Side("A", "export", weights), Side("B", "export", targets), entries)
    assert len(list(completed(record))) == 6
