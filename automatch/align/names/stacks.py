"""Target weights that hold a whole list of the source's weights, one member after the other: stacked experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from automatch.align.names.layers import Layers
from automatch.align.names.patterns import Index, Pattern
from automatch.align.names.rounds import Round
from automatch.align.names.stacked import Stack, settle
from automatch.core.alignment import Assignment, Piece, View
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, Rival


def stacks(found: Round, source: Sequence[Pattern], layers: Layers, done: Mapping[str, Assignment]) -> list[Assignment]:
    """Fill target weights from lists inside paired blocks.

    Args:
        found: The round that paired the blocks.
        source: The source's patterns.
        layers: The layers of the paired blocks.
        done: What is known already.
    """
    targets = [node.patterns[0] for node in found.target.nodes if not node.fused]
    used = {part.path for match in found.matches for part in match.source.patterns}
    free = [pattern for pattern in source if pattern.path not in used]
    open_ = [target for target in targets if all(weight.name not in done for _, weight in target.members)]
    homes = {partner: chain for chain, partner in found.chains.items()}
    return [
        assignment for stack, rivals in settle(open_, free, homes) for assignment in _assignments(stack, rivals, layers)
    ]


def _assignments(stack: Stack, rivals: Sequence[Stack], layers: Layers) -> Iterator[Assignment]:
    named = ", ".join(".".join(part.path) for part in stack.parts)
    reason = f"all members of {named}, in order of their numbers"
    for index, weight in stack.whole.members:
        old, layer = layers.source_index(stack.whole, index), layers.source_layer(stack.whole, index)
        pieces = _pieces(stack, old)
        if len(pieces) != weight.shape[0] * len(stack.parts) or weight.shape != stack.whole.shape:
            continue
        others = [
            Rival(_keys(other, old), f"{stack.alike - other.alike:.2f} less alike")
            for other in rivals
            if other.whole == stack.whole
        ]
        others += [Rival(tuple(piece.source or "" for piece in pieces), doubt) for doubt in stack.doubts]
        evidence = Evidence("names", (reason, *stack.doubts), rivals=tuple(others), source_layer=layer)
        yield Assignment(
            weight.name,
            "guessed" if rivals or stack.doubts else "structural",
            evidence,
            pieces,
            view=_view(stack, weight),
            form="matrix" if len(weight.shape) > 2 else "vector",
        )


def _view(stack: Stack, weight: Weight) -> View:
    """A stack as one tall matrix, its members below each other as the source stores them."""
    count, *member = weight.shape
    if stack.turned:
        return View(axes=(0, 2, 1), shape=(count * member[1], member[0]))
    return View(shape=(count * member[0], *member[1:]))


def _pieces(stack: Stack, outer: Index) -> tuple[Piece, ...]:
    members = [dict(part.members) for part in stack.parts]
    numbers = sorted(index[-1] for index in members[0] if index[:-1] == outer)
    named = [each[*outer, number] for number in numbers for each in members if (*outer, number) in each]
    return tuple(Piece(weight.name, size=weight.shape[0]) for weight in named)


def _keys(stack: Stack, outer: Index) -> tuple[str, ...]:
    return tuple(piece.source for piece in _pieces(stack, outer) if piece.source is not None)
