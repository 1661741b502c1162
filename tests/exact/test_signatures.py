"""A round: what is kept of its gradients, and what that says of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from automatch.exact import signatures
from automatch.exact.answer import answer
from automatch.exact.budget import Budget, OutOfBudget
from automatch.exact.cells import elements
from automatch.exact.colours import Colouring, refined_at
from automatch.exact.painted import Painted, painted, valued
from automatch.exact.search import Search
from tests.exact.pairs import searched
from tests.support import Net, weight

X = weight(2, 5, 6)


def net() -> Net:
    return Net(lambda m, x: m.b(m.a(x).tanh()), a=nn.Linear(6, 8), b=nn.Linear(8, 3))


def prepared() -> tuple[Search, Painted]:
    """A search that was run, with every element of both sides in a colour with its counterpart."""
    ours, theirs, _ = searched(net(), net(), X)
    search = Search(ours, theirs, ((2, 5, 3),))
    search.run(patience=0)
    cells = [elements(search.both.shape(leaf)) for leaf in range(search.both.count)]
    colours = np.arange(ours.size, dtype=np.int32)
    tables = [side_colours[start:stop] for side_colours in (colours, colours) for start, stop in _spans(ours.starts)]
    return search, painted(search.both, cells, tables)


def _spans(starts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[tuple[int, int]]:
    return list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))


def test_a_round_sorts_nothing_of_what_is_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_: list[int] = []

    def counted(colouring: Colouring, *others: object) -> object:
        sorted_.append(len(colouring.colours))
        return refined_at(colouring, *others)  # type: ignore[arg-type]

    search, paint = prepared()
    monkeypatch.setattr(signatures, "refined_at", counted)
    assert search.step(paint) is paint
    assert sorted_ == []


def test_pairs_that_are_not_equal_part() -> None:
    search, paint = prepared()
    colours = paint.colouring.colours.copy()
    second = slice(search.source.size, search.source.size + 2)
    colours[second] = colours[second][::-1]  # two elements of the target's first weight exchanged
    after = search.step(paint.with_colours(colours)).colouring
    assert after.imbalance() > 0
    assert after.alive() == 2 * search.source.size


def test_an_element_that_comes_alive_beside_paired_ones_gets_a_colour() -> None:
    search, paint = prepared()
    colours = paint.colouring.colours.copy()
    colours[[3, search.source.size + 3]] = -1
    after = search.step(paint.with_colours(colours)).colouring
    assert after.imbalance() == 0
    assert (after.colours >= 0).all()
    assert after.colours[3] == after.colours[search.source.size + 3]


def test_alike_lines_are_coloured_once() -> None:
    ours, theirs, _ = searched(net(), net(), X)
    search = Search(ours, theirs, ((2, 5, 3),))
    found = search.run(patience=1)
    assert found.alive == ours.size + theirs.size
    assert len(found.paint.colouring.colours) < found.alive / 2, "eight hidden units are one at the start"


def test_a_search_that_runs_out_of_patience_says_what_is_undecided() -> None:
    ours, theirs, whole = searched(net(), net(), X)
    assert (whole.fault, whole.undecided) == (0, 0)
    assert Search(ours, theirs, ((2, 5, 3),)).run(patience=1).undecided > 0


def test_values_of_a_colour_are_one_on_both_sides_and_those_of_others_are_not() -> None:
    search, paint = prepared()
    values = valued(search.both, paint, 3)
    ours, theirs = np.concatenate([*values.of_source()]), np.concatenate([*values.of_target()])
    assert np.array_equal(ours, theirs)
    assert len(np.unique(ours)) == search.source.size


def test_the_answer_asks_whether_there_is_time() -> None:
    ours, theirs, found = searched(net(), net(), X)
    budget = Budget(0.0, float("-inf"))
    with pytest.raises(OutOfBudget, match="at writing"):
        answer(found, ours, theirs, lambda: budget.check("at writing"))


def test_the_search_asks_between_gradients() -> None:
    asked: list[int] = []
    ours, theirs, _ = searched(net(), net(), X)
    rounds = Search(ours, theirs, ((2, 5, 3),), check=lambda: asked.append(1)).run().rounds
    assert len(asked) > 4 * rounds, "once a round, and once a cotangent"


def test_gradients_that_alias_each_other_are_told_apart_where_one_takes_no_part() -> None:
    def added() -> Net:
        parts: dict[str, nn.Module] = {"a": nn.Linear(6, 8), "b": nn.Linear(8, 3)}
        return Net(lambda m, x: m.b((m.a(x) + m.c).tanh()), **parts, c=weight(8))

    _, _, found = searched(added(), added(), X)
    assert (found.fault, found.undecided) == (0, 0)
    assert [len(mates.elements) for mates in found.mates] == [8, 8]
