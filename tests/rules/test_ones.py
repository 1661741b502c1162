from __future__ import annotations

from automatch.core.expr import Source
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.rules.adapt import adapt
from automatch.rules.file import dumps, loads
from automatch.rules.learn import learn


def side(heads: int, width: int) -> Side:
    return Side("", "names", (Weight("w", (width, 2), "float32"),), sizes=(("config.num_heads", heads),))


def mapping(heads: int, width: int) -> MappingRecord:
    entry = Entry("w", (width, 2), "float32", "proved", Source("w", (width, 2)), Evidence("colours"))
    return MappingRecord(side(heads, width), side(heads, width), (entry,))


def test_what_one_head_does_not_show_is_a_guess_where_there_are_several() -> None:
    rules = learn(mapping(1, 4))
    assert loads(dumps(rules), "r") == rules
    (entry,) = adapt(rules, side(4, 16), side(4, 16)).entries
    assert entry.status == "guessed"
    assert entry.evidence.reasons[0].startswith("source.config.num_heads is 4 here and target.config.num_heads is 4")
    assert adapt(rules, side(1, 16), side(1, 16)).entries[0].status == "structural"


def test_a_second_example_with_several_heads_takes_the_doubt_away() -> None:
    rules = learn(mapping(1, 4), mapping(2, 8))
    assert rules.ones == ()
    assert adapt(rules, side(4, 16), side(4, 16)).entries[0].status == "structural"
