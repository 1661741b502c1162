"""Weights that no operator reads (a norm's batch counter, a mask token) go where their module goes."""

from __future__ import annotations

from collections import defaultdict

from automatch.core.alignment import Assignment, Piece
from automatch.core.graph import Graph, Weight
from automatch.core.mapping import Evidence, Status


def companions(source: Graph, target: Graph, assignments: tuple[Assignment, ...]) -> tuple[Assignment, ...]:
    """Assignments for target weights that have none, from the source module that all their siblings come from.

    A counter (an integer scalar) whose module has a partner without one starts at zero.
    """
    assigned = {assignment.target: assignment for assignment in assignments}
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for assignment in assignments:
        sources = [piece.source for piece in assignment.pieces if piece.source is not None]
        homes[_module(assignment.target)] |= {_module(key) for key in sources}
    known = {weight.name: weight for weight in source.weights}
    found = (
        _companion(weight, homes[_module(weight.name)], known)
        for weight in target.weights
        if weight.name not in assigned
    )
    return tuple(assignment for assignment in found if assignment is not None)


def _companion(weight: Weight, homes: set[str], known: dict[str, Weight]) -> Assignment | None:
    if len(homes) != 1:
        return None
    partner = known.get(f"{next(iter(homes))}.{weight.name.rpartition('.')[2]}")
    if partner is not None and len(partner.shape) == len(weight.shape):
        reason = "no output depends on it; it goes with the other weights of its module, by its name there"
        status: Status = "structural" if weight.kind == "buffer" else "guessed"
        return Assignment(weight.name, status, Evidence("structure", (reason,)), (Piece(partner.name),))
    if weight.kind == "buffer" and weight.shape == () and weight.dtype.startswith("int"):
        reason = "no output depends on this counter, and the source's module has none: it starts at zero"
        return Assignment(weight.name, "structural", Evidence("structure", (reason,)), (Piece(None, value=0.0),))
    return None


def _module(key: str) -> str:
    return key.rpartition(".")[0]
