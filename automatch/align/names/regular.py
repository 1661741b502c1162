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

MOST = 250_000
"""Pairs of blocks of one kind beyond which those that the draft leaves open stay as they are."""

Keys = Mapping[str, Shape]
Block = Mapping[str, str]
"""The keys of a block, by what follows its name."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Blocks that are called alike but for their numbers.

    Attributes:
        name: What they are called, with `#` for numbers.
        blocks: For every block, by its full name and in the order of the keys, its keys by what follows the name.
    """

    name: str
    blocks: Mapping[str, Block]


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
    used: set[str] = set()
    weights = {key: SURE if key in sure else 1 for key in pairs}
    for pairing in _pairings(pairs, weights, _kinds(source), _kinds(target)):
        for here, there in _paired(pairing, pairs, weights, source, target).items():
            if here not in found and there not in used:
                found[here] = there
                used.add(there)
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
    theirs, ours = list(pairing.target.blocks.values()), list(pairing.source.blocks.values())
    block_of = {key: place for place, members in enumerate(ours) for key in members.values()}
    found = _settled(theirs, ours, block_of, pairing.words, pairs, (source, target))
    left = [row for row in range(len(theirs)) if row not in found]
    free = sorted(set(range(len(ours))) - set(found.values()))
    if len(left) * len(free) <= MOST:
        score = np.full((len(left), len(free)), -1e6)
        for at, row in enumerate(left):
            backed = _backed(theirs[row], block_of, pairs, weights)
            for to, column in enumerate(free):
                if _whole(theirs[row], ours[column], pairing.words, source, target):
                    near = abs(row / max(1, len(theirs) - 1) - column / max(1, len(ours) - 1))
                    score[at, to] = backed[column] - near
        rows, columns = linear_sum_assignment(-score)
        found |= {left[a]: free[b] for a, b in zip(rows, columns, strict=True) if score[a, b] > -1e6}
    return {
        key: ours[column][pairing.words[rest]] for row, column in found.items() for rest, key in theirs[row].items()
    }


def _settled(
    theirs: Sequence[Block],
    ours: Sequence[Block],
    block_of: Mapping[str, int],
    words: Mapping[str, str],
    pairs: Mapping[str, str],
    shapes: tuple[Keys, Keys],
) -> dict[int, int]:
    """Target blocks of which the draft takes every key from one source block, of which it leaves none."""
    found: dict[int, int] = {}
    taken: set[int] = set()
    for row, members in enumerate(theirs):
        homes = {block_of.get(pairs.get(key, ""), -1) for key in members.values()}
        column = homes.pop()
        if homes or column < 0 or column in taken or len(ours[column]) != len(members):
            continue
        as_told = all(pairs[key] == ours[column].get(words.get(rest, "")) for rest, key in members.items())
        if as_told and _whole(members, ours[column], words, *shapes):
            found[row] = column
            taken.add(column)
    return found


def _backed(
    members: Block, block_of: Mapping[str, int], pairs: Mapping[str, str], weights: Mapping[str, int]
) -> Counter[int]:
    """How much the draft votes for each source block to be this one."""
    backed: Counter[int] = Counter()
    for key in members.values():
        if key in pairs and pairs[key] in block_of:
            backed[block_of[pairs[key]]] += weights[key]
    return backed


def _whole(members: Block, others: Block, words: Mapping[str, str], source: Keys, target: Keys) -> bool:
    if len(members) != len(others):
        return False
    for rest, key in members.items():
        there = others.get(words.get(rest, ""))
        if there is None or source[there] != target[key]:
            return False
    return True
