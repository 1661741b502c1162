"""A torch distributed checkpoint, a folder with `.metadata` and `*.distcp` files -> `Catalog`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

from automatch.checkpoint import boxes
from automatch.checkpoint.boxes import Box, whole_box
from automatch.checkpoint.catalog import Catalog, Stored
from automatch.checkpoint.distributed_metadata import CarefulReader, damaged
from automatch.checkpoint.dtypes import BY_NAME, count_bytes, dtype_name
from automatch.checkpoint.entries import choose, no_tensors
from automatch.checkpoint.index import stays_inside
from automatch.checkpoint.reading import Files
from automatch.checkpoint.torch_file import placed, read, unchecked
from automatch.core.expr import Expr
from automatch.core.graph import Shape, Weight
from automatch.errors import CheckpointError, together


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One tensor of the metadata: its flattened name, and what the metadata says of it."""

    name: str
    told: TensorStorageMetadata


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A part of a tensor that one process saved."""

    block: str
    dtype: torch.dtype
    box: Box
    file: Path
    offset: int
    length: int


def open_distributed(folder: Path, entry: str | None = None) -> Catalog:
    """What a distributed checkpoint holds; a tensor that several processes saved is a concatenation of their parts.

    Args:
        folder: The folder with the `.metadata`.
        entry: Which state dict is meant, where the folder holds more than one.

    Raises:
        CheckpointError: The metadata is damaged or mentions foreign classes, a file is missing or cut short, or a
            tensor's parts leave gaps.
        OSError: A file cannot be read.
    """
    path = folder / ".metadata"
    metadata = CarefulReader(folder).read_metadata()
    tree, others = _tree(metadata, entry, path)
    choice = choose(tree, _measure, entry, path)
    leaves = [value for value in choice.content.values() if isinstance(value, _Leaf)]
    prefix = f"{choice.name}." if choice.name else ""
    chunks = {leaf.name: _chunks(leaf, metadata, folder) for leaf in leaves}
    _refuse_missing(path, [chunk for parts in chunks.values() for chunk in parts])
    with Files() as files:
        read_in = {chunk.block: _read(chunk, files) for parts in chunks.values() for chunk in parts}
    left = [name for name in others if name.startswith(prefix)]
    return Catalog(
        folder,
        tuple(Weight(leaf.name.removeprefix(prefix), *_measured(leaf)) for leaf in leaves),
        {leaf.name.removeprefix(prefix): _joined(leaf, chunks[leaf.name], read_in, path) for leaf in leaves},
        {block: stored for block, (_, stored) in read_in.items()},
        tuple(dict.fromkeys([path, *(stored.file for _, stored in read_in.values())])),
        (*choice.notes, *no_tensors(left), *unchecked(stored for _, stored in read_in.values())),
    )


def _tree(metadata: Metadata, entry: str | None, path: Path) -> tuple[dict[object, Any], list[str]]:
    """The nested state dict that was saved, its tensors' metadata as leaves; and the names of what is no tensor."""
    tree: dict[object, Any] = {}
    others = []
    for name, told in metadata.state_dict_metadata.items():
        if not isinstance(name, str):
            raise damaged(path, f"it names an entry {name!r}")
        if not isinstance(told, TensorStorageMetadata):
            others.append(name)
            continue
        *steps, last = _steps(name, metadata.planner_data, entry)
        _inside(tree, steps, name, path)[last] = _checked(_Leaf(name, told), path)
    return tree, others


def _inside(tree: dict[object, Any], steps: Iterable[str], name: str, path: Path) -> dict[object, Any]:
    """The entry that steps lead to, made where it is not there yet."""
    for step in steps:
        tree = tree.setdefault(step, {})
        if not isinstance(tree, dict):
            raise damaged(path, f"it calls {name} an entry of a tensor")
    return tree


def _steps(name: str, planned: object, entry: str | None) -> tuple[str, ...]:
    """The entries that led to a tensor before its name was flattened; without a plan, the entry asked for is one."""
    told = planned.get(name) if isinstance(planned, Mapping) else None
    if isinstance(told, tuple) and told and ".".join(map(str, told)) == name:
        return tuple(map(str, told))
    if entry is not None and name.startswith(f"{entry}."):
        return (entry, name.removeprefix(f"{entry}."))
    return (name,)


def _checked(leaf: _Leaf, path: Path) -> _Leaf:
    """The leaf, where its metadata has the types that it should have."""
    told = leaf.told
    dtype = getattr(getattr(told, "properties", None), "dtype", None)
    chunks = getattr(told, "chunks", None)
    if not isinstance(dtype, torch.dtype) or not _is_shape(getattr(told, "size", None)) or not isinstance(chunks, list):
        raise damaged(path, f"it does not say what {leaf.name} is")
    if dtype_name(dtype) not in BY_NAME:
        what = f"{leaf.name} has dtype {dtype_name(dtype)}, which safetensors does not know"
        raise CheckpointError(f"{path}: {what}.\nNext: cast it, and save the checkpoint again.")
    if not all(_is_part(part, len(told.size)) for part in chunks):
        raise damaged(path, f"it does not say what the parts of {leaf.name} are")
    return leaf


def _is_shape(*told: object) -> bool:
    return all(isinstance(sizes, tuple) and all(type(size) is int and size >= 0 for size in sizes) for sizes in told)


def _is_part(part: object, rank: int) -> bool:
    bounds: tuple[Any, ...] = tuple(getattr(part, bound, None) for bound in ("offsets", "sizes"))
    return isinstance(part, ChunkStorageMetadata) and _is_shape(*bounds) and all(len(told) == rank for told in bounds)


def _measure(value: object) -> tuple[Shape, int] | None:
    if not isinstance(value, _Leaf):
        return None
    shape, dtype = _measured(value)
    return shape, count_bytes(dtype, shape)


def _measured(leaf: _Leaf) -> tuple[Shape, str]:
    return tuple(leaf.told.size), dtype_name(leaf.told.properties.dtype)


def _chunks(leaf: _Leaf, metadata: Metadata, folder: Path) -> list[_Chunk]:
    """The parts of a tensor, empty ones and repeated ones left out."""
    parts = dict.fromkeys(Box(tuple(part.offsets), tuple(part.sizes)) for part in leaf.told.chunks)
    whole = whole_box(tuple(leaf.told.size))
    filled = [box for box in parts if prod(box.sizes) or whole == box]
    if len(filled) == 1:
        return [_chunk(leaf, leaf.name, filled[0], metadata, folder)]
    blocks = [_free(f"{leaf.name}#{place}", metadata.state_dict_metadata) for place in range(len(filled))]
    return [_chunk(leaf, block, box, metadata, folder) for block, box in zip(blocks, filled, strict=True)]


def _free(name: str, taken: Mapping[str, object]) -> str:
    """The name, made longer as long as a tensor has it."""
    while name in taken:
        name += "#"
    return name


def _chunk(leaf: _Leaf, block: str, box: Box, metadata: Metadata, folder: Path) -> _Chunk:
    info = metadata.storage_data.get(MetadataIndex(leaf.name, box.offsets))
    place = f"the part of {leaf.name} at {list(box.offsets)}"
    told: tuple[Any, ...] = tuple(getattr(info, field, None) for field in ("relative_path", "offset", "length"))
    name, offset, length = told
    if not isinstance(info, _StorageInfo) or not isinstance(name, str) or not _is_shape((offset, length)):
        raise damaged(folder / ".metadata", f"it does not say where {place} lies")
    if not stays_inside(name):
        outside = f"{place} lies outside the folder, in {name}, which is refused"
        raise CheckpointError(f"{folder / '.metadata'}: {outside}.\nNext: save the checkpoint again.")
    if info.transform_descriptors:
        how = str(info.transform_descriptors)
        raise CheckpointError(f"{folder}: {place} was saved through {how}.\nNext: save it again without.")
    return _Chunk(block, leaf.told.properties.dtype, box, folder / name, offset, length)


def _refuse_missing(path: Path, chunks: list[_Chunk]) -> None:
    ends: dict[Path, int] = {}
    for chunk in chunks:
        ends[chunk.file] = max(ends.get(chunk.file, 0), chunk.offset + chunk.length)
    problems = list(_short_files(ends))
    if problems:
        listed = together(CheckpointError, f"{path}: {len(problems)} of {len(ends)} files:", problems)
        raise CheckpointError(f"{listed}\nNext: fetch these files again.")


def _short_files(ends: Mapping[Path, int]) -> Iterator[str]:
    for file, end in ends.items():
        if not file.is_file():
            yield f"{file.name}: missing"
        elif file.stat().st_size < end:
            yield f"{file.name}: cut short, it has {file.stat().st_size} of {end} bytes or more"


def _read(chunk: _Chunk, files: Files) -> tuple[Expr, Stored]:
    """A part as movements over its block; the part itself is what `torch.save` wrote for one tensor."""
    archive = read(chunk.file, files.fd(chunk.file), chunk.offset, chunk.length)
    tensor = archive.content
    if not isinstance(tensor, torch.Tensor):
        raise damaged(chunk.file, f"at byte {chunk.offset} it holds a {type(tensor).__name__}, not {chunk.block}")
    if tuple(tensor.shape) != chunk.box.sizes or tensor.dtype != chunk.dtype:
        found = f"{dtype_name(tensor.dtype)} of shape {list(tensor.shape)}"
        told = f"{dtype_name(chunk.dtype)} of shape {list(chunk.box.sizes)}"
        raise damaged(chunk.file, f"{chunk.block} is {found}, the metadata says {told}")
    place = placed(chunk.block, tensor, archive, chunk.file)
    if isinstance(place, str):
        raise CheckpointError(f"{chunk.file}: {chunk.block} {place}.")
    return place


def _joined(leaf: _Leaf, chunks: list[_Chunk], read_in: Mapping[str, tuple[Expr, Stored]], path: Path) -> Expr:
    whole = whole_box(tuple(leaf.told.size))
    try:
        return boxes.joined(whole, [(chunk.box, read_in[chunk.block][0]) for chunk in chunks])
    except ValueError as error:
        raise damaged(path, f"the parts of {leaf.name}, of shape {list(leaf.told.size)}, {error}") from error
