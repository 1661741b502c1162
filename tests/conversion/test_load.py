"""Models filled from a checkpoint for another one, whole or sharded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate
from torch.distributed.tensor.placement_types import Placement, _StridedShard

from automatch.conversion import load
from automatch.conversion.load import load_into
from automatch.conversion.sharding import local_part
from automatch.core.expr import Affine, Constant, Source
from automatch.core.mapping import MappingRecord
from automatch.errors import AutomatchError, MappingError
from tests.apply.records import entry, record
from tests.conversion.checkpoints import typed
from tests.conversion.ranked_model import INNER, WIDTH, WORDS, Odd, odd_mapping, write_odd
from tests.conversion.ranked_processes import run_ranked


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, Tensor]:
    return write_odd(tmp_path)


def holds(model: nn.Module, expected: dict[str, Tensor]) -> bool:
    return all(torch.equal(model.state_dict()[key], expected[key]) for key in expected)


def test_a_model_holds_what_apply_gives(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    model = Odd()
    loaded = load_into(model, tmp_path / "old.safetensors", odd_mapping())
    assert holds(model, expected)
    assert model.head.weight is model.embed.weight
    assert dict(model.named_buffers())["angles"].tolist() == [1.0] * 5
    stored = load_file(tmp_path / "old.safetensors").values()
    assert loaded == load.Loaded((), (), sum(tensor.nbytes for tensor in stored), ())


def test_weights_are_filled_in_pieces(
    tmp_path: Path, expected: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "TILE", 100)
    model = Odd()
    load_into(model, tmp_path / "old.safetensors", tmp_path / "m.json")
    assert holds(model, expected)


def test_weights_keep_their_dtype_and_layout(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    model = Odd().to(torch.bfloat16)
    model.up.weight = nn.Parameter(torch.zeros(WIDTH, INNER, dtype=torch.float64).T)
    load_into(model, tmp_path / "old.safetensors", odd_mapping())
    assert model.up.weight.stride() == (1, INNER)
    assert torch.equal(model.up.weight, expected["up.weight"].double())
    assert torch.equal(model.qkv.weight, expected["qkv.weight"].bfloat16())


RARE = (torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.float4_e2m1fn_x2, torch.uint16, torch.complex64)


@pytest.mark.parametrize("dtype", RARE)
def test_rare_dtypes_are_copied(tmp_path: Path, dtype: torch.dtype) -> None:
    given = torch.arange(24, dtype=torch.uint8).view(dtype)
    save_file({"w": given}, tmp_path / "old.safetensors")
    model = nn.Module()
    model.register_buffer("w", torch.zeros(24, dtype=torch.uint8).view(dtype))
    built = typed(record(entry("w", Source("w", tuple(given.shape)))), w=str(dtype).removeprefix("torch."))
    load_into(model, tmp_path / "old.safetensors", built)
    assert torch.equal(model.state_dict()["w"].view(torch.uint8), given.view(torch.uint8))


def test_empty_weights_are_nothing_to_fill(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(0, 3)}, tmp_path / "old.safetensors")
    model = nn.Module()
    model.register_buffer("w", torch.zeros(0, 3))
    built = record(entry("w", Source("w", (0, 3))))
    assert load_into(model, tmp_path / "old.safetensors", built).bytes_read == 0


def other_mapping() -> MappingRecord:
    """One weight of another shape, one that is not determined, one that the model does not have."""
    entries = {each.target: each for each in odd_mapping().entries}
    entries["up.weight"] = entry("up.weight", Source("fc.weight", (WIDTH, INNER)))
    entries["norm.bias"] = entry("norm.bias", None, shape=(WIDTH,))
    entries["gate"] = entry("gate", Constant(1.0, (2,)))
    return record(*entries.values())


def test_all_that_does_not_fit_is_told_before_anything_is_written(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    model = Odd()
    model.qkv.bias = nn.Parameter(torch.zeros(3 * WIDTH, dtype=torch.int32), requires_grad=False)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(MappingError) as caught:
        load_into(model, tmp_path / "old.safetensors", other_mapping(), allow_unread=("*",))
    assert str(caught.value).split("\n") == [
        "the model cannot be filled (strict=False leaves the missing ones as they are):",
        "  qkv.bias: int32 in the model, which does not hold the float32 that the mapping gives",
        "  up.weight: shape [19, 12] in the model, [12, 19] by the mapping",
        "  norm.bias: the mapping does not determine it",
        "  gate: the mapping determines it, but the model does not have it",
    ]
    assert holds(model, before)
    assert before.keys() == expected.keys()


def test_without_strict_what_is_missing_stays_and_is_returned(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    built = record(*(each for each in other_mapping().entries if each.target not in ("up.weight", "head.weight")))
    model = Odd()
    nn.init.constant_(model.norm.bias, 7.0)
    nn.init.constant_(model.up.weight, 7.0)
    loaded = load_into(model, tmp_path / "old.safetensors", built, strict=False, allow_unread=("*",))
    assert (loaded.missing, loaded.unexpected) == (("up.weight", "norm.bias"), ("gate",))
    del expected["norm.bias"], expected["up.weight"]
    assert holds(model, expected)
    assert model.norm.bias.eq(7).all()
    assert model.up.weight.eq(7).all()


def test_a_tie_of_the_model_alone_takes_the_first_value_and_is_said(
    tmp_path: Path, expected: dict[str, Tensor]
) -> None:
    entries = {each.target: each for each in odd_mapping().entries}
    entries["head.weight"] = entry("head.weight", Affine(Source("wte", (WORDS, WIDTH)), scale=2.0))
    model = Odd()
    loaded = load_into(model, tmp_path / "old.safetensors", record(*entries.values()))
    assert loaded.notes == ("head.weight is tied to embed.weight in this model, and takes its value",)
    assert torch.equal(model.head.weight, expected["embed.weight"])


def test_what_is_not_allocated_is_refused_with_the_way_out(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        model = Odd()
    with pytest.raises(AutomatchError) as caught:
        load_into(model, tmp_path / "old.safetensors", odd_mapping())
    message = "steps and 7 more are on the meta device; call model.to_empty(device=...) first"
    assert str(caught.value).split("\n")[1:] == [f"  {message}"]
    load_into(model.to_empty(device="cpu"), tmp_path / "old.safetensors", odd_mapping())
    assert holds(model, expected)


def test_a_lazy_weight_is_refused(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    model = Odd()
    model.up = nn.LazyLinear(INNER)
    with pytest.raises(AutomatchError, match=r"up.weight: has no shape yet; run the model once"):
        load_into(model, tmp_path / "old.safetensors", odd_mapping())


def test_a_state_dict_of_copies_is_refused(tmp_path: Path, expected: dict[str, Tensor]) -> None:
    def copied(module: nn.Module, state: dict[str, Any], *_: object) -> None:
        state.update({key: tensor.clone() for key, tensor in state.items()})

    model = Odd()
    model.register_state_dict_post_hook(copied)  # type: ignore[no-untyped-call]
    with pytest.raises(AutomatchError, match=r"holds copies of its weights \(steps, embed.weight, qkv.weight"):
        load_into(model, tmp_path / "old.safetensors", odd_mapping())


@contextmanager
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("placement", [Partial(), _StridedShard(0, split_factor=2)])
def test_placements_of_which_no_process_holds_a_box_are_refused(placement: Placement) -> None:
    with one_process():
        mesh = init_device_mesh("cpu", (1,))
        tensor = DTensor.from_local(torch.zeros(4, 2), mesh, [placement], run_check=False)
        with pytest.raises(AutomatchError, match="no process holds a box of its entries; shard or replicate it"):
            local_part(tensor)
        replica = DTensor.from_local(torch.zeros(4, 2), mesh, [Replicate()], run_check=False)
        assert local_part(replica)[0] == ((0, 4), (0, 2))


@pytest.mark.parametrize("size", [2, 4])
def test_every_process_fills_its_shards_and_reads_little_else(
    tmp_path: Path, expected: dict[str, Tensor], size: int
) -> None:
    done = run_ranked(size, "tests.conversion.ranked_load", str(tmp_path))
    assert done.returncode == 0, done.stderr
    read = [json.loads(line)[1] for line in done.stdout.splitlines()]
    assert len(read) == size
    stored = sum(tensor.nbytes for tensor in load_file(tmp_path / "old.safetensors").values())
    assert all(way["by_columns"] < stored for way in read)
    assert sum(way["by_rows"] for way in read) < 1.2 * stored
    assert max(way["by_rows"] for way in read) < 1.5 * stored / size
    if size == 4:
        assert sum(way["by_rows_in_copies"] for way in read) < 2.4 * stored
    converted = load_file(tmp_path / "new" / "model.safetensors")
    assert all(torch.equal(converted[key], expected[key]) for key in expected)
    assert sorted(path.name for path in (tmp_path / "dcp").iterdir()) == [
        ".metadata",
        *(f"__{rank}_0.distcp" for rank in range(size)),
        "model.mapping.json",
    ]
