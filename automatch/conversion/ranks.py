"""The processes that `torchrun` started, as a team."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from automatch.conversion.team import Alone, Team
from automatch.errors import CheckpointError
from automatch.interruption import let_through

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

_PATIENCE = timedelta(days=7)
"""How long a process waits for others that are still writing; of one that is gone it hears at once."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a `torch.distributed` group; they exchange nothing but whether they have succeeded.

    Attributes:
        rank: Which of them this one is.
        size: How many they are.
        group: The group, where it is not the default one.
    """

    rank: int
    size: int
    group: ProcessGroup | None

    def agree(self, problem: Exception | None = None) -> None:
        """Wait for all, and fail if one has failed.

        Raises:
            Exception: The problem given.
            CheckpointError: Another process has failed, or is gone.
        """
        import torch
        import torch.distributed as dist

        failed = torch.tensor([self.size if problem is None else self.rank])
        try:
            dist.all_reduce(failed, op=dist.ReduceOp.MIN, group=self.group)
        except RuntimeError as error:
            let_through(error)
            raise problem or CheckpointError(
                "a process of the group is gone, perhaps with its work undone; run the same command again"
            ) from error
        if problem is not None:
            raise problem
        if failed.item() < self.size:
            raise CheckpointError(f"process {int(failed.item())} of the group has failed; its own message says why")


@contextmanager
def team() -> Iterator[Team]:
    """The team of this process: that of its `torch.distributed` group, or of `torchrun`, or itself alone.

    Raises:
        CheckpointError: The processes of `torchrun` do not find each other.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Alone()
        return
    import torch.distributed as dist

    if dist.is_initialized():
        # A group of its own, because that of a training run may know GPUs alone.
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size(), group)
        finally:
            dist.destroy_process_group(group)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        dist.init_process_group("gloo", store=_meeting(size), rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        let_through(error)
        raise CheckpointError(f"the processes of torchrun do not find each other: {error}") from error
    try:
        yield Ranks(rank, size, None)
    finally:
        dist.destroy_process_group()


def _meeting(size: int) -> Store:
    """Where the processes leave their addresses: a new place every time, or they would find those of the last time."""
    from torch._C._distributed_c10d import PrefixStore

    store = _store()
    return PrefixStore(f"automatch/{(store.add('automatch', 1) - 1) // size}", store)


@cache
def _store() -> Store:
    """What the processes of `torchrun` know of each other; kept, since it may end with the process that holds it."""
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(rendezvous("env://"))[0]
    return store
