from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from automatch.checkpoint import load_checkpoint, open_checkpoint
from automatch.checkpoint.distributed_metadata import CarefulReader
from automatch.core.expr import Concat, Permute, Source
from automatch.errors import CheckpointError

GRID = torch.arange(6.0).reshape(2, 3)
STATE = {
    "layers.0.w": GRID,
    "turned": GRID.t(),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "empty": torch.ones(0, 4),
    "version": "three",
}
TENSORS = {key: value for key, value in STATE.items() if isinstance(value, torch.Tensor)}

FOUR_RANKS = """
import sys, torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, init_device_mesh
rank, folder, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=4)
mesh = init_device_mesh("cpu", (2, 2))
grid = torch.arange(35.).reshape(5, 7)
state = {
    "rows": distribute_tensor(grid, mesh, [Shard(0), Replicate()]),
    "grid": distribute_tensor(grid, mesh, [Shard(0), Shard(1)]),
    "short": distribute_tensor(grid[:1, :3], mesh, [Shard(0), Shard(1)]),
    "plain": grid,
}
dcp.save(state, checkpoint_id=folder)
dist.destroy_process_group()
"""


def saved(folder: Path, state: dict[str, Any]) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single process is what is meant
        save(state, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("original") / "step", STATE)


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "step"))


def changed(folder: Path, change: Callable[[Metadata], object]) -> Path:
    """The folder with its metadata changed."""
    metadata = FileSystemReader(folder).read_metadata()
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def refusal(folder: Path, entry: str | None = None) -> str:
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(folder, entry=entry)
    assert str(folder) in str(refused.value)
    return str(refused.value)


def test_every_tensor_is_found_where_it_lies(checkpoint: Path) -> None:
    catalog = open_checkpoint(checkpoint)
    loaded = load_checkpoint(checkpoint)
    assert catalog.shapes == {key: tuple(value.shape) for key, value in TENSORS.items()}
    assert all(torch.equal(loaded[key], value) and loaded[key].dtype == value.dtype for key, value in TENSORS.items())
    assert catalog.views["layers.0.w"] == Source("layers.0.w", (2, 3))
    assert catalog.views["turned"] in (Source("turned", (3, 2)), Permute(Source("turned", (2, 3)), (1, 0)))
    assert catalog.notes == ("1 entry is no tensor and was left out: 'version'",)
    assert catalog.files == (checkpoint / ".metadata", checkpoint / "__0_0.distcp")


def test_what_four_processes_saved_is_put_together(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    ranks = [
        subprocess.Popen([sys.executable, "-c", FOUR_RANKS, str(rank), str(folder), str(tmp_path / "store")])
        for rank in range(4)
    ]
    assert [rank.wait(120) for rank in ranks] == [0] * 4
    catalog, loaded = open_checkpoint(folder), load_checkpoint(folder)
    grid = torch.arange(35.0).reshape(5, 7)
    assert torch.equal(loaded["rows"], grid)
    assert torch.equal(loaded["grid"], grid)
    assert torch.equal(loaded["plain"], grid)
    assert torch.equal(loaded["short"], grid[:1, :3])
    assert catalog.views["rows"] == Concat((Source("rows#0", (3, 7)), Source("rows#1", (2, 7))), 0)
    assert isinstance(catalog.views["grid"], Concat)
    assert {block.name for block in catalog.stored.values() if block.name.startswith("grid")} == {
        f"grid#{place}" for place in range(4)
    }


def test_a_part_is_not_taken_for_a_tensor_of_its_name(checkpoint: Path) -> None:
    def split(metadata: Metadata) -> None:
        """`layers.0.w` in two parts, and two tensors that are called as its first part could be."""
        tensors, places = metadata.state_dict_metadata, metadata.storage_data
        parts = [ChunkStorageMetadata(torch.Size((0, 0)), torch.Size((2, 3))) for _ in range(2)]
        parts[1].offsets = torch.Size((2, 0))
        told = tensors["turned"]
        assert isinstance(told, TensorStorageMetadata)
        half = tensors["half"]
        tensors["layers.0.w"] = replace(told, size=torch.Size((4, 3)), chunks=parts)
        where = places[MetadataIndex("layers.0.w", (0, 0))]
        places[MetadataIndex("layers.0.w", (2, 0))] = where
        for name in ("layers.0.w#0", "layers.0.w#0#"):
            tensors[name], places[MetadataIndex(name, (0,))] = half, places[MetadataIndex("half", (0,))]

    loaded = load_checkpoint(changed(checkpoint, split))
    assert torch.equal(loaded["layers.0.w"], torch.cat([GRID, GRID]))
    assert torch.equal(loaded["layers.0.w#0#"], torch.ones(3, dtype=torch.bfloat16))


@pytest.mark.parametrize("entry", [None, "model"])
def test_a_nested_state_dict_is_taken_by_its_name(tmp_path: Path, entry: str | None) -> None:
    optimiser = {"state": {"layers.0.w": {"exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]}
    folder = saved(tmp_path / "step", {"model": STATE, "optim": optimiser, "step": torch.tensor(3)})
    catalog = open_checkpoint(folder, entry=entry)
    assert list(catalog.shapes) == list(TENSORS)
    assert torch.equal(load_checkpoint(folder, entry=entry)["layers.0.w"], GRID)
    assert catalog.notes[-1] == "1 entry is no tensor and was left out: 'model.version'"
    assert any("'optim' (1 tensor, 24 bytes)" in note for note in catalog.notes) == (entry is None)


def test_a_state_dict_two_levels_down_is_found(tmp_path: Path) -> None:
    folder = saved(tmp_path / "step", {"app": {"model": {"a.w": GRID}, "optim": {"state": {"a.w": {"m": GRID}}}}})
    assert open_checkpoint(folder).shapes == {"a.w": (2, 3)}
    assert open_checkpoint(folder, entry="app.optim.state.a.w").shapes == {"m": (2, 3)}


def test_state_dicts_without_a_usual_name_are_listed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "step", {"generator": {"w": GRID}, "critic": {"w": GRID}})
    message = refusal(folder)
    assert "several state dicts" in message
    assert "generator: 1 tensor, 24 bytes" in message
    assert open_checkpoint(folder, entry="critic").shapes == {"w": (2, 3)}


def test_without_a_plan_the_names_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = saved(tmp_path / "step", {"model": {"a.w": GRID}, "ema": {"a.w": GRID}})
    changed(folder, lambda metadata: setattr(metadata, "planner_data", None))
    assert list(open_checkpoint(folder).shapes) == ["model.a.w", "ema.a.w"]
    assert list(open_checkpoint(folder, entry="ema").shapes) == ["a.w"]


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(TRAP),)  # type: ignore[return-value]


TRAP = ""


def test_nothing_foreign_in_the_metadata_is_executed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sprung = checkpoint / "sprung"
    monkeypatch.setattr(f"{__name__}.TRAP", str(sprung))
    changed(checkpoint, lambda metadata: setattr(metadata, "planner_data", Trap()))
    message = refusal(checkpoint)
    assert "this file mentions " in message
    assert "which does not belong into a checkpoint's metadata" in message
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["torch.load", "torch.hub", "builtins.eval", "os.system", "pathlib.Path.touch"])
def test_foreign_names_are_named(checkpoint: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    (checkpoint / ".metadata").write_bytes(f"c{module}\n{attribute}\n.".encode())
    assert f"this file mentions {name}" in refusal(checkpoint)


@pytest.mark.parametrize("content", [b"", b"\x80", b"hello", pickle.dumps([1]), pickle.dumps({"a": 1})])
def test_damaged_metadata_is_refused(checkpoint: Path, content: bytes) -> None:
    (checkpoint / ".metadata").write_bytes(content)
    assert "this distributed checkpoint is damaged" in refusal(checkpoint)


def test_cut_metadata_is_refused(checkpoint: Path) -> None:
    content = (checkpoint / ".metadata").read_bytes()
    for length in range(0, len(content), 61):
        (checkpoint / ".metadata").write_bytes(content[:length])
        assert ".metadata" in refusal(checkpoint)


def test_flipped_bytes_in_the_metadata_do_not_crash(checkpoint: Path) -> None:
    content = (checkpoint / ".metadata").read_bytes()
    size = (checkpoint / "__0_0.distcp").stat().st_size
    refused = 0
    for at in range(0, len(content), 7):
        (checkpoint / ".metadata").write_bytes(content[:at] + bytes([content[at] ^ 0x15]) + content[at + 1 :])
        try:
            catalog = open_checkpoint(checkpoint)
        except CheckpointError:
            refused += 1
            continue
        assert all(block.offset + block.nbytes <= size for block in catalog.stored.values())
    assert refused > 100


def test_a_missing_and_a_cut_file_are_told(checkpoint: Path) -> None:
    file = checkpoint / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-1])
    assert "1 of 1 files:\n  __0_0.distcp: cut short" in refusal(checkpoint)
    file.unlink()
    assert "__0_0.distcp: missing" in refusal(checkpoint)


def test_a_folder_without_metadata_was_not_finished(checkpoint: Path) -> None:
    (checkpoint / ".metadata").unlink()
    assert "saving did not finish" in refusal(checkpoint)


def test_a_gap_between_parts_is_refused(checkpoint: Path) -> None:
    changed(checkpoint, lambda metadata: metadata.state_dict_metadata["layers.0.w"].chunks.clear())  # type: ignore[union-attr]
    assert "the parts of layers.0.w, of shape [2, 3], leave a gap" in refusal(checkpoint)


def test_a_part_that_is_not_what_the_metadata_says_is_refused(checkpoint: Path) -> None:
    def widen(metadata: Metadata) -> None:
        metadata.state_dict_metadata["half"].properties.dtype = torch.float32  # type: ignore[union-attr]

    message = refusal(changed(checkpoint, widen))
    assert "half is bfloat16 of shape [3], the metadata says float32 of shape [3]" in message


@pytest.mark.parametrize("name", ["../__0_0.distcp", "/etc/passwd"])
def test_a_part_outside_the_folder_is_refused(checkpoint: Path, name: str) -> None:
    def move(metadata: Metadata) -> None:
        for info in metadata.storage_data.values():
            info.relative_path = name

    assert f"lies outside the folder, in {name}" in refusal(changed(checkpoint, move))


def test_a_part_saved_through_a_transform_is_refused(checkpoint: Path) -> None:
    def pack(metadata: Metadata) -> None:
        for info in metadata.storage_data.values():
            info.transform_descriptors = ["stream.zstd"]

    assert "was saved through ['stream.zstd']" in refusal(changed(checkpoint, pack))


def test_metadata_of_an_older_torch_is_read(checkpoint: Path) -> None:
    def age(metadata: Metadata) -> None:
        metadata.storage_meta = None
        for told in metadata.state_dict_metadata.values():
            if hasattr(told, "properties"):
                told.properties = TensorProperties(dtype=told.properties.dtype)

    assert list(open_checkpoint(changed(checkpoint, age)).shapes) == list(TENSORS)


def test_torch_loads_through_the_careful_reader(checkpoint: Path) -> None:
    state = {"layers.0.w": torch.zeros(2, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(state, storage_reader=CarefulReader(checkpoint), no_dist=True)
    assert torch.equal(state["layers.0.w"], GRID)
