"""Where a norm stands in its block, and whose norm it is.

A pre-norm block normalises what enters a branch, a post-norm block what leaves the sum behind it. Either way a norm
belongs to one branch: self-attention, cross-attention or feed-forward. Between a pre-norm and a post-norm model that is
what two norms can have in common; what they feed and what feeds them is shifted by one branch.
"""

from __future__ import annotations

from dataclasses import dataclass

from automatch.align.stream import Streams
from automatch.align.use_graph import UseGraph
from automatch.core.landmarks import Landmark


@dataclass(frozen=True, slots=True)
class NormPlace:
    """A norm's place in a block.

    Attributes:
        on_stream: Whether it stands on the residual stream itself (post-norm) rather than on a branch (pre-norm).
        branch: Whose norm it is: `self-attention`, `cross-attention` or `feed-forward`.
    """

    on_stream: bool
    branch: str


def norm_place(graph: UseGraph, streams: Streams, mark: Landmark) -> NormPlace | None:
    """The place of a norm inside a chain; None for other landmarks."""
    if mark.kind != "norm" or mark.index not in graph.places or not mark.ins:
        return None
    before = graph.landmarks[mark.ins[0].source]
    own = graph.places[mark.index]
    leaves = [
        reader
        for reader, _ in graph.readers(mark.index)
        if graph.places.get(reader.index) != own or _is_sum(graph, streams, reader)
    ]
    if _is_sum(graph, streams, before) and graph.places.get(before.index) == own and leaves:
        return NormPlace(True, _branch(graph, streams, before, ahead=False))
    return NormPlace(False, _branch(graph, streams, mark, ahead=True))


def _is_sum(graph: UseGraph, streams: Streams, mark: Landmark) -> bool:
    """Whether a landmark adds a branch to the stream."""
    place = graph.places.get(mark.index)
    return mark.kind == "add" and sum(streams.is_stream(place, edge.source) for edge in mark.ins) > 1


def _branch(graph: UseGraph, streams: Streams, start: Landmark, ahead: bool) -> str:
    """What lies on the branch between a norm and a sum, read in one direction."""
    own = graph.places[start.index]
    seen: set[int] = set()
    todo = [start]
    while todo:
        mark = todo.pop()
        steps = [r for r, _ in graph.readers(mark.index)] if ahead else [graph.landmarks[e.source] for e in mark.ins]
        for step in steps:
            if step.index in seen or graph.places.get(step.index) != own or _is_sum(graph, streams, step):
                continue
            seen.add(step.index)
            if step.kind == "attention":
                return "cross-attention" if is_crossed(graph, streams, step) else "self-attention"
            if ahead or step.kind != "norm" or not _stands_on_stream(graph, streams, step):
                todo.append(step)
    return "feed-forward"


def _stands_on_stream(graph: UseGraph, streams: Streams, mark: Landmark) -> bool:
    return any(_is_sum(graph, streams, reader) for reader, _ in graph.readers(mark.index))


def is_crossed(graph: UseGraph, streams: Streams, attention: Landmark) -> bool:
    """Whether an attention's query depends on its block's stream and its key does not."""
    place = graph.places[attention.index]
    depends = {edge.role: streams.is_stream(place, edge.source) for edge in attention.ins}
    return not (depends.get("query", False) and depends.get("key", False))
