"""Target weights that hold a whole list of the source's weights, one member after the other: stacked experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from automatch.align.names.layers import Layers
from automatch.align.names.nodes import groups_of
from automatch.align.names.patterns import Index, Path, Pattern
from automatch.align.names.rounds import Round
from automatch.align.names.vocabulary import resemblance, tokens, vocabulary
from automatch.core.alignment import Assignment, Piece, View
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Evidence, Rival

TURNED = 0.1
"""How much less alike a stack is whose members would have to be transposed."""
CLEAR = 0.2
"""How much less alike every other stack must be for one to be sure."""


@dataclass(frozen=True, slots=True)
class _Stack:
    """A target pattern, and the source patterns whose members it may hold.

    Attributes:
        target: The stack.
        parts: What lies side by side in every member, in order.
        turned: Whether the target holds the members transposed.
        alike: Agreement of the names, 0 to 1.
    """

    target: Pattern
    parts: tuple[Pattern, ...]
    turned: bool
    alike: float

    @property
    def keys(self) -> frozenset[Path]:
        """What the stack uses up."""
        return frozenset(part.path for part in self.parts)


def stacks(found: Round, source: Sequence[Pattern], layers: Layers, done: Mapping[str, Assignment]) -> list[Assignment]:
    """Fill target weights from lists inside paired blocks; those whose shapes leave the least choice come first.

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
    choices = {target.path: list(_choices(found, free, target)) for target in open_ if len(target.shape) > 1}
    taken: set[Path] = set()
    assignments: list[Assignment] = []
    for path in sorted(choices, key=lambda path: (len(choices[path]), path)):
        left = [choice for choice in choices[path] if taken.isdisjoint(choice.keys)]
        if left:
            best = max(left, key=lambda choice: choice.alike)
            taken |= best.keys
            rivals = [other for other in left if other is not best and best.alike - other.alike < CLEAR]
            assignments += _assignments(best, rivals, layers)
    return assignments


def _choices(found: Round, source: Sequence[Pattern], target: Pattern) -> Iterator[_Stack]:
    """What a target weight may hold: lists of as many members, in the block that is paired with the target's."""
    outer = tuple(found.chains.get(chain, ("",)) for chain in target.chains)
    families: dict[tuple[Path, str, Shape], list[Pattern]] = {}
    for pattern in source:
        long = len({index[-1] for index, _ in pattern.members if index}) == target.shape[0]
        inside = pattern.chains and pattern.chains[:-1] == outer and long
        if inside and (pattern.kind == "bias") == (target.kind == "bias"):
            families.setdefault((pattern.chains[-1], pattern.kind, pattern.shape[1:]), []).append(pattern)
    for family in families.values():
        candidates = [*((single,) for single in family), *(group for group, _ in groups_of(family, runs=True))]
        for parts in candidates:
            yield from _fitting(target, parts)


def _fitting(target: Pattern, parts: tuple[Pattern, ...]) -> Iterator[_Stack]:
    """The ways in which parts can be what every member of a stack holds."""
    member = (sum(part.shape[0] for part in parts), *parts[0].shape[1:]) if parts[0].shape else ()
    alike = _alike(target, parts)
    if alike <= 0.0:
        return
    if member == target.shape[1:]:
        yield _Stack(target, parts, False, alike)
    elif len(member) == 2 and member[::-1] == target.shape[1:]:
        yield _Stack(target, parts, True, alike - TURNED)


def _alike(target: Pattern, parts: tuple[Pattern, ...]) -> float:
    """How far the words of a list and of a stack spell each other; 0 where their modules have no word in common."""
    weak = vocabulary().weak
    around = [word for part in parts[0].chains[-1] for word in tokens(part) if word not in weak]
    wanted = [word for part in target.path for word in tokens(part)]
    shared = any(resemblance(word, other) >= 0.75 for word in around for other in wanted)
    own = list(dict.fromkeys(word for part in parts for word in tokens(_leaf(part)) if word not in weak))
    leaf = [word for word in tokens(target.path[-1]) if word not in weak] or wanted[-1:]
    agree = _spelled(own, leaf) + _spelled(leaf, own)
    return 0.1 + 0.4 * agree if shared else 0.0


def _leaf(part: Pattern) -> str:
    return part.module[-1] if part.module[-1] != part.chains[-1][-1] else part.path[-1]


def _spelled(words: list[str], wanted: list[str]) -> float:
    best = [max((resemblance(word, other) for word in words), default=0.0) for other in wanted]
    return sum(best) / max(1, len(best))


def _assignments(stack: _Stack, rivals: Sequence[_Stack], layers: Layers) -> Iterator[Assignment]:
    named = ", ".join(".".join(part.path) for part in stack.parts)
    reason = f"all members of {named}, in order of their numbers"
    doubts = []
    if len(stack.parts) > 1:
        doubts.append("parts one after the other in every member; they might be interleaved or lie in another order")
    if len(set(stack.target.shape[1:])) == 1 and len(stack.target.shape) == 3:
        doubts.append("square: its shape does not show whether it has to be transposed")
    for index, weight in stack.target.members:
        old, layer = layers.source_index(stack.target, index), layers.source_layer(stack.target, index)
        pieces = _pieces(stack, old)
        if len(pieces) != weight.shape[0] * len(stack.parts) or weight.shape != stack.target.shape:
            continue
        others = [Rival(_keys(other, old), f"{stack.alike - other.alike:.2f} less alike") for other in rivals]
        others += [Rival(tuple(piece.source or "" for piece in pieces), doubt) for doubt in doubts]
        evidence = Evidence("names", (reason, *doubts), rivals=tuple(others), source_layer=layer)
        yield Assignment(
            weight.name,
            "guessed" if others else "structural",
            evidence,
            pieces,
            view=_view(stack, weight),
            form="matrix" if len(weight.shape) > 2 else "vector",
        )


def _view(stack: _Stack, weight: Weight) -> View:
    """A stack as one tall matrix, its members below each other as the source stores them."""
    count, *member = weight.shape
    if stack.turned:
        return View(axes=(0, 2, 1), shape=(count * member[1], member[0]))
    return View(shape=(count * member[0], *member[1:]))


def _pieces(stack: _Stack, outer: Index) -> tuple[Piece, ...]:
    members = [dict(part.members) for part in stack.parts]
    numbers = sorted(index[-1] for index in members[0] if index[:-1] == outer)
    named = [each[*outer, number] for number in numbers for each in members if (*outer, number) in each]
    return tuple(Piece(weight.name, size=weight.shape[0]) for weight in named)


def _keys(stack: _Stack, outer: Index) -> tuple[str, ...]:
    return tuple(piece.source for piece in _pieces(stack, outer) if piece.source is not None)
