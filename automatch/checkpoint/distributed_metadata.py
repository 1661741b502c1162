"""The `.metadata` of a torch distributed checkpoint, unpickled through a list of what may occur in it."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from torch.distributed._shard.sharded_tensor import metadata as older
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from automatch.errors import CheckpointError
from automatch.interruption import let_through

_CLASSES: tuple[type, ...] = (
    Metadata,
    StorageMeta,
    metadata.BytesStorageMetadata,
    metadata.ChunkStorageMetadata,
    metadata.MetadataIndex,
    metadata.TensorProperties,
    metadata.TensorStorageMetadata,
    metadata._MEM_FORMAT_ENCODING,
    filesystem._StorageInfo,
    filesystem._StoragePrefix,
    older.TensorProperties,
    older.MEM_FORMAT_ENCODING,
    OrderedDict,
)
# Pure paths: they say where the checkpoint was saved, and can do nothing with it.
_PATHS = {"PosixPath": PurePosixPath, "PurePosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}
_HARMLESS: Mapping[tuple[str, str], object] = {
    **{(kind.__module__, kind.__name__): kind for kind in _CLASSES},
    **{(module, name): kind for name, kind in _PATHS.items() for module in ("pathlib", "pathlib._local")},
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    **{("builtins", kind.__name__): kind for kind in (list, tuple, dict, set, frozenset, slice)},
}


class CarefulReader(FileSystemReader):
    """Torch's reader of checkpoint folders, that unpickles nothing but what such a folder is made of.

    Example:
        A checkpoint from someone else is loaded with it as with its base:
        `torch.distributed.checkpoint.load(state, storage_reader=CarefulReader(folder))`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """A reader for the folder at a path."""
        super().__init__(path)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The metadata of the folder.

        Raises:
            CheckpointError: It is damaged, or holds anything that does not belong there; nothing of it was executed.
        """
        path = Path(self._get_metadata_path(kwargs.get("rank")))
        with path.open("rb") as file:
            found = _unpickled(path, _Unpickler(file))
        found.storage_meta = getattr(found, "storage_meta", None) or StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return _HARMLESS[module, name]
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, (torch.dtype, torch.memory_format, torch.layout)):
            return dtype
        raise CheckpointError(f"{module}.{name}")


def _unpickled(path: Path, unpickler: _Unpickler) -> Metadata:
    try:
        found = unpickler.load()
    except CheckpointError as error:
        raise CheckpointError(
            f"{path}: this file mentions {error}, which does not belong into a checkpoint's metadata; loading it could "
            "run code, and nothing was loaded.\nNext: save the checkpoint again where you trust it."
        ) from error
    except Exception as error:  # a damaged stream makes the unpickler raise whatever it stumbles over
        let_through(error)
        raise damaged(path, f"{type(error).__name__}: {str(error)[:200]}") from error
    if not isinstance(found, Metadata):
        raise damaged(path, f"it holds a {type(found).__name__}")
    if not all(isinstance(getattr(found, told, None), dict) for told in ("state_dict_metadata", "storage_data")):
        raise damaged(path, "it does not say which tensors there are, and where")
    return found


def damaged(path: Path, reason: str) -> CheckpointError:
    """The error for a distributed checkpoint that contradicts itself."""
    return CheckpointError(
        f"{path}: this distributed checkpoint is damaged: {reason}.\nNext: fetch it again, or save it again."
    )
