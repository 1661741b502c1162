"""The generated pairs are pairs, their references are needed, everything gets drawn, and the judge judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.fuzz.judge import judge
from tests.fuzz.layout import Affine, Groups, Layout, Leaf, Stack, Weights, drawn, halves_to_pairs, transposed
from tests.fuzz.net import Continuous, FeedForward, Net
from tests.fuzz.pair import Pair, draw_pair, gap, is_counter, make_pair, pairs, validate
from tests.fuzz.style import Style, options

SEEDS = range(150)
NET_FEATURES = (
    "tokens continuous patches stem attention feedforward recurrence convolution tokens.segments tokens.positions "
    "attention.grouped attention.one_kv_head attention.causal attention.rotary attention.qk_norm attention.bias "
    "feedforward.gated feedforward.activation=relu feedforward.activation=gelu feedforward.activation=silu "
    "convolution.depthwise convolution.dims=1 convolution.dims=2 norm=layer norm=rms norm=batch norm=group "
    "norm_first=True norm_first=False final_norm=True tied=True head_bias=True depth=1 depth=2 depth=3"
).split()


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry of a made-up answer."""

    status: str


@dataclass(frozen=True, slots=True)
class Said:
    """A made-up answer: the reference, with keys spoiled or left out."""

    pair: Pair
    status: str
    spoiled: str = ""
    left_out: str = ""

    def __getitem__(self, target: str) -> Claim:
        return Claim(self.status)

    def apply(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        answer = self.pair.reference(dict(state_dict))
        if self.spoiled:
            answer[self.spoiled] = answer[self.spoiled].flip(0)
        return {key: value for key, value in answer.items() if key != self.left_out}


@cache
def pair_of(seed: int) -> Pair:
    return draw_pair(seed)


def plain_key(pair: Pair) -> str:
    """A key whose first rows are worth something."""
    return next(key for key, value in pair.reference(pair.redraw(0)).items() if value.ndim > 1)


def test_the_reference_gives_the_same_function() -> None:
    gaps = {seed: validate(pair_of(seed)) for seed in SEEDS}
    assert {seed: value for seed, value in gaps.items() if value >= 1e-9} == {}


def test_without_the_reference_the_functions_differ() -> None:
    for seed in SEEDS:
        pair = pair_of(seed)
        own = {key: value for key, value in pair.target.state_dict().items() if not is_counter(key)}
        assert gap(pair, pair.redraw(1), own, pair.fresh(0)) > 1e-2, f"seed {seed}: {pair.description}"


def test_every_tensor_of_the_reference_is_needed() -> None:
    dead = Counter[str]()
    for seed in SEEDS[:50]:
        pair = pair_of(seed)
        state, inputs = pair.redraw(3), pair.fresh(3)
        right = pair.reference(state)
        other = pair.reference(pair.redraw(4))
        for key in right:
            dead[f"{seed} {key}"] += gap(pair, state, right | {key: other[key]}, inputs) < 1e-9
    unneeded = [key for key, count in dead.items() if count]
    # biases of keys do nothing without rotary positions or norms of keys
    assert len(unneeded) < 0.02 * len(dead), unneeded


def test_reference_covers_the_state_dicts() -> None:
    for seed in SEEDS:
        pair = pair_of(seed)
        counted = {key for key in pair.target.state_dict() if not is_counter(key)}
        assert set(pair.reference(pair.redraw(0))) == counted


def test_pairs_are_the_same_for_the_same_seed() -> None:
    for seed in SEEDS[:20]:
        again = draw_pair(seed)
        assert again.description == pair_of(seed).description
        for ours, theirs in ((again.source, pair_of(seed).source), (again.target, pair_of(seed).target)):
            state = theirs.state_dict()
            assert list(ours.state_dict()) == list(state)
            assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())


def test_everything_is_drawn() -> None:
    seen = Counter(feature for seed in SEEDS for feature in pair_of(seed).features)
    styles = {f"{name}={option}" for name, choices in options().items() if name != "names" for option in choices}
    styles -= {"segments=positional", "segments=keyword"}  # a matter of inputs, tested below
    lacking = {f"{side}:{style}" for side in ("source", "target") for style in styles} - set(seen)
    # what is cloned cannot be untied again, so a source never is
    assert lacking | (set(NET_FEATURES) - set(seen)) == {"source:tied_head=cloned"}


def test_second_inputs_are_given_in_both_ways() -> None:
    ways = {bool(pair_of(seed).source_inputs[1]) for seed in SEEDS if "tokens.segments" in pair_of(seed).features}
    assert ways == {True, False}


def test_copies_compute_with_their_own_weights() -> None:
    for seed in SEEDS[:20]:
        pair = pair_of(seed)
        copy = deepcopy(pair.source)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.fill_(torch.nan)
            args, kwargs = pair.source_inputs
            assert copy(*args, **kwargs).isnan().all()
            assert pair.source(*args, **kwargs).isfinite().all()


@settings(derandomize=True, deadline=None, max_examples=30)
@given(pairs())
def test_hypothesis_draws_pairs_too(pair: Pair) -> None:
    assert validate(pair) < 1e-9


A, B = Leaf("a", (4, 3)), Leaf("b", (4, 3))


@pytest.mark.parametrize(
    "layout",
    [
        A,
        transposed(A),
        Groups((A, B)),
        Groups((A, B), 2),
        Groups((A, B), 4),
        Stack((A, B)),
        Affine(A, 2.0, -1.0),
        halves_to_pairs(A, 2),
        transposed(Groups((halves_to_pairs(A, 1), B), 2)),
    ],
    ids=repr,
)
def test_layouts_are_undone(layout: Layout) -> None:
    weights = drawn(layout.leaves(), 0)
    packed = layout.pack(weights)
    assert packed.shape == layout.shape
    undone = layout.unpack(packed)
    assert set(undone) == set(weights)
    for key, value in weights.items():
        torch.testing.assert_close(undone[key], value, rtol=1e-14, atol=1e-15)


def test_halves_become_neighbours() -> None:
    rows = torch.arange(8.0)
    assert halves_to_pairs(Leaf("q", (8,)), 2).pack({"q": rows}).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("status", ["proved", "structural"])
def test_the_reference_is_exact(status: str) -> None:
    verdict = judge(pair_of(3), Said(pair_of(3), status))
    assert (verdict.outcome, verdict.equal) == ("exact", True)


@pytest.mark.parametrize(("status", "outcome"), [("proved", "false_proof"), ("structural", "unsure")])
def test_a_spoiled_weight_is_found(status: str, outcome: str) -> None:
    key = plain_key(pair_of(3))
    verdict = judge(pair_of(3), Said(pair_of(3), status, spoiled=key))
    assert (verdict.outcome, verdict.wrong) == (outcome, (key,))


def test_a_missing_weight_is_no_false_proof() -> None:
    key = plain_key(pair_of(3))
    verdict = judge(pair_of(3), Said(pair_of(3), "proved", left_out=key))
    assert (verdict.outcome, verdict.missing, verdict.wrong) == ("unsure", (key,), ())


def test_a_freedom_is_exact_but_not_equal() -> None:
    feed = FeedForward(hidden=10, activation="gelu", gated=False, bias=False)
    entry = Continuous(channels=3, positions=0)
    pair = make_pair(Net(entry, 8, (feed,), 1, "layer", True, False, 5, False, False, 6), Style(), Style())
    up, down = (next(k for k, v in pair.redraw(0).items() if v.shape == shape) for shape in ((10, 8), (8, 10)))

    def other_order(state: Weights) -> Weights:
        answer = pair.reference(state)
        return answer | {up: answer[up].flip(0), down: answer[down].flip(1)}

    verdict = judge(pair, Said(replace(pair, reference=other_order), "proved"))
    assert (verdict.outcome, verdict.equal) == ("exact", False)
