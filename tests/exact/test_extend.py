"""From the elements that outputs speak of to those that they do not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from automatch.exact.extend import NONE, Column, extended
from tests.exact.pairs import Values, discovered, texts, wrong
from tests.support import Net, weight

IDS = torch.tensor([[1, 2, 3, 5], [4, 1, 7, 2]])


def tokens(rows: int, width: int = 6, **parts: Tensor) -> dict[str, nn.Module | Tensor]:
    return {"e": nn.Embedding(rows, width), "o": nn.Linear(width, 3), **parts}


def look_up(m: Net, ids: Tensor) -> Tensor:
    return m.o(m.e(ids))  # type: ignore[no-any-return]


def test_unseen_rows_of_a_vocabulary_follow() -> None:
    found = discovered(Net(look_up, **tokens(20)), Net(look_up, **tokens(20)), IDS)
    assert texts(found)["e.weight"] == "e.weight"
    assert (found.weights["e.weight"].seen, found.weights["e.weight"].of) == (6 * 6, 20 * 6)


def test_unseen_rows_of_a_vocabulary_that_is_stored_transposed_follow() -> None:
    target = Net(lambda m, ids: m.o(m.e.t()[ids]), e=weight(6, 20), o=nn.Linear(6, 3))
    assert texts(discovered(Net(look_up, **tokens(20)), target, IDS))["e"] == "e.weight.T"


def test_rows_of_a_padded_vocabulary_are_zeros() -> None:
    source = Net(look_up, **tokens(20))

    def expected(values: Values) -> dict[str, Tensor]:
        return {**values, "e.weight": torch.cat([values["e.weight"], torch.zeros(4, 6).double()])}

    assert wrong(discovered(source, Net(look_up, **tokens(24)), IDS), source, expected) == []


def test_a_vocabulary_that_is_cut_takes_the_first_rows() -> None:
    source = Net(look_up, **tokens(24))
    found = discovered(source, Net(look_up, **tokens(20)), IDS)
    assert wrong(found, source, lambda values: {**values, "e.weight": values["e.weight"][:20]}) == []


def test_positions_offset_by_two() -> None:
    def positions(start: int) -> Net:
        places = torch.arange(4) + start
        return Net(lambda m, ids: m.o((m.e(ids) + m.p(places)).tanh()), **tokens(20), p=nn.Embedding(10 + start, 6))

    source = positions(2)
    found = discovered(source, positions(0), IDS)
    assert wrong(found, source, lambda values: {**values, "p.weight": values["p.weight"][2:]}) == []


def test_a_single_seen_row_is_not_repeated() -> None:
    ids = torch.full((2, 4), 3)
    source = Net(look_up, **tokens(20))
    found = discovered(source, Net(look_up, **tokens(20)), ids)
    assert texts(found)["e.weight"] == "e.weight"


def column(origins: list[int], index: list[int]) -> Column:
    return Column(np.array(origins), np.array(index), np.ones(len(index)))


def test_what_follows_no_axis_stays_missing() -> None:
    known = column([0, 0, 0, NONE], [0, 3, 1, 0])
    missing = np.array([False, False, False, True])
    _, left, _ = extended(known, missing, (4,), {0: (9,)})
    assert left.tolist() == missing.tolist()


def test_as_many_places_as_are_left_over_are_taken_in_order() -> None:
    known = column([0, 0, NONE, NONE], [3, 1, 0, 0])
    filled, left, made_up = extended(known, np.array([False, False, True, True]), (4,), {0: (4,)})
    assert filled.index.tolist() == [3, 1, 0, 2]
    assert not left.any()
    assert made_up  # no step of the seen ones says so


def test_a_reversed_axis_goes_on_reversed() -> None:
    known = column([0, 0, 0, NONE, NONE], [4, 3, 2, 0, 0])
    filled, left, made_up = extended(known, known.origin < 0, (5,), {0: (5,)})
    assert filled.index.tolist() == [4, 3, 2, 1, 0]
    assert not left.any()
    assert not made_up


def test_two_origins_side_by_side_are_each_continued_in_their_own_part() -> None:
    known = column([0, 0, NONE, 1, 1, NONE, NONE, NONE, NONE], [0, 1, 0, 0, 1, 0, 0, 0, 0])
    filled, left, _ = extended(known, known.origin < 0, (3, 3), {0: (3,), 1: (3,)})
    assert left.tolist() == [False, False, True, False, False, True, True, True, True]
    assert filled.origin[:2].tolist() == [0, 0]
