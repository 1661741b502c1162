"""Which axes of weights are indexed, told from the dataflow: by a caller's channels, by ids, by places.

Such an axis has another size for another reason than a wider stream, and an entry more is nothing like those there are;
see `automatch.core.alignment.Indexed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

from automatch.align.use_graph import UseGraph
from automatch.core.alignment import Alignment, Assignment, Entries, Indexed
from automatch.core.graph import Graph, Shape, operands
from automatch.core.landmarks import Landmark, Use

_WEIGHTLESS = ("concat", "add", "mul")
_PASSED = frozenset("to _to_copy type_as view reshape unsqueeze squeeze expand contiguous clone detach alias".split())
_PICTURE = 4
"""Axes of a batch of pictures with channels; films have one more."""


def with_indexed(alignment: Alignment, source: UseGraph, target: UseGraph) -> Alignment:
    """The same alignment, told which axes of the target's weights are indexed."""
    ours, theirs = indexed(source), indexed(target)
    return replace(alignment, assignments=tuple(_told(each, ours, theirs) for each in alignment.assignments))


def _told(assignment: Assignment, ours: Mapping[str, Found], theirs: Mapping[str, Found]) -> Assignment:
    axes = theirs.get(assignment.target, {})
    sources = [piece.source for piece in assignment.pieces]
    before = ours.get(sources[0] or "", {}) if len(sources) == 1 else {}
    found = tuple(_both(axis, each, before.get(axis)) for axis, each in axes.items())
    return replace(assignment, indexed=found)


def _both(axis: int, theirs: tuple[Entries, Shape], ours: tuple[Entries, Shape] | None) -> Indexed:
    """What an axis is; the sizes of a grid as far as both sides tell them."""
    entries, grid = theirs
    known = ours is not None and ours[0] == "grid" and bool(ours[1]) and bool(grid)
    return Indexed(axis, entries, (ours[1], grid) if known and ours is not None else ((), ()))


Found = dict[int, tuple[Entries, Shape]]
"""For every indexed axis of a weight what its entries are; and of a grid its sizes, where they are known."""


def indexed(graph: UseGraph) -> dict[str, Found]:
    """The indexed axes of one side's weights, by key; of a weight at work in several places, those of the first."""
    found: dict[str, Found] = {}
    fed = _fed(graph)
    for mark in graph.landmarks:
        for use, axis, entries, grid in _axes(graph, mark, fed):
            found.setdefault(use.weight, {}).setdefault(axis, (entries, grid))
    return found


def _fed(graph: UseGraph) -> dict[int, Entries]:
    """Landmarks whose features are those that a caller feeds: its channels, or patches."""
    fed: dict[int, Entries] = {}
    for mark in graph.landmarks:
        passes = mark.kind == "norm" or (mark.kind in _WEIGHTLESS and not mark.uses)
        if mark.kind == "input" and len(mark.shape) > 1 and not _is_stream(graph, mark):
            fed[mark.index] = "inputs"  # but of a single number, whose features are computed
        elif passes and mark.ins and all(edge.source in fed for edge in mark.ins):
            fed[mark.index] = _read_as(graph, mark, mark.shape[-1] if mark.shape else 0, fed)
        elif _is_depthwise(graph, mark) and mark.ins[0].source in fed:
            fed[mark.index] = fed[mark.ins[0].source]
    return fed


def _is_depthwise(graph: UseGraph, mark: Landmark) -> bool:
    """Whether a kernel slides over each channel by itself, and mixes none."""
    use = mark.use("weight") if mark.kind == "contraction" else None
    stored = () if use is None else graph.shapes.get(use.weight, ())
    channels = [graph.landmarks[edge.source].shape[1:2] for edge in mark.ins]
    return len(stored) > 2 and stored[1] == 1 and channels == [(stored[0],)] and stored[0] > 1


def _is_stream(graph: UseGraph, mark: Landmark) -> bool:
    """Whether an input is what blocks add to, as where the model is but a part of one: it is as wide as the model."""
    return any(
        reader.kind == "add"
        and any(graph.landmarks[edge.source].kind not in ("input", "embedding") for edge in reader.ins)
        and any(after.kind != "output" for after, _ in graph.readers(reader.index))
        for reader, _ in graph.readers(mark.index)
    )


def _read_as(graph: UseGraph, mark: Landmark, features: int, fed: Mapping[int, Entries]) -> Entries:
    """What a landmark's features are of which all operands are fed: patches where no operand has an axis of them."""
    whole = all(fed[edge.source] == "inputs" and not edge.port for edge in mark.ins)
    joined = mark.kind == "concat" or any(features in graph.landmarks[edge.source].shape for edge in mark.ins)
    return "inputs" if whole and joined else "patches"


def _axes(graph: UseGraph, mark: Landmark, fed: Mapping[int, Entries]) -> Iterator[tuple[Use, int, Entries, Shape]]:
    for use in mark.uses:
        if mark.kind in ("norm", "contraction") and mark.index in fed:
            yield use, 0, fed[mark.index], ()
        elif mark.kind == "contraction" and use.role == "weight" and all(edge.source in fed for edge in mark.ins):
            stored = graph.shapes.get(use.weight, ())
            features = stored[1] if len(stored) == 2 and not use.view.axes else 0  # a kernel reads channels as they are
            yield use, 1, _read_as(graph, mark, features, fed) if features else "inputs", ()
        elif mark.kind == "attention" and use.form == "table":
            yield use, 0, "relative", ()
        elif mark.kind == "embedding":
            entries, grid = _looked_up(graph, mark, use)
            yield from ((use, axis, entries, sizes) for axis, sizes in _spread(graph, use, grid))
        if mark.kind == "contraction" and use.role in ("weight", "bias") and _is_last(graph, mark, fed):
            yield use, 0, "rows", ()


def _is_last(graph: UseGraph, mark: Landmark, fed: Mapping[int, Entries]) -> bool:
    """Whether nothing but the caller reads a value, as it is or together with others like it or what was fed."""
    readers = [reader for reader, _ in graph.readers(mark.index)]
    return bool(readers) and all(
        reader.kind == "output" or (_ends_in(graph, reader, fed) and _is_last(graph, reader, fed)) for reader in readers
    )


def _ends_in(graph: UseGraph, mark: Landmark, fed: Mapping[int, Entries]) -> bool:
    """Whether a landmark only puts last values together: of a stream that goes on, one operand is a sum itself."""
    plain = mark.kind in (*_WEIGHTLESS, "activation") and not mark.uses
    return plain and all(
        edge.source in fed or graph.landmarks[edge.source].kind in ("contraction", "activation") for edge in mark.ins
    )


def _looked_up(graph: UseGraph, mark: Landmark, use: Use) -> tuple[Entries, Shape]:
    """What the rows of a table stand for."""
    if mark.label != "learned":
        return ("rows" if _by_ids(graph.lowered.graph, mark.node) else "positions"), ()
    added_to = [
        edge.source
        for reader, _ in graph.readers(mark.index)
        if reader.kind == "add"
        for edge in reader.ins
        if edge.source != mark.index
    ]
    if not added_to:
        return "rows", ()
    return _places(graph, added_to[0], prod(graph.shapes.get(use.weight, ())))


def _spread(graph: UseGraph, use: Use, grid: Shape) -> Iterator[tuple[int, Shape]]:
    """The axes of a table that its places lie along: one, or one for each axis of the grid."""
    shape = [size for size in graph.shapes.get(use.weight, ()) if size != 1]
    first = next((at for at in (0, 1) if grid and tuple(shape[at : at + len(grid)]) == grid), None)
    if first is None or len(shape) <= len(grid):
        yield 0, grid
    else:
        yield from ((first + place, (size,)) for place, size in enumerate(grid))


def _by_ids(graph: Graph, node: int) -> bool:
    """Whether an embedding is looked up by an input as it is, rather than by places computed from it."""
    at = operands(graph.nodes[node])[-1]
    while graph.nodes[at].op in _PASSED:
        at = operands(graph.nodes[at])[0]
    return graph.nodes[at].op == "input"


def _places(graph: UseGraph, stream: int, numbers: int) -> tuple[Entries, Shape]:
    """Whether what a table is added to came from a picture, and the grid of its patches."""
    seen, front = {stream}, [stream]
    while front:
        mark = graph.landmarks[front.pop(0)]
        if len(mark.shape) >= _PICTURE and mark.kind == "contraction":
            grid = mark.shape[2:]
            return "grid", grid if prod(grid) <= numbers else ()
        if mark.kind == "input" and len(mark.shape) >= _PICTURE:
            return "grid", ()
        earlier = [edge.source for edge in mark.ins if edge.source not in seen]
        seen.update(earlier)
        front += earlier if mark.kind != "attention" else []
    return "positions", ()
