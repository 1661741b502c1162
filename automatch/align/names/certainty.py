"""Which matches are sure: what is sure is no rival to the rest, so that certainty spreads by elimination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from automatch.align.names.assign import Match, margins_of
from automatch.align.names.features import Mask, outer
from automatch.align.names.patterns import Path
from automatch.align.names.rounds import Round

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
    while True:
        sure = [match for match in own if match.column not in against]
        told = _against_each(found, open_, _coherent(found, sure))
        against = {match.column: reason for match, reason in zip(open_, told, strict=True) if reason}
        if len(against) == len(open_):
            break
        open_ = [match for match in open_ if match.column in against]
    for match in found.matches:
        leader = weights.get(match.target.module, match)
        if leader is not match and leader.column in against:
            against[match.column] = f"it goes with {'.'.join(leader.target.path)}, which is a guess"
    return against


def _coherent(found: Round, sure: Sequence[Match]) -> Mask:
    """Pairs that do not part what is together: not of two modules that are both known to belong elsewhere."""
    onto: dict[Path, set[Path]] = {}
    from_: dict[Path, set[Path]] = {}
    for match in sure:
        onto.setdefault(match.source.module[:-1], set()).add(match.target.module[:-1])
        from_.setdefault(match.target.module[:-1], set()).add(match.source.module[:-1])
    rows, columns = ([node.module[:-1] for node in each.nodes] for each in (found.source, found.target))

    def fits(old: Path, new: Path) -> float:
        elsewhere = old in onto and new not in onto[old] and new in from_ and old not in from_[new]
        return float(not elsewhere)

    return (outer(rows, columns, fits) > 0) & _as_others_are_read(found)


def _as_others_are_read(found: Round) -> Mask:
    """Where no match has to be read transposed, no other arrangement is likely that has to be."""
    turned = np.array([[fit.reading == "transposed" for fit in row] for row in found.scores.fits], dtype=bool)
    if any(turned[match.row, match.column] for match in found.matches):
        return np.ones_like(found.scores.allowed)
    return np.asarray(~turned.reshape(found.scores.allowed.shape))


def _follows(match: Match, weights: Mapping[Path, Match]) -> bool:
    """Whether a bias goes with its module's weight, on both sides."""
    leader = weights.get(match.target.module, match)
    return leader is not match and (leader.source.module, match.source.kind) == (match.source.module, match.target.kind)


def _against_each(found: Round, open_: Sequence[Match], coherent: Mask) -> list[str]:
    alone = np.where(found.scores.allowed & coherent, found.scores.alone, found.scores.floor)
    matched = [(match.row, match.column) for match in found.matches]
    margins = margins_of([(match.row, match.column) for match in open_], alone, found.source, found.target, matched)
    return [_against(found, match, margin) for match, margin in zip(open_, margins, strict=True)]


def _against(found: Round, match: Match, margin: float) -> str:
    """What speaks against the choice of the source; empty where it is sure."""
    if found.scores.equal[match.row, match.column]:
        shapes = f"its shape {list(match.source.shape)} fits {list(match.target.shape)} badly"
        fits = found.scores.fits[match.row][match.column].score >= FITTING
        return "" if fits else f"{shapes}, going by the widths of other weights"
    number = found.scores.numbers[match.row, match.column]
    if margin < 0:
        return f"by themselves another arrangement is {-margin:.2f} better; surroundings decided"
    if margin < CLEAR:
        return f"the next best arrangement is only {margin:.2f} worse"
    both = found.source.numbers[match.row] and found.target.numbers[match.column]
    if both and number < 1 and margin < DISAGREEING:
        return "the numbers in the names disagree"
    return "" if match.alone >= LIKELY else f"by themselves no more alike than {match.alone:.2f}, below {LIKELY}"
