"""Pairs: one network written twice, with inputs, and the conversion between the two."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.fuzz.build import write
from tests.fuzz.layout import Weights, drawn
from tests.fuzz.net import Choose, Net, Patches, Stem, Tokens, draw_net
from tests.fuzz.style import Style, described, draw_style
from tests.fuzz.writer import Written

Inputs: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
BATCH = 2


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models of the same function in float32, their inputs, and the conversion of state dicts, in float64.

    `redraw` gives other weights of the source, `fresh` other inputs of both, for a seed. The reference says nothing of
    the counters of batch norms, which do nothing.
    """

    source: nn.Module
    target: nn.Module
    source_inputs: Inputs
    target_inputs: Inputs
    reference: Callable[[Weights], Weights]
    description: str
    redraw: Callable[[int], Weights]
    fresh: Callable[[int], tuple[Inputs, Inputs]]
    features: frozenset[str]


def draw_pair(seed: int) -> Pair:
    """The pair of a seed, always the same."""
    return _drawn_pair(Random(seed).choice)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Any pair; shrinks towards small networks and plain styles."""
    return _drawn_pair(lambda options: draw(st.sampled_from(options)))


def _drawn_pair(choose: Choose) -> Pair:
    return make_pair(draw_net(choose), draw_style(choose), draw_style(choose))


def make_pair(net: Net, ours: Style, theirs: Style) -> Pair:
    """One network in two styles, with different random weights."""
    source, target = write(net, ours, is_source=True), write(net, theirs, is_source=False)

    counters = {key: value for key, value in source.module.state_dict().items() if is_counter(key)}

    def redraw(seed: int) -> Weights:
        return counters | source.from_canonical(drawn(source.leaves, seed))

    def reference(state: Weights) -> Weights:
        return target.from_canonical(source.to_canonical(state))

    def fresh(seed: int) -> tuple[Inputs, Inputs]:
        return _inputs(net, ours, seed), _inputs(net, theirs, seed)

    load(source.module, redraw(1))
    load(target.module, target.from_canonical(drawn(target.leaves, 2)))
    return Pair(
        source=source.module,
        target=target.module,
        source_inputs=_inputs(net, ours, 0),
        target_inputs=_inputs(net, theirs, 0),
        reference=reference,
        description=f"{net} | source: {described(source.features)} | target: {described(target.features)}",
        redraw=redraw,
        fresh=fresh,
        features=frozenset(net.features) | _on_a_side("source", source) | _on_a_side("target", target),
    )


def validate(pair: Pair) -> float:
    """The relative gap between both models' outputs in float64, the target loaded with the reference.

    The worst over the pair's own weights and inputs and two redraws with fresh inputs.
    """
    own = {key: value.double() for key, value in pair.source.state_dict().items()}
    cases = [(own, (pair.source_inputs, pair.target_inputs))]
    cases += [(pair.redraw(seed), pair.fresh(seed)) for seed in (11, 12)]
    return max(gap(pair, state, pair.reference(state), inputs) for state, inputs in cases)


def gap(pair: Pair, ours: Weights, theirs: Weights, inputs: tuple[Inputs, Inputs]) -> float:
    """The relative gap of outputs in float64 with these weights; the pair's models stay as they are."""
    expected = outputs(pair.source, ours, inputs[0])
    got = outputs(pair.target, theirs, inputs[1])
    relative = (got - expected).abs().max() / expected.abs().max()
    return float(relative) if relative.isfinite() else float("inf")


def outputs(model: nn.Module, weights: Weights, inputs: Inputs) -> Tensor:
    """What a copy of the model computes in float64."""
    model = deepcopy(model).double()
    load(model, weights)
    args, kwargs = inputs
    with torch.no_grad():
        result: Tensor = model(*(wide(value) for value in args), **{key: wide(value) for key, value in kwargs.items()})
    return result


def load(model: nn.Module, weights: Weights) -> None:
    """Fill a model; only the counters of batch norms may be missing."""
    missing, unexpected = model.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not is_counter(key)]
    assert missing + unexpected == [], f"missing {missing}, unexpected {unexpected}"


def is_counter(key: str) -> bool:
    """Whether a key is a batch norm's counter, which has no effect in evaluation."""
    return key.endswith("num_batches_tracked")


def wide(value: Tensor) -> Tensor:
    """A tensor in float64, unless it holds integers."""
    return value.double() if value.is_floating_point() else value


def _on_a_side(side: str, written: Written) -> frozenset[str]:
    return frozenset(f"{side}:{feature}" for feature in written.features)


def _inputs(net: Net, style: Style, seed: int) -> Inputs:
    """Inputs for a seed; odd seeds' are one step shorter."""
    generator, size = torch.Generator().manual_seed(seed), net.length - seed % 2
    match net.entry:
        case Tokens(vocabulary=vocabulary, segments=segments):
            x = torch.randint(vocabulary, (BATCH, size), generator=generator)
            second = torch.randint(2, (BATCH, size), generator=generator)
            if not segments:
                return (x,), {}
            return ((x,), {"segments": second}) if style.segments == "keyword" else ((x, second), {})
        case Patches(channels=channels):
            shape: tuple[int, ...] = (channels, 2, 2 * size)
        case Stem(channels=channels, dims=dims):
            shape = (channels, *(size,) * dims)
        case continuous:
            shape = (size, continuous.channels)
    return (torch.randn(BATCH, *shape, generator=generator),), {}
