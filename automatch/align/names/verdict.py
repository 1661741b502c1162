"""How sure a match is, and why: which source, and how it has to be read, are doubted separately."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from automatch.align.names.assign import Match
from automatch.align.names.nodes import Node, in_order_of, leaf_words
from automatch.align.names.numbering import is_norm
from automatch.align.names.patterns import FACTORS, Path
from automatch.align.names.rounds import Round
from automatch.align.names.shapes import Reading
from automatch.align.names.vocabulary import resemblance, role, tokens, vocabulary
from automatch.core.mapping import Status

NEAR = 0.15
"""How much less alike than the match a rival is at most."""
QUERY_AND_KEY = ((0, 0), (0, 1))
"""Their places in the usual orders of joining."""
RIVALS = 3
"""How many rivals are listed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about a match, in all layers alike.

    Attributes:
        status: `structural` or `guessed`.
        reasons: Why, most telling first.
        reading: How the source has to be read.
        rivals: Rows of other source nodes, best first, with how far behind each is.
        doubt: What names and shapes cannot tell about how parts or axes lie; empty where there is nothing.
    """

    status: Status
    reasons: tuple[str, ...]
    reading: Reading
    rivals: tuple[tuple[int, float], ...] = ()
    doubt: str = ""


def judge(found: Round, match: Match, against: str) -> Verdict:
    """Say how sure a match is, and why.

    Args:
        found: The round.
        match: One of its matches.
        against: What speaks against its source; empty where that is sure.
    """
    reading, doubt = _reading(found, match)
    reasons = tuple(reason for reason in (_for(found, match), against, doubt) if reason)
    if not against and not doubt:
        return Verdict("structural", reasons, reading)
    return Verdict("guessed", reasons, reading, _rivals(found, match), doubt)


def _for(found: Round, match: Match) -> str:
    if found.scores.equal[match.row, match.column]:
        return "the name is equal"
    parts = f"joined siblings {match.source.module[-1]}, " if match.source.fused else ""
    return f"{parts}the most alike by name, numbers, shape and surroundings: {match.score:.2f} of 1"


def _rivals(found: Round, match: Match) -> tuple[tuple[int, float], ...]:
    """The source nodes that are by themselves nearly as like the target, or more so."""
    column = found.scores.alone[:, match.column]
    behind = [
        (row, match.alone - float(column[row]))
        for row in range(len(column))
        if row != match.row and found.scores.allowed[row, match.column]
    ]
    return tuple(sorted((item for item in behind if item[1] < NEAR), key=lambda item: item[1])[:RIVALS])


def _reading(found: Round, match: Match) -> tuple[Reading, str]:
    """How the source is read, and what remains in doubt about that."""
    if match.source.fused or match.target.fused:
        return "as stored", _doubt_of_parts(match)
    reading = found.scores.fits[match.row][match.column].reading
    if reading == "reshaped":
        return reading, "which axes were flattened into one, in which order, names and shapes cannot tell"
    spelled = _doubt_of_spelling(found, match)
    if spelled or not _is_square(match.source):
        return reading, spelled
    if match.source.kind != match.target.kind:
        return reading, "square: its shape does not show whether it has to be transposed, and its kind changes"
    around = _nearest_readings(found, match)
    if "transposed" not in around and (around or found.scores.equal[match.row, match.column]):
        return "as stored", ""
    if "transposed" in around and "as stored" not in around:
        return "transposed", "square: transposed as the matrices around it, though its own shape does not show it"
    return "as stored", "square: its shape does not show whether it has to be transposed"


def _nearest_readings(found: Round, match: Match) -> set[Reading]:
    """How the matrices are read that show it and lie nearest to a match."""
    near: dict[int, set[Reading]] = {}
    for other in found.matches:
        if _shows_orientation(other.source):
            shared = _common(other.source.module, match.source.module)
            near.setdefault(shared, set()).add(found.scores.fits[other.row][other.column].reading)
    return near[max(near)] if near else set()


def _common(a: Path, b: Path) -> int:
    """How many leading components two paths share."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _doubt_of_spelling(found: Round, match: Match) -> str:
    """Where a name says that a weight holds several parts, and the other name does not list the same."""
    kinds = match.source.kind, match.target.kind
    if "weight" in kinds and any(kind in FACTORS for kind in kinds):
        return f"a {match.source.kind} stands for a {match.target.kind}: a weight is its length times its direction"
    if is_norm(match.target):
        return ""
    if _may_rotate(found, match):
        return "a query or key under another name: channels of a head may lie in another order for rotary positions"
    listed = [_parts_in(node) for node in (match.source, match.target)]
    leaves = [node.module[-1:] for node in (match.source, match.target)]
    if _modulates(match) or (leaves[0] != leaves[1] and max(map(len, listed)) > 1):
        return "it holds several parts, which may lie in another order"
    return ""


def _may_rotate(found: Round, match: Match) -> bool:
    """Whether a query or key projection goes by another name where no table of positions makes rotation needless."""
    old, new = (node.module for node in (match.source, match.target))
    if not match.target.patterns[0].chains or role(leaf_words(new)) not in QUERY_AND_KEY or old[-1:] == new[-1:]:
        return False
    chain = match.target.patterns[0].chains[-1]
    words = {word for part in new[len(chain) :] for word in tokens(part)}
    if not vocabulary().elsewhere.isdisjoint(words):
        return False
    stack = match.target.patterns[0].chains[0][:-2]
    stacked = {node.module[: len(stack)] for node in found.target.nodes if node.patterns[0].chains}
    return not any(_holds_positions(node, stack, stacked) for node in found.target.nodes)


def _holds_positions(node: Node, stack: Path, stacked: Collection[Path]) -> bool:
    """Whether a weight is a table of positions, in a stack of blocks or beside it but in no other stack."""
    within = node.module[: len(stack)] == stack
    beside = node.path[: len(stack) - 1] == stack[:-1] and node.path[: len(stack)] not in stacked
    return (within or beside) and any(
        resemblance(word, "position") >= 0.9 for part in node.path[len(stack[:-1]) :] for word in tokens(part)
    )


def _modulates(match: Match) -> bool:
    """Whether a weight makes shifts, scales and gates, and is called otherwise on the other side."""
    old, new = (leaf_words(node.module) for node in (match.source, match.target))
    return old != new and any(word in vocabulary().modulation for word in (*old, *new))


def _doubt_of_parts(match: Match) -> str:
    parts, whole = (match.source, match.target) if match.source.fused else (match.target, match.source)
    told = "in the usual order, which no name spells" if parts.usual else "in the order of the state dict"
    if in_order_of(parts, whole)[1]:
        told = "in the order that the name spells"
    return f"parts one after the other, {told}; they might be interleaved or lie in another order"


def _parts_in(node: Node) -> tuple[tuple[int, int], ...]:
    """The parts that a name lists, in its order, as places in the usual orders of joining."""
    words = leaf_words(node.module if node.kind in ("weight", "bias") else (*node.module, node.kind))
    return tuple(place for word in words if (place := role((word,))) is not None)


def _is_square(node: Node) -> bool:
    return len(node.shape) == 2 and node.shape[0] == node.shape[1] > 1


def _shows_orientation(node: Node) -> bool:
    return node.kind == "weight" and len(node.shape) == 2 and node.shape[0] != node.shape[1]
