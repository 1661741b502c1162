"""What is left in two paired blocks, one weight of its shape on each side: a guess, whatever the names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from automatch.align.names.layers import Layers
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.shapes import loose
from automatch.core.alignment import Assignment, Piece, View
from automatch.core.graph import Shape
from automatch.core.mapping import Evidence

Place = tuple[tuple[Path, ...], Shape, bool]
"""The blocks that a pattern lies in, its sizes, and whether it is a bias."""


def remaining(
    source: Sequence[Pattern],
    target: Sequence[Pattern],
    chains: Mapping[Path, Path],
    layers: Layers,
    done: Mapping[str, Assignment],
) -> Iterator[Assignment]:
    """Fill weights of paired blocks that are the only ones of their shape without a partner, on both sides.

    Args:
        source: The source's patterns.
        target: The target's patterns.
        chains: For target chains, the source chain each is paired with.
        layers: The layers of paired chains.
        done: What is known already.
    """
    used = {piece.source for each in done.values() for piece in each.pieces}
    free = [each for each in source if used.isdisjoint(weight.name for _, weight in each.members)]
    open_ = [each for each in target if not any(_has_source(done, weight.name) for _, weight in each.members)]
    ours = _alone({each: (each.chains, loose(each.shape), each.kind == "bias") for each in free})
    placed = {each: tuple(chains.get(chain, ("",)) for chain in each.chains) for each in open_}
    theirs = _alone({each: (placed[each], loose(each.shape), each.kind == "bias") for each in open_})
    for place, pattern in theirs.items():
        if place[0] and place in ours:
            yield from _assignments(ours[place], pattern, layers)


def _has_source(done: Mapping[str, Assignment], key: str) -> bool:
    return key in done and bool(done[key].pieces)


def _alone(places: Mapping[Pattern, Place]) -> dict[Place, Pattern]:
    """The patterns that are the only ones at their place."""
    found: dict[Place, list[Pattern]] = {}
    for pattern, place in places.items():
        found.setdefault(place, []).append(pattern)
    return {place: patterns[0] for place, patterns in found.items() if len(patterns) == 1}


def _assignments(source: Pattern, target: Pattern, layers: Layers) -> Iterator[Assignment]:
    members = dict(source.members)
    for index, weight in target.members:
        taken = members.get(layers.source_index(target, index))
        if taken is None or loose(taken.shape) != loose(weight.shape):
            continue
        reason = f"of the shapes {list(weight.shape)}, {taken.name} alone is left in the block that its block takes"
        view = View() if taken.shape == weight.shape else View(shape=weight.shape)
        evidence = Evidence("names", (reason,), source_layer=layers.source_layer(target, index))
        yield Assignment(weight.name, "guessed", evidence, (Piece(taken.name, view),))
