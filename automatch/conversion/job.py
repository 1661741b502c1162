"""One conversion, prepared: what is written, where, and by what it is known again after an interruption."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from automatch.checkpoint.safetensors_header import read_header
from automatch.conversion.plan import Plan
from automatch.conversion.shards import Shard, index_name, make_index, make_shards
from automatch.conversion.staging import Destination, Staging, choose
from automatch.conversion.unchanged import states
from automatch.conversion.written import differences, told
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_json import digest, dumps
from automatch.errors import CheckpointError, together

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Job:
    """A conversion that can begin.

    Attributes:
        plan: What is written.
        shards: The files of tensors.
        texts: Further files: the mapping, and the index where there are several shards.
        destination: Where the files go.
        staging: Where they are made.
        sources: The checkpoint's files, and their states now.
    """

    plan: Plan
    shards: tuple[Shard, ...]
    texts: Mapping[str, bytes]
    destination: Destination
    staging: Staging
    sources: Mapping[Path, str]

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every file of tensors."""
        return {shard.name: shard.size for shard in self.shards}


def make_job(
    plan: Plan, record: MappingRecord, out: Path, base: str, limit: int | None, *, digests: bool = False
) -> Job:
    """Decide on files and places.

    Args:
        plan: What is written.
        record: The mapping, which is written beside.
        out: The file or the folder that the user named.
        base: What names in a folder begin with.
        limit: Bytes of tensors a file; None for one file.
        digests: Whether files carry digests of their tensors.

    Raises:
        CheckpointError: The place cannot be written, holds the checkpoint itself or other weights, or one file is
            named and several are wanted.
    """
    base = out.name.removesuffix(SUFFIX) if out.suffix == SUFFIX else base
    shards = make_shards(plan.items, base, limit, digest(record), digests=digests)
    if len(shards) > 1 and out.suffix == SUFFIX:
        raise CheckpointError(f"{out} is one file, but {len(shards)} are needed at this size; name a folder")
    texts = {f"{base}.mapping.json": dumps(record).encode()}
    if len(shards) > 1:
        texts[index_name(base)] = make_index(shards)
    last = index_name(base) if len(shards) > 1 else shards[0].name
    destination = choose(out, base, [*texts, *(shard.name for shard in shards)], last)
    _refuse_overwriting(plan, destination)
    sources = states(plan.catalog.files)
    staging = Staging(destination.staging, _fingerprint(plan, sources, shards, texts))
    return Job(plan, shards, texts, destination, staging, sources)


def check_written(job: Job) -> None:
    """Read every finished file's header again, and hold it against the plan.

    Raises:
        CheckpointError: A file is not what was planned; all problems are listed.
    """
    problems = [problem for shard in job.shards for problem in _differences(job, shard)]
    if problems:
        raise together(CheckpointError, "the files written are not what was planned; convert again:", problems)


def _differences(job: Job, shard: Shard) -> list[str]:
    entries = read_header(job.staging.path(shard.name)).entries
    found = {entry.name: f"{told(entry.dtype, entry.shape)} at byte {entry.offset}" for entry in entries}
    wanted = {item.key: f"{told(item.dtype, item.shape)} at byte {shard.offsets[item.key]}" for item in shard.items}
    return [f"{shard.name}: {difference}" for difference in differences(found, wanted)]


def _refuse_overwriting(plan: Plan, destination: Destination) -> None:
    written = {(destination.folder / name).resolve() for name in destination.names}
    both = sorted(str(file) for file in plan.catalog.files if file.resolve() in written)
    if both:
        raise CheckpointError(f"{both[0]} belongs to the checkpoint itself; name another place for the output")


def _fingerprint(plan: Plan, sources: Mapping[Path, str], shards: tuple[Shard, ...], texts: Mapping[str, bytes]) -> str:
    """A hash of all that the output depends on: two conversions with one hash write the same bytes."""
    digest = hashlib.sha256()
    for state in sources.values():
        digest.update(f"{state}\0".encode())
    for shard in shards:
        digest.update(f"{shard.name}\0{shard.size}\0".encode() + shard.header)
    for item in plan.items:
        digest.update(f"{item.key}\0{item.dtype}\0{item.expr!r}\0".encode())
    for name, content in texts.items():
        digest.update(f"{name}\0".encode() + content)
    return digest.hexdigest()
