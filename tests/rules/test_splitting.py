from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.core.graph import Weight
from automatch.rules.splitting import fill, numbered, split


@given(st.text("ab.0123_", min_size=1))
def test_a_key_is_its_template_filled_with_its_numbers(key: str) -> None:
    template, numbers = split(key)
    assert fill(template, numbers) == key


@pytest.mark.parametrize(
    ("key", "template", "numbers"),
    [
        ("block1.0.weight_ih_l2", "block{}.{}.weight_ih_l{}", (1, 0, 2)),
        ("h.00.w", "h.00.w", ()),
        ("h.007", "h.007", ()),
        ("conv1x1.10", "conv{}x{}.{}", (1, 1, 10)),
        ("", "", ()),
    ],
)
def test_numbers_inside_words_count_and_those_with_leading_zeros_do_not(
    key: str, template: str, numbers: tuple[int, ...]
) -> None:
    assert split(key) == (template, numbers)


def test_rows_of_numbers_inside_words() -> None:
    keys = numbered([Weight(f"lstm.weight_l{layer}", (2,), "float32") for layer in (0, 1, 4)])
    assert keys.row("lstm.weight_l{}", (0,), 0) == (0, 1, 4)
