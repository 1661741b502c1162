"""The tensors of a checkpoint, mapped from disk: what a `Catalog` says, done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from automatch.checkpoint.catalog import Catalog, Stored
from automatch.checkpoint.open import open_checkpoint
from automatch.core.expr import Concat, Expr, Permute, Reshape, Slice, Source
from automatch.errors import CheckpointError, together

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage


def load_checkpoint(path: str | os.PathLike[str], *, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, on the CPU, in the order of its catalog.

    They are mapped from disk and read when they are used; a change to one of them does not reach the file. A tensor
    that several files hold parts of is put together in memory. Tied keys give one tensor.

    Args:
        path: As for `open_checkpoint`.
        entry: As for `open_checkpoint`.

    Raises:
        CheckpointError: As for `open_checkpoint`; or torch has no such dtype.
    """
    catalog = open_checkpoint(path, entry=entry)
    _refuse_foreign(catalog)
    blocks = _blocks(catalog.stored)
    tensors = {weight.name: _evaluate(catalog.views[weight.name], blocks) for weight in catalog.weights}
    first = {key: weight.name for weight in catalog.weights for key in weight.keys}
    return {key: tensors[first[key]] for key in catalog.views}


def _refuse_foreign(catalog: Catalog) -> None:
    import torch

    problems = [
        f"{block.name}: {block.dtype}"
        for block in catalog.stored.values()
        if not isinstance(getattr(torch, block.dtype, None), torch.dtype)
    ]
    if problems:
        raise together(CheckpointError, f"{catalog.path}: torch has no dtype for these tensors:", problems)


def _blocks(stored: Mapping[str, Stored]) -> dict[str, Tensor]:
    from torch import UntypedStorage

    files: dict[Path, UntypedStorage] = {}
    for file in {block.file for block in stored.values()}:
        # A private mapping: what is written to it stays in memory.
        mapped = UntypedStorage.from_file(str(file), shared=False, nbytes=file.stat().st_size)
        files[file] = cast("UntypedStorage", mapped)
    return {name: _block(block, files[block.file]) for name, block in stored.items()}


def _block(block: Stored, storage: UntypedStorage) -> Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, block.dtype)
    empty: Any = torch.empty(0, dtype=torch.uint8)
    part: Tensor = empty.set_(storage, block.offset, (block.nbytes,))
    if block.offset % dtype.itemsize:
        part = part.clone()  # a view of wider entries must begin where they can
    return part.view(dtype).view(block.shape)


def _evaluate(expr: Expr, blocks: Mapping[str, Tensor]) -> Tensor:
    """The tensor that a view of a catalog stands for."""
    import torch

    match expr:
        case Source(key=key):
            return blocks[key]
        case Slice(of=of, axis=axis, start=start, stop=stop):
            return _evaluate(of, blocks).narrow(axis, start, stop - start)
        case Permute(of=of, axes=axes):
            return _evaluate(of, blocks).permute(axes)
        case Reshape(of=of, shape=shape):
            return _evaluate(of, blocks).reshape(shape)
        case Concat(parts=parts, axis=axis):
            return torch.cat([_evaluate(part, blocks) for part in parts], axis)
        case _:
            raise TypeError(f"a catalog's views only move entries, this is a {type(expr).__name__}")
