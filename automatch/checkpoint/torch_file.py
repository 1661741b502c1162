"""One file that `torch.save` wrote -> `Catalog`: nothing in it is executed, and no number is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from pickle import UnpicklingError

import torch

from automatch.checkpoint.catalog import Catalog, Record, Stored
from automatch.checkpoint.dtypes import BY_NAME, dtype_name
from automatch.checkpoint.entries import Choice, choose, no_tensors
from automatch.checkpoint.strides import Placed, fits, place
from automatch.checkpoint.torch_archive import Archive, Damaged, read_archive
from automatch.core.expr import Expr
from automatch.core.graph import Shape, Weight
from automatch.errors import CheckpointError, together
from automatch.interruption import let_through


def open_torch_file(path: Path, entry: str | None = None) -> Catalog:
    """What a torch file holds, in the order in which it was saved; tied tensors become aliases.

    Args:
        path: A file from `torch.save`, of the zip format or of the older one.
        entry: Which of its entries is meant, where it holds more than one state dict.

    Raises:
        CheckpointError: The file is damaged, holds more than tensors and containers or no one state dict, or some of
            its tensors are no blocks of numbers.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        archive = read(path, file.fileno(), 0, os.stat(file.fileno()).st_size)
    try:
        choice = choose(archive.content, measure, entry, path)
    except RecursionError as error:
        raise CheckpointError(f"{path}: this file holds itself.\nNext: save model.state_dict().") from error
    return _catalog(path, archive, choice)


def read(path: Path, descriptor: int, offset: int, length: int) -> Archive:
    """What `torch.save` wrote into a part of a file.

    Raises:
        CheckpointError: It is damaged, or holds more than tensors and containers.
    """
    try:
        return read_archive(descriptor, offset, length)
    except Damaged as error:
        raise _damaged(path, str(error)) from error
    except Exception as error:  # a damaged stream makes the unpickler raise whatever it stumbles over
        let_through(error)
        raise _refusal(path, error) from error


def placed(name: str, tensor: torch.Tensor, archive: Archive, path: Path) -> tuple[Expr, Stored] | str:
    """A tensor as movements over a block of the file, and the block; or why it is none, as a sentence's end."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"is a {type(tensor).__name__}; save a plain tensor"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"is a tensor of layout {dtype_name(tensor.layout)} and dtype {dtype_name(tensor.dtype)}; save it dense"
    if tensor.is_conj() or tensor.is_neg():
        return "is the conjugate or the negative of what is saved; save it with .resolve_conj().resolve_neg()"
    if dtype_name(tensor.dtype) not in BY_NAME:
        return f"has dtype {dtype_name(tensor.dtype)}, which safetensors does not know; cast it"
    region = archive.region(tensor)
    if region is None:
        return "was on the meta device when it was saved, so the file has no numbers for it; load the weights first"
    return _in_region(name, tensor, region, path)


def measure(value: object) -> tuple[Shape, int] | None:
    """The shape and the bytes of a tensor; None for what is none."""
    return (tuple(value.shape), value.numel() * value.element_size()) if isinstance(value, torch.Tensor) else None


def _in_region(name: str, tensor: torch.Tensor, region: Record, path: Path) -> tuple[Expr, Stored] | str:
    size = tensor.element_size()
    shape, strides, first = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
    room = region.nbytes // size
    if not fits(shape, strides, first, room):
        return f"of shape {list(shape)} does not lie in its storage of {region.nbytes} bytes; the file is damaged"
    found: Placed | None = place(name, shape, strides, first, room)
    if found is None:
        return f"of shape {list(shape)} has strides {list(strides)}, so it is no block; save it with .contiguous()"
    block = Stored(name, found.block, dtype_name(tensor.dtype), path, region.offset + found.start * size, region)
    return found.view, block


def _catalog(path: Path, archive: Archive, choice: Choice) -> Catalog:
    tensors = dict(_named_tensors(choice))
    found = {key: placed(key, tensor, archive, path) for key, tensor in tensors.items()}
    problems = [f"{key} {reason}" for key, reason in found.items() if isinstance(reason, str)]
    if problems:
        raise together(CheckpointError, f"{path}: {len(problems)} tensors of this file cannot be read:", problems)
    places = {key: place for key, place in found.items() if not isinstance(place, str)}
    tied: dict[object, list[str]] = {}
    for key in places:
        tied.setdefault(_identity(key, tensors[key], archive), []).append(key)
    first = {key: keys[0] for keys in tied.values() for key in keys}
    return Catalog(
        path,
        tuple(
            Weight(name, tuple(tensors[name].shape), places[name][1].dtype, aliases=tuple(aliases))
            for name, *aliases in tied.values()
        ),
        {key: places[first[key]][0] for key in places},
        {name: places[name][1] for name, *_ in tied.values()},
        (path,),
        (
            *choice.notes,
            *no_tensors([str(key) for key in choice.content if key not in tensors]),
            *unchecked([block for _, block in places.values()]),
        ),
    )


def unchecked(blocks: Iterable[Stored]) -> tuple[str, ...]:
    """The note that numbers have no checksums, so that damage to them cannot be noticed; none where all have."""
    records = dict.fromkeys(block.record for block in blocks if block.record is not None and block.record.nbytes)
    without = sum(record.crc is None for record in records)
    if not without:
        return ()
    which = "without checksums" if without == len(records) else f"with checksums for all but {without} storages"
    return (f"saved {which}, so that damage to its numbers cannot be noticed",)


def _named_tensors(choice: Choice) -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in choice.content.items():
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            yield key, value


def _identity(key: str, tensor: torch.Tensor, archive: Archive) -> object:
    """What two keys have in common when they hold the same numbers in the same place."""
    region = archive.region(tensor)
    if region is None or not tensor.numel():
        return key
    return (region.offset, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """The sentence of torch's long explanation that names the thing, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line), None)
    if isinstance(error, UnpicklingError) and named is not None:
        # What torch advises next is to trust the class.
        what = named.split(". Please", 1)[0].rstrip(".")
        return CheckpointError(
            f"{path}: this file holds Python objects besides tensors, and loading them could run code: {what}.\n"
            "Next: load it yourself where you trust it, and save its state dict alone."
        )
    kind = type(error).__name__
    return _damaged(path, f"{kind}: {lines[0].rstrip('.')[:200]}" if lines else kind)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: this torch file is cut short, damaged or no checkpoint: {reason}.\n"
        "Next: fetch it again, or save the model's state dict."
    )
