"""One round of matching: patterns of both sides, their virtual nodes, paired chains, an assignment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from automatch.align.names.assign import Match, assign
from automatch.align.names.chains import inside_chains, pair_chains
from automatch.align.names.features import Side, side
from automatch.align.names.nodes import Node, fusions, node_fit, single, spelled
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.shapes import Widths
from automatch.align.names.similarity import ENOUGH_SHAPE, Scores, learn_from_names, score
from automatch.align.names.wording import Table


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
    old, new = single(source), single(target)
    if widths is None:
        widths = learn_from_names(side(old, source, ordered[0]), side(new, target, ordered[1]))
    both = fusions(source, widths.same, spelled(target)), fusions(target, widths.same, spelled(source))
    joined = _useful(both[0], lambda node: any(_fits(node, other, widths) for other in new))
    split = _useful(both[1], lambda node: any(_fits(other, node, widths) for other in old))
    a, b = side([*old, *joined], source, ordered[0]), side([*new, *split], target, ordered[1])
    scores = score(a, b, widths)
    chains = pair_chains(a, b, scores)
    scores = replace(scores, allowed=scores.allowed & inside_chains(a, b, chains))
    matches, context = assign(a, b, scores)
    return Round(a, b, scores, context, chains, matches)


def _useful(joined: Iterable[Node], fits: Callable[[Node], bool]) -> list[Node]:
    """Joined siblings that something on the other side could be; their biases go with them."""
    kept = [node for node in joined if fits(node)]
    weights = {node.module for node in kept if node.kind == "weight"}
    return [node for node in kept if node.module in weights]


def _fits(source: Node, target: Node, widths: Widths) -> bool:
    return source.kind == target.kind and node_fit(source, target, widths).score >= ENOUGH_SHAPE
