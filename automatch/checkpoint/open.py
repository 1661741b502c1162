"""The one way in: any path that means a checkpoint -> `Catalog`. What a file is, its first bytes say, not its name."""

from __future__ import annotations

import os
from pathlib import Path

from automatch.checkpoint.catalog import Catalog
from automatch.checkpoint.index import NEXT, Index, find
from automatch.checkpoint.safetensors_header import is_surely, looks_like, read_header
from automatch.checkpoint.shards import joined
from automatch.core.expr import Source
from automatch.core.graph import Weight
from automatch.errors import CheckpointError
from automatch.interruption import let_through

_METADATA = ".metadata"
_TORCH = (b"PK\x03\x04", b"\x80")  # a zip archive, or a pickle of old
_LFS_POINTER = b"version https://git-lfs"


def open_checkpoint(path: str | os.PathLike[str], *, entry: str | None = None) -> Catalog:
    """What a checkpoint holds and where, without loading a tensor.

    Args:
        path: A safetensors file; a file from `torch.save`; an index of shards of either; a folder that holds one of
            these; or the folder of a torch distributed checkpoint.
        entry: The entry that holds the state dict, where a file holds more than that; dots lead to inner entries. None
            takes the only one, or the one that is called `state_dict`, `model_state_dict` or `model`.

    Returns:
        The catalog. Nothing was unpickled but tensors and containers, and nothing was executed.

    Raises:
        CheckpointError: It is not a checkpoint, is damaged, its shards contradict each other or their index, or it is
            unclear which entry is meant.
    """
    try:
        return _opened(Path(path), entry)
    except OSError as error:
        let_through(error)
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def read_shapes(path: str | os.PathLike[str]) -> tuple[Weight, ...]:
    """Names, shapes and dtypes of a checkpoint, in the order of the file or of the index.

    Raises:
        CheckpointError: As for `open_checkpoint`.
    """
    return open_checkpoint(path).weights


def _opened(path: Path, entry: str | None) -> Catalog:
    if (path / _METADATA).is_file():
        from automatch.checkpoint.distributed import open_distributed

        return open_distributed(path, entry)
    _refuse_unfinished(path)
    found = find(path)
    if isinstance(found, Index):
        return joined(found, {name: _file(file, entry) for name, file in found.shards.items()})
    return _file(found, entry)


def _refuse_unfinished(path: Path) -> None:
    """A distributed checkpoint gets its metadata last."""
    if path.is_dir() and any(file.suffix == ".distcp" for file in path.iterdir()):
        raise CheckpointError(
            f"{path}: this distributed checkpoint has no {_METADATA}; it is written last, so saving did not finish.\n"
            "Next: fetch the whole folder, hidden files too, or use an earlier checkpoint."
        )


def _file(path: Path, entry: str | None) -> Catalog:
    """One file, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    # A header of the right length begins as a pickle does.
    if head.startswith(_TORCH) and not is_surely(head):
        # Torch takes seconds to import; most checkpoints do without.
        from automatch.checkpoint.torch_file import open_torch_file

        return open_torch_file(path, entry)
    if looks_like(head) or path.suffix == ".safetensors":
        return _safetensors(path, entry)
    raise CheckpointError(f"{path}: this is not a checkpoint but {_what(head, path.stat().st_size)}.\n{NEXT}")


def _safetensors(path: Path, entry: str | None) -> Catalog:
    if entry is not None:
        raise CheckpointError(f"{path}: a safetensors file has no entries, so not {entry!r} either.\nNext: name none.")
    header = read_header(path)
    blocks = header.entries
    if not blocks:
        raise CheckpointError(f"{path}: this checkpoint holds no tensors.\nNext: save it again.")
    return Catalog(
        path,
        tuple(Weight(block.name, block.shape, block.dtype) for block in blocks),
        {block.name: Source(block.name, block.shape) for block in blocks},
        {block.name: block for block in blocks},
        (path,),
        metadata=header.metadata,
    )


def _what(head: bytes, size: int) -> str:
    if not size:
        return "an empty file"
    if head.startswith(_LFS_POINTER):
        return "a Git LFS pointer (run `git lfs pull`)"
    if head.lstrip().startswith((b"{", b"[", b"<")) or head.isascii():
        return f"a text file of {size} bytes"
    return f"a file of {size} bytes in a format that automatch does not know"
