"""Target weights that no source weight was assigned to: neutral constants, or the reason why there is nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.rounds import Round
from automatch.core.alignment import Assignment, Piece
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence

NEUTRAL = {"weight": 1.0, "bias": 0.0}
"""What a vector does nothing with: a norm's scale, and any bias."""


def constants(found: Round, target: Sequence[Pattern], done: Mapping[str, Assignment]) -> Iterator[Assignment]:
    """Scales and biases that the source's module lacks, where the module itself was matched."""
    partners: dict[Path, list[Node]] = {}
    for match in found.matches:
        for part in found.target.nodes[match.target].patterns:
            partners.setdefault(part.module, []).append(found.source.nodes[match.source])
    present = {(node.module, node.kind) for node in found.source.nodes}
    for pattern in target:
        nodes = partners.get(pattern.module, [])
        lacking = nodes and not any((node.module, pattern.kind) in present for node in nodes)
        if not lacking or pattern.kind not in NEUTRAL or len(pattern.shape) != 1:
            continue
        siblings = [dict(other.members) for other in target if other.module == pattern.module and other is not pattern]
        for index, weight in pattern.members:
            near = [done[other[index].name] for other in siblings if index in other and other[index].name in done]
            if weight.name not in done and near:
                yield _constant(weight, pattern.kind, nodes[0], near[0])


def unmapped(found: Round, column: int, weight: Weight) -> Assignment:
    """A target weight without a source, and what came closest."""
    return Assignment(weight.name, "unmapped", Evidence("names", (_why(found, column),)))


def _constant(weight: Weight, kind: str, partner: Node, sibling: Assignment) -> Assignment:
    value = NEUTRAL[kind]
    reason = f"its module corresponds to {'.'.join(partner.module)}, which has no {kind}: {value:g} changes nothing"
    status = "guessed" if sibling.status == "guessed" else "structural"
    evidence = Evidence("names", (reason,), source_layer=sibling.evidence.source_layer)
    return Assignment(weight.name, status, evidence, (Piece(None, value=value),), form="vector")


def _why(found: Round, column: int) -> str:
    singles = [row for row, node in enumerate(found.source.nodes) if not node.fused]
    if not singles:
        return "the source has no weights left"
    row = max(singles, key=lambda at: (found.scores.alone[at, column], -at))
    node, other = found.source.nodes[row], found.target.nodes[column]
    closest = f"no source weight fits; the closest by name is {'.'.join(node.path)}"
    users = [
        found.target.nodes[match.target] for match in found.matches if _shares(found.source.nodes[match.source], node)
    ]
    if users:
        return f"{closest}, which goes to {'.'.join(users[0].path)}"
    if not found.scores.allowed[row, column]:
        return f"{closest}, but {list(node.shape)} cannot fill {list(other.shape)} there"
    best = float(np.max(found.context[found.scores.allowed[:, column], column]))
    return f"{closest}, which is too unlike: {best:.2f} of 1, below {found.scores.floor}"


def _shares(a: Node, b: Node) -> bool:
    return any(part is other for part in a.patterns for other in b.patterns)
