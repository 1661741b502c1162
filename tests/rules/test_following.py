from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.rules.following import Column, Sampling, follow
from automatch.rules.formula import evaluate, text

LAYERS = tuple(range(6))


def followed(values: Column, samplings: tuple[Sampling, ...] = (), **own: Column) -> str | None:
    formula = follow(values, own, samplings)
    return None if formula is None else text(formula)


@pytest.mark.parametrize(
    ("values", "formula"),
    [
        ((7,) * 6, "7"),
        ((0, 1, 2, 3, 4, 5), "i"),
        ((2, 3, 4, 5, 6, 7), "i + 2"),
        ((0, 2, 4, 6, 8, 10), "2 * i"),
        ((1, 4, 7, 10, 13, 16), "3 * i + 1"),
        ((0, 0, 1, 1, 2, 2), "i // 2"),
        ((0, 0, 0, 1, 1, 1), "i // 3"),
    ],
)
def test_numbers_that_follow_one_variable(values: Column, formula: str) -> None:
    assert followed(values, i=LAYERS) == formula


@pytest.mark.parametrize("values", [(3, 1, 2, 0, 5, 4), (0, 1, 2, 3, 4, 6), (0, 1, 4, 9, 16, 25)])
def test_numbers_that_follow_nothing(values: Column) -> None:
    assert followed(values, i=LAYERS) is None


def test_every_second_layer_may_start_anywhere() -> None:
    assert followed((0, 1, 1, 2, 2, 3, 3), i=tuple(range(7))) == "(i + 1) // 2"


def test_a_factor_is_not_believed_from_two_points() -> None:
    assert followed((0, 2), i=(0, 1)) is None
    assert followed((1, 2), i=(0, 1)) == "i + 1"


def test_blocks_counted_through_all_stages_follow_two_variables() -> None:
    i, j = (0, 0, 1, 1, 2, 2), (0, 1, 0, 1, 0, 1)
    assert followed((0, 1, 2, 3, 4, 5), i=i, j=j) == "2 * i + j"
    assert followed((5, 6, 6, 7, 7, 8), i=i, j=j) == "i + j + 5"


def test_the_variable_that_is_simplest_is_taken() -> None:
    assert followed((0, 1, 2), i=(0, 2, 4), j=(0, 1, 2)) == "j"


@given(st.integers(2, 40), st.integers(2, 12))
def test_layers_that_were_sampled_evenly_follow_both_depths(depth: int, layers: int) -> None:
    own = tuple(range(layers))
    values = tuple(i * depth // layers for i in own)
    sampling = Sampling("i", (depth,) * layers, (layers,) * layers, lambda: ("depth", "layers"))
    formula = follow(values, {"i": own}, [sampling])
    assert formula is not None
    numbers = {"depth": depth, "layers": layers}
    assert tuple(evaluate(formula, {**numbers, "i": i}) for i in own) == values


def test_layers_from_the_other_end_and_names_asked_for_only_when_used() -> None:
    asked: list[int] = []
    sampling = Sampling("i", (4,) * 4, (4,) * 4, lambda: (asked.append(1), ("depth", "layers"))[1])  # type: ignore[func-returns-value]
    assert followed((0, 1, 2, 3), (sampling,), i=(0, 1, 2, 3)) == "i"
    assert asked == []
    assert followed((3, 2, 1, 0), (sampling,), i=(0, 1, 2, 3)) == "depth - 1 - i"
    nameless = Sampling("i", (4,) * 4, (4,) * 4, lambda: ("", ""))
    assert followed((3, 2, 1, 0), (nameless,), i=(0, 1, 2, 3)) is None
