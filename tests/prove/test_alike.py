"""Equal numbers among many: found whatever lies between them, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.prove import alike as module
from automatch.prove.alike import alike, regrouped

VALUES = st.lists(st.integers(-20, 20).filter(bool).map(float), max_size=60)


def groups_of(values: list[float]) -> set[frozenset[int]]:
    by_value: dict[float, set[int]] = {}
    for place, value in enumerate(values):
        by_value.setdefault(value, set()).add(place)
    return {frozenset(places) for places in by_value.values() if len(places) > 1}


def found(values: list[float], **options: object) -> set[frozenset[int]]:
    places, groups = alike(np.array(values, float), 1e-9, **options)  # type: ignore[arg-type]
    return {frozenset(places[groups == group].tolist()) for group in set(groups.tolist())}


@given(VALUES, st.sampled_from([3, 7, 1000]))
def test_groups_are_those_of_equal_values_whatever_is_sorted_at_a_time(values: list[float], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", at_once)
        assert found(values) == groups_of(values)


def test_numbers_within_the_tolerance_are_equal_and_others_are_not() -> None:
    assert found([1.0, 1.0 + 1e-12, 1.0 + 1e-6]) == {frozenset({0, 1})}
    assert found([-1e-9, -1e-9 * (1 + 1e-12), 2e-9]) == {frozenset({0, 1})}


def test_only_what_is_asked_about_is_looked_at() -> None:
    assert found([2.0, 2.0, 2.0, 5.0, 5.0], among=np.array([True, False, True, True, False])) == {frozenset({0, 2})}


def test_what_was_equal_and_is_no_longer_leaves_its_group() -> None:
    places, groups = np.array([4, 5, 6, 7]), np.array([0, 0, 1, 1])
    left, _ = regrouped(np.array([1.0, 1.0, 1.0, 2.0]), places, groups, 1e-9)
    assert left.tolist() == [4, 5]
