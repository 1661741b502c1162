"""A conversion that runs: every process writes its share, and the output appears when all is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeAlias

from automatch.checkpoint.reading import Files
from automatch.conversion.copying import Told
from automatch.conversion.job import Job, check_written
from automatch.conversion.ranks import team
from automatch.conversion.staging import check_room, locked
from automatch.conversion.team import Share, Team, shares, together
from automatch.conversion.unchanged import check_unchanged
from automatch.conversion.writing import create, seal, write_items

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many bytes are written, and of how many."""


def run(job: Job, progress: Progress | None = None) -> frozenset[str]:
    """Convert, alone or with the other processes of `torchrun`.

    Args:
        job: The conversion, the same in all processes.
        progress: Is told of every part that this process has written.

    Returns:
        The files that an interrupted run had completed.

    Raises:
        AutomatchError: Something failed here or in another process; nothing is under its name.
    """
    with team() as processes, locked(job.staging) if not processes.rank else nullcontext():
        return _run(job, processes, progress)


def _run(job: Job, team: Team, progress: Progress | None) -> frozenset[str]:
    """Write this process's share, and see to it that all are there before anything is in place."""
    first = team.rank == 0
    divided = len(job.shards) < team.size
    try:
        together(team, job.destination.out, lambda: _begin(job, divided) if first else None)
        kept = job.staging.kept(job.sizes)
        # Nobody writes before all have looked, or what a quick process has finished would count as kept.
        team.agree()
        mine = [share for share in shares(job.shards, team.size)[team.rank] if share.shard.name not in kept]
        together(team, job.destination.out, lambda: _write(job, mine, progress))
        together(team, job.destination.out, lambda: _finish(job, divided) if first else None)
    except BaseException:
        if first:
            job.staging.tidy()
        raise
    return kept


def _begin(job: Job, divided: bool) -> None:
    kept = job.staging.prepare(job.sizes)
    check_room(job.staging, job.destination.out, sum(shard.size for shard in job.shards if shard.name not in kept))
    for shard in job.shards if divided else ():
        if shard.name not in kept:
            create(shard, job.staging.part(shard.name))


def _write(job: Job, mine: Sequence[Share], progress: Progress | None) -> None:
    told = _counter(sum(item.nbytes for share in mine for item in share.items), progress)
    with Files(checks=job.plan.checksums) as files:
        for share in mine:
            _write_share(job, share, files, told)


def _write_share(job: Job, share: Share, files: Files, told: Told) -> None:
    part = job.staging.part(share.shard.name)
    if not share.whole:
        write_items(job.plan, share.shard, share.items, part, files, told)
        return
    create(share.shard, part)
    write_items(job.plan, share.shard, share.items, part, files, told)
    seal(share.shard, part)
    job.staging.complete(share.shard.name)


def _finish(job: Job, divided: bool) -> None:
    for shard in job.shards if divided else ():
        if job.staging.part(shard.name).exists():
            seal(shard, job.staging.part(shard.name))
            job.staging.complete(shard.name)
    for name, content in job.texts.items():
        job.staging.put(name, content)
    check_written(job)
    check_unchanged(job.sources)
    job.staging.publish(job.destination)


def _counter(total: int, progress: Progress | None) -> Told:
    """Adds up what is written, for those who want to know."""
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return told
