"""`automatch verify`: hold a checkpoint against what was written with it, and say what is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automatch.checkpoint.digests import verify
from automatch.cli import statuses
from automatch.errors import CheckpointError

SHOWN = 20
"""How many damaged tensors are named."""


def run(checkpoint: Path, entry: str | None) -> int:
    """Verify a checkpoint; gives the exit status: 1 where a tensor is damaged, or of some nothing tells.

    Raises:
        CheckpointError: It is no checkpoint, its header is damaged, or nothing in it tells whether its numbers are.
    """
    found = verify(checkpoint, entry=entry)
    if not found.sound and not found.damaged:
        raise CheckpointError(
            f"{checkpoint} carries neither digests nor checksums, so that nothing tells whether its numbers are those "
            "that were written.\nNext: convert with --digests, or save an archive with torch.save."
        )
    print(f"{checkpoint}: {len(found.sound):,} tensors are as they were written")
    _listed("are damaged", found.damaged)
    _listed("have no digest or checksum", found.unchecked)
    if found.damaged:
        return statuses.of(f"{len(found.damaged):,} tensors of {checkpoint} are damaged; fetch it again")
    return statuses.of(f"of {len(found.unchecked):,} tensors nothing tells" if found.unchecked else "")


def _listed(what: str, names: Sequence[str]) -> None:
    if names:
        print(f"{len(names):,} tensors {what}:")
        print(*(f"  {name}" for name in names[:SHOWN]), sep="\n")
        print(*([f"  ... and {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []), sep="\n", end="")
