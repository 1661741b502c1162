"""What a landmark feeds and what feeds it, told by the landmarks that any implementation of its role must have.

From a landmark one walks to its readers (or its operands), through what one side may have and the other not: norms,
modulations, added tables. What is reached is an anchor; nearer anchors weigh more. "Feeds attention as the query" is an
anchor, and so are "comes from the stream" and "enters chain 1 from the side".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from automatch.align.slots import Slot
from automatch.align.stream import Streams
from automatch.align.use_graph import UseGraph
from automatch.core.landmarks import Edge, Landmark

Anchors: TypeAlias = dict[str, float]
_DEPTH = 3
_PASSABLE = ("norm", "concat", "other")


@dataclass
class AnchorFinder:
    """Walks one side of an alignment.

    Attributes:
        graph: The side.
        streams: Its stream dependence.
        chain_names: For every chain of this side, a name that its partner on the other side shares.
    """

    graph: UseGraph
    streams: Streams
    chain_names: dict[int, str]
    _found: Anchors = field(default_factory=dict)

    def forward(self, slot: Slot) -> Anchors:
        """Anchors that a slot's value reaches."""
        return self._walk_from(slot, True)

    def backward(self, slot: Slot) -> Anchors:
        """Anchors that a landmark's operands come from."""
        return self._walk_from(slot, False)

    def _walk_from(self, slot: Slot, ahead: bool) -> Anchors:
        self._found = {}
        self._walk(slot.landmark, slot.landmark, slot.ports, ahead, 0, 0)
        return self._found

    def _walk(self, origin: int, index: int, ports: frozenset[int], ahead: bool, depth: int, steps: int) -> None:
        for mark, edge in self._next(origin, index, ports, ahead):
            weight = 0.5**depth
            border = self._border(origin, index, mark, ahead)
            if border is not None:
                self._note(border, weight)
            elif self._is_passable(origin, mark):
                self._note(mark.kind, weight / 2)
                if steps < 8:
                    self._walk(origin, mark.index, frozenset(), ahead, depth, steps + 1)
            else:
                self._note(f"{mark.kind}.{edge.role}" if ahead and mark.kind == "attention" else mark.kind, weight)
                if mark.kind in ("add", "mul", "activation") and depth < _DEPTH - 1:
                    self._walk(origin, mark.index, frozenset(), ahead, depth + 1, steps + 1)

    def _note(self, label: str, weight: float) -> None:
        self._found[label] = max(self._found.get(label, 0.0), weight)

    def _next(self, origin: int, index: int, ports: frozenset[int], ahead: bool) -> list[tuple[Landmark, Edge]]:
        if ahead:
            readers = self.graph.readers(index)
            return [pair for pair in readers if not ports or ports.intersection(pair[1].port)]
        operands = [(self.graph.landmarks[edge.source], edge) for edge in self.graph.landmarks[index].ins]
        place = self.graph.places.get(origin)
        if index != origin and place is not None and origin in self.streams.dependent:
            # on the way back through a modulation or a sum, what comes from the side says nothing about this role
            return [pair for pair in operands if self.streams.is_stream(place, pair[0].index)] or operands
        return operands

    def _border(self, origin: int, index: int, mark: Landmark, ahead: bool) -> str | None:
        """The anchor's name where a walk leaves its block or enters a chain; None inside."""
        own, place = self.graph.places.get(origin), self.graph.places.get(mark.index)
        if own is not None and place != own:
            if not ahead:
                entry = mark.index in self.streams.entries[own]
                return f"stream {self.streams.lane(own, mark.index)}".rstrip() if entry else "outside"
            if place is not None and place[0] == own[0]:
                return f"stream {self.streams.lane(place, index)}".rstrip()
            return "outside"
        if own is None and place is not None:
            name = self.chain_names[place[0]]
            entry = ahead and index not in self.streams.entries[place]
            return f"{name}.side" if entry else f"{name}.stream"
        return None

    def _is_passable(self, origin: int, mark: Landmark) -> bool:
        """Whether a landmark may be absent on the other side without changing the roles around it."""
        if mark.kind in _PASSABLE:
            return True
        if mark.kind not in ("add", "mul"):
            return False
        if mark.uses:
            return True
        place = self.graph.places.get(origin)
        if place is None:
            return mark.kind == "add"
        return sum(self.streams.is_stream(place, edge.source) for edge in mark.ins) < 2


def likeness(first: Anchors, second: Anchors) -> float:
    """Common weight over joint weight of two anchor sets (weighted Jaccard): 1 for equal ones, 0 for disjoint ones."""
    labels = sorted(first.keys() | second.keys())
    if not labels:
        return 1.0
    common = sum(min(first.get(label, 0.0), second.get(label, 0.0)) for label in labels)
    return common / sum(max(first.get(label, 0.0), second.get(label, 0.0)) for label in labels)
