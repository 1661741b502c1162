"""Weights that the source keeps as lengths and directions (weight normalisation), and the target as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from automatch.align.names.patterns import FACTORS, Path, owner
from automatch.core.alignment import Assignment, Piece
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Evidence, Rival

REASON = "the source keeps lengths and directions of this weight apart; they are taken to be those of weight norm"


def normed(source: Sequence[Weight], target: Sequence[Weight], done: Mapping[str, Assignment]) -> dict[str, Assignment]:
    """Guesses that multiply directions by lengths, in the place of those that take the directions for the weight.

    Args:
        source: The source's weights.
        target: The target's weights.
        done: What is known already.
    """
    pairs = _pairs(source)
    found: dict[str, Assignment] = {}
    for weight in target:
        taken = done.get(weight.name)
        if taken is None or len(taken.pieces) != 1 or owner(_path(weight.name))[1] in FACTORS:
            continue
        directions = taken.pieces[0].source
        if directions in pairs:
            found[weight.name] = _folded(taken, taken.pieces[0], pairs[directions])
    return found


def _folded(before: Assignment, piece: Piece, lengths: str) -> Assignment:
    alone = Rival((piece.source or "",), "the directions alone")
    reasons = (*before.evidence.reasons, REASON)
    evidence = Evidence("names", reasons, rivals=(*before.evidence.rivals, alone))
    evidence = replace(evidence, source_layer=before.evidence.source_layer)
    return replace(before, status="guessed", evidence=evidence, pieces=(replace(piece, lengths=lengths),))


def _pairs(source: Sequence[Weight]) -> dict[str, str]:
    """For every weight of directions, the lengths beside it."""
    factors: dict[tuple[Path, str], Weight] = {}
    for weight in source:
        module, kind = owner(_path(weight.name))
        if kind in FACTORS:
            factors[module, kind] = weight
    both = {
        module: (factors[module, FACTORS[0]], weight)
        for (module, kind), weight in factors.items()
        if kind == FACTORS[1] and (module, FACTORS[0]) in factors
    }
    return {v.name: g.name for g, v in both.values() if _are_lengths(g.shape, v.shape)}


def _are_lengths(lengths: Shape, directions: Shape) -> bool:
    """Whether there is a length for every entry of at most one axis."""
    if len(lengths) != len(directions):
        return lengths == ()
    kept = [size for size in lengths if size != 1]
    return len(kept) <= 1 and all(one in (1, other) for one, other in zip(lengths, directions, strict=True))


def _path(key: str) -> Path:
    return tuple(key.split("."))
