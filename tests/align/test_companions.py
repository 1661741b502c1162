from __future__ import annotations

from automatch.align.companions import companions
from automatch.core.alignment import Assignment, Piece
from automatch.core.graph import Graph, Weight
from automatch.core.mapping import Evidence

SEEN = Evidence("structure")


def taken(target: str, *sources: str | None) -> Assignment:
    return Assignment(target, "structural", SEEN, tuple(Piece(source) for source in sources))


def counter(name: str) -> Weight:
    return Weight(name, (), "int64", "buffer")


def parameter(name: str, *shape: int) -> Weight:
    return Weight(name, shape, "float32", "parameter")


def test_a_counter_goes_where_its_module_goes() -> None:
    source = Graph((parameter("a.weight", 8), counter("a.steps")))
    target = Graph((parameter("b.weight", 8), counter("b.steps")))
    (found,) = companions(source, target, (taken("b.weight", "a.weight"),))
    assert (found.target, found.status, found.pieces) == ("b.steps", "structural", (Piece("a.steps"),))


def test_a_parameter_that_nothing_reads_goes_there_as_a_guess() -> None:
    source = Graph((parameter("a.weight", 8), parameter("a.mask_token", 4)))
    target = Graph((parameter("b.weight", 8), parameter("b.mask_token", 2)))
    (found,) = companions(source, target, (taken("b.weight", "a.weight"),))
    assert (found.status, found.pieces) == ("guessed", (Piece("a.mask_token"),))


def test_a_counter_whose_module_has_none_on_the_other_side_starts_at_zero() -> None:
    source, target = Graph((parameter("a.weight", 8),)), Graph((parameter("b.weight", 8), counter("b.steps")))
    (found,) = companions(source, target, (taken("b.weight", "a.weight"),))
    assert (found.status, found.pieces) == ("structural", (Piece(None, value=0.0),))
    assert found.evidence.reasons


def test_nothing_is_said_where_the_siblings_come_from_several_modules() -> None:
    source = Graph((parameter("a.weight", 8), parameter("c.bias", 8), counter("a.steps"), counter("c.steps")))
    target = Graph((parameter("b.weight", 8), parameter("b.bias", 8), counter("b.steps")))
    assert companions(source, target, (taken("b.weight", "a.weight"), taken("b.bias", "c.bias"))) == ()


def test_nothing_is_said_of_a_module_without_a_partner() -> None:
    source = Graph((parameter("a.weight", 8), counter("a.steps")))
    target = Graph((parameter("b.weight", 8), counter("b.steps")))
    assert companions(source, target, ()) == ()
    assert companions(source, target, (taken("b.weight", None),)) == ()


def test_a_namesake_of_another_rank_is_no_companion() -> None:
    source = Graph((parameter("a.weight", 8), parameter("a.token", 4)))
    target = Graph((parameter("b.weight", 8), parameter("b.token", 1, 4)))
    assert companions(source, target, (taken("b.weight", "a.weight"),)) == ()


def test_what_is_assigned_already_is_left_alone() -> None:
    source = Graph((parameter("a.weight", 8), counter("a.steps")))
    target = Graph((parameter("b.weight", 8), counter("b.steps")))
    assert companions(source, target, (taken("b.weight", "a.weight"), taken("b.steps", "a.steps"))) == ()
