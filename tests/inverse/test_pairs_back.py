"""Pairs of models: their weights converted there and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automatch.apply.fill import fill
from automatch.errors import InverseError
from automatch.inverse import inverse
from automatch.trace import trace
from fixtures import twins
from fixtures.cases import PAIRS, Pair
from tests.answers import small
from tests.fuzz.campaign import answer
from tests.fuzz.pair import draw_pair
from tests.lift.conversions import Convert, exact, fused, split, stacked, unstacked

every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


# With attention, convolutions and recurrences; with what rounds and what is left out. `tests.fuzz` draws many more.
@pytest.mark.parametrize("seed", [1, 2, 5, 6, 7, 12, 13, 17])
def test_a_random_pair_comes_back_to_the_byte_but_for_what_is_said_to_round(seed: int) -> None:
    pair = draw_pair(seed)
    mapping = answer(pair)
    back = mapping.inverse(partial=True)
    state = pair.source.state_dict()
    found = back.apply(mapping.apply(state))
    # a counter of batch norm that the other style does without is all that is ever left out
    assert [key for key in state if key not in found and not key.endswith("num_batches_tracked")] == []
    for key, tensor in found.items():
        rounds = any("rounds" in reason for reason in back[key].evidence.reasons)
        assert _same(tensor, state[key]) or rounds, key
        torch.testing.assert_close(tensor, state[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "target", "convert"),
    [
        ("llama", "fused", fused(twins.TWIN)),
        ("fused", "llama", split(twins.TWIN)),
        ("mixtral", "stacked", stacked(twins.MOE_TWIN)),
        ("stacked", "mixtral", unstacked(twins.MOE_TWIN)),
    ],
)
def test_a_decoder_in_another_layout_comes_back_to_the_byte(source: str, target: str, convert: Convert) -> None:
    graphs = [trace(_twin(name), twins.small_inputs()) for name in (source, target)]
    mapping = exact(convert, graphs[0], graphs[1])
    state = _twin(source).state_dict()
    found = fill(inverse(mapping), fill(mapping, state))
    assert list(found) == list(state)
    assert [key for key in state if not _same(found[key], state[key])] == []


@every_pair
def test_onto_a_smaller_student_there_is_no_way_back_and_every_lost_weight_is_named(pair: Pair) -> None:
    mapping = small(pair.name).mapping
    with pytest.raises(InverseError) as caught:
        mapping.inverse()
    named = {line.strip().split(": ")[0] for line in str(caught.value).splitlines()[1:]}
    lost = {entry.target for entry in mapping.inverse(partial=True).entries if entry.expr is None}
    assert named == lost & {weight.name for weight in mapping.record.source.weights}
    assert named


@every_pair
def test_what_comes_back_of_a_teacher_is_the_teachers(pair: Pair) -> None:
    answer = small(pair.name)
    state = answer.models[0].state_dict()
    found = answer.mapping.inverse(partial=True).apply(answer.mapping.apply(state))
    assert [key for key in found if not _same(found[key], state[key])] == []


def _twin(name: str) -> nn.Module:
    make: Callable[[], Any] = getattr(twins, f"{name}_twin")
    model: nn.Module = make()
    return model


def _same(first: Tensor, second: Tensor) -> bool:
    alike = (first.shape, first.dtype) == (second.shape, second.dtype)
    return alike and first.numpy().tobytes() == second.numpy().tobytes()
