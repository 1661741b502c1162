"""Output that appears when it is whole: a hidden folder beside it is filled first, and survives an interruption.

Files are written there as `NAME.part`, and renamed to `NAME` when complete and on the disk. A next run of the same
conversion takes the complete ones over. Nothing has its final place before all is there and checked; an index comes
last, because it is what makes shards a checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from automatch.errors import CheckpointError
from automatch.interruption import let_through

PART = ".part"
_STATE = "conversion.json"
_FILES = "files"
_INDEX = ".index.json"
_NO_FOLDER = {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json"}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a conversion's output goes.

    Attributes:
        out: What the user named: a file, or a folder.
        folder: The folder of the files.
        names: The files, in the order in which they are put in place; what makes them a checkpoint is last.
    """

    out: Path
    folder: Path
    names: tuple[str, ...]

    @property
    def whole_folder(self) -> bool:
        """Whether the folder is the output and not there yet, so that it can appear at once."""
        return self.out == self.folder and not self.folder.exists()

    @property
    def staging(self) -> Path:
        """Where the files are made: on the file system of the output, because only there a rename is atomic."""
        name = f".{self.out.name}.converting"
        mounted = self.out == self.folder and self.out.exists() and self.out.stat().st_dev != _device(self.out.parent)
        return (self.out if mounted else self.out.parent) / name


@dataclass(frozen=True, slots=True)
class Staging:
    """The hidden folder of one conversion.

    Attributes:
        root: The folder.
        fingerprint: What the conversion is made of; another one's files are not taken over.
    """

    root: Path
    fingerprint: str

    def path(self, name: str) -> Path:
        """Where a complete file lies."""
        return self.root / _FILES / name

    def part(self, name: str) -> Path:
        """Where a file lies while it is written."""
        return self.root / _FILES / (name + PART)

    def complete(self, name: str) -> None:
        """Say that a file is complete: its bytes are on the disk before its name says so."""
        flush(self.part(name))
        os.replace(self.part(name), self.path(name))

    def put(self, name: str, content: bytes) -> None:
        """Write a small file whole."""
        self.part(name).write_bytes(content)
        self.complete(name)

    def prepare(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """Get the folder ready, with what an interrupted run of the same conversion has completed in it.

        Args:
            sizes: The size of every file that is to come and can be taken over.

        Returns:
            The names of the files that are complete.
        """
        if self._begun_by() != self.fingerprint:
            self.clear()
        (self.root / _FILES).mkdir(exist_ok=True)
        (self.root / _STATE).write_text(json.dumps({"fingerprint": self.fingerprint}), encoding="utf-8")
        kept = self.kept(sizes)
        for path in (self.root / _FILES).iterdir():
            if path.name not in kept:
                path.unlink()
        return kept

    def kept(self, sizes: Mapping[str, int]) -> frozenset[str]:
        """The names of the files that are complete."""
        files = self.root / _FILES
        return frozenset(path.name for path in files.iterdir() if sizes.get(path.name) == path.stat().st_size)

    def publish(self, destination: Destination) -> None:
        """Put the complete files where they belong."""
        if destination.whole_folder:
            os.rename(self.root / _FILES, destination.folder)
        else:
            # Without its index what is there is no checkpoint, while its shards are exchanged one by one.
            if destination.names[-1].endswith(_INDEX):
                (destination.folder / destination.names[-1]).unlink(missing_ok=True)
            for name in destination.names:
                os.replace(self.path(name), destination.folder / name)
        for folder in {destination.folder, destination.out.parent}:
            _flush_folder(folder)
        self.clear()

    def tidy(self) -> None:
        """After a failure, keep complete files for the next run and give back the room of all others."""
        files = self.root / _FILES
        left = list(files.iterdir()) if files.is_dir() else []
        for path in left:
            if path.name.endswith(PART):
                path.unlink(missing_ok=True)
        if all(path.name.endswith(PART) for path in left):
            self.clear()

    def clear(self) -> None:
        """Empty the folder.

        Raises:
            CheckpointError: It holds what no conversion wrote.
        """
        if not self.root.exists():
            return
        strange = {path.name for path in self.root.iterdir()} - {_STATE, _FILES}
        if strange:
            raise CheckpointError(f"{self.root} holds {min(strange)!r}, which no conversion wrote; move it away")
        # The state first: files without it are not taken over.
        (self.root / _STATE).unlink(missing_ok=True)
        shutil.rmtree(self.root / _FILES, ignore_errors=True)

    def _begun_by(self) -> str | None:
        try:
            content = json.loads((self.root / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            let_through(error)
            return None
        found = content.get("fingerprint") if isinstance(content, dict) else None
        return found if isinstance(found, str) else None


@contextmanager
def locked(staging: Staging) -> Iterator[None]:
    """Make the folder and keep a second conversion out of it until this one has ended, or died; remove it if empty.

    Raises:
        CheckpointError: Another conversion is at work, or the folder cannot be made, or is a link.
    """
    # What is in the folder will be deleted: in a place where others write, a link could lead to anything.
    if link := next((path for path in (staging.root, staging.root / _FILES) if path.is_symlink()), None):
        raise CheckpointError(f"{link} is a link, which no conversion made; remove it")
    try:
        staging.root.mkdir(exist_ok=True)
    except OSError as error:
        let_through(error)
        raise CheckpointError(f"{staging.root} cannot be made: {error.strerror}; name another place") from error
    with _opened(staging.root) as descriptor:
        _lock(descriptor, staging.root)
        try:
            yield
        finally:
            _remove_if_empty(staging.root)


def _flush_folder(folder: Path) -> None:
    try:
        flush(folder)
    except OSError as error:  # some file systems do not flush folders
        let_through(error)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:  # not empty: what a next run can use stays
        let_through(error)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    busy = CheckpointError(f"another conversion is writing into {folder}; wait for it, or stop it")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError as error:  # a file system without locks
        let_through(error)
        return
    # The other one may have ended, and removed its folder, between our opening it and our lock.
    if not folder.exists() or os.fstat(descriptor).st_ino != folder.stat().st_ino:
        raise busy


def check_room(staging: Staging, out: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        staging: Where files are made.
        out: What is to be written, for the message.
        needed: How many bytes it needs.

    Raises:
        CheckpointError: There is less room.
    """
    free = shutil.disk_usage(staging.root).free
    if needed > free:
        raise CheckpointError(
            f"{out} needs {needed:,} bytes, but its disk has {free:,} free; make room, or name another place"
        )


def _device(path: Path) -> int:
    return path.stat().st_dev


def flush(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


def choose(out: Path, base: str, names: Sequence[str], last: str) -> Destination:
    """Where files go, given what the user named: a file's name, or a folder.

    Args:
        out: What the user named; one file if it ends in `.safetensors`.
        base: What the names of a folder's files begin with.
        names: The files of tensors.
        last: The file that completes them.

    Raises:
        CheckpointError: The place cannot be written, or other weights are in it.
    """
    order = (*(name for name in names if name != last), last)
    if not out.parent.is_dir():
        raise CheckpointError(f"{out}: the folder {out.parent} does not exist; make it first")
    if out.suffix == ".safetensors":
        if out.is_dir():
            raise CheckpointError(f"{out} is a folder; name a file in it")
        return _unobstructed(Destination(out, out.parent, order))
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out} is a file; name a folder, or a file that ends in .safetensors")
    if not out.exists():
        _refuse_folder(out)
        return Destination(out, out, order)
    others = sorted(path.name for path in out.glob(f"{base}*.safetensors*") if path.name not in order)
    if others:
        raise CheckpointError(
            f"{out} holds other weights, which loaders could take for these: {', '.join(others[:5])}; remove them, or "
            "name another folder"
        )
    return _unobstructed(Destination(out, out, order))


def _refuse_folder(out: Path) -> None:
    """Refuse names that nobody means for a new folder."""
    if out.is_symlink():
        raise CheckpointError(f"{out} is a link to nothing; make the folder it points to, or name another place")
    if out.suffix.lower() in _NO_FOLDER:
        raise CheckpointError(
            f"{out} looks like a file, but safetensors are written; name a file that ends in .safetensors, or a folder"
        )


def _unobstructed(destination: Destination) -> Destination:
    """The destination, where files can be put into it: to hear an hour later that they cannot would be too late."""
    if not os.access(destination.folder, os.W_OK | os.X_OK):
        raise CheckpointError(f"{destination.folder} is not yours to write into; name another place")
    taken = [path for name in destination.names if (path := destination.folder / name).is_dir()]
    if taken:
        raise CheckpointError(f"{taken[0]} is a folder, where a file is to be; move it away, or name another place")
    return destination
