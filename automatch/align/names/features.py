"""What is compared about two nodes by name: words, numbers, order, the module around them. No shapes yet."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from automatch.align.names.nodes import Node, leaf_words
from automatch.align.names.numbering import (
    Number,
    is_norm,
    last_number,
    number_fit,
    numbers_in,
    order_fit,
    renumbered,
    shifts,
    turn_fit,
    turns,
)
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
        numbers: Per node, the numbers in its path.
        modules: Per node, kinds and ranks of the weights in its module.
        ordered: Whether the order of keys says anything (a sorted list of keys does not).
    """

    nodes: tuple[Node, ...]
    numbers: tuple[tuple[Number, ...], ...]
    modules: tuple[frozenset[tuple[str, int]], ...]
    ordered: bool


def side(nodes: Sequence[Node], patterns: Sequence[Pattern], ordered: bool) -> Side:
    """Everything that is compared about the nodes of one side."""
    found = numbers_in(patterns)
    contents: dict[Path, set[tuple[str, int]]] = {}
    for pattern in patterns:
        contents.setdefault(pattern.module, set()).add((pattern.kind, len(pattern.shape)))
    firsts = [node.patterns[0] for node in nodes]
    # Joined siblings have the numbers of their parent, not those of one of them.
    kept = [sum(bool(last_number(part)) for part in node.module[:-1]) if node.fused else None for node in nodes]
    numbers = tuple(found[first.path][:count] for first, count in zip(firsts, kept, strict=True))
    return Side(tuple(nodes), numbers, tuple(frozenset(contents[first.module]) for first in firsts), ordered)


def name_tables(source: Side, target: Side) -> dict[str, Table]:
    """Agreement of every source node (row) with every target node (column), 0 to 1, by what is compared."""
    a, b = source.nodes, target.nodes
    words = [_words(node) for node in a], [_words(node) for node in b]
    moved = shifts(a, b)
    rarity = word_weights(words[0], words[1]), word_weights(words[1], words[0])
    return {
        "tail": common_tails([renumbered(_path(node), moved) for node in a], [_path(node) for node in b]),
        "leaf": coverage([_leaf(node) for node in a], [_leaf(node) for node in b], rarity),
        "parent": coverage([_parent(node) for node in a], [_parent(node) for node in b], rarity),
        "path": coverage(words[0], words[1], rarity),
        "numbers": outer(source.numbers, target.numbers, number_fit),
        "module": outer(source.modules, target.modules, lambda x, y: len(x & y) / max(1, len(x | y))),
        "order": order_fit(a, b, source.ordered and target.ordered),
        "turn": outer(turns(a, source.ordered), turns(b, target.ordered), turn_fit),
    }


def without_places(source: Side, target: Side) -> dict[str, Table]:
    """The agreement that places in the state dict have a say in, as it is without them."""
    told = [[(by_name, None) for by_name, _ in turns(each.nodes, False)] for each in (source, target)]
    return {"turn": outer(told[0], told[1], turn_fit), "order": np.ones((len(source.nodes), len(target.nodes)))}


def out_of_turn(source: Side, target: Side) -> Table:
    """How far the turns of norms are apart, 0 to 1, where their names tell them on both sides."""
    told = [
        [
            by_name if is_norm(node) else None
            for node, (by_name, _) in zip(each.nodes, turns(each.nodes, False), strict=True)
        ]
        for each in (source, target)
    ]
    return outer(told[0], told[1], lambda a, b: 0.0 if a is None or b is None else abs(a - b))


def outer(a: Sequence[T], b: Sequence[T], like: Callable[[T, T], float]) -> Table:
    """A table of `like` over two lists, computed once per pair of different values."""
    rows, columns = ({value: at for at, value in enumerate(dict.fromkeys(each))} for each in (a, b))
    known = np.array([[like(x, y) for y in columns] for x in rows]).reshape(len(rows), len(columns))
    return np.asarray(known[np.ix_([rows[x] for x in a], [columns[y] for y in b])])


def _path(node: Node) -> Path:
    return (*node.module, node.kind)


def _words(node: Node) -> tuple[str, ...]:
    return tuple(word for part in node.module for word in tokens(part)) + _own_name(node)


def _leaf(node: Node) -> tuple[str, ...]:
    return leaf_words(node.module) + _own_name(node)


def _parent(node: Node) -> tuple[str, ...]:
    return leaf_words(node.module[:-1])


def _own_name(node: Node) -> tuple[str, ...]:
    return () if node.kind in ("weight", "bias") else tokens(node.kind)
