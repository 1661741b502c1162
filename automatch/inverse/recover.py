"""Every source weight of a mapping, as far as the target's weights tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from automatch.core.expr import Expr, Source, sources, text
from automatch.core.expr_rewrite import with_sources
from automatch.core.graph import Weight
from automatch.core.mapping import MappingRecord, Status
from automatch.inverse.assemble import Assembly, assembled
from automatch.inverse.building import cut
from automatch.inverse.pieces import MOST, Piece, whole
from automatch.inverse.walk import Held, Knot, Lost, News, untied, walk

WEAKER: dict[Status, int] = {"proved": 0, "structural": 1, "guessed": 2, "unmapped": 3}
"""How little a status claims."""

NAMED = 3
"""How many weights a sentence names before it only counts them."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is known of a source weight.

    Attributes:
        weight: The weight.
        expr: What it is made of, over the target's weights; None where they do not tell all of it.
        rounds: Whether that undoes arithmetic, so that the last bits may differ.
        why_not: Without an expression, the reason.
        read_by: The target keys that a part of it goes to as it is, or in a way that can be undone.
    """

    weight: Weight
    expr: Expr | None
    rounds: bool
    why_not: str
    read_by: tuple[str, ...]


def recovered(record: MappingRecord) -> tuple[Recovered, ...]:
    """One for every distinct source weight, in their order."""
    known = _Known.of(record)
    return tuple(
        Recovered(weight, found.expr, found.rounds, _why_not(weight, found, known), tuple(known.readers(weight.name)))
        for weight in record.source.weights
        for found in (known.assemblies[weight.name],)
    )


@dataclass(slots=True)
class _Known:
    """What is known so far, by the first name of source weights.

    Attributes:
        names: The first name of every source key.
        weights: The source weights.
        ranks: How little the status of every target key claims.
        pieces: Pieces of the weights, each from a target key.
        losses: Why parts of the weights are not to be had, as sentences.
        assemblies: What the pieces make.
        knots: Sums and products of which more than one part is not known, each in a target key.
    """

    names: dict[str, str]
    weights: dict[str, Weight]
    ranks: dict[str, int]
    pieces: dict[str, list[tuple[str, Piece]]]
    losses: dict[str, list[str]]
    assemblies: dict[str, Assembly]
    knots: list[tuple[str, Knot]]

    @staticmethod
    def of(record: MappingRecord) -> _Known:
        weights = {weight.name: weight for weight in record.source.weights}
        names = {key: weight.name for weight in record.source.weights for key in weight.keys}
        ranks = {entry.target: WEAKER[entry.status] for entry in record.entries}
        known = _Known(names, weights, ranks, {name: [] for name in weights}, {name: [] for name in weights}, {}, [])
        for entry in record.entries:
            if entry.expr is not None:
                known.learn(entry.target, walk(entry.expr, [whole(Source(entry.target, entry.shape))]))
        known.assemble(weights)
        while known.untie():
            pass
        for target, knot in known.knots:
            known.note_knot(target, knot)
        return known

    def learn(self, target: str, news: Iterable[News]) -> set[str]:
        """Take in what a target weight tells; gives the names of weights of which there are new pieces."""
        fresh = set[str]()
        for each in news:
            match each:
                case Held(key=key, piece=piece):
                    self.pieces[self.names[key]].append((target, piece))
                    fresh.add(self.names[key])
                case Lost(keys=keys, why=why):
                    self.note(keys, f"{why} in {target}")
                case Knot():
                    self.knots.append((target, each))
        return fresh

    def note(self, keys: Iterable[str], why: str) -> None:
        for name in dict.fromkeys(self.names[key] for key in keys):
            self.losses[name] = list(dict.fromkeys([*self.losses[name], why]))

    def assemble(self, names: Iterable[str]) -> None:
        for name in names:
            pieces = [piece for _, piece in self.pieces[name]]
            self.assemblies[name] = assembled(self.weights[name].shape, pieces, self.rank)

    def rank(self, piece: Piece) -> int:
        return max((self.ranks[key] for key in sources(piece.value)), default=0)

    def untie(self) -> bool:
        """Solve sums and products for what is known by now; gives whether anything came of it."""
        known = {key: expr for key, name in self.names.items() if (expr := self.assemblies[name].expr) is not None}
        knots, self.knots = self.knots, []
        fresh = set[str]()
        for target, knot in knots:
            news = untied(knot, known, lambda expr: with_sources(expr, lambda leaf: known[leaf.key]))
            fresh |= self.learn(target, [knot] if news is None else news)
        self.assemble(fresh)
        return bool(fresh)

    def note_knot(self, target: str, knot: Knot) -> None:
        keys = list(dict.fromkeys(key for part in knot.expr.parts for key in sources(part)))
        for key in keys:
            others = [other for other in keys if other != key]
            self.note([key], f"computed with {listed(others) if others else 'itself'} in {target}")

    def readers(self, name: str) -> Iterator[str]:
        yield from dict.fromkeys(target for target, _ in self.pieces[name])


def _why_not(weight: Weight, found: Assembly, known: _Known) -> str:
    if found.expr is not None:
        return ""
    reasons = list(known.losses[weight.name])
    readers = list(known.readers(weight.name))
    if found.scattered:
        reasons.append(f"scattered over {listed(readers)} in more than {MOST:,} pieces")
    elif readers:
        reasons.append(f"only {_what_is_known(weight, found)} can be told from {listed(readers)}")
    return "; ".join(reasons) or "unused"


def _what_is_known(weight: Weight, found: Assembly) -> str:
    if found.bounds is None:
        return f"{found.covered:,} of {prod(weight.shape):,} elements"
    part: Expr = Source(weight.name, weight.shape)
    axes = [axis for axis, size in enumerate(weight.shape) if size > 1]
    for axis, (start, stop) in zip(axes, found.bounds, strict=True):
        part = cut(part, axis, start, stop)
    return f"{text(part)} of shape {list(weight.shape)}"


def listed(keys: list[str]) -> str:
    """A few keys by name, and how many more there are.

    Example:
        >>> listed(["a", "b"]), listed(list("abcde"))
        ('a and b', 'a, b, c and 2 more')
    """
    more = [f"{len(keys) - NAMED} more"] if len(keys) > NAMED else []
    named = [*keys[:NAMED], *more]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
