"""A checkpoint of `torch.distributed.checkpoint` for the target: written through that package, box by box.

Every process writes one file, of the boxes that are its share. Only the package's own index, `.metadata`, makes them a
checkpoint; here the whole folder appears at once, when all is there and checked.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save

from automatch.checkpoint.dtypes import BY_NAME, count_bytes
from automatch.checkpoint.open import open_checkpoint
from automatch.checkpoint.reading import Files
from automatch.conversion.convert import Converted, Options, named_place, planned
from automatch.conversion.making import make_box
from automatch.conversion.plan import MAPPING_FILE, Item, Plan
from automatch.conversion.ranks import Ranks, team
from automatch.conversion.regions import Box, extents
from automatch.conversion.run import Progress
from automatch.conversion.sharding import cut
from automatch.conversion.staging import Destination, Staging, check_room, locked
from automatch.conversion.team import Team
from automatch.conversion.team import together as in_step
from automatch.conversion.unchanged import check_unchanged, states
from automatch.conversion.written import differences, told
from automatch.core.expr import sources
from automatch.core.mapping_file import MappingLike, as_record
from automatch.core.mapping_json import dumps
from automatch.errors import CheckpointError, together
from automatch.interruption import let_through

_LAST = ".metadata"

BOX = 32 * 2**20
"""Bytes of a box. A reader loads whole boxes, even of a box of which it wants some entries."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A box of a tensor: what is written at once."""

    item: Item
    box: Box

    @property
    def nbytes(self) -> int:
        return count_bytes(self.item.dtype, extents(self.box))


@dataclass(frozen=True, slots=True)
class DistributedJob:
    """A conversion that can begin.

    Attributes:
        plan: What is written.
        mapping: The file that is written beside it.
        destination: Where the folder goes.
        staging: Where it is made.
        sources: The checkpoint's files, and their states now.
    """

    plan: Plan
    mapping: bytes
    destination: Destination
    staging: Staging
    sources: Mapping[Path, str]

    @property
    def folder(self) -> Path:
        """Where the files are made."""
        return self.staging.path(_LAST).parent


def convert_distributed(
    checkpoint: str | os.PathLike[str],
    mapping: MappingLike,
    out: str | os.PathLike[str],
    options: Options,
    progress: Progress | None = None,
) -> Converted:
    """Make a distributed checkpoint for the target from a checkpoint for the source.

    Args:
        checkpoint: Anything that `automatch.convert` reads.
        mapping: The mapping, or the path of its file.
        out: The folder to make; it is not there yet, or empty.
        options: How; sizes and names of files are not for this format.
        progress: Is told of every box that this process has written.

    Returns:
        What was written.

    Raises:
        CheckpointError: The checkpoint is damaged or of no known format, or the output cannot be written; nothing is
            under its name then.
        MappingError: The checkpoint lacks keys, or has them in other shapes (all are listed).
    """
    job = prepare_distributed(checkpoint, mapping, out, options)
    with team() as processes, locked(job.staging) if not processes.rank else nullcontext():
        _run(job, processes, progress)
    return Converted(_in_order(job.destination.folder), job.plan)


def prepare_distributed(
    checkpoint: str | os.PathLike[str], mapping: MappingLike, out: str | os.PathLike[str], options: Options
) -> DistributedJob:
    """All that `convert_distributed` decides before it reads or writes a number; the errors are the same."""
    _refuse_names_and_sizes(options)
    record, destination = as_record(mapping), _destination(named_place(out))
    catalog = open_checkpoint(checkpoint, entry=options.entry)
    plan = planned(record, catalog, options)
    staging = Staging(destination.staging, "a distributed checkpoint, of which nothing is taken over")
    return DistributedJob(plan, dumps(record).encode(), destination, staging, states(catalog.files))


def _in_order(folder: Path) -> tuple[Path, ...]:
    """The files of a distributed checkpoint, the one last that makes them one."""
    return tuple(
        sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: (path.name == _LAST, path))
    )


def _refuse_names_and_sizes(options: Options) -> None:
    if options.max_shard_size is not None:
        raise CheckpointError("a distributed checkpoint has one file a process; leave max_shard_size out")
    if options.digests:
        raise CheckpointError("a distributed checkpoint has checksums of its own for verify; leave digests out")
    if options.name != Options().name:
        raise CheckpointError("torch.distributed.checkpoint names the files of its checkpoints; leave name out")


def _destination(out: Path) -> Destination:
    if out.suffix == ".safetensors":
        raise CheckpointError(f"{out}: a distributed checkpoint is a folder; name one, or leave format out")
    if not out.parent.is_dir():
        raise CheckpointError(f"{out}: the folder {out.parent} does not exist; make it first")
    destination = Destination(out, out, ())
    held = {path.name for path in out.iterdir()} if out.is_dir() else {out.name} if out.exists() else set()
    if held - {destination.staging.name}:
        raise CheckpointError(f"{out} is there already; name a new folder for a distributed checkpoint")
    return destination


def _run(job: DistributedJob, processes: Team, progress: Progress | None) -> None:
    """Write this process's share, and see to it that all are there before the folder is in place."""
    first = processes.rank == 0
    try:
        in_step(processes, job.destination.out, lambda: _begin(job) if first else None)
        in_step(processes, job.destination.out, lambda: _write(job, processes, progress))
        in_step(processes, job.destination.out, lambda: _finish(job) if first else None)
    except BaseException:
        if first:
            job.staging.clear()
        raise


def _begin(job: DistributedJob) -> None:
    job.staging.prepare({})
    check_room(job.staging, job.destination.out, job.plan.nbytes)


def _finish(job: DistributedJob) -> None:
    job.staging.put(MAPPING_FILE, job.mapping)
    _check_written(job.plan, job.folder)
    check_unchanged(job.sources)
    job.staging.publish(replace(job.destination, names=tuple(path.name for path in _in_order(job.folder))))


def _write(job: DistributedJob, processes: Team, progress: Progress | None) -> None:
    """Write this process's share, and with the others the index."""
    share = _share(job.plan, processes)
    alone = processes.size == 1
    with Files(checks=job.plan.checksums) as files, warnings.catch_warnings():
        # That there is one process is meant so.
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        planner = _Planner(job.plan, share, files, progress)
        writer = _Writer(job.folder, per_thread_copy_ahead=0, overwrite=False)
        group = processes.group if isinstance(processes, Ranks) else None
        try:
            save({}, storage_writer=writer, planner=planner, process_group=group, no_dist=alone)
        except CheckpointException as error:
            raise _cause(error, processes.rank) from error
        except RuntimeError as error:
            let_through(error)
            raise CheckpointError("a process of the group is gone. Run the same command again") from error
        planner.release()


def _cause(error: CheckpointException, rank: int) -> BaseException:
    """What went wrong in this process, or that it went wrong in another."""
    if rank not in error.failures:
        return CheckpointError(f"process {min(error.failures)} of the group has failed; its own message says why")
    cause = error.failures[rank][0]
    let_through(cause)
    if isinstance(cause, RuntimeError):  # how torch.save says that the disk is full
        return CheckpointError(f"the output cannot be written: {str(cause).splitlines()[0]}")
    return cause


def _share(plan: Plan, processes: Team) -> list[_Part]:
    """The boxes that this process writes: a stretch of all in order, so that it reads in order too."""
    parts = [_Part(item, box) for item in plan.items for box in cut(item.shape, BOX // BY_NAME[item.dtype].size)]
    ends = accumulate(part.nbytes for part in parts)
    middles = (end - part.nbytes // 2 for part, end in zip(parts, ends, strict=True))
    total, last = max(1, plan.nbytes), processes.size - 1
    owners = (min(middle * processes.size // total, last) for middle in middles)
    return [part for part, owner in zip(parts, owners, strict=True) if owner == processes.rank]


class _Writer(FileSystemWriter):
    """The package's own, but for what it notes of the run: a random number, and a place that is left behind."""

    def storage_meta(self) -> StorageMeta:
        return StorageMeta()


class _Planner(SavePlanner):
    """Tells the package which boxes there are, and makes each when it is to be written."""

    def __init__(self, plan: Plan, share: Sequence[_Part], files: Files, progress: Progress | None) -> None:
        self._plan = plan
        self._share = {(part.item.key, _offsets(part.box)): part for part in share}
        self._files = files
        self._progress = progress
        self._done, self._total = 0, sum(part.nbytes for part in share)
        self._given: Tensor | None = None

    def set_up_planner(
        self, state_dict: Any, storage_meta: StorageMeta | None = None, is_coordinator: bool = False
    ) -> None:
        """Nothing: what is saved is in the plan."""

    def create_local_plan(self) -> SavePlan:
        return SavePlan([_write_item(part) for part in self._share.values()])

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Metadata]:
        plans, metadata = create_default_global_save_plan(all_plans)
        # Keys are names here, not paths through nested entries.
        return plans, replace(metadata, planner_data={item.key: (item.key,) for item in self._plan.items})

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        self.release()
        part = self._share[write_item.index.fqn, tuple(write_item.index.offset or ())]
        for key in sources(part.item.expr):
            self._files.verify(self._plan.catalog.stored[key])
        made = make_box(part.item, part.box, self._plan.catalog.stored, self._files)
        # A copy, because memory that was read into through numpy cannot be given back while anything refers to it.
        self._given = made.clone()
        return self._given

    def release(self) -> None:
        """Give back the memory of the last box: it is written, but the writer keeps one box of every tensor."""
        if self._given is None:
            return
        self._done += self._given.nbytes
        self._given.untyped_storage().resize_(0)
        self._given = None
        if self._progress is not None:
            self._progress(self._done, self._total)


def _write_item(part: _Part) -> WriteItem:
    offsets = torch.Size(_offsets(part.box))
    sizes = torch.Size(extents(part.box))
    properties = TensorProperties(dtype=getattr(torch, part.item.dtype))
    data = TensorWriteData(ChunkStorageMetadata(offsets, sizes), properties, torch.Size(part.item.shape))
    return WriteItem(MetadataIndex(part.item.key, offsets), WriteItemType.SHARD, tensor_data=data)


def _offsets(box: Box) -> tuple[int, ...]:
    return tuple(start for start, _ in box)


def _check_written(plan: Plan, folder: Path) -> None:
    """Open what was written, and hold it against the plan.

    Raises:
        CheckpointError: It is not what was planned; all problems are listed.
    """
    found = {weight.name: told(weight.dtype, weight.shape) for weight in open_checkpoint(folder).weights}
    problems = differences(found, {item.key: told(item.dtype, item.shape) for item in plan.items})
    if problems:
        raise together(CheckpointError, "the folder written is not what was planned; convert again:", problems)
