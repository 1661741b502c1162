"""Blocks taken as wholes: what most blocks of a kind do, all of them do.

A draft that goes key by key may take a block's convolutions from one source block and its norms from another. Here the
draft votes: on what a word inside a block becomes (`time_emb_proj` of every `resnets.*` is `emb_layers.1` of some
`input_blocks.*.*`), and on which source block a target block is. Blocks are then paired as wholes, by shapes, votes and
order, and their keys follow.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from automatch.core.graph import Shape

SURE = 3
"""How many guesses a sure pair outweighs."""

FEWEST = 2
"""A kind of block with fewer blocks is no kind."""

Keys = Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Blocks that are called alike but for their numbers.

    Attributes:
        name: What they are called, with `#` for numbers.
        blocks: For every block, by its full name and in the order of the keys, its keys by what follows the name.
    """

    name: str
    blocks: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class _Pairing:
    """A kind of target block and the kind of source block that it is.

    Attributes:
        target: The target's kind.
        source: The source's.
        words: For what follows a target block's name, what follows the source block's.
        votes: The votes for that.
    """

    target: _Kind
    source: _Kind
    words: Mapping[str, str]
    votes: float


def regular(pairs: Mapping[str, str], sure: frozenset[str], source: Keys, target: Keys) -> dict[str, str]:
    """Pairs of keys that make blocks correspond as wholes.

    Args:
        pairs: A draft: by target key, the source key in its place.
        sure: Target keys of pairs that are not guesses.
        source: The shapes of all source keys, in their order.
        target: The shapes of all target keys.

    Returns:
        By target key, the source key, for every key of the blocks that could be paired. Source keys are used once.

    Example:
        >>> ours = {f"b.{i}.{w}": (i + 1,) for i in range(3) for w in ("p", "q")}
        >>> theirs = {f"c.{i}.{w}": (i + 1,) for i in range(3) for w in ("x", "y")}
        >>> found = regular({"c.0.x": "b.0.p", "c.1.x": "b.1.p", "c.1.y": "b.1.q"}, frozenset(), ours, theirs)
        >>> found["c.2.y"], found["c.0.y"]
        ('b.2.q', 'b.0.q')
    """
    found: dict[str, str] = {}
    weights = {key: SURE if key in sure else 1 for key in pairs}
    for pairing in _pairings(pairs, weights, _kinds(source), _kinds(target)):
        for here, there in _paired(pairing, pairs, weights, source, target).items():
            free = here not in found and there not in found.values()
            if free:
                found[here] = there
    return found


def _kinds(keys: Keys) -> list[_Kind]:
    """Every way to cut keys into blocks: after each word that has a number."""
    blocks: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for key in keys:
        for name, rest in _cuts(key):
            blocks[re.sub(r"\d+", "#", name)].setdefault(name, {})[rest] = key
    return [_Kind(name, members) for name, members in blocks.items() if len(members) >= FEWEST]


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    words = key.split(".")
    for place in range(1, len(words)):
        if any(letter.isdigit() for letter in words[place - 1]):
            yield ".".join(words[:place]), ".".join(words[place:])


def _pairings(
    pairs: Mapping[str, str], weights: Mapping[str, int], ours: Sequence[_Kind], theirs: Sequence[_Kind]
) -> list[_Pairing]:
    """Kinds that the draft's votes put together, those with the most votes first."""
    homes = _homes(ours), _homes(theirs)
    votes: defaultdict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
    for here, there in pairs.items():
        for kind, rest in homes[1].get(here, ()):
            for other, word in homes[0].get(there, ()):
                votes[kind, other][rest, word] += weights[here]
    mine, wanted = {kind.name: kind for kind in ours}, {kind.name: kind for kind in theirs}
    found = [_pairing(wanted[t], mine[s], counted) for (t, s), counted in votes.items()]
    return sorted(found, key=lambda p: (-p.votes, -len(p.target.blocks), p.target.name, p.source.name))


def _homes(kinds: Sequence[_Kind]) -> dict[str, list[tuple[str, str]]]:
    """For every key, the kinds that it is in, and what follows the block's name."""
    homes: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for kind in kinds:
        for members in kind.blocks.values():
            for rest, key in members.items():
                homes[key].append((kind.name, rest))
    return homes


def _pairing(target: _Kind, source: _Kind, votes: Counter[tuple[str, str]]) -> _Pairing:
    """What follows the names, put together one to one by votes; contradicting votes count against the pairing."""
    rests, words = sorted({rest for rest, _ in votes}), sorted({word for _, word in votes})
    table = np.array([[votes[rest, word] for word in words] for rest in rests])
    rows, columns = linear_sum_assignment(-table)
    chosen = {rests[row]: words[column] for row, column in zip(rows, columns, strict=True) if table[row, column]}
    agreed = float(sum(votes[rest, word] for rest, word in chosen.items()))
    return _Pairing(target, source, chosen, 2 * agreed - float(table.sum()))


def _paired(
    pairing: _Pairing, pairs: Mapping[str, str], weights: Mapping[str, int], source: Keys, target: Keys
) -> dict[str, str]:
    """The keys of blocks that are paired as wholes: every key has a partner of its shape, and none is over."""
    theirs, ours = list(pairing.target.blocks.items()), list(pairing.source.blocks.items())
    block_of = {key: place for place, (_, members) in enumerate(ours) for key in members.values()}
    score = np.full((len(theirs), len(ours)), -1e6)
    for row, (_, members) in enumerate(theirs):
        backed: Counter[int] = Counter()
        for key in members.values():
            if key in pairs and pairs[key] in block_of:
                backed[block_of[pairs[key]]] += weights[key]
        for column, (_, others) in enumerate(ours):
            if _whole(members, others, pairing.words, source, target):
                near = abs(row / max(1, len(theirs) - 1) - column / max(1, len(ours) - 1))
                score[row, column] = backed[column] - near
    rows, columns = linear_sum_assignment(-score)
    return {
        key: ours[column][1][pairing.words[rest]]
        for row, column in zip(rows, columns, strict=True)
        if score[row, column] > -1e6
        for rest, key in theirs[row][1].items()
    }


def _whole(
    members: Mapping[str, str], others: Mapping[str, str], words: Mapping[str, str], source: Keys, target: Keys
) -> bool:
    if len(members) != len(others):
        return False
    for rest, key in members.items():
        there = others.get(words.get(rest, ""))
        if there is None or source[there] != target[key]:
            return False
    return True
