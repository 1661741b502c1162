"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from automatch.errors import AutomatchError
from automatch.interruption import let_through


@contextmanager
def replacing(out: str | os.PathLike[str], error: type[AutomatchError]) -> Iterator[Path]:
    """Give a temporary path beside `out`, and move it there once the body has written it without an exception.

    Args:
        out: The file to appear; one that is there already is replaced.
        error: What to raise where `out` cannot be a file.

    Raises:
        AutomatchError: (of the given class) `out` is a folder, its folder is not there, or the system refuses to write.
    """
    path = Path(out)
    if path.is_dir():
        raise error(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise error(f"{path}: the folder {path.parent} does not exist; make it first")
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as problem:
        let_through(problem)
        raise error(f"{path} cannot be written: {problem.strerror or problem}; nothing was changed") from problem
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _flush(path: Path) -> None:
    """Have the bytes on the disk before the name says that they are there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
