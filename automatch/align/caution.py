"""Where a recorded run took branches by its data, what it shows of the model is one case: every answer is a guess."""

from __future__ import annotations

from dataclasses import replace

from automatch.core.alignment import Alignment, Assignment
from automatch.core.graph import Graph

_BRANCHING = frozenset("item _local_scalar_dense nonzero nonzero_numpy tolist unique unique2 _unique2".split())
_REASON = "the {side} was recorded from one run whose data chose the branches: other data may use its weights otherwise"


def with_caution(alignment: Alignment, source: Graph, target: Graph) -> Alignment:
    """The same alignment, its answers demoted to guesses where a side shows only the branches of one run."""
    partial = [side for side, graph in (("source", source), ("target", target)) if _chose_branches(graph)]
    if not partial:
        return alignment
    notes = tuple(_REASON.format(side=side) for side in partial)
    demoted = tuple(_demoted(assignment, notes) for assignment in alignment.assignments)
    return replace(alignment, assignments=demoted, notes=(*alignment.notes, *notes))


def _chose_branches(graph: Graph) -> bool:
    return graph.rung in ("recorder", "draft_export") and any(node.op in _BRANCHING for node in graph.nodes)


def _demoted(assignment: Assignment, notes: tuple[str, ...]) -> Assignment:
    if assignment.status != "structural":
        return assignment
    evidence = replace(assignment.evidence, reasons=(*assignment.evidence.reasons, *notes))
    return replace(assignment, status="guessed", evidence=evidence)
