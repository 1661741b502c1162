"""From matched patterns to an assignment per target weight, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

from automatch.align.names.assign import Match
from automatch.align.names.certainty import doubts
from automatch.align.names.layers import Layers
from automatch.align.names.nodes import Node, in_order_of
from automatch.align.names.patterns import Index, Pattern
from automatch.align.names.rounds import Round
from automatch.align.names.shapes import Reading, Widths, loose, part_sizes, shape_fit
from automatch.align.names.similarity import ENOUGH_SHAPE
from automatch.align.names.verdict import Verdict, judge
from automatch.align.names.vocabulary import resemblance, tokens
from automatch.core.alignment import Assignment, Form, Piece, Region, View
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, Rival

_TABLES = frozenset(("wte", "wpe"))
"""Short for tables of words and of places."""

Taken: TypeAlias = Sequence[Weight | None]
Members: TypeAlias = Mapping[Index, Weight]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A match, judged; its virtual node, if it has one, with the parts in the order of the fused weight.

    Attributes:
        match: The match.
        verdict: What is said about it.
        source: The source node.
        target: The target node.
        form: What the target's axes mean.
        members: Of every part of the source, its weights by their block numbers; None for a missing bias.
        rivals: The same of other source nodes, and what is said of each.
    """

    match: Match
    verdict: Verdict
    source: Node
    target: Node
    form: Form
    members: tuple[Members | None, ...]
    rivals: tuple[tuple[tuple[Members, ...], str], ...]


def lift(found: Round, layers: Layers) -> Iterator[Assignment]:
    """One assignment for every target weight of every matched pattern."""
    against = doubts(found)
    for match in found.matches:
        pair = _pair(found, match, against.get(match.column, ""))
        for place, pattern, index, weight in _members(pair.target):
            old, layer = layers.source_index(pattern, index), layers.source_layer(pattern, index)
            yield _assignment(found, pair, place, weight, old, layer)


def _members(node: Node) -> Iterator[tuple[int, Pattern, Index, Weight]]:
    """Every weight of a node: which part it belongs to, that part's pattern, and its block numbers."""
    for place, pattern in enumerate(node.parts):
        if pattern is not None:
            yield from ((place, pattern, index, weight) for index, weight in pattern.members)


def _pair(found: Round, match: Match, against: str) -> _Pair:
    form = _form(match.target.patterns[0], alone=len(found.target.modules[match.column]) == 1)
    source = in_order_of(match.source, match.target)[0] if match.source.fused else match.source
    target = in_order_of(match.target, match.source)[0] if match.target.fused else match.target
    verdict = judge(found, match, against)
    members = tuple(None if part is None else dict(part.members) for part in source.parts)
    return _Pair(match, verdict, source, target, form, members, tuple(_rivals(found, verdict, members)))


def _rivals(
    found: Round, verdict: Verdict, members: Sequence[Members | None]
) -> Iterator[tuple[tuple[Members, ...], str]]:
    """What else may fill the target, or how else the same may."""
    if verdict.doubt:
        yield tuple(part for part in members if part is not None), verdict.doubt
    for row, gap in verdict.rivals:
        told = f"{gap:.2f} less alike" if gap > 0 else f"{-gap:.2f} more alike, though its surroundings are less so"
        yield tuple(dict(part.members) for part in found.source.nodes[row].patterns), told


def _form(pattern: Pattern, alone: bool) -> Form:
    """What the axes mean; a table is an embedding by name, alone in its module."""
    if len(pattern.shape) == 1:
        return "vector"
    if pattern.kind != "weight" or len(pattern.shape) < 2:
        return "other"
    words = [word for part in pattern.module[-1:] for word in tokens(part)]
    embeds = any(word in _TABLES or resemblance(word, "embedding") >= 0.75 for word in words)
    return "table" if embeds and alone and len(pattern.shape) == 2 else "matrix"


def _assignment(found: Round, pair: _Pair, place: int, weight: Weight, old: Index, layer: int | None) -> Assignment:
    """What one target weight takes from the source block with the given numbers."""
    if any(part is not None and old not in part for part in pair.members):
        reason = f"its block takes the source's block {list(old)}, which lacks {'.'.join(pair.source.path)}"
        return Assignment(weight.name, "unmapped", Evidence("names", (reason,), source_layer=layer))
    taken = [None if part is None else part[old] for part in pair.members]
    pieces = _pieces(pair, place, taken, weight, found.scores.widths)
    if not pieces:
        shapes = ", ".join(f"{part.name} {list(part.shape)}" for part in taken if part is not None)
        reason = f"in this block, unlike in others, {shapes} cannot fill {list(weight.shape)}"
        return Assignment(weight.name, "unmapped", Evidence("names", (reason,), source_layer=layer))
    return Assignment(weight.name, pair.verdict.status, _evidence(pair, old, layer), pieces, form=pair.form)


def _pieces(pair: _Pair, place: int, taken: Taken, weight: Weight, widths: Widths) -> tuple[Piece, ...]:
    """The parts of one target weight; empty where the shapes of this block, unlike others, do not fit."""
    first = next(part for part in taken if part is not None)
    if pair.target.fused:
        sizes = part_sizes(pair.target.lengths, first.shape[0], widths.reverse)
        start = sum(sizes[:place])
        return (Piece(first.name, View((Region(0, start, start + sizes[place]),))),) if sizes else ()
    if pair.source.fused:
        sizes = part_sizes(pair.source.lengths, weight.shape[0], widths)
        names = [None if part is None else part.name for part in taken]
        return tuple(Piece(name, size=size) for name, size in zip(names, sizes, strict=True)) if sizes else ()
    if (first.shape, weight.shape) == (pair.source.shape, pair.target.shape):
        return (Piece(first.name, _view(pair.verdict.reading, first, weight)),)
    fit = shape_fit(first.shape, weight.shape, widths)
    return (Piece(first.name, _view(fit.reading, first, weight)),) if fit.score >= ENOUGH_SHAPE else ()


def _view(reading: Reading, source: Weight, target: Weight) -> View:
    if reading == "transposed":
        return View(axes=(1, 0))
    ones = len(source.shape) != len(target.shape) and loose(source.shape) == loose(target.shape)
    return View(shape=target.shape) if reading == "reshaped" or ones else View()


def _evidence(pair: _Pair, old: Index, layer: int | None) -> Evidence:
    # Where a block lacks a part, the others are listed without it.
    rivals = [Rival(tuple(part[old].name for part in parts if old in part), told) for parts, told in pair.rivals]
    margin = round(pair.match.margin, 4) if isfinite(pair.match.margin) else None
    return Evidence(
        "names",
        pair.verdict.reasons,
        cost=round(1.0 - pair.match.score, 4),
        margin=margin,
        rivals=tuple(rival for rival in rivals if rival.sources),
        source_layer=layer,
    )
