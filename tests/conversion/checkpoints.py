"""Small checkpoints and mappings for the tests of conversions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from automatch.core.expr import Affine, Concat, Permute, Slice, Source
from automatch.core.mapping import MappingRecord
from tests.apply.records import entry, record

ROWS, WIDTH = 96, 64


def source_tensors(mapping: MappingRecord, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random numbers for every source weight."""
    torch.manual_seed(0)
    return {weight.name: torch.randn(weight.shape).to(dtype) for weight in mapping.source.weights}


def save(mapping: MappingRecord, path: Path, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Write a safetensors file with random numbers for every source weight."""
    tensors = source_tensors(mapping, dtype)
    save_file(tensors, path)
    return tensors


def mixed(layers: int = 4) -> MappingRecord:
    """Layers whose weights move, are permuted and are computed; some 25 kB a tensor."""
    made = []
    for layer in range(layers):
        q, k, v = (Source(f"old.{layer}.{name}", (ROWS, WIDTH)) for name in "qkv")
        up = Source(f"old.{layer}.up", (ROWS, WIDTH))
        made += [
            entry(f"new.{layer}.qkv", Concat((q, k, v))),
            entry(f"new.{layer}.up", Permute(up, (1, 0))),
            entry(f"new.{layer}.norm", Affine(Source(f"old.{layer}.norm", (WIDTH,)), shift=1.0)),
            entry(f"new.{layer}.head", Slice(Source(f"old.{layer}.out", (ROWS, WIDTH)), 0, 8, ROWS)),
        ]
    return record(*made)


def moved(layers: int = 4) -> MappingRecord:
    """Layers whose weights only move."""
    return record(
        *(
            entry(f"new.{layer}.kv", Concat(tuple(Source(f"old.{layer}.{name}", (ROWS, WIDTH)) for name in "kv")))
            for layer in range(layers)
        )
    )


def typed(mapping: MappingRecord, **dtypes: str) -> MappingRecord:
    """The mapping as it would be if these sources had had other dtypes."""
    weights = tuple(replace(weight, dtype=dtypes.get(weight.name, weight.dtype)) for weight in mapping.source.weights)
    return replace(mapping, source=replace(mapping.source, weights=weights))
