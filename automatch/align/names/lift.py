"""From matched patterns to an assignment per target weight, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from automatch.align.names.assign import Match
from automatch.align.names.layers import Layers
from automatch.align.names.nodes import Node, in_order_of
from automatch.align.names.patterns import Index, Pattern
from automatch.align.names.rounds import Round
from automatch.align.names.shapes import Reading, Widths, part_sizes, shape_fit
from automatch.align.names.similarity import ENOUGH_SHAPE
from automatch.align.names.verdict import Verdict, judge
from automatch.align.names.vocabulary import resemblance, tokens
from automatch.core.alignment import Assignment, Form, Piece, Region, View
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, Rival

Taken = Sequence[Weight | None]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A match whose virtual node, if it has one, lies in the order of the fused weight."""

    match: Match
    verdict: Verdict
    source: Node
    target: Node
    form: Form


def lift(found: Round, layers: Layers) -> Iterator[Assignment]:
    """One assignment for every target weight of every matched pattern."""
    for match in found.matches:
        pair = _pair(found, match)
        members = [None if part is None else dict(part.members) for part in pair.source.parts]
        for place, pattern in enumerate(pair.target.parts):
            for index, weight in pattern.members if pattern is not None else ():
                old = layers.source_index(pattern, index)
                if any(part is not None and old not in part for part in members):
                    yield _absent(pair, weight, old, layers.source_layer(pattern, index))
                    continue
                taken = [None if part is None else part[old] for part in members]
                pieces = _pieces(pair, place, taken, weight, found.scores.widths)
                evidence = _evidence(found, pair, old, layers.source_layer(pattern, index))
                yield _assignment(pair, weight, pieces, evidence, taken)


def _pair(found: Round, match: Match) -> _Pair:
    source, target = found.source.nodes[match.source], found.target.nodes[match.target]
    form = _form(target.patterns[0], alone=len(found.target.modules[match.target]) == 1)
    if source.fused:
        source = in_order_of(source, target)[0]
    if target.fused:
        target = in_order_of(target, source)[0]
    return _Pair(match, judge(found, match), source, target, form)


def _form(pattern: Pattern, alone: bool) -> Form:
    """What the axes mean; a table is an embedding by name, alone in its module."""
    if len(pattern.shape) == 1:
        return "vector"
    if pattern.kind != "weight" or len(pattern.shape) < 2:
        return "other"
    words = [word for part in pattern.module[-1:] for word in tokens(part)]
    embeds = any(resemblance(word, "embedding") >= 0.75 for word in words)
    return "table" if embeds and alone and len(pattern.shape) == 2 else "matrix"


def _pieces(pair: _Pair, place: int, taken: Taken, weight: Weight, widths: Widths) -> tuple[Piece, ...]:
    """The parts of one target weight; empty where the shapes of this layer, unlike others, do not fit."""
    first = next(part for part in taken if part is not None)
    if pair.target.fused:
        sizes = part_sizes(pair.target.lengths, first.shape[0], widths.reverse)
        start = sum(sizes[:place])
        return (Piece(first.name, View((Region(0, start, start + sizes[place]),))),) if sizes else ()
    if pair.source.fused:
        sizes = part_sizes(pair.source.lengths, weight.shape[0], widths)
        names = [None if part is None else part.name for part in taken]
        return tuple(Piece(name, size=size) for name, size in zip(names, sizes, strict=True)) if sizes else ()
    usual = (first.shape, weight.shape) == (pair.source.shape, pair.target.shape)
    fit = shape_fit(first.shape, weight.shape, widths)
    if not usual and fit.score < ENOUGH_SHAPE and first.shape != weight.shape:
        return ()
    return (Piece(first.name, _view(pair.verdict.reading if usual else fit.reading, weight)),)


def _view(reading: Reading, weight: Weight) -> View:
    if reading == "transposed":
        return View(axes=(1, 0))
    return View(shape=weight.shape) if reading == "reshaped" else View()


def _assignment(pair: _Pair, weight: Weight, pieces: tuple[Piece, ...], evidence: Evidence, taken: Taken) -> Assignment:
    if pieces:
        return Assignment(weight.name, pair.verdict.status, evidence, pieces, form=pair.form)
    shapes = ", ".join(f"{part.name} {list(part.shape)}" for part in taken if part is not None)
    reason = f"in this layer, unlike in others, {shapes} cannot fill {list(weight.shape)}"
    return Assignment(weight.name, "unmapped", Evidence("names", (reason,), source_layer=evidence.source_layer))


def _absent(pair: _Pair, weight: Weight, old: Index, layer: int | None) -> Assignment:
    reason = f"its block takes block {list(old)} of the source, which lacks {'.'.join(pair.source.path)}"
    return Assignment(weight.name, "unmapped", Evidence("names", (reason,), source_layer=layer))


def _evidence(found: Round, pair: _Pair, old: Index, layer: int | None) -> Evidence:
    rivals = []
    if pair.verdict.doubt:
        own = [dict(part.members)[old].name for part in pair.source.patterns]
        rivals.append(Rival(tuple(own), pair.verdict.doubt))
    for row, gap in pair.verdict.rows:
        names = [dict(part.members).get(old) for part in found.source.nodes[row].patterns]
        told = (
            f"by itself {gap:.2f} less alike" if gap > 0 else f"by itself {-gap:.2f} more alike, its surroundings less"
        )
        rivals.append(Rival(tuple(name.name for name in names if name is not None), told))
    return Evidence(
        "names",
        pair.verdict.reasons,
        cost=round(1.0 - pair.match.score, 4),
        margin=round(pair.match.margin, 4) if isfinite(pair.match.margin) else None,
        rivals=tuple(rival for rival in rivals if rival.sources),
        source_layer=layer,
    )
