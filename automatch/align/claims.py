"""From paired landmarks to assigned weights: weights follow their landmark, by role.

Every weight at work in a paired target landmark makes a claim: all of it, or some of its rows, should come from the
weight in the same role on the other side, or be a constant where the role needs none there. The claims on one target
weight are then put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from automatch.align.costs import is_displaced
from automatch.align.roles import RolePair, reasons
from automatch.align.slots import Rows, Slot
from automatch.align.use_graph import UseGraph
from automatch.core.alignment import Assignment, Piece, Region, View
from automatch.core.landmarks import Landmark, Use
from automatch.core.mapping import Evidence, Rival, Status

_SURE = 0.2
_DOUBTFUL = 4.0
_SURE_THOUGH_DOUBTFUL = 2.0
_CROWD = 3
_UNFOLLOWED = "it passes through operators that were not followed before it is used; taken as stored"
_CONSTANTS = {
    ("norm", "weight"): (1.0, "the source's norm has no scale: ones keep it so"),
    ("norm", "bias"): (0.0, "the source's norm has no shift: zeros keep it so"),
    ("norm", "running_mean"): (0.0, "the source's norm keeps no running mean"),
    ("norm", "running_var"): (1.0, "the source's norm keeps no running variance"),
    ("contraction", "bias"): (0.0, "the source's product has no bias: zeros keep it so"),
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What one use of a target weight asks for.

    Attributes:
        use: The use.
        axis: The canonical axis along which `rows` lie.
        rows: The part of the weight; None for all.
        piece: What fills it; None where nothing does.
        pair: The pair of slots that the claim comes from.
        why_not: Why nothing fills it.
    """

    use: Use
    axis: int
    rows: Rows | None
    piece: Piece | None
    pair: RolePair
    why_not: str = ""
    reason: str = ""


def to_assignments(graphs: tuple[UseGraph, UseGraph], pairs: Sequence[RolePair]) -> tuple[Assignment, ...]:
    """One assignment per target weight that any landmark uses, in the order of first use."""
    claims: defaultdict[str, list[Claim]] = defaultdict(list)
    for pair in pairs:
        for claim in _claims(graphs, pair):
            claims[claim.use.weight].append(claim)
    return tuple(_assignment(graphs, weight, found) for weight, found in claims.items())


def _claims(graphs: tuple[UseGraph, UseGraph], pair: RolePair) -> Iterable[Claim]:
    mark = graphs[1].landmarks[pair.target.slot.landmark]
    partner = None if pair.source is None else graphs[0].landmarks[pair.source.slot.landmark]
    for use in mark.uses:
        if use.view.regions and use.view.shape is not None and use.form != "table":
            yield Claim(
                use, 0, None, None, pair, "it is read one slice after another, and slices cannot be put together yet"
            )
            continue
        if use.covers is not None and not _is_slot(use, pair.target.slot):
            continue  # another slot's share of a joined operand
        axis, rows = (0, None) if use.covers else _target_rows(use, pair.target.slot, graphs[1])
        if partner is None or pair.source is None:
            yield Claim(use, axis, rows, None, pair, _refusal(mark))
            continue
        piece, reason = _piece(mark, use, partner, pair.source.slot)
        yield Claim(use, axis, rows, piece, pair, f"the source's {_title(partner)} has no {use.role}", reason)


def _is_slot(use: Use, slot: Slot) -> bool:
    """Whether a share of a joined operand is what a slot of the output is made with."""
    return slot.rows is not None and slot.rows.groups == 1 and (slot.rows.start, slot.rows.stop) == use.covers


def _piece(mark: Landmark, use: Use, partner: Landmark, slot: Slot) -> tuple[Piece | None, str]:
    found = partner.use(use.role, (slot.rows.start, slot.rows.stop) if slot.rows else None)
    if found is not None and not (found.exact and use.exact):
        return Piece(found.weight), _UNFOLLOWED
    if found is not None:
        return Piece(found.weight, _source_view(found, slot)), ""
    if (mark.kind, use.role) in _CONSTANTS:
        value, reason = _CONSTANTS[mark.kind, use.role]
        return Piece(None, value=value), reason
    others = [other for other in partner.uses if other.role not in {own.role for own in mark.uses}]
    if len(mark.uses) == len(partner.uses) == 1 and others:
        return Piece(others[0].weight, _source_view(others[0], slot)), ""
    return None, ""


def _source_view(use: Use, slot: Slot) -> View:
    if slot.rows is None or use.covers is not None:
        return _without_prefix_rows(use).view
    return replace(use.view, rows=Region(0, slot.rows.start, slot.rows.stop, slot.rows.groups))


def _without_prefix_rows(use: Use) -> Use:
    """A table cut to the length of the example input is still the whole table."""
    if use.form != "table" or not use.view.regions or any(region.start for region in use.view.regions):
        return use
    return replace(use, view=replace(use.view, regions=(), shape=None))


def _target_rows(use: Use, slot: Slot, graph: UseGraph) -> tuple[int, Rows | None]:
    """The part of the target weight that a slot of a use covers, and its canonical axis."""
    use = _without_prefix_rows(use)
    if not use.view.regions:
        return 0, slot.rows
    first = use.view.regions[0]
    axis = use.view.axes.index(first.axis) if use.view.axes else first.axis
    if slot.rows is None or axis != 0:
        return axis, Rows(first.start, first.stop, first.groups)
    if slot.rows.groups != 1 or first.groups != 1:
        return 0, Rows(first.start, first.stop)
    return 0, Rows(first.start + slot.rows.start, first.start + slot.rows.stop)


def _refusal(mark: Landmark) -> str:
    return f"nothing in the source plays the role of this {_title(mark)}"


def _title(mark: Landmark) -> str:
    return mark.kind if mark.kind != "other" else f"operator {mark.label}"


# Claims on one weight


def _assignment(graphs: tuple[UseGraph, UseGraph], weight: str, claims: list[Claim]) -> Assignment:
    unfollowed = [claim for claim in claims if claim.reason == _UNFOLLOWED]
    if unfollowed:
        return _as_stored(graphs, weight, claims, unfollowed)
    whole = [claim for claim in claims if claim.rows is None]
    mapped = [claim for claim in whole if claim.piece is not None]
    if mapped:
        return _of_one(graphs, weight, mapped)
    if whole:
        return _unmapped(weight, whole[0], whole[0].why_not)
    parts = _tiling(graphs, weight, claims)
    if parts is None:
        return _unmapped(weight, claims[0], "its parts are used in a way that does not add up to the whole weight")
    absent = [claim for claim in parts if claim.piece is None]
    if absent:
        return _unmapped(weight, absent[0], absent[0].why_not)
    return _of_parts(graphs, weight, parts)


def _of_one(graphs: tuple[UseGraph, UseGraph], weight: str, claims: list[Claim]) -> Assignment:
    """A weight at work in several places: the lookup comes first, then the surer; a disagreement makes it a guess."""
    best = min(claims, key=lambda claim: (claim.use.role != "table", claim.pair.cost or 0.0))
    chosen = _of_parts(graphs, weight, [best])
    others = {_source(claim) for claim in claims} - {_source(best), ""}
    if not others:
        return chosen
    rivals = tuple(Rival((key,), "plays this tied weight's other role") for key in sorted(others))
    evidence = replace(chosen.evidence, rivals=(*rivals, *chosen.evidence.rivals))
    return replace(chosen, status="guessed", evidence=evidence)


def _as_stored(
    graphs: tuple[UseGraph, UseGraph], weight: str, claims: list[Claim], unfollowed: list[Claim]
) -> Assignment:
    """A weight whose way to its operator was not followed: all of one source weight as it is stored, as a guess."""
    sources = {claim.piece.source if claim.piece else None for claim in claims}
    names = (_source(unfollowed[0]), weight)
    ranks = {len(graph.shapes.get(name, ())) for graph, name in zip(graphs, names, strict=True)}
    if len(sources) != 1 or len(ranks) != 1:
        return _unmapped(weight, unfollowed[0], "it is used through operators that were not followed")
    return _of_parts(graphs, weight, [replace(unfollowed[0], rows=None, axis=0)])


def _source(claim: Claim) -> str:
    return (claim.piece.source or "") if claim.piece is not None else ""


def _tiling(graphs: tuple[UseGraph, UseGraph], weight: str, claims: list[Claim]) -> list[Claim] | None:
    """Claims that cover a weight exactly once, in order; None if they do not."""
    by_start: dict[int, Claim] = {}
    for claim in sorted(claims, key=lambda claim: (claim.piece is None, claim.pair.cost or 0.0)):
        by_start.setdefault(claim.rows.start if claim.rows else 0, claim)
    parts = [by_start[start] for start in sorted(by_start)]
    rows = [claim.rows for claim in parts if claim.rows is not None]
    if len({(r.groups, claim.axis) for r, claim in zip(rows, parts, strict=True)}) != 1:
        return None
    size = _size(graphs[1], parts[0])
    joined = all(a.stop == b.start for a, b in pairwise(rows))
    complete = size is not None and rows[0].start == 0 and rows[-1].stop * rows[0].groups == size
    return parts if joined and complete else None


def _size(graph: UseGraph, claim: Claim) -> int | None:
    shape = graph.shapes.get(claim.use.weight, ())
    axis = claim.use.view.axes[claim.axis] if claim.use.view.axes else claim.axis
    return shape[axis] if axis < len(shape) else None


def _of_parts(graphs: tuple[UseGraph, UseGraph], weight: str, parts: list[Claim]) -> Assignment:
    first = parts[0]
    groups = first.rows.groups if first.rows is not None else 1
    pieces = tuple(_sized(claim, claim.rows) for claim in parts)
    exact = all(claim.reason != _UNFOLLOWED for claim in parts)
    view = replace(first.use.view, regions=()) if exact else View()
    if first.use.form == "table" and first.use.view.regions:
        view = View()
    weakest = min(parts, key=lambda claim: _margin(claim.pair))
    sure = all(_is_sure(claim.pair) for claim in parts)
    status: Status = "structural" if sure and exact else "guessed"
    evidence = _evidence(graphs[0], parts, weakest)
    return Assignment(weight, status, evidence, pieces, first.axis, groups, view, first.use.form)


def _is_sure(pair: RolePair) -> bool:
    """Whether a pair is far ahead of its runner-up, the more so the less alike the two are."""
    if pair.source is not None and is_displaced(pair.source, pair.target):
        return False
    if pair.twins or pair.crowd >= _CROWD:
        return False
    if (pair.cost or 0.0) < _DOUBTFUL:
        return pair.margin is None or pair.margin >= _SURE
    return pair.margin is not None and pair.margin >= _SURE_THOUGH_DOUBTFUL


def _sized(claim: Claim, rows: Rows | None) -> Piece:
    assert claim.piece is not None
    return claim.piece if rows is None else replace(claim.piece, size=(rows.stop - rows.start) * rows.groups)


def _margin(pair: RolePair) -> float:
    return float("inf") if pair.margin is None else pair.margin


def _evidence(source: UseGraph, parts: list[Claim], weakest: Claim) -> Evidence:
    said: list[str] = []
    for claim in parts:
        said += [claim.reason] if claim.reason else []
        part = f"{claim.piece.source}: " if claim.piece and claim.piece.source and len(parts) > 1 else ""
        said += [f"{part}{reason}" for reason in reasons(claim.pair)]
    margin = None if weakest.pair.margin is None else round(weakest.pair.margin, 3)
    cost = max((claim.pair.cost or 0.0) for claim in parts)
    return Evidence(
        "structure",
        tuple(dict.fromkeys(said)),
        round(cost, 3),
        margin,
        _rivals(source, weakest),
        (),
        weakest.pair.layer,
    )


def _rivals(source: UseGraph, claim: Claim) -> tuple[Rival, ...]:
    if claim.pair.rival is None:
        return ()
    mark = source.landmarks[claim.pair.rival.slot.landmark]
    use = mark.use(claim.use.role)
    reason = f"costs {claim.pair.margin:.2f} more" if claim.pair.margin is not None else ""
    if use is not None:
        return (Rival((use.weight,), reason),)
    return (Rival((), f"a {_title(mark)} without {claim.use.role}, {reason}"),)


def _unmapped(weight: str, claim: Claim, reason: str) -> Assignment:
    return Assignment(weight, "unmapped", Evidence("structure", (reason,), source_layer=claim.pair.layer))
