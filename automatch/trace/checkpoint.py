"""Checkpoints: names and shapes without loading a tensor, or the tensors themselves, mapped from disk.

A checkpoint is one `.safetensors` file, one file that `torch.save` wrote, an index of shards
(`*.safetensors.index.json`), or a folder with one of these. What a file is, its first bytes say, not its name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from automatch.core.graph import Weight
from automatch.errors import CheckpointError, together
from automatch.trace import safetensors_file, torch_file

if TYPE_CHECKING:
    from torch import Tensor

_INDEX = ".index.json"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_NEXT = "Next: pass a .safetensors, .pt, .pth or .bin file, a *.safetensors.index.json, or a folder that holds one."
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class _Format:
    """How the files of one format are read."""

    shapes: Callable[[Path], tuple[Weight, ...]]
    tensors: Callable[[Path], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class _Index:
    """An index of shards: which file of its folder holds which key."""

    path: Path
    weight_map: Mapping[str, str]

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.weight_map.values()))

    def file(self, shard: str) -> Path:
        return self.path.parent / shard


def read_shapes(path: str | os.PathLike[str]) -> tuple[Weight, ...]:
    """Names, shapes and dtypes of a checkpoint, in the order of the file or of the index.

    Raises:
        CheckpointError: It is not a checkpoint, is damaged, or its shards contradict its index.
    """
    found = _find(Path(path))
    if isinstance(found, Path):
        return _reader(found).shapes(found)
    shards = {shard: _reader(found.file(shard)).shapes(found.file(shard)) for shard in found.shards}
    _agree(found, {shard: {key for weight in weights for key in _keys(weight)} for shard, weights in shards.items()})
    by_name = {weight.name: weight for weights in shards.values() for weight in weights}
    return tuple(by_name[key] for key in found.weight_map if key in by_name)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU, mapped from disk where the format allows it.

    Raises:
        CheckpointError: As for `read_shapes`.
    """
    found = _find(Path(path))
    if isinstance(found, Path):
        return _reader(found).tensors(found)
    shards = {shard: _reader(found.file(shard)).tensors(found.file(shard)) for shard in found.shards}
    _agree(found, {shard: set(tensors) for shard, tensors in shards.items()})
    return {key: shards[shard][key] for key, shard in found.weight_map.items()}


def _keys(weight: Weight) -> tuple[str, ...]:
    return (weight.name, *weight.aliases)


def _find(path: Path) -> Path | _Index:
    """The one file or index that a path means."""
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or folder.\n{_NEXT}")
    if path.is_dir():
        path = _in_folder(path)
    return _index(path) if path.name.endswith(_INDEX) else path


def _in_folder(folder: Path) -> Path:
    """The index of a folder, else its one safetensors file, else its one other checkpoint."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    kinds = [
        [file for file in files if file.name.endswith(f".safetensors{_INDEX}")],
        [file for file in files if file.name.endswith(_INDEX)],
        *([file for file in files if file.suffix in suffixes] for suffixes in (_SUFFIXES[:1], _SUFFIXES[1:])),
    ]
    candidates = next((kind for kind in kinds if kind), [])
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        names = ", ".join(file.name for file in files[:5]) or "nothing"
        raise CheckpointError(f"{folder}: this folder holds no checkpoint (found: {names}).\n{_NEXT}")
    names = ", ".join(file.name for file in candidates)
    raise CheckpointError(f"{folder}: this folder holds several checkpoints ({names}).\nNext: name one of them.")


def _index(path: Path) -> _Index:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: this index is not JSON ({error}).\nNext: fetch it again.") from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: this index has no 'weight_map' from keys to files.\nNext: fetch it again.")
    strange = [key for key, shard in weight_map.items() if not isinstance(shard, str)]
    if strange:
        raise together(CheckpointError, f"{path}: the index names no file for these keys:", strange)
    outside = sorted({shard for shard in weight_map.values() if not _stays_inside(shard)})
    if outside:
        raise together(CheckpointError, f"{path}: the index points outside its folder, which is refused:", outside)
    index = _Index(path, weight_map)
    missing = [f"{shard}: missing" for shard in index.shards if not index.file(shard).is_file()]
    if missing:
        missing.append("Next: fetch these files into the index's folder.")
        raise together(CheckpointError, f"{path}: {len(missing) - 1} of {len(index.shards)} shards:", missing)
    return index


def _stays_inside(shard: str) -> bool:
    """Whether a name from a file someone else wrote stays in the folder, on any system."""
    path = PureWindowsPath(shard)  # also understands forward slashes
    return bool(path.parts) and not path.drive and not path.root and ".." not in path.parts


def _agree(index: _Index, held: Mapping[str, set[str]]) -> None:
    """Every key where the index says, and no key that it does not know."""
    problems = [
        f"{key}: not in {shard}, where the index places it"
        for key, shard in index.weight_map.items()
        if key not in held[shard]
    ]
    problems += [
        f"{key}: in {shard}, but the index does not say so"
        for shard, keys in held.items()
        for key in sorted(keys)
        if index.weight_map.get(key) != shard
    ]
    if problems:
        raise together(CheckpointError, f"{index.path}: index and shards contradict each other:", problems)


def _reader(path: Path) -> _Format:
    """The reader for a file, by its first bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if torch_file.looks_like(head):
        return _Format(torch_file.shapes, torch_file.tensors)
    if safetensors_file.looks_like(head) or path.suffix == ".safetensors":
        return _Format(safetensors_file.shapes, safetensors_file.tensors)
    raise CheckpointError(f"{path}: this is not a checkpoint but {_what(head, size)}.\n{_NEXT}")


def _what(head: bytes, size: int) -> str:
    if not size:
        return "an empty file"
    if head.startswith(_LFS_POINTER):
        return "a Git LFS pointer (run `git lfs pull`)"
    if head.lstrip().startswith((b"{", b"[", b"<")) or head.isascii():
        return f"a text file of {size} bytes"
    return f"a file of {size} bytes in a format that automatch does not know"
