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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said about a match, in all layers alike.

    Attributes:
        status: `structural` or `guessed`.
        reasons: Why, most telling first.
        reading: How the source has to be read.
        rows: Rival source nodes, best first, with how far behind each is.
        doubt: What names and shapes cannot tell about how the parts or axes lie; empty where there is nothing.
    """

    status: Status
    reasons: tuple[str, ...]
    reading: Reading
    rows: tuple[tuple[int, float], ...] = ()
    doubt: str = ""


def judge(found: Round, match: Match) -> Verdict:
    """Say how sure a match is, and why."""
    reading, doubt = _reading(found, match)
    against = _against(found, match)
    leader = _leader(found, match)
    if not against and leader is not None and _against(found, leader):
        against = (f"it goes with {'.'.join(found.target.nodes[leader.target].path)}, which is a guess",)
    reasons = (_name_reason(found, match), *against, *([doubt] if doubt else []))
    sure = len(reasons) == 1
    return Verdict(
        "structural" if sure else "guessed", reasons, reading, () if sure else _rival_rows(found, match), doubt
    )


def _name_reason(found: Round, match: Match) -> str:
    if found.scores.equal[match.source, match.target]:
        return "the name is equal"
    source = found.source.nodes[match.source]
    parts = f"joined siblings {source.module[-1]}, " if source.fused else ""
    return f"{parts}the most alike by name, numbers, shape and surroundings: {match.score:.2f} of 1"


def _against(found: Round, match: Match) -> tuple[str, ...]:
    """What speaks against the choice of the source; nothing where it is sure."""
    if found.scores.equal[match.source, match.target]:
        if found.scores.fits[match.source][match.target].score >= FITTING:
            return ()
        shapes = (
            list(each.nodes[at].shape) for each, at in ((found.source, match.source), (found.target, match.target))
        )
        return ("its shape {} fits {} badly, going by the widths of other weights".format(*shapes),)
    if match.margin < 0:
        return (f"by itself another arrangement is {-match.margin:.2f} better; surroundings decided",)
    if match.margin < CLEAR:
        return (f"the next best arrangement is only {match.margin:.2f} worse",)
    return () if match.alone >= LIKELY else (f"by itself a similarity of {match.alone:.2f}, below {LIKELY}",)


def _leader(found: Round, match: Match) -> Match | None:
    """The match of the weight of the same module, which a bias or a buffer goes with."""
    target = found.target.nodes[match.target]
    if target.kind == "weight":
        return None
    for other in found.matches:
        node = found.target.nodes[other.target]
        if node.kind == "weight" and node.module == target.module:
            return other
    return None


def _rival_rows(found: Round, match: Match) -> tuple[tuple[int, float], ...]:
    """The source nodes that are by themselves nearly as like the target, or more so."""
    column = found.scores.alone[:, match.target]
    behind = [
        (row, match.alone - float(column[row]))
        for row in range(len(column))
        if row != match.source and found.scores.allowed[row, match.target]
    ]
    return tuple(sorted(((row, gap) for row, gap in behind if gap < CLEAR), key=lambda item: item[1])[:RIVALS])


def _reading(found: Round, match: Match) -> tuple[Reading, str]:
    """How the source is read, and what remains in doubt about that."""
    source, target = found.source.nodes[match.source], found.target.nodes[match.target]
    if source.fused or target.fused:
        parts, whole = (source, target) if source.fused else (target, source)
        spelled = "as the name spells" if in_order_of(parts, whole)[1] else "in the usual order, which no name spells"
        if not parts.usual and spelled != "as the name spells":
            spelled = "in the order of the state dict"
        return "as stored", f"parts one after the other, {spelled}; they might be interleaved or lie in another order"
    reading = found.scores.fits[match.source][match.target].reading
    if reading == "reshaped":
        return reading, "which axes were flattened into one, in which order, names and shapes cannot tell"
    if not _is_square(source):
        return reading, ""
    straight, turned = _orientations(found, source)
    if straight and not turned:
        return "as stored", ""
    if turned and not straight:
        return "transposed", "square; transposed as the other matrices around it, but its shape does not show it"
    equal = bool(found.scores.equal[match.source, match.target])
    if equal and not turned:
        return "as stored", ""
    return "as stored", "square, so its shape does not show whether it has to be transposed"


def _is_square(node: Node) -> bool:
    return node.kind == "weight" and len(node.shape) == 2 and node.shape[0] == node.shape[1] > 1


def _orientations(found: Round, around: Node) -> tuple[int, int]:
    """How many other matrices in the same repeated block are read as stored, and how many transposed."""
    readings = [
        found.scores.fits[other.source][other.target].reading
        for other in found.matches
        for node in [found.source.nodes[other.source]]
        if node.patterns[0].chains == around.patterns[0].chains and len(node.shape) == 2 and node.kind == "weight"
        if not _is_square(node)
    ]
    return readings.count("as stored"), readings.count("transposed")
