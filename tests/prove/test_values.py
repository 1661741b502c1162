"""A value is known by its content, also where so many numbers are that each has a neighbour by chance."""

from __future__ import annotations

import torch
from torch import Tensor

from automatch.prove.steps import Step, run
from automatch.prove.values import CLOSE, COARSE, CROWDED, known
from automatch.trace.inputs import Inputs
from automatch.trace.program import record

DRAWN = torch.Generator().manual_seed(0)
STREAM, LOGITS = (torch.randn(size, generator=DRAWN, dtype=torch.float64) for size in (20_000, 600_000))
MANY = known([Step(0, "add", (), (), STREAM, (20_000,)), Step(1, "linear", (0,), (), LOGITS, (600_000,))], COARSE)


def shuffled(value: Tensor) -> Tensor:
    return value[torch.randperm(value.numel(), generator=DRAWN)]


def test_there_are_many() -> None:
    assert MANY.values.numel() * COARSE > CROWDED


def test_a_value_in_another_order_and_its_multiples_are_known_among_many() -> None:
    assert MANY.has(shuffled(STREAM))
    assert MANY.has(-3 * shuffled(STREAM))


def test_a_small_change_is_seen_among_many_though_it_moves_no_moment() -> None:
    noise = torch.randn(STREAM.shape, generator=DRAWN, dtype=torch.float64)
    noise -= STREAM * float((noise * STREAM).sum() / STREAM.square().sum())
    assert not MANY.has(STREAM + 1e-3 * noise)


def test_rows_of_weights_are_the_weights_themselves() -> None:
    model = torch.nn.Linear(8, 8).double()
    program = record(model, Inputs((torch.randn(2, 8),), {}))
    given = [row for step in run(program, {})[0] for row in step.given]
    weights = {value.data_ptr() for value in program.values.values()}
    assert given
    assert {row.data_ptr() for row in given} == weights


def test_a_hundredth_of_a_large_value_that_is_wrong_is_seen() -> None:
    few = known([Step(0, "add", (), (), LOGITS, (600_000,))], CLOSE)
    wrong = LOGITS.clone()
    wrong[:6_000] = torch.randn(6_000, generator=DRAWN, dtype=torch.float64)
    assert LOGITS.numel() * CLOSE < CROWDED
    assert few.has(shuffled(LOGITS))
    assert not few.has(shuffled(wrong))
    assert abs(few.share(wrong) - 0.99) < 0.005
