"""A small model of sizes that nothing divides, and the mapping and the checkpoint that fill it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from automatch.apply.fill import fill
from automatch.core.expr import Affine, Concat, Permute, Source
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_file import write
from tests.apply.records import entry, record
from tests.conversion.checkpoints import source_tensors

WORDS, WIDTH, INNER = 37, 12, 19


class Odd(nn.Module):
    """Its head is its embedding; `steps` is a buffer that a loader fills too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.up = nn.Linear(WIDTH, INNER)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("angles", torch.ones(5), persistent=False)


def odd_mapping() -> MappingRecord:
    """Where the weights of the model come from."""
    embed = Source("wte", (WORDS, WIDTH))
    q, k, v = (Source(f"{name}.weight", (WIDTH, WIDTH)) for name in "qkv")
    return record(
        entry("embed.weight", embed),
        entry("qkv.weight", Concat((q, k, v))),
        entry("qkv.bias", Concat(tuple(Source(f"{name}.bias", (WIDTH,)) for name in "qkv"))),
        entry("up.weight", Permute(Source("fc.weight", (WIDTH, INNER)), (1, 0))),
        entry("up.bias", Source("fc.bias", (INNER,))),
        entry("norm.weight", Affine(Source("scale", (WIDTH,)), shift=1.0)),
        entry("norm.bias", Source("shift", (WIDTH,))),
        entry("head.weight", embed),
        entry("steps", Source("steps", ())),
    )


def write_odd(folder: Path) -> dict[str, Tensor]:
    """Write mapping, checkpoint and what the model should hold; the latter is returned too."""
    tensors = source_tensors(odd_mapping())
    expected = fill(odd_mapping(), tensors)
    save_file(tensors, folder / "old.safetensors")
    save_file(expected, folder / "expected.safetensors")
    write(odd_mapping(), folder / "m.json")
    return expected
