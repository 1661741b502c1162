"""Every fixture pair matched once per test run, with the graphs that were traced on the way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from unittest.mock import patch

from torch import nn

import automatch
from automatch.core.graph import Graph
from automatch.trace import recordings, trace
from fixtures.cases import PAIRS

PAIR = {pair.name: pair for pair in PAIRS}


@dataclass(frozen=True, slots=True)
class Answer:
    """What `automatch.match` said about a pair.

    Attributes:
        models: Source and target, as they were after the match.
        graphs: What tracing made of them.
        mapping: The answer.
    """

    models: tuple[nn.Module, nn.Module]
    graphs: tuple[Graph, Graph]
    mapping: automatch.Mapping


@cache
def full(name: str) -> Answer:
    """The pair of this name at full size, on the meta device."""
    pair = PAIR[name]
    return _answer((pair.source(), pair.target()), (pair.source_inputs(), pair.target_inputs()))


@cache
def small(name: str) -> Answer:
    """The pair of this name at small size, with real weights."""
    pair = PAIR[name]
    return _answer((pair.small_source(), pair.small_target()), (pair.small_source_inputs(), pair.small_target_inputs()))


def _answer(models: tuple[nn.Module, nn.Module], inputs: tuple[object, object]) -> Answer:
    graphs: list[Graph] = []

    def traced(*args: object, **kwargs: object) -> Graph:
        graphs.append(trace(*args, **kwargs))  # type: ignore[arg-type]  # handed on as they came
        return graphs[-1]

    with patch.object(recordings, "trace", traced):
        mapping = automatch.match(*models, source_inputs=inputs[0], target_inputs=inputs[1])
    source, target = graphs
    return Answer(models, (source, target), mapping)
