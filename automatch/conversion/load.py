"""A model filled from a checkpoint for another one; where it is sharded, every process reads its own part alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from automatch.checkpoint.catalog import Stored
from automatch.checkpoint.dtypes import dtype_name
from automatch.checkpoint.open import open_checkpoint
from automatch.checkpoint.reading import Files
from automatch.conversion.making import make_tiles
from automatch.conversion.plan import Item, make_plan
from automatch.conversion.regions import Box, whole
from automatch.conversion.sharding import local_part
from automatch.conversion.writing import TILE
from automatch.core.expr import Expr, Slice, sources
from automatch.core.mapping_file import MappingLike, as_record
from automatch.errors import AutomatchError, MappingError, together


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was put into a model.

    Attributes:
        missing: The model's keys that stay as they were, because the mapping does not determine them.
        unexpected: Keys that the mapping determines and the model does not have.
        bytes_read: How many bytes of the checkpoint this process has read.
        notes: What a user should know (a wrapper's prefix that was left out, tied weights).
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    bytes_read: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Weight:
    """One tensor of a model, under every key that it has."""

    keys: tuple[str, ...]
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class _Fill:
    """A weight's memory in this process, and the entries that belong into it."""

    item: Item
    box: Box
    memory: Tensor


def load_into(
    model: nn.Module,
    checkpoint: str | os.PathLike[str],
    mapping: MappingLike,
    *,
    entry: str | None = None,
    strict: bool = True,
    allow_unread: Sequence[str] = (),
    checksums: bool = True,
) -> Loaded:
    """Fill a model from a checkpoint for the mapping's source.

    The values are those of `model.load_state_dict(mapping.apply(...))`, in the dtypes and on the devices that the model
    has. Of a weight that is sharded (`fully_shard`, tensor parallelism, or both), every process reads what its own part
    is made of, in pieces, and none waits for another: the processes may even fill different models.

    Args:
        model: The model; what is on the meta device is allocated first (`model.to_empty(device=...)`).
        checkpoint: Anything that `convert` reads.
        mapping: The mapping, or the path of its file.
        entry: Which entry of a file of `torch.save` holds the weights (`"ema"`), where there are several.
        strict: Whether the model's keys must be those that the mapping determines, and all of the checkpoint be known.
        allow_unread: Patterns (`"ema.*"`) of tensors that may be left out all the same, though the mapping never knew
            them.
        checksums: Whether the numbers of a `torch.save` archive are held against the checksums in it. What a process
            needs but a part of is not read whole for it.

    Returns:
        What was put into the model, and what was not.

    Raises:
        AutomatchError: Keys, shapes or dtypes do not fit, or a weight cannot be filled; all problems are listed, and
            the model is as it was.
        CheckpointError: The checkpoint is damaged or of no known format. Where a file ends too early, the model is
            partly filled.
        MappingError: The checkpoint does not fit the mapping, as for `convert`; all findings are listed.
    """
    catalog = open_checkpoint(checkpoint, entry=entry)
    plan = make_plan(as_record(mapping), catalog, allow_unread=allow_unread if strict else None)
    items = {item.key: item for item in plan.items}
    weights = _weights(model)
    known = {key for weight in weights for key in weight.keys}
    missing = tuple(key for weight in weights if items.keys().isdisjoint(weight.keys) for key in weight.keys)
    unexpected = tuple(key for key in items if key not in known)
    with torch.no_grad(), Files(checks=checksums) as files:
        fills, problems = _fills(weights, items)
        if strict:
            problems += [f"{key}: the mapping does not determine it" for key in missing]
            problems += [f"{key}: the mapping determines it, but the model does not have it" for key in unexpected]
        if problems:
            raise together(MappingError, f"the model cannot be filled{_advice(strict, missing, unexpected)}:", problems)
        for fill in fills:  # before the model is touched
            _verify(fill, catalog.stored, files)
        for fill in fills:
            _fill(fill, plan.catalog.stored, files)
    return Loaded(missing, unexpected, files.bytes_read, (*plan.notes, *_differing_ties(weights, items)))


def _weights(model: nn.Module) -> list[_Weight]:
    """The tensors of a model's state dict, each once."""
    keys: dict[int, list[str]] = {}
    tensors: dict[int, Tensor] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):  # modules may keep other things there
            keys.setdefault(id(value), []).append(key)
            tensors[id(value)] = value
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    copies = [keys[each][0] for each in tensors if each not in own]
    if copies:
        raise AutomatchError(
            f"the model's state dict holds copies of its weights ({', '.join(copies[:5])}), which cannot be filled; "
            "shard it with torch.distributed.fsdp.fully_shard, or load the result of Mapping.apply"
        )
    return [_Weight(tuple(keys[each]), tensor) for each, tensor in tensors.items()]


def _fills(weights: Sequence[_Weight], items: Mapping[str, Item]) -> tuple[list[_Fill], list[str]]:
    """What goes where, and why some of it cannot."""
    fills: list[_Fill] = []
    problems: list[str] = []
    unallocated: list[str] = []
    for weight in weights:
        key = next((key for key in weight.keys if key in items), None)
        if key is None:
            continue
        if weight.tensor.is_meta:
            unallocated.append(key)
        try:
            fills.append(_Fill(items[key], *_place(weight.tensor, items[key])))
        except AutomatchError as error:
            problems.append(f"{key}: {error}")
    if unallocated:
        others = f" and {len(unallocated) - 1} more are" if len(unallocated) > 1 else " is"
        problems.insert(0, f"{unallocated[0]}{others} on the meta device; call model.to_empty(device=...) first")
    return fills, problems


def _place(tensor: Tensor, item: Item) -> tuple[Box, Tensor]:
    """Where a weight's entries go in this process.

    Raises:
        AutomatchError: The weight does not take them.
    """
    if nn.parameter.is_lazy(tensor):
        raise AutomatchError("has no shape yet; run the model once")
    if tuple(tensor.shape) != item.shape:
        raise AutomatchError(f"shape {list(tensor.shape)} in the model, {list(item.shape)} by the mapping")
    if not torch.can_cast(getattr(torch, item.dtype), tensor.dtype):
        held = dtype_name(tensor.dtype)
        raise AutomatchError(f"{held} in the model, which does not hold the {item.dtype} that the mapping gives")
    return local_part(tensor)


def _fill(fill: _Fill, stored: Mapping[str, Stored], files: Files) -> None:
    """Make this process's part of a weight, in pieces."""
    if not fill.memory.numel():
        return
    part = replace(fill.item, expr=_cropped(fill.item.expr, fill.box), shape=tuple(fill.memory.shape))

    def put(box: Box, made: Tensor) -> None:
        fill.memory[tuple(slice(*bounds) for bounds in box)].copy_(made)

    make_tiles(part, stored, files, TILE, put)


def _verify(fill: _Fill, stored: Mapping[str, Stored], files: Files) -> None:
    if fill.box == whole(fill.item.shape):
        for key in sources(fill.item.expr):
            files.verify(stored[key])


def _cropped(expr: Expr, box: Box) -> Expr:
    """The entries of an expression in a box."""
    for axis, (start, stop) in enumerate(box):
        if (start, stop) != (0, expr.shape[axis]):
            expr = Slice(expr, axis, start, stop)
    return expr


def _advice(strict: bool, missing: Sequence[str], unexpected: Sequence[str]) -> str:
    return " (strict=False leaves the missing ones as they are)" if strict and (missing or unexpected) else ""


def _differing_ties(weights: Sequence[_Weight], items: Mapping[str, Item]) -> Iterator[str]:
    """Where the mapping gives one tensor two values, because it was made for a target that does not tie it."""
    for weight in weights:
        key, *others = [key for key in weight.keys if key in items] or [""]
        differing = (other for other in others if items[other].expr != items[key].expr)
        yield from (f"{other} is tied to {key} in this model, and takes its value" for other in differing)
