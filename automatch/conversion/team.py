"""Processes that convert together: who does what, and how they hear of each other's failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from automatch.conversion.plan import Item
from automatch.conversion.shards import Shard
from automatch.errors import AutomatchError, CheckpointError
from automatch.interruption import let_through


class Team(Protocol):
    """The processes of one conversion.

    Attributes:
        rank: Which of them this one is.
        size: How many they are.
    """

    @property
    def rank(self) -> int:
        """Which of them this one is, from 0."""

    @property
    def size(self) -> int:
        """How many they are."""

    def agree(self, problem: Exception | None = None) -> None:
        """Wait for all of them.

        Args:
            problem: What has gone wrong here.

        Raises:
            Exception: The problem given.
            CheckpointError: Another process has failed, or is gone.
        """


@dataclass(frozen=True, slots=True)
class Alone:
    """A team of one."""

    rank: int = 0
    size: int = 1

    def agree(self, problem: Exception | None = None) -> None:
        """Raise the problem, if there is one."""
        if problem is not None:
            raise problem


def together(team: Team, out: Path, action: Callable[[], object]) -> None:
    """Do this process's part; go on when all have done theirs, and fail when one has not.

    Args:
        team: The processes.
        out: What is being written, for messages.
        action: This process's part.

    Raises:
        AutomatchError: It failed here, or in another process.
    """
    try:
        action()
    except AutomatchError as error:
        team.agree(error)
    except OSError as error:
        let_through(error)
        team.agree(CheckpointError(f"{out} cannot be written: {error.strerror or error}"))
    else:
        team.agree()


@dataclass(frozen=True, slots=True)
class Share:
    """What one process writes of one file.

    Attributes:
        shard: The file.
        items: The tensors that the process writes.
        whole: Whether these are all of the file's.
    """

    shard: Shard
    items: tuple[Item, ...]
    whole: bool


def shares(shards: Sequence[Shard], size: int) -> tuple[tuple[Share, ...], ...]:
    """Who writes what: whole files if there are enough of them, else tensors of every file; the largest first.

    Args:
        shards: The files to write.
        size: How many processes there are.

    Returns:
        The shares of every process.
    """
    if size == 1 or len(shards) >= size:
        loads = _spread([shard.size for shard in shards], size)
        return tuple(tuple(Share(shards[at], shards[at].items, True) for at in sorted(load)) for load in loads)
    pieces = [(shard, item) for shard in shards for item in shard.items]
    loads = _spread([item.nbytes for _, item in pieces], size)
    return tuple(tuple(_regrouped([pieces[at] for at in sorted(load)])) for load in loads)


def _regrouped(pieces: Sequence[tuple[Shard, Item]]) -> list[Share]:
    by_shard: dict[str, tuple[Shard, list[Item]]] = {}
    for shard, item in pieces:
        by_shard.setdefault(shard.name, (shard, []))[1].append(item)
    return [Share(shard, tuple(items), False) for shard, items in by_shard.values()]


def _spread(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Places of the list in `count` groups of about one sum (Graham's longest processing time first, 1969)."""
    groups: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        least = min(range(count), key=sums.__getitem__)
        groups[least].append(place)
        sums[least] += sizes[place]
    return groups
