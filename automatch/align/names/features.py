"""What is compared about two nodes by name: words, numbers, order, the module around them. No shapes yet."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from automatch.align.names.nodes import Node, leaf_words
from automatch.align.names.numbering import last_number, number_fit, number_ranks, order_fit, turn_fit, turns
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.vocabulary import tokens
from automatch.align.names.wording import Table, common_tails, coverage, word_weights

Mask: TypeAlias = NDArray[np.bool_]
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Side:
    """The nodes of one side, and what is compared about them.

    Attributes:
        nodes: Patterns first, then virtual nodes.
        numbers: Per node, the numbers in its path, each as its rank among those that occur there in its like.
        modules: Per node, kinds and ranks of the weights in its module.
        ordered: Whether the order of keys says anything (a sorted list of keys does not).
    """

    nodes: tuple[Node, ...]
    numbers: tuple[tuple[int, ...], ...]
    modules: tuple[frozenset[tuple[str, int]], ...]
    ordered: bool


def side(nodes: Sequence[Node], patterns: Sequence[Pattern], ordered: bool) -> Side:
    """Everything that is compared about the nodes of one side."""
    ranks = number_ranks(patterns)
    contents: dict[Path, set[tuple[str, int]]] = {}
    for pattern in patterns:
        contents.setdefault(pattern.module, set()).add((pattern.kind, len(pattern.shape)))
    firsts = [node.patterns[0] for node in nodes]
    # Joined siblings have the numbers of their parent, not those of one of them.
    kept = [sum(bool(last_number(part)) for part in node.module[:-1]) if node.fused else None for node in nodes]
    numbers = tuple(ranks[first.path][:count] for first, count in zip(firsts, kept, strict=True))
    return Side(tuple(nodes), numbers, tuple(frozenset(contents[first.module]) for first in firsts), ordered)


def name_tables(source: Side, target: Side) -> dict[str, Table]:
    """Agreement of every source node (row) with every target node (column), 0 to 1, by what is compared."""
    both = (source.nodes, target.nodes)
    paths = [[(*node.module, node.kind) for node in nodes] for nodes in both]
    words = [[_words(node) for node in nodes] for nodes in both]
    leaves = [[leaf_words(node.module) + _own_name(node) for node in nodes] for nodes in both]
    parents = [[leaf_words(node.module[:-1]) for node in nodes] for nodes in both]
    rarity = word_weights(words[0]), word_weights(words[1])
    return {
        "tail": common_tails(*paths),
        "path": coverage(*words, rarity),
        "leaf": coverage(*leaves, rarity),
        "parent": coverage(*parents, rarity),
        "kind": _outer(*[[node.kind for node in nodes] for nodes in both], _kind_fit),
        "numbers": _outer(source.numbers, target.numbers, number_fit),
        "module": _outer(source.modules, target.modules, lambda a, b: len(a & b) / max(1, len(a | b))),
        "order": order_fit(*both, source.ordered and target.ordered),
        "turn": _outer(turns(source.nodes, source.ordered), turns(target.nodes, target.ordered), turn_fit),
    }


def _words(node: Node) -> tuple[str, ...]:
    return tuple(word for part in node.module for word in tokens(part)) + _own_name(node)


def _own_name(node: Node) -> tuple[str, ...]:
    return () if node.kind in ("weight", "bias") else tokens(node.kind)


def _kind_fit(a: str, b: str) -> float:
    """A weight is no bias; parameters with names of their own may be anything."""
    if a == b:
        return 1.0
    return 0.0 if a in ("weight", "bias") and b in ("weight", "bias") else 0.3


def _outer(a: Sequence[T], b: Sequence[T], like: Callable[[T, T], float]) -> Table:
    """A table of `like` over two lists, computed once per pair of different values."""
    rows, columns = ({value: at for at, value in enumerate(dict.fromkeys(each))} for each in (a, b))
    known = np.array([[like(x, y) for y in columns] for x in rows]).reshape(len(rows), len(columns))
    return np.asarray(known[np.ix_([rows[x] for x in a], [columns[y] for y in b])])
