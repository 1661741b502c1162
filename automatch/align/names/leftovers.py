"""Target weights that no source weight was assigned to: neutral constants, or the reason why there is nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from automatch.align.names.nodes import Node
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.rounds import Round
from automatch.core.alignment import Assignment, Piece
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, Status

NEUTRAL = {"weight": 1.0, "bias": 0.0}
"""With what a vector does nothing: a norm's scale, and any bias."""


def constants(found: Round, target: Sequence[Pattern], done: Mapping[str, Assignment]) -> Iterator[Assignment]:
    """Scales and biases that the source's module lacks, where the module itself was matched."""
    partners: dict[Path, list[Node]] = {}
    for match in found.matches:
        for part in match.target.patterns:
            partners.setdefault(part.module, []).append(match.source)
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


def unmapped(found: Round, done: Mapping[str, Assignment]) -> Iterator[Assignment]:
    """The reason for every target weight that has no source: what came closest."""
    for column, node in enumerate(found.target.nodes):
        for _, weight in () if node.fused else node.patterns[0].members:
            if weight.name not in done:
                yield Assignment(weight.name, "unmapped", Evidence("names", (_why(found, column),)))


def _constant(weight: Weight, kind: str, partner: Node, sibling: Assignment) -> Assignment:
    value = NEUTRAL[kind]
    reason = f"its module corresponds to {'.'.join(partner.module)}, which has no {kind}: {value:g} changes nothing"
    status: Status = "structural" if sibling.status == "structural" else "guessed"
    evidence = Evidence("names", (reason,), source_layer=sibling.evidence.source_layer)
    return Assignment(weight.name, status, evidence, (Piece(None, value=value),), form="vector")


def _why(found: Round, column: int) -> str:
    singles = [row for row, node in enumerate(found.source.nodes) if not node.fused]
    if not singles:
        return "the source has no weights"
    row = max(singles, key=lambda at: (found.scores.alone[at, column], -at))
    node, wanted = found.source.nodes[row], found.target.nodes[column]
    closest = f"no source weight fits; the closest by name is {'.'.join(node.path)}"
    takers = [match.target for match in found.matches if node.patterns[0] in match.source.patterns]
    if takers:
        return f"{closest}, which goes to {'.'.join(takers[0].path)}"
    if not found.scores.allowed[row, column]:
        return f"{closest}, but {list(node.shape)} there cannot fill {list(wanted.shape)}"
    best = float(np.max(found.context[found.scores.allowed[:, column], column]))
    return f"{closest}, which is too unlike: {best:.2f} of 1, below {found.scores.floor}"
