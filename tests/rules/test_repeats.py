from __future__ import annotations

import pytest

from automatch.core.graph import Weight
from automatch.errors import RulesError
from automatch.rules.reading import read_term
from automatch.rules.repeats import filled, masked, refuse_turns, repeated, with_numbers
from automatch.rules.splitting import numbered
from automatch.rules.wording import term_text

KEYS = numbered(
    [
        Weight(key, (2,), "float32")
        for key in (
            *(f"l.{i}.e.{e}.{w}" for i in range(2) for e in range(3) for w in ("up", "gate")),
            *(f"b.{n}.w" for n in (0, 2, 5)),
            *(f"block{n}.w" for n in (1, 2)),
        )
    ]
)


@pytest.mark.parametrize(
    ("written", "looped"),
    [
        ("stack(l.1.e.0.up, l.1.e.1.up, l.1.e.2.up)", "stack(l.1.e.{e}.up for e)"),
        (
            "cat(l.0.e.0.up, l.0.e.0.gate, l.0.e.1.up, l.0.e.1.gate, l.0.e.2.up, l.0.e.2.gate)",
            "cat(l.0.e.{e}.up, l.0.e.{e}.gate for e)",
        ),
        (
            "stack(cat(l.0.e.0.up, l.0.e.0.gate), cat(l.0.e.1.up, l.0.e.1.gate), cat(l.0.e.2.up, l.0.e.2.gate))",
            "stack(cat(l.0.e.{e}.up, l.0.e.{e}.gate) for e)",
        ),
        ("stack(b.0.w.T, b.2.w.T, b.5.w.T)", "stack(b.{e}.w.T for e)"),
        ("cat(block1.w, block2.w)", "cat(block{e}.w for e)"),
        ("stack(l.0.e.0.up[0:1], l.0.e.1.up[0:1], l.0.e.2.up[0:1])", "stack(l.0.e.{e}.up[0:1] for e)"),
    ],
)
def test_parts_over_all_numbers_are_a_loop(written: str, looped: str) -> None:
    assert term_text(repeated(read_term(written), KEYS)) == looped


@pytest.mark.parametrize(
    "written",
    [
        "stack(l.0.e.0.up, l.0.e.1.up)",  # not all experts
        "stack(l.0.e.1.up, l.0.e.0.up, l.0.e.2.up)",  # in another order
        "stack(l.0.e.0.up, l.1.e.1.up, l.1.e.2.up)",  # of several layers
        "cat(l.0.e.0.up, l.0.e.1.gate, l.0.e.2.up)",
        "stack(l.0.e.0.up[0:1], l.0.e.1.up[1:2], l.0.e.2.up[0:1])",  # not alike
        "l.0.e.0.up",
    ],
)
def test_what_does_not_run_over_all_numbers_in_order_is_no_loop(written: str) -> None:
    term = read_term(written)
    assert repeated(term, KEYS) == term


def test_numbers_are_taken_out_and_put_in() -> None:
    term = read_term("cat(l.0.e.1.up, l.3.w)")
    assert masked(term) == masked(read_term("cat(l.7.e.7.up, l.7.w)")) != term
    assert term_text(with_numbers(term, ["{i}", None, "{i + 1}"])) == "cat(l.{i}.e.1.up, l.{i + 1}.w)"
    assert filled("a.0.b2", [None, "{j}"]) == "a.0.b{j}"


@pytest.mark.parametrize(
    "written",
    [
        "cat(w[0:2], w[4:6], w[2:4], w[6:8])",  # four slices in another order
        "cat(w[4:8], w[0:4])",
        "cat(a[0:2], b[0:2], a[2:4], c[2:4])",
        "cat(q.0.w, q.1.w, q.2.w, q.3.w, q.4.w, q.5.w)",
        "stack(l.0.e.{e}.up[0:2] for e)",
    ],
)
def test_parts_in_another_order_are_no_turns(written: str) -> None:
    refuse_turns(read_term(written))


@pytest.mark.parametrize(
    ("written", "turns"),
    [
        ("cat(w[0:2], w[6:7].T, w[2:4], w[7:8].T)", 2),
        ("cat(w[8:9], w[6:7], w[4:5], w[2:3], w[0:1])", 5),
        ("2 * cat(a[0:2], b[0:2].T, a[2:4], b[2:4].T, a[4:6], b[4:6].T)", 3),
    ],
)
def test_slices_that_take_turns_are_refused(written: str, turns: int) -> None:
    with pytest.raises(RulesError, match=rf"in {turns} turns, and no rule says how many in other models"):
        refuse_turns(read_term(written))
