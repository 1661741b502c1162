"""Under `torchrun`: a sharded model is filled, and a distributed checkpoint written and loaded."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from automatch.conversion.convert import convert
from automatch.conversion.load import load_into
from tests.conversion.ranked_model import WIDTH, Odd
from tests.conversion.ranked_processes import rank


def by_rows(model: nn.Module) -> None:
    fully_shard(model)


def by_columns(model: nn.Module) -> None:
    fully_shard(model, shard_placement_fn=lambda weight: Shard(1) if weight.shape[1:] == (WIDTH,) else None)


def by_rows_in_copies(model: nn.Module) -> None:
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards")))


def by_rows_of_parts(model: nn.Module) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "parts"))
    parallelize_module(model, mesh["parts"], {"qkv": ColwiseParallel(), "up": RowwiseParallel()})
    fully_shard(model, mesh=mesh["data"])


def ways() -> Iterator[Callable[[nn.Module], None]]:
    yield from (by_rows, by_columns)
    if dist.get_world_size() == 4:
        yield from (by_rows_in_copies, by_rows_of_parts)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def filled(shard: Callable[[nn.Module], None], folder: Path, expected: dict[str, Tensor]) -> int:
    """Fill a model that is sharded in this way; how many bytes were read here."""
    with torch.device("meta"):
        model = Odd()
    shard(model)
    model.to_empty(device="cpu")
    loaded = load_into(model, folder / "old.safetensors", folder / "m.json")
    assert (loaded.missing, loaded.unexpected) == ((), ())
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(whole(state[key]), expected[key]) for key in expected)
    return loaded.bytes_read


def main(folder: Path) -> None:
    expected = load_file(folder / "expected.safetensors")
    convert(folder / "old.safetensors", folder / "m.json", folder / "dcp", format="dcp")
    dist.init_process_group("gloo")
    read = {shard.__name__: filled(shard, folder, expected) for shard in ways()}
    convert(folder / "old.safetensors", folder / "m.json", folder / "new")
    state = {key: torch.zeros_like(tensor) for key, tensor in expected.items()}
    load(state, checkpoint_id=folder / "dcp")
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    dist.destroy_process_group()
    sys.stdout.write(json.dumps([rank(), read]) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    # Torch 2.13 now and then aborts while the interpreter ends, after a model was sharded over gloo.
    sys.stdout.flush()
    os._exit(0)
