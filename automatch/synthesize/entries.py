"""An entry for every key of the target's state dict."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from automatch.core.alignment import Alignment, Assignment, Form, NewRows, Piece
from automatch.core.expr import Constant, Expr, Source
from automatch.core.graph import Graph, Rung, Shape, Weight
from automatch.core.mapping import Entry, Evidence
from automatch.resize import UnfitError, fit
from automatch.synthesize.build import join, reshape, seen, seen_shape, stored, weight_norm
from automatch.synthesize.fused import with_fused

Given: TypeAlias = tuple[dict[str, Shape], NewRows]
"""Shapes of the source's weights by key, and what new rows of a vocabulary begin as."""


def synthesize(alignment: Alignment, source: Graph, target: Graph, new_rows: NewRows = "mean") -> tuple[Entry, ...]:
    """Write the expression for every target weight that was assigned something; say why for the others.

    Tied keys follow the key that holds their tensor first, with the same expression.

    Args:
        alignment: Who corresponds to whom.
        source: The source.
        target: The target.
        new_rows: What rows of a vocabulary begin as that only the target has.
    """
    shapes = {name: weight.shape for weight in source.weights for name in weight.keys}
    assigned = {assignment.target: assignment for assignment in alignment.assignments}
    used = {node.target for node in target.nodes if node.op == "weight"}
    lost = {weight.name: _why_lost(weight, target.rung, used) for weight in target.weights}
    return with_fused(
        tuple(
            _entry(name, weight, assigned.get(weight.name), (shapes, new_rows), lost[weight.name])
            for weight in target.weights
            for name in weight.keys
        )
    )


def _why_lost(weight: Weight, rung: Rung, used: set[str]) -> Evidence:
    """Why a weight that no stage assigned has no source."""
    if rung == "names":
        return Evidence("names", ("nothing in the source was found to fit",))
    if weight.name not in used:
        return Evidence("structure", ("the run that was traced does not use it: keep the target's own value",))
    if weight.kind == "buffer":
        return Evidence("structure", ("a table that the target computes by itself: keep its own value",))
    return Evidence("structure", ("it is used only through operators that are not followed",))


def _entry(name: str, weight: Weight, assignment: Assignment | None, given: Given, lost: Evidence) -> Entry:
    if assignment is None:
        return Entry(name, weight.shape, weight.dtype, "unmapped", None, lost)
    if not assignment.pieces:
        return Entry(name, weight.shape, weight.dtype, "unmapped", None, assignment.evidence)
    try:
        expr, notes = _expression(assignment, weight.shape, given)
    except UnfitError as error:
        keys = ", ".join(piece.source for piece in assignment.pieces if piece.source)
        reason = f"{keys} has this role in another size, which does not say what this one holds: {error}"
        why = replace(assignment.evidence, reasons=(reason, *assignment.evidence.reasons))
        return Entry(name, weight.shape, weight.dtype, "unmapped", None, why)
    evidence = replace(assignment.evidence, resized=tuple(notes))
    return Entry(name, weight.shape, weight.dtype, assignment.status, expr, evidence)


def _expression(assignment: Assignment, shape: Shape, given: Given) -> tuple[Expr, list[str]]:
    """Parts are fitted one by one, then joined: a fused weight must not be cut across its parts."""
    whole = _canonical(seen_shape(shape, assignment.view), assignment.form)
    parts, notes = [], []
    for piece in assignment.pieces:
        part_shape = _resized_axis(whole, assignment.axis, piece.size)
        part, note = _part(piece, part_shape, assignment, given)
        parts.append(part)
        notes += [note] if note else []
    joined = join(parts, assignment.axis, assignment.groups)
    return stored(reshape(joined, seen_shape(shape, assignment.view)), shape, assignment.view), notes


def _part(piece: Piece, shape: Shape, assignment: Assignment, given: Given) -> tuple[Expr, str]:
    shapes, new_rows = given
    form = assignment.form
    if piece.source is None:
        return Constant(piece.value, shape), ""
    whole: Expr = Source(piece.source, shapes[piece.source])
    if piece.lengths is not None:
        whole = weight_norm(Source(piece.lengths, shapes[piece.lengths]), whole)
    expr = seen(whole, piece.view)
    fitted = fit(reshape(expr, _canonical(expr.shape, form)), shape, form, assignment.indexed, new_rows)
    return fitted.expr, fitted.note


def _canonical(shape: Shape, form: Form) -> Shape:
    """A shape without axes of size 1, which only broadcast, where the form gives them no meaning."""
    return shape if form == "matrix" else tuple(size for size in shape if size != 1) or (1,)


def _resized_axis(shape: Shape, axis: int, size: int | None) -> Shape:
    return shape if size is None else (*shape[:axis], size, *shape[axis + 1 :])
