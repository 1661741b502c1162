"""A checkpoint for the source becomes one for the target, file to file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from automatch.apply.fit import warn_of
from automatch.checkpoint.catalog import Catalog
from automatch.checkpoint.open import open_checkpoint
from automatch.conversion.job import SUFFIX, Job, make_job
from automatch.conversion.plan import Plan, Tied, make_plan
from automatch.conversion.run import Progress, run
from automatch.conversion.shards import parse_size
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_file import MappingLike, as_record
from automatch.errors import CheckpointError
from automatch.interruption import of_caller

Format: TypeAlias = Literal["safetensors", "dcp"]

FOLDER_LIMIT = 50 * 10**9
"""Bytes of tensors a file in a folder, unless told otherwise; what `transformers` takes."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a checkpoint is converted; `convert` says what each means."""

    dtype: str | None = None
    max_shard_size: str | int | None = None
    entry: str | None = None
    tied: Tied = "each"
    name: str = "model"
    allow_unread: tuple[str, ...] | None = None
    checksums: bool = True
    digests: bool = False


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        files: The files, the one that makes them a checkpoint last.
        plan: What was done.
        resumed: Files that an interrupted run had left complete.
    """

    files: tuple[Path, ...]
    plan: Plan
    resumed: tuple[str, ...] = ()


def prepare(
    checkpoint: str | os.PathLike[str],
    mapping: MappingLike,
    out: str | os.PathLike[str],
    options: Options,
) -> Job:
    """All that `convert` decides before it reads or writes a number; the errors are the same."""
    record, place = as_record(mapping), named_place(out)
    if not options.name or "/" in options.name or "\\" in options.name or options.name.startswith("."):
        raise CheckpointError(f"{options.name!r} cannot begin the names of files; use a name such as model")
    catalog = open_checkpoint(checkpoint, entry=options.entry)
    plan = planned(record, catalog, options)
    size = options.max_shard_size
    limit = parse_size(size) if size is not None else None if place.suffix == SUFFIX else FOLDER_LIMIT
    return make_job(plan, record, place, options.name, limit, digests=options.digests)


def planned(record: MappingRecord, catalog: Catalog, options: Options) -> Plan:
    """The plan for a checkpoint, with what the options say of it."""
    return make_plan(
        record,
        catalog,
        dtype=options.dtype,
        tied=options.tied,
        allow_unread=options.allow_unread,
        checksums=options.checksums,
    )


def named_place(out: str | os.PathLike[str]) -> Path:
    """The path of an output, with a name of its own even where the user wrote `.` or `..`."""
    place = Path(out)
    return place.resolve() if place.name in ("", "..") else place


def convert(
    checkpoint: str | os.PathLike[str],
    mapping: MappingLike,
    out: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    max_shard_size: str | int | None = None,
    entry: str | None = None,
    tied: Tied = "each",
    name: str = "model",
    allow_unread: Sequence[str] | None = None,
    checksums: bool = True,
    digests: bool = False,
    format: Format = "safetensors",
    progress: Progress | None = None,
) -> Converted:
    """Make a checkpoint for the target from one for the source.

    Bytes that only move are copied from file to file; everything else is made in tiles, so that memory does not grow
    with the model. Output appears under its name when it is complete and checked. A conversion that was interrupted
    takes over the files that were complete when it is run again. Under `torchrun` the processes share the work.

    Args:
        checkpoint: A safetensors file, a file of `torch.save`, an index of shards, a folder with one of these, or a
            folder that `torch.distributed.checkpoint` wrote.
        mapping: The mapping, or the path of its file.
        out: A file that ends in `.safetensors`, or a folder; what is there already is replaced.
        dtype: What floating tensors are cast to (`"bfloat16"`); None keeps every tensor's own.
        max_shard_size: Bytes of tensors a file, as a number or as `"5GB"`; None for one file, or 50 GB in a folder.
        entry: Which entry of a file of `torch.save` holds the weights (`"ema"`), where there are several.
        tied: Whether tensors that the target ties are written under each key, as `load_state_dict(strict=True)` wants
            it, or once, as `safetensors.torch.load_model` does.
        name: What the names of files in a folder begin with; `diffusers` looks for `diffusion_pytorch_model`.
        allow_unread: Patterns (`"ema.*"`) of tensors that may be left out though the mapping never knew them; others
            are an error then. None leaves out all of them, with a warning (`UnreadWarning`).
        checksums: Whether the numbers of a `torch.save` archive are held against the checksums in it, which costs a
            read of what is read anyway. An archive that was saved without says so in the plan's notes.
        digests: Whether every file carries a SHA-256 of each of its tensors in its metadata, for `verify`.
        format: `"safetensors"`, or `"dcp"` for a folder of `torch.distributed.checkpoint`.
        progress: Is told of every part written.

    Returns:
        What was written.

    Raises:
        CheckpointError: The checkpoint is damaged (or a checksum is wrong) or of no known format, or the output cannot
            be written; nothing is under its name then.
        MappingError: The checkpoint does not fit the mapping: keys are missing or have other shapes, hold another kind
            of numbers or numbers whose scale nothing reads, are read by nothing and not allowed to be, or are tied and
            hold different values. All of them are listed.
    """
    allowed = None if allow_unread is None else tuple(allow_unread)
    options = Options(dtype, max_shard_size, entry, tied, name, allowed, checksums, digests)
    progress = None if progress is None else of_caller(progress)
    if format == "dcp":
        from automatch.conversion.distributed import convert_distributed

        done = convert_distributed(checkpoint, mapping, out, options, progress)
    else:
        job = prepare(checkpoint, mapping, out, options)
        kept = run(job, progress)
        files = tuple(job.destination.folder / name for name in job.destination.names)
        done = Converted(files, job.plan, tuple(sorted(kept)))
    if allow_unread is None:
        warn_of(done.plan.unread, str(done.plan.catalog.path), stacklevel=3)
    return done
