"""Guesses and gaps inside repeated blocks, filled by what the blocks do as wholes, and by the order of what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from automatch.align.names.order import in_order
from automatch.align.names.regular import regular
from automatch.core.alignment import Assignment, Piece, View
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, LayerPairing, Rival

Done = Mapping[str, Assignment]


def wholes(
    source: Sequence[Weight], target: Sequence[Weight], done: Done, kept: frozenset[str] = frozenset()
) -> dict[str, Assignment]:
    """Guesses in the place of others and of gaps: blocks as wholes, what is left in order, and blocks once more.

    Both sides must be equally large: blocks go together where all of their shapes are the same.

    Args:
        source: The source's weights.
        target: The target's weights.
        done: What is known already. What is no guess decides which blocks go together; where it alone contradicts the
            rest of its block, it is doubted.
        kept: Target keys that stay as they are.
    """
    found: dict[str, Assignment] = {}
    found |= _by_blocks(source, target, done, kept)
    found |= _in_order(source, target, {**done, **found}, kept)
    found |= _by_blocks(source, target, {**done, **found}, kept)
    return found


def in_force(pairings: Iterable[LayerPairing], changed: Iterable[str]) -> tuple[LayerPairing, ...]:
    """The pairings of layers that no changed weight lies in: the others are not followed any more."""
    changed = list(changed)
    return tuple(each for each in pairings if not any(_lies_in(key, each.target) for key in changed))


def _by_blocks(
    source: Sequence[Weight], target: Sequence[Weight], done: Done, kept: frozenset[str]
) -> dict[str, Assignment]:
    taken = {key: each.pieces[0].source for key, each in done.items() if _is_as_stored(each)}
    pairs = {key: there for key, there in taken.items() if there is not None}
    sure = frozenset(key for key in pairs if done[key].status != "guessed")
    found = regular(pairs, sure, _shapes(source), _shapes(target))
    reason = "its block as a whole is like that of {}"
    return {
        key: _guess(key, there, reason.format(there), done.get(key))
        for key, there in found.items()
        if key not in kept and pairs.get(key) != there
    }


def _in_order(
    source: Sequence[Weight], target: Sequence[Weight], done: Done, kept: frozenset[str]
) -> dict[str, Assignment]:
    """What is left over in numbered blocks of both sides, in its order."""
    used = {piece.source for each in done.values() for piece in each.pieces}
    ours = [(w.name, w.shape) for w in source if w.name not in used and _has_number(w.name)]
    open_ = [w for w in target if w.name not in kept and not _is_filled(w.name, done)]
    found = in_order(ours, [(w.name, w.shape) for w in open_ if _has_number(w.name)])
    reason = "in the order of what is left, {} stands in its place"
    return {key: _guess(key, there, reason.format(there), done.get(key)) for key, there in found.items()}


def _guess(key: str, there: str, reason: str, before: Assignment | None) -> Assignment:
    old = () if before is None else tuple(piece.source for piece in before.pieces if piece.source is not None)
    rivals = (Rival(old, "by itself, without its block"),) if old else ()
    return Assignment(key, "guessed", Evidence("names", (reason,), rivals=rivals), (Piece(there),))


def _is_filled(key: str, done: Done) -> bool:
    return key in done and bool(done[key].pieces)


def _is_as_stored(assignment: Assignment) -> bool:
    """Whether a weight takes another as it is; shapes are compared later."""
    return len(assignment.pieces) == 1 and assignment.pieces[0] == Piece(assignment.pieces[0].source, View())


def _shapes(weights: Sequence[Weight]) -> dict[str, tuple[int, ...]]:
    return {weight.name: weight.shape for weight in weights}


def _has_number(key: str) -> bool:
    return any(letter.isdigit() for letter in key)


def _lies_in(key: str, chain: str) -> bool:
    """Whether a key starts with what a chain is called, `{i}` and `{}` standing for numbers."""
    named, parts = chain.split("."), key.split(".")
    return len(parts) >= len(named) and all(
        part.isdecimal() if name in ("{i}", "{}") else part == name for name, part in zip(named, parts, strict=False)
    )
