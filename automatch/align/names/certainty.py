"""Which matches are sure: what is sure is no rival to the rest, so that certainty spreads by elimination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from automatch.align.names.assign import Match, margins_of, unused
from automatch.align.names.coherence import coherent, sure_together
from automatch.align.names.features import Mask
from automatch.align.names.numbering import is_norm
from automatch.align.names.patterns import Path
from automatch.align.names.rounds import Round
from automatch.align.names.vocabulary import stage, tokens, vocabulary

LIKELY = 0.45
"""Similarity from which a match whose name is not equal may be sure."""
CLEAR = 0.05
"""Margin from which it is."""
DISAGREEING = 0.12
"""Margin that outweighs numbers that disagree."""
FITTING = 0.7
"""How well the shapes of equal names must fit for the match to be sure."""


def doubts(found: Round) -> Mapping[int, str]:
    """What speaks against the source of a match, by the match's column; a match that is sure is left out."""
    weights = {match.target.module: match for match in found.matches if match.target.kind == "weight"}
    own = [match for match in found.matches if not _follows(match, weights)]
    open_, against = own, dict.fromkeys((match.column for match in own), "")
    together = sure_together(found, own)
    while True:
        sure = [match for match in own if match.column not in against or match.column in together]
        told = _against_each(found, open_, coherent(found, sure))
        against = {match.column: reason for match, reason in zip(open_, told, strict=True) if reason}
        if len(against) == len(open_):
            break
        open_ = [match for match in open_ if match.column in against]
    for match in found.matches:
        leader = weights.get(match.target.module, match)
        if leader is not match and not _follows(match, weights) and match.target.kind == "bias":
            against[match.column] = f"the weight beside it takes {'.'.join(leader.source.path)}, of another module"
        elif leader is not match and leader.column in against:
            against[match.column] = f"it goes with {'.'.join(leader.target.path)}, which is a guess"
    return against


def _follows(match: Match, weights: Mapping[Path, Match]) -> bool:
    """Whether a bias goes with its module's weight, on both sides."""
    leader = weights.get(match.target.module, match)
    return leader is not match and (leader.source.module, match.source.kind) == (match.source.module, match.target.kind)


def _against_each(found: Round, open_: Sequence[Match], likely: Mask) -> list[str]:
    alone = np.where(found.scores.allowed & likely, found.scores.named, found.scores.floor)
    matched = [(match.row, match.column) for match in found.matches]
    pairs = [(match.row, match.column) for match in open_]
    margins = margins_of(pairs, alone, found.scores.floor, found.source, found.target, matched)
    near = _near_elsewhere(found)
    return [
        _against(found, match, margin) or near.get(match.column, "")
        for match, margin in zip(open_, margins, strict=True)
    ]


def _near_elsewhere(found: Round) -> dict[int, str]:
    """Matches of which something outside of the paired blocks, which nothing takes, is nearly as alike or more so."""
    nothing = -np.inf
    rows = unused(found.source, [match.row for match in found.matches])
    columns = unused(found.target, [match.column for match in found.matches])
    alike = np.where(found.scores.fitting & ~found.scores.allowed, found.scores.named, nothing)
    instead = np.where(rows[:, None], alike, nothing)
    elsewhere = np.where(columns[None, :], alike, nothing)
    told = {}
    for match in found.matches:
        limit = found.scores.named[match.row, match.column] - CLEAR
        if instead[:, match.column].max(initial=nothing) > limit:
            row = int(instead[:, match.column].argmax())
            told[match.column] = f"{'.'.join(found.source.nodes[row].path)}, which nothing takes, is nearly as alike"
        elif elsewhere[match.row].max(initial=nothing) > limit:
            column = int(elsewhere[match.row].argmax())
            told[match.column] = f"{'.'.join(found.target.nodes[column].path)}, which takes nothing, is nearly as alike"
    return told


def _contrary(match: Match) -> str:
    """What one name says that the other, which says as much, does not."""
    nodes = match.source, match.target
    words = [tokens(node.module[-1]) if node.module else () for node in nodes]
    if is_norm(match.source) and is_norm(match.target):
        first, second = (stage(each) for each in words)
        if first is not None and second is not None and _at_odds(*sorted((first, second))):
            return "by their names, the two norms run at different times"
    functions = vocabulary().functions
    said = [functions & {*each, *tokens(node.kind)} for each, node in zip(words, nodes, strict=True)]
    alone = ", ".join(sorted(said[0] ^ said[1]))
    return f"one name alone says {alone}: its numbers may be a function of the other's" if alone else ""


def _at_odds(early: float, late: float) -> bool:
    """Whether two stages cannot be one: before and after the same part, or ahead of all parts and at the last."""
    return 0 < late - early < 1 or (early <= 0 and late >= 2)


def _against(found: Round, match: Match, margin: float) -> str:
    """What speaks against the choice of the source; empty where it is sure."""
    if found.scores.equal[match.row, match.column]:
        shapes = f"its shape {list(match.source.shape)} fits {list(match.target.shape)} badly"
        fits = found.scores.fits[match.row][match.column].score >= FITTING
        return "" if fits else f"{shapes}, going by the widths of other weights"
    number, contrary = found.scores.numbers[match.row, match.column], _contrary(match)
    if contrary:
        return contrary
    if margin < 0:
        return f"by themselves another arrangement is {-margin:.2f} better; surroundings decided"
    if margin < CLEAR:
        return f"the next best arrangement is only {margin:.2f} worse"
    both = found.source.numbers[match.row] and found.target.numbers[match.column]
    if both and number < 1 and margin < DISAGREEING:
        return "the numbers in the names disagree"
    return "" if match.alone >= LIKELY else f"by themselves no more alike than {match.alone:.2f}, below {LIKELY}"
