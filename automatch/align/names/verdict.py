"""How sure a match is, and why: which source, and how it has to be read, are doubted separately."""

from __future__ import annotations

from dataclasses import dataclass

from automatch.align.names.assign import Match
from automatch.align.names.nodes import Node, in_order_of
from automatch.align.names.rounds import Round
from automatch.align.names.shapes import Reading
from automatch.core.mapping import Status

LIKELY = 0.65
"""Similarity from which a match whose name is not equal may be sure."""
CLEAR = 0.15
"""Margin from which it is."""
FITTING = 0.7
"""How well the shapes of equal names must fit for the match to be sure."""
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


def judge(found: Round, match: Match) -> Verdict:
    """Say how sure a match is, and why."""
    reading, doubt = _reading(found, match)
    against = _against(found, match) or _against_leader(found, match)
    reasons = tuple(reason for reason in (_for(found, match), against, doubt) if reason)
    if not against and not doubt:
        return Verdict("structural", reasons, reading)
    return Verdict("guessed", reasons, reading, _rivals(found, match), doubt)


def _for(found: Round, match: Match) -> str:
    if found.scores.equal[match.row, match.column]:
        return "the name is equal"
    parts = f"joined siblings {match.source.module[-1]}, " if match.source.fused else ""
    return f"{parts}the most alike by name, numbers, shape and surroundings: {match.score:.2f} of 1"


def _against(found: Round, match: Match) -> str:
    """What speaks against the choice of the source; empty where it is sure."""
    if found.scores.equal[match.row, match.column]:
        shapes = f"its shape {list(match.source.shape)} fits {list(match.target.shape)} badly"
        fits = found.scores.fits[match.row][match.column].score >= FITTING
        return "" if fits else f"{shapes}, going by the widths of other weights"
    number = found.scores.numbers[match.row, match.column]
    if match.margin < 0:
        return f"by themselves another arrangement is {-match.margin:.2f} better; surroundings decided"
    if match.margin < CLEAR:
        return f"the next best arrangement is only {match.margin:.2f} worse"
    if found.source.numbers[match.row] and found.target.numbers[match.column] and number < 1:
        return "the numbers in the names disagree"
    return "" if match.alone >= LIKELY else f"by themselves no more alike than {match.alone:.2f}, below {LIKELY}"


def _against_leader(found: Round, match: Match) -> str:
    """What speaks against the module's weight, which its bias and buffers go with."""
    if match.target.kind == "weight":
        return ""
    for other in found.matches:
        if (other.target.kind, other.target.module) == ("weight", match.target.module) and _against(found, other):
            return f"it goes with {'.'.join(other.target.path)}, which is a guess"
    return ""


def _rivals(found: Round, match: Match) -> tuple[tuple[int, float], ...]:
    """The source nodes that are by themselves nearly as like the target, or more so."""
    column = found.scores.alone[:, match.column]
    behind = [
        (row, match.alone - float(column[row]))
        for row in range(len(column))
        if row != match.row and found.scores.allowed[row, match.column]
    ]
    return tuple(sorted((item for item in behind if item[1] < CLEAR), key=lambda item: item[1])[:RIVALS])


def _reading(found: Round, match: Match) -> tuple[Reading, str]:
    """How the source is read, and what remains in doubt about that."""
    if match.source.fused or match.target.fused:
        return "as stored", _doubt_of_parts(match)
    reading = found.scores.fits[match.row][match.column].reading
    if reading == "reshaped":
        return reading, "which axes were flattened into one, in which order, names and shapes cannot tell"
    if not _is_square(match.source):
        return reading, ""
    around = [
        found.scores.fits[other.row][other.column].reading
        for other in found.matches
        if other.source.patterns[0].chains == match.source.patterns[0].chains and _shows_orientation(other.source)
    ]
    if "transposed" not in around and (around or found.scores.equal[match.row, match.column]):
        return "as stored", ""
    if "transposed" in around and "as stored" not in around:
        return "transposed", "square: transposed as the matrices around it, though its own shape does not show it"
    return "as stored", "square: its shape does not show whether it has to be transposed"


def _doubt_of_parts(match: Match) -> str:
    parts, whole = (match.source, match.target) if match.source.fused else (match.target, match.source)
    told = "in the usual order, which no name spells" if parts.usual else "in the order of the state dict"
    if in_order_of(parts, whole)[1]:
        told = "in the order that the name spells"
    return f"parts one after the other, {told}; they might be interleaved or lie in another order"


def _is_square(node: Node) -> bool:
    return node.kind == "weight" and len(node.shape) == 2 and node.shape[0] == node.shape[1] > 1


def _shows_orientation(node: Node) -> bool:
    return node.kind == "weight" and len(node.shape) == 2 and node.shape[0] != node.shape[1]
