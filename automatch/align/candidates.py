"""What can be paired: slots of landmarks that carry weights, with everything that tells their role."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from automatch.align.anchors import AnchorFinder, Anchors
from automatch.align.norms import NormPlace, is_crossed, norm_place
from automatch.align.slots import Slot, slots
from automatch.align.use_graph import UseGraph
from automatch.core.graph import Shape
from automatch.core.landmarks import Landmark

_WALK = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slot and the features of its role.

    Attributes:
        slot: Which part of which landmark.
        kind: A gate: only equal kinds can be paired.
        forward: Anchors it feeds.
        backward: Anchors it is fed by.
        crossed: Whether the attention next to it is cross-attention, self-attention, both or none.
        lanes: Lanes of the stream that it belongs to or modulates; empty where there is one.
        dependent: Whether it depends on its block's stream; None outside blocks.
        position: Place among the candidates of its region, 0 first, 1 last.
        widths: Canonical sizes of its main weight (out and in of this slot); empty if it has none.
        reach: Number of contractions from the nearest input, and to the nearest output; None inside blocks.
        inputs: Names of the paired inputs that reach it; empty inside blocks.
        norm: For a norm inside a block, where it stands and whose norm it is.
        words: Words of its weights' names, the last tie-break.
    """

    slot: Slot
    kind: str
    forward: Anchors
    backward: Anchors
    crossed: frozenset[bool]
    lanes: frozenset[str]
    dependent: bool | None
    position: float
    widths: Shape
    reach: tuple[int, int] | None
    inputs: frozenset[str]
    norm: NormPlace | None
    words: frozenset[str]


@dataclass(frozen=True, slots=True)
class Distances:
    """How far each landmark is from inputs and outputs, and which inputs reach it, by landmark index."""

    from_input: tuple[int, ...]
    to_output: tuple[int, ...]
    inputs: tuple[frozenset[str], ...]


def candidates(
    finder: AnchorFinder,
    region: Iterable[int],
    distances: Distances | None,
    words: dict[str, frozenset[str]],
    split: bool = True,
) -> list[Candidate]:
    """The candidates of a region, in execution order.

    Args:
        finder: The side.
        region: Landmark indices: one block, or what lies outside all chains.
        distances: Outside blocks, how far landmarks are from inputs and outputs.
        words: For every weight, the words of its name; empty to match without names.
        split: Whether fused products are split into slots.
    """
    graph = finder.graph
    marks = [graph.landmarks[index] for index in region]
    last = max(1, len(marks) - 1)
    found: list[Candidate] = []
    for place, mark in enumerate(marks):
        if not _is_candidate(mark):
            continue
        parts = slots(graph, mark) if split else (Slot(mark.index),)
        found += [_candidate(finder, mark, slot, len(parts), place / last, distances, words) for slot in parts]
    return found


def is_unsplit(candidate: Candidate) -> bool:
    """Whether a product feeds attention in several roles at once although its channels could not be told apart."""
    roles = [role for role in candidate.forward if role.startswith("attention.")]
    return candidate.kind == "contraction" and len(roles) > 1 and candidate.slot.rows is None


def _is_candidate(mark: Landmark) -> bool:
    return mark.kind in ("contraction", "norm", "embedding") or bool(mark.uses)


def _candidate(
    finder: AnchorFinder,
    mark: Landmark,
    slot: Slot,
    parts: int,
    position: float,
    distances: Distances | None,
    words: dict[str, frozenset[str]],
) -> Candidate:
    inside = finder.graph.places.get(mark.index) is not None
    index = mark.index
    return Candidate(
        slot=slot,
        kind=_gate(finder.graph, mark),
        forward=finder.forward(slot),
        backward=finder.backward(slot),
        crossed=_crossed(finder, slot) if inside else frozenset(),
        lanes=_lanes(finder, slot),
        dependent=index in finder.streams.dependent if inside else None,
        position=position,
        widths=_widths(finder.graph, mark, slot, parts),
        reach=(distances.from_input[index], distances.to_output[index]) if distances else None,
        inputs=distances.inputs[index] if distances else frozenset(),
        norm=norm_place(finder.graph, finder.streams, mark),
        words=frozenset(word for use in mark.uses for word in words.get(use.weight, ())),
    )


def _lanes(finder: AnchorFinder, slot: Slot) -> frozenset[str]:
    lanes = finder.streams.lanes
    if slot.landmark in lanes:
        return lanes[slot.landmark]
    readers = _neighbours(finder.graph, slot, slot.landmark, ahead=True)
    return frozenset[str]().union(*(lanes.get(reader.index, frozenset()) for reader in readers))


def _gate(graph: UseGraph, mark: Landmark) -> str:
    """Landmarks of one gate can play the same role."""
    readers = graph.readers(mark.index)
    if mark.label == "learned" and readers and all(reader.kind == "concat" for reader, _ in readers):
        return "token"  # stands beside the data, as a class token does, where other tables are added to it
    if mark.kind in ("add", "concat", "mul"):
        return f"{mark.kind} with a weight"
    return f"other {mark.label}" if mark.kind == "other" else mark.kind


def _widths(graph: UseGraph, mark: Landmark, slot: Slot, parts: int) -> Shape:
    use = mark.use("weight") or next(iter(mark.uses), None)
    if use is None:
        return ()
    stored = graph.shapes.get(use.weight, ())
    # A view may have axes that the weight has not: those along which it is repeated.
    seen = use.view.shape or tuple(stored[axis] for axis in use.view.axes if axis < len(stored)) or stored
    if mark.kind != "contraction" or len(seen) < 2:
        while len(seen) > 2 and seen[0] == 1:
            seen = seen[1:]
        return seen[-2:]
    regions = {region.axis: region.stop - region.start for region in use.view.regions}
    out = regions.get(use.view.axes[0] if use.view.axes else 0, seen[0])
    if slot.rows is not None:
        out = (slot.rows.stop - slot.rows.start) * slot.rows.groups
    return (out, seen[1])


def _crossed(finder: AnchorFinder, slot: Slot) -> frozenset[bool]:
    """Which attentions lie next to a slot in its block: crossed where the query depends on the stream, the key not."""
    graph, found, seen = finder.graph, set(), set()
    todo = deque([(slot.landmark, True, 0), (slot.landmark, False, 0)])
    place = graph.places[slot.landmark]
    origin = graph.landmarks[slot.landmark]
    while todo:
        index, ahead, steps = todo.popleft()
        if steps > _WALK or (index, ahead) in seen:
            continue
        seen.add((index, ahead))
        for mark in _neighbours(graph, slot, index, ahead):
            if graph.places.get(mark.index) != place:
                continue
            if mark.kind == "attention":
                found.add(is_crossed(graph, finder.streams, mark))
            elif mark.kind in ("norm", "mul", "activation") or (
                mark.kind == "contraction" and origin.kind == "norm" and ahead
            ):
                todo.append((mark.index, ahead, steps + 1))
    return frozenset(found)


def _neighbours(graph: UseGraph, slot: Slot, index: int, ahead: bool) -> list[Landmark]:
    if not ahead:
        return [graph.landmarks[edge.source] for edge in graph.landmarks[index].ins]
    ports = slot.ports if index == slot.landmark else frozenset[int]()
    return [mark for mark, edge in graph.readers(index) if not ports or ports.intersection(edge.port)]


def distances(graph: UseGraph, input_names: dict[int, str]) -> Distances:
    """Distances in contractions and embeddings outside chains; landmarks inside a chain cost nothing.

    Args:
        graph: The side.
        input_names: For every input landmark, a name that its partner on the other side shares.
    """
    count = len(graph.landmarks)
    near, far = [0] * count, [0] * count
    inputs: list[frozenset[str]] = [frozenset()] * count
    for mark in graph.landmarks:
        sources = [edge.source for edge in mark.ins]
        near[mark.index] = min((near[i] for i in sources), default=0) + _length(graph, mark)
        own = {input_names[mark.index]} if mark.index in input_names else set()
        inputs[mark.index] = frozenset(own).union(*(inputs[i] for i in sources))
    for mark in reversed(graph.landmarks):
        readers = [reader.index for reader, _ in graph.readers(mark.index)]
        far[mark.index] = min((far[i] for i in readers), default=0) + _length(graph, mark)
    return Distances(tuple(near), tuple(far), tuple(inputs))


def _length(graph: UseGraph, mark: Landmark) -> int:
    return int(mark.kind in ("contraction", "embedding") and mark.index not in graph.places)
