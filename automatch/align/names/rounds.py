"""One round of matching: patterns of both sides, their virtual nodes, paired chains, an assignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from automatch.align.names.assign import Match, assign, inside_chains, pair_chains
from automatch.align.names.features import Side, Table, side
from automatch.align.names.nodes import Node, fusions, single
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.shapes import Widths
from automatch.align.names.similarity import ENOUGH_SHAPE, Scores, learn_from_names, node_fit, score


@dataclass(frozen=True, slots=True)
class Round:
    """What a round found out.

    Attributes:
        source: The source's nodes.
        target: The target's nodes.
        scores: Their similarities by themselves; only pairs in paired chains are allowed.
        context: Their similarities with their surroundings.
        chains: For target chains, the source chain each is paired with.
        matches: The assignment.
    """

    source: Side
    target: Side
    scores: Scores
    context: Table
    chains: dict[Path, Path]
    matches: tuple[Match, ...]


def match_patterns(
    source: Sequence[Pattern], target: Sequence[Pattern], ordered: tuple[bool, bool], widths: Widths | None = None
) -> Round:
    """Match the patterns of two sides.

    Args:
        source: The source's patterns.
        target: The target's patterns.
        ordered: Whether each side's order of keys says anything.
        widths: The change of widths where it is known already; else it is learned from these patterns.
    """
    plain = [single(source), single(target)]
    if widths is None:
        sides = [side(nodes, own, flag) for nodes, own, flag in zip(plain, (source, target), ordered, strict=True)]
        widths = learn_from_names(*sides)
    virtual = [[n for n in fusions(source, widths.same) if _fits_any(n, plain[1], widths, fused_is_source=True)]]
    virtual += [[n for n in fusions(target, widths.same) if _fits_any(n, plain[0], widths, fused_is_source=False)]]
    a = side([*plain[0], *virtual[0]], source, ordered[0])
    b = side([*plain[1], *virtual[1]], target, ordered[1])
    scores = score(a, b, widths)
    chains = pair_chains(a, b, scores)
    scores = replace(scores, allowed=scores.allowed & inside_chains(a, b, chains))
    matches, context = assign(a, b, scores)
    return Round(a, b, scores, context, chains, matches)


def _fits_any(fused: Node, others: Sequence[Node], widths: Widths, fused_is_source: bool) -> bool:
    """Whether the other side holds a weight that the siblings make up, and no need to consider them if not."""
    alike = (other for other in others if other.kind == fused.kind)
    if fused_is_source:
        return any(node_fit(fused, other, widths).score >= ENOUGH_SHAPE for other in alike)
    return any(node_fit(other, fused, widths).score >= ENOUGH_SHAPE for other in alike)
