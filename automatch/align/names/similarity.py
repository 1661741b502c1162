"""How alike the nodes of two sides are, by names, numbers, shapes and surroundings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import log
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from automatch.align.names.nodes import Node, leaf_words
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.shapes import Fit, Widths, learn_widths, part_sizes, shape_fit
from automatch.align.names.vocabulary import HOLE, resemblance, tokens, vocabulary

Table: TypeAlias = NDArray[np.float64]
T = TypeVar("T", bound=Hashable)

ENOUGH_SHAPE = 0.35
WEIGHTS = {"tail": 1.0, "leaf": 1.0, "path": 0.8, "kind": 0.4, "numbers": 0.5, "module": 0.4, "shape": 0.8, "order": 0.1, "turn": 0.3}
"""What each kind of agreement counts; a cost is one minus their weighted mean."""
CONTEXT = 1.2
"""What the surroundings count, beside `WEIGHTS`."""
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Side:
    """The nodes of one side, and what is compared about them.

    Attributes:
        nodes: Patterns first, then virtual nodes.
        numbers: Per node, the ranks of the numbers in its path among its like.
        modules: Per node, kinds and ranks of the weights in its module.
        ordered: Whether the order of keys says anything (a sorted list of keys does not).
    """

    nodes: tuple[Node, ...]
    numbers: tuple[tuple[int, ...], ...]
    modules: tuple[frozenset[tuple[str, int]], ...]
    ordered: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarities, one row per source node and one column per target node.

    Attributes:
        alone: By the nodes themselves, 0 to 1.
        fits: How every pair's shapes fit.
        allowed: Which pairs are possible at all.
        equal: Which pairs have the same name.
    """

    alone: Table
    fits: tuple[tuple[Fit, ...], ...]
    allowed: NDArray[np.bool_]
    equal: NDArray[np.bool_]


def side(nodes: Sequence[Node], patterns: Sequence[Pattern], ordered: bool) -> Side:
    """Everything that is compared about the nodes of one side."""
    ranks = _number_ranks(patterns)
    contents: dict[Path, set[tuple[str, int]]] = {}
    for pattern in patterns:
        contents.setdefault(pattern.module, set()).add((pattern.kind, len(pattern.shape)))
    firsts = [node.patterns[0] for node in nodes]
    depth = [sum(_digits(part) != "" for part in node.module[:-1]) if node.fused else None for node in nodes]
    numbers = tuple(ranks[first.path][:count] for first, count in zip(firsts, depth, strict=True))
    return Side(tuple(nodes), numbers, tuple(frozenset(contents[first.module]) for first in firsts), ordered)


def name_scores(source: Side, target: Side) -> tuple[dict[str, Table], NDArray[np.bool_]]:
    """Similarities that need no shapes, and which pairs names allow."""
    words = [[_words(node) for node in each.nodes] for each in (source, target)]
    leaves = [[leaf_words(node.module) + _own_name(node) for node in each.nodes] for each in (source, target)]
    tables = {
        "tail": _tails(source, target),
        "path": _bags(words[0], words[1], *words),
        "leaf": _bags(leaves[0], leaves[1], *words),
        "kind": _outer(_kinds(source), _kinds(target), _kind_fit),
        "numbers": _outer(source.numbers, target.numbers, _number_fit),
        "module": _outer(source.modules, target.modules, lambda a, b: len(a & b) / max(1, len(a | b))),
        "order": _orders(source, target),
        "turn": _outer(_turns(source), _turns(target), _turn_fit),
    }
    levels = [[len(node.patterns[0].chains) for node in each.nodes] for each in (source, target)]
    allowed = np.equal.outer(levels[0], levels[1]) & (tables["kind"] > 0)
    virtual = [np.array([node.fused for node in each.nodes]) for each in (source, target)]
    return tables, allowed & ~np.logical_and.outer(virtual[0], virtual[1])


def widths_from(source: Side, target: Side, names: dict[str, Table], allowed: NDArray[np.bool_]) -> Widths:
    """The change of widths, from the single weights whose names are each other's nearest."""
    likeness = np.where(allowed, names["tail"] + names["leaf"] + names["path"], 0.0)
    ranks = [[min(2, sum(size > 1 for size in node.shape)) for node in each.nodes] for each in (source, target)]
    likeness *= np.equal.outer(ranks[0], ranks[1])
    best = np.maximum(likeness.max(1, keepdims=True, initial=1e-9), likeness.max(0, keepdims=True, initial=1e-9))
    votes = (likeness / best) ** 12 * likeness
    return learn_widths(
        (source.nodes[i].shape, target.nodes[j].shape, float(votes[i, j]))
        for i, j in zip(*np.nonzero(votes > 1e-3), strict=True)
        if not source.nodes[i].fused and not target.nodes[j].fused
    )


def score(source: Side, target: Side, widths: Widths, names: dict[str, Table], allowed: NDArray[np.bool_]) -> Scores:
    """All agreement that a pair has by itself."""
    fits = _fits(source, target, widths)
    shape = np.array([[fit.score for fit in row] for row in fits]).reshape(allowed.shape)
    equal = names["tail"] >= 1.0
    rank = np.equal.outer(*[[min(2, sum(s > 1 for s in n.shape)) for n in each.nodes] for each in (source, target)])
    allowed = allowed & ((shape >= ENOUGH_SHAPE) | (equal & rank))
    total = sum(WEIGHTS[name] * table for name, table in (names | {"shape": shape}).items()) / sum(WEIGHTS.values())
    odd = [np.array([0.15 * (not node.usual) for node in each.nodes]) for each in (source, target)]
    return Scores(np.clip(total - np.add.outer(*odd), 0.0, 1.0), fits, allowed, equal)


def in_context(alone: Table, allowed: NDArray[np.bool_], source: Side, target: Side) -> tuple[Table, Table]:
    """Scores in which pairs that lie close together on both sides support each other.

    Graduated assignment: a soft assignment, support by it, a harder assignment, and so on.

    Returns:
        The scores, 0 to 1, and the last soft assignment.
    """
    near = [_closeness(each.nodes) for each in (source, target)]
    scores = alone
    for turn in range(ROUNDS):
        soft = _soft_assignment(scores, allowed, sharpness=10.0 + 6.0 * turn)
        support = near[0] @ soft @ near[1]
        peak = np.sqrt(support.max(1, keepdims=True, initial=0.0) * support.max(0, keepdims=True, initial=0.0))
        share = support / np.maximum(peak, 1e-12)
        scores = (sum(WEIGHTS.values()) * alone + CONTEXT * np.minimum(share, 1.0)) / (sum(WEIGHTS.values()) + CONTEXT)
    return scores, soft


def node_fit(source: Node, target: Node, widths: Widths) -> Fit:
    """How the shapes of two nodes fit; of the fused one, every part."""
    if not source.fused and not target.fused:
        return shape_fit(source.shape, target.shape, widths)
    if not source.shape or not target.shape or len(source.shape) != len(target.shape):
        return Fit(0.0)
    if source.fused:
        sizes = part_sizes(source.lengths, target.shape[0], widths.fit, widths.same)
        pairs = [((n, *source.shape[1:]), (m, *target.shape[1:])) for n, m in zip(source.lengths, sizes, strict=False)]
    else:
        sizes = part_sizes(target.lengths, source.shape[0], lambda a, b: widths.fit(b, a), widths.same)
        pairs = [((m, *source.shape[1:]), (n, *target.shape[1:])) for n, m in zip(target.lengths, sizes, strict=False)]
    found = [shape_fit(old, new, widths) for old, new in pairs]
    straight = [fit.score for fit in found if fit.reading == "as stored"]
    return Fit(sum(straight) / len(straight)) if straight and len(straight) == len(found) else Fit(0.0)


def _fits(source: Side, target: Side, widths: Widths) -> tuple[tuple[Fit, ...], ...]:
    known: dict[Hashable, Fit] = {}

    def fit(a: Node, b: Node) -> Fit:
        key = (a.shape, a.lengths, b.shape, b.lengths)
        if key not in known:
            known[key] = Fit(0.0) if a.fused and b.fused else node_fit(a, b, widths)
        return known[key]

    return tuple(tuple(fit(a, b) for b in target.nodes) for a in source.nodes)


def _words(node: Node) -> tuple[str, ...]:
    return tuple(word for part in node.module for word in tokens(part)) + _own_name(node)


def _own_name(node: Node) -> tuple[str, ...]:
    return () if node.kind in ("weight", "bias") else tokens(node.kind)


def _kinds(each: Side) -> list[str]:
    return [node.kind for node in each.nodes]


def _kind_fit(a: str, b: str) -> float:
    """A weight is no bias; parameters with names of their own may be anything."""
    if a == b:
        return 1.0
    return 0.0 if a in ("weight", "bias") and b in ("weight", "bias") else 0.3


def _tails(source: Side, target: Side) -> Table:
    """Share of the longer path that the last components of both have in common."""
    paths = [[(*node.module, node.kind)[::-1] for node in each.nodes] for each in (source, target)]
    same = np.ones((len(paths[0]), len(paths[1])), dtype=bool)
    shared = np.zeros(same.shape)
    for depth in range(max((len(path) for each in paths for path in each), default=0)):
        column = [[path[depth] if depth < len(path) else side_name for path in each]
                  for each, side_name in zip(paths, ("<", ">"), strict=True)]
        same &= np.equal.outer(np.array(column[0], dtype=object), np.array(column[1], dtype=object)).astype(bool)
        shared += same
    longest = np.maximum.outer(*[np.array([len(path) for path in each]) for each in paths])
    return np.asarray(shared / np.maximum(longest, 1))


def _bags(
    a: Sequence[tuple[str, ...]], b: Sequence[tuple[str, ...]], all_a: Sequence[tuple[str, ...]], all_b: Sequence[tuple[str, ...]]
) -> Table:
    """How far the words of two sets cover each other, rare words first."""
    forward, backward = _coverage(a, b, _rarity(all_b)), _coverage(b, a, _rarity(all_a)).T
    both_empty = np.logical_and.outer([not bag for bag in a], [not bag for bag in b])
    return np.asarray(np.where(both_empty, 0.5, (forward + backward) / 2))


def _coverage(a: Sequence[tuple[str, ...]], b: Sequence[tuple[str, ...]], rarity: dict[str, float]) -> Table:
    """How much of every bag in `b` the words of every bag in `a` spell."""
    left = {word: at for at, word in enumerate(dict.fromkeys(word for bag in a for word in bag))}
    right = {word: at for at, word in enumerate(dict.fromkeys(word for bag in b for word in bag))}
    alike = np.array([[resemblance(x, y) for y in right] for x in left]).reshape(len(left), len(right))
    best = np.zeros((len(a), len(right)))
    for row, bag in enumerate(a):
        if bag:
            best[row] = alike[[left[word] for word in bag]].max(0)
    shares = np.zeros((len(b), len(right)))
    for row, bag in enumerate(b):
        for word in bag:
            shares[row, right[word]] += rarity[word]
    return np.asarray(best @ (shares / np.maximum(shares.sum(1, keepdims=True), 1e-9)).T)


def _rarity(bags: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """What a word counts: the rarer on its side the more, weak words little."""
    seen = Counter(word for bag in bags for word in set(bag))
    weak = vocabulary().weak
    return {word: (log((len(bags) + 1) / (count + 0.5)) + 0.3) * (0.1 if word in weak else 1.0) for word, count in seen.items()}


def _number_ranks(patterns: Sequence[Pattern]) -> dict[Path, tuple[int, ...]]:
    """Per path, every number in it as its rank among those that occur at its place in paths of the same form."""
    values: dict[tuple[Path, int, int], set[int]] = {}
    forms: dict[Path, tuple[Path, tuple[int, ...]]] = {}
    for pattern in patterns:
        found = tuple(int(_digits(part)) for part in pattern.path if _digits(part))
        form = tuple(part.replace(_digits(part), "#") if _digits(part) else part for part in pattern.path)
        forms[pattern.path] = (form, found)
        for place, number in enumerate(found):
            values.setdefault((form, len(pattern.shape), place), set()).add(number)
    ranks = {key: {number: rank for rank, number in enumerate(sorted(found))} for key, found in values.items()}
    sizes = {pattern.path: len(pattern.shape) for pattern in patterns}
    return {
        path: tuple(ranks[form, sizes[path], place][number] for place, number in enumerate(found))
        for path, (form, found) in forms.items()
    }


def _digits(component: str) -> str:
    """The last number in a component, as it is written; empty where there is none."""
    if component == HOLE:
        return ""
    runs = "".join(letter if letter.isdecimal() else " " for letter in component).split()
    return runs[-1] if runs else ""


def _number_fit(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    if a == b:
        return 1.0
    return 0.8 * _common_subsequence(a, b) / max(len(a), len(b)) if a and b else 0.4


def _common_subsequence(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        above = row
        row = [0]
        for at, y in enumerate(b):
            row.append(above[at] + 1 if x == y else max(above[at + 1], row[at]))
    return row[-1]


def _orders(source: Side, target: Side) -> Table:
    """Nearness of the places in the state dict; 0.5 throughout where a side's keys are sorted."""
    if not source.ordered or not target.ordered:
        return np.full((len(source.nodes), len(target.nodes)), 0.5)
    places = []
    for each in (source, target):
        at = np.array([node.patterns[0].position for node in each.nodes], dtype=float)
        places.append(np.argsort(np.argsort(at, kind="stable"), kind="stable") / max(1, len(at) - 1))
    return np.asarray(1.0 - np.abs(np.subtract.outer(places[0], places[1])))


def _turns(each: Side) -> list[tuple[float | None, float | None]]:
    """Per node, which it is among its like siblings, 0 (first) to 1 (last): by the number in its name, and by place."""
    numbered: dict[Hashable, set[int]] = {}
    placed: dict[Hashable, list[int]] = {}
    for node in each.nodes:
        family, number = _family(node)
        if number is not None:
            numbered.setdefault(family, set()).add(number)
        if each.ordered and not node.fused:
            placed.setdefault((node.module[:-1], node.kind, node.shape), []).append(node.patterns[0].position)
    turns = []
    for node in each.nodes:
        family, number = _family(node)
        places = placed.get((node.module[:-1], node.kind, node.shape), [])
        place = None if node.fused or not places else node.patterns[0].position
        turns.append((_turn(number, numbered.get(family, ())), _turn(place, places)))
    return turns


def _family(node: Node) -> tuple[Hashable, int | None]:
    last = node.module[-1] if node.module and not node.fused else ""
    digits = _digits(last)
    return (node.module[:-1], last.replace(digits, "#") if digits else last, node.kind, node.shape), int(digits) if digits else None


def _turn(value: int | None, values: Iterable[int]) -> float | None:
    ranked = sorted(values)
    return None if value is None or len(ranked) < 2 else ranked.index(value) / (len(ranked) - 1)


def _turn_fit(a: tuple[float | None, float | None], b: tuple[float | None, float | None]) -> float:
    """Numbers are compared with numbers, else with places; places with places say nothing here."""
    one = a[0] if a[0] is not None else a[1]
    other = b[0] if b[0] is not None else b[1]
    told = a[0] is not None or b[0] is not None
    return 0.5 if one is None or other is None or not told else 1.0 - abs(one - other)


def _closeness(nodes: Sequence[Node]) -> Table:
    """One over the number of nodes below the deepest module that holds both."""
    near = np.zeros((len(nodes), len(nodes)))
    for depth in range(max((len(node.path) for node in nodes), default=0)):
        codes: dict[Path, int] = {}
        group = np.array([codes.setdefault(n.path[:depth], len(codes)) if depth < len(n.path) else -1 for n in nodes])
        size = np.bincount(group + 1)[group + 1]
        same = (group[:, None] == group[None, :]) & (group >= 0)[:, None]
        near = np.where(same, 1.0 / size[:, None], near)
    return near


def _soft_assignment(scores: Table, allowed: NDArray[np.bool_], sharpness: float) -> Table:
    """Rows and columns that sum to at most one, large where scores are."""
    peak = np.where(allowed, scores, -np.inf).max(1, keepdims=True, initial=0.0)
    soft = np.where(allowed, np.exp(np.clip(sharpness * (scores - peak), -60.0, 0.0)), 0.0)
    for _ in range(10):
        soft = soft / (soft.sum(1, keepdims=True) + 1e-6)
        soft = soft / (soft.sum(0, keepdims=True) + 1e-6)
    return soft


def _outer(a: Sequence[T], b: Sequence[T], like: Callable[[T, T], float]) -> Table:
    """A table of `like` over two lists, computed once per pair of different values."""
    rows, columns = list(dict.fromkeys(a)), list(dict.fromkeys(b))
    known = np.array([[cache(like)(x, y) for y in columns] for x in rows]).reshape(len(rows), len(columns))
    row_of, column_of = ({value: at for at, value in enumerate(each)} for each in (rows, columns))
    return np.asarray(known[np.ix_([row_of[x] for x in a], [column_of[y] for y in b])])
