"""Whether a checkpoint's files are still those for which a conversion was planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from automatch.errors import CheckpointError, together


def states(files: Iterable[Path]) -> dict[Path, str]:
    """What tells a file from the same one at another time, without reading it: place, size and time of last change.

    Raises:
        OSError: A file is not there any more.
    """
    return {file: _state(file) for file in files}


def check_unchanged(before: Mapping[Path, str]) -> None:
    """Refuse output of which one part was made from a file as it was, and another from what it became.

    Args:
        before: The files' states when the conversion was planned.

    Raises:
        CheckpointError: Some are in another state now; all are named.
    """
    changed = [str(file) for file, state in before.items() if not file.exists() or _state(file) != state]
    if changed:
        headline = "these files were changed while they were converted; convert again when they are at rest:"
        raise together(CheckpointError, headline, changed)


def _state(file: Path) -> str:
    found = file.stat()
    return f"{file.resolve()}\0{found.st_size}\0{found.st_mtime_ns}"
