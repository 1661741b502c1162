"""Target lists whose members the source holds in one weight, one after the other: stacked experts taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from automatch.align.names.layers import Layers
from automatch.align.names.patterns import Index, Path, Pattern
from automatch.align.names.rounds import Round
from automatch.align.names.stacked import Stack, settle
from automatch.core.alignment import Assignment, Form, Piece, Region, View
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, Rival, Status


def unstacks(
    found: Round, source: Sequence[Pattern], layers: Layers, done: Mapping[str, Assignment]
) -> list[Assignment]:
    """Fill lists of target weights from what the source stacks in paired blocks.

    Args:
        found: The round that paired the blocks.
        source: The source's patterns.
        layers: The layers of the paired blocks.
        done: What is known already.
    """
    used = {part.path for match in found.matches for part in match.source.patterns}
    used |= _named(source, done)
    free = [pattern for pattern in source if pattern.path not in used]
    targets = [node.patterns[0] for node in found.target.nodes if not node.fused]
    open_ = [target for target in targets if all(weight.name not in done for _, weight in target.members)]
    return [
        assignment
        for stack, rivals in settle(free, open_, found.chains)
        for place in range(len(stack.parts))
        for assignment in _assignments(stack, place, rivals, layers)
    ]


def _named(source: Sequence[Pattern], done: Mapping[str, Assignment]) -> set[Path]:
    """Source patterns that some weight takes already."""
    taken = {piece.source for assignment in done.values() for piece in assignment.pieces}
    return {pattern.path for pattern in source if any(weight.name in taken for _, weight in pattern.members)}


def _assignments(stack: Stack, place: int, rivals: Sequence[Stack], layers: Layers) -> Iterator[Assignment]:
    part = stack.parts[place]
    wholes = dict(stack.whole.members)
    places = _places(part)
    status: Status = "guessed" if rivals or stack.doubts else "structural"
    for index, weight in part.members:
        outer = index[:-1]
        old = tuple(layers.numbers[chain][number] for chain, number in zip(part.chains, outer, strict=False))
        whole, member = wholes.get(old), places[outer].get(index[-1])
        if whole is None or member is None or whole.shape != stack.whole.shape or weight.shape != part.shape:
            continue
        evidence = Evidence(
            "names",
            (f"member {member} of {whole.name}", *stack.doubts),
            rivals=tuple(_rivals(stack, rivals, place, old, whole)),
            source_layer=layers.positions[part.chains[0]][index[0]] if outer else None,
        )
        piece = Piece(whole.name, _view(stack, place, member))
        form: Form = "matrix" if len(weight.shape) > 1 else "vector"
        yield Assignment(weight.name, status, evidence, (piece,), form=form)


def _places(part: Pattern) -> dict[Index, dict[int, int]]:
    """By block, the places of a list's members, by their numbers."""
    numbers: dict[Index, list[int]] = {}
    for index, _ in part.members:
        numbers.setdefault(index[:-1], []).append(index[-1])
    return {outer: {number: at for at, number in enumerate(sorted(found))} for outer, found in numbers.items()}


def _view(stack: Stack, place: int, member: int) -> View:
    """One member of a stack, and in it one of the parts that lie side by side."""
    shape = stack.parts[place].shape
    start = sum(part.shape[0] for part in stack.parts[:place])
    axis = 2 if stack.turned else 1
    regions = Region(0, member, member + 1), Region(axis, start, start + shape[0])
    return View(regions, axes=(0, 2, 1) if stack.turned else (), shape=shape)


def _rivals(stack: Stack, rivals: Sequence[Stack], place: int, old: Index, whole: Weight) -> Iterator[Rival]:
    """Other stacks that may hold the list, or what else the stack may hold."""
    path = stack.parts[place].path
    for other in rivals:
        holder = dict(other.whole.members).get(old)
        if holder is None:
            continue
        behind = f"{stack.alike - other.alike:.2f} less alike"
        if path in other.keys and other.whole != stack.whole:
            yield Rival((holder.name,), behind)
        elif path not in other.keys:
            yield Rival((whole.name,), f"it may hold {', '.join('.'.join(p.path) for p in other.parts)}, {behind}")
    yield from (Rival((whole.name,), doubt) for doubt in stack.doubts)
