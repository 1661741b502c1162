"""How much of a known conversion `automatch suggest` would have found without its family.

    python -m tests.benchmarks.suggesting

Every shipped conversion is taken for a model that nobody has mapped: the conversions of its family are put away, and a
draft is made from keys, shapes and sizes of the two models, and from what is left of the library; words that stand for
each other are learned again from what is left. A key is right where the draft makes it of exactly the same source
entries as the proved conversion does (of tied keys any will do).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rich.console import Console
from rich.table import Table

from automatch.align.names.learning import KeyPair
from automatch.align.names.vocabulary import with_learned
from automatch.core.expr import Expr, Source
from automatch.core.expr_rewrite import with_sources
from automatch.core.mapping import Entry
from automatch.known.draft import draft
from automatch.known.known import Known
from automatch.known.library import shipped
from automatch.known.words import taught, words_of
from automatch.rules.spell import normal

AIM = 0.9


@dataclass(frozen=True, slots=True)
class Score:
    """How much of one conversion was found.

    Attributes:
        known: The conversion.
        right: Target keys that the draft has right.
        sure: Target keys that it does not call guessed.
        sure_right: Those of them that are right.
        taken: The known conversions that it was made from.
    """

    known: Known
    right: int
    sure: int
    sure_right: int
    taken: tuple[str, ...]

    @property
    def keys(self) -> int:
        """How many keys the target has."""
        return sum(len(weight.keys) for weight in self.known.target.weights)


def score(known: Known, library: Sequence[Known]) -> Score:
    """Draft a conversion without its family, and count what is right."""
    others = [other for other in library if other.family != known.family]
    with with_learned(_words(tuple(other.name for other in others))):
        found = draft(known.source, known.target, others)
    truth = {entry.target: entry for entry in known.record.entries}
    first = {key: weight.name for weight in known.source.weights for key in weight.keys}
    right = {entry.target for entry in found.draft.entries if _same(entry, truth[entry.target], first)}
    sure = {entry.target for entry in found.draft.entries if entry.status == "structural"}
    return Score(known, len(right), len(sure), len(sure & right), tuple(fit.title for fit in found.taken))


@cache
def _words(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What some of the shipped conversions teach."""
    found = words_of((name, _taught()[name]) for name in names)
    return tuple(each.words for each in found)


@cache
def _taught() -> dict[str, tuple[KeyPair, ...]]:
    return {known.name: taught(known) for known in shipped()}


def _same(found: Entry, truth: Entry, first: dict[str, str]) -> bool:
    if found.expr is None or truth.expr is None:
        return found.expr is truth.expr
    return _untied(found.expr, first) == _untied(truth.expr, first)


def _untied(expr: Expr, first: dict[str, str]) -> Expr:
    return normal(with_sources(expr, lambda leaf: Source(first[leaf.key], leaf.shape)))


def scores() -> list[Score]:
    """The score of every shipped conversion."""
    return [score(known, shipped()) for known in shipped()]


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(prog="python -m tests.benchmarks.suggesting", description=__doc__).parse_args()
    table = Table("conversion", "family", "keys", "right", "share", "sure", "sure and wrong", "drafted from", box=None)
    found = scores()
    for each in found:
        share = f"{each.right / each.keys:.0%}"
        figures = [str(each.keys), str(each.right), share, str(each.sure), str(each.sure - each.sure_right)]
        table.add_row(each.known.name, each.known.family, *figures, ", ".join(each.taken))
    console = Console(width=200)
    console.print(table)
    right, keys = sum(each.right for each in found), sum(each.keys for each in found)
    wrong, sure = sum(each.sure - each.sure_right for each in found), sum(each.sure for each in found)
    families = len({each.known.family for each in found})
    share = f"{right:,} of {keys:,} keys right, {right / keys:.1%}"
    console.print(f"{len(found)} conversions of {families} families: {share}")
    console.print(f"{sure:,} keys are called sure, {wrong} of them are wrong")


if __name__ == "__main__":
    main()
