"""Checkpoints of `torch.distributed.checkpoint`, written by one process; `test_ranks` and `test_load` have several."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.planner import WriteItem
from torch.distributed.checkpoint.state_dict_loader import load

from automatch.apply.fill import fill
from automatch.checkpoint import load_checkpoint, open_checkpoint
from automatch.conversion import distributed
from automatch.conversion.convert import convert
from automatch.conversion.sharding import cut
from automatch.core.expr import Constant, Source
from automatch.core.mapping_file import read, write
from automatch.core.mapping_json import digest
from automatch.errors import CheckpointError
from tests.apply.records import entry, record
from tests.conversion.checkpoints import mixed, save, typed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save(mixed(), tmp_path / "old.safetensors")
    return tmp_path / "old.safetensors"


@pytest.fixture
def expected(source: Path) -> dict[str, Tensor]:
    return fill(mixed(), load_file(source))


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BOX", 10_000)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@given(st.lists(st.integers(0, 5), max_size=4).map(tuple), st.integers(1, 30))
def test_boxes_hold_every_entry_once_and_in_order(shape: tuple[int, ...], most: int) -> None:
    numbers = np.arange(prod(shape)).reshape(shape)
    boxes = [numbers[tuple(slice(*bounds) for bounds in box)] for box in cut(shape, most)]
    assert np.concatenate([box.ravel() for box in boxes]).tolist() == numbers.ravel().tolist()
    assert all(box.size <= most for box in boxes)


def test_torch_loads_what_apply_gives(source: Path, expected: dict[str, Tensor], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = convert(source, mixed(), tmp_path / "new", format="dcp", progress=lambda *now: told.append(now))
    assert [file.name for file in done.files] == ["__0_0.distcp", "model.mapping.json", ".metadata"]
    assert read(tmp_path / "new" / "model.mapping.json") == mixed()
    assert len(told) > len(expected)
    assert told[-1] == (done.plan.nbytes, done.plan.nbytes)
    state = {key: torch.zeros_like(tensor) for key, tensor in expected.items()}
    with pytest.warns(UserWarning, match="assuming the intent is to load in a single process"):
        load(state, checkpoint_id=tmp_path / "new")
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_it_is_read_back_like_any_checkpoint(source: Path, expected: dict[str, Tensor], tmp_path: Path) -> None:
    convert(source, mixed(), tmp_path / "new", format="dcp")
    found = load_checkpoint(tmp_path / "new")
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    same = record(*(entry(key, Source(key, tuple(tensor.shape))) for key, tensor in expected.items()))
    convert(tmp_path / "new", same, tmp_path / "back.safetensors")
    convert(source, mixed(), tmp_path / "straight.safetensors")
    back, straight = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("back", "straight"))
    assert back.replace(digest(same).encode(), digest(mixed()).encode()) == straight


def test_dtypes_and_shapes_of_all_kinds_are_kept(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "narrow": torch.arange(24, dtype=torch.uint8).view(torch.float8_e4m3fn),
        "long": torch.randn(20_000).bfloat16(),
    }
    save_file(tensors, tmp_path / "old.safetensors")
    entries = [entry(f"new.{key}", Source(key, tuple(tensor.shape))) for key, tensor in tensors.items()]
    built = typed(record(*entries, entry("ones", Constant(1.0, (3,)))), scalar="int64")
    convert(tmp_path / "old.safetensors", built, tmp_path / "new", format="dcp")
    found = load_checkpoint(tmp_path / "new")
    for key, tensor in tensors.items():
        assert found[f"new.{key}"].dtype == tensor.dtype
        assert torch.equal(found[f"new.{key}"].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
    assert found["ones"].tolist() == [1.0] * 3


def test_the_bytes_are_the_same_every_time(source: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        convert(source, mixed(), tmp_path / out, format="dcp", dtype="bfloat16")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert {weight.dtype for weight in open_checkpoint(tmp_path / "one").weights} == {"bfloat16"}


def test_one_box_is_in_memory_at_a_time(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor] = []
    resolve = distributed._Planner.resolve_data

    def watched(planner: distributed._Planner, item: WriteItem) -> Tensor:
        given.append(resolve(planner, item).detach())
        assert all(tensor.untyped_storage().nbytes() == 0 for tensor in given[:-1])
        return given[-1]

    monkeypatch.setattr(distributed._Planner, "resolve_data", watched)
    convert(source, mixed(), tmp_path / "new", format="dcp")
    assert len(given) > 50
    assert given[-1].untyped_storage().nbytes() == 0


def test_an_empty_folder_is_filled_and_another_one_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    convert(source, mixed(), tmp_path / "new", format="dcp")
    before = content(tmp_path / "new")
    assert before.keys() == {"__0_0.distcp", "model.mapping.json", ".metadata"}
    with pytest.raises(CheckpointError, match=r"new is there already; name a new folder for a distributed checkpoint"):
        convert(source, mixed(), tmp_path / "new", format="dcp", dtype="bfloat16")
    assert content(tmp_path / "new") == before
    assert not list(tmp_path.glob(".*"))


def test_what_means_nothing_for_this_format_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has one file a process; leave max_shard_size out"):
        convert(source, mixed(), tmp_path / "new", format="dcp", max_shard_size="5GB")
    with pytest.raises(CheckpointError, match=r"names the files of its checkpoints; leave name out"):
        convert(source, mixed(), tmp_path / "new", format="dcp", name="diffusion_pytorch_model")
    with pytest.raises(CheckpointError, match=r"a distributed checkpoint is a folder; name one, or leave format out"):
        convert(source, mixed(), tmp_path / "new.safetensors", format="dcp")
    with pytest.raises(CheckpointError, match=r"absent does not exist; make it first"):
        convert(source, mixed(), tmp_path / "absent" / "new", format="dcp")
    with pytest.raises(CheckpointError, match=r"old.safetensors: a distributed checkpoint is a folder"):
        convert(source, mixed(), source, format="dcp")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


class Stop(BaseException):
    """What no code expects."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
def test_an_interruption_goes_through_and_leaves_nothing(
    source: Path, tmp_path: Path, error: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise error

    with pytest.raises(error):
        convert(source, mixed(), tmp_path / "new", format="dcp", progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_a_source_that_ends_early_is_said(source: Path, tmp_path: Path) -> None:
    def cut_short(done: int, total: int) -> None:
        with source.open("r+b") as file:
            file.truncate(done)

    with pytest.raises(CheckpointError, match=r"old.safetensors: this file ends at byte"):
        convert(source, mixed(), tmp_path / "new", format="dcp", progress=cut_short)
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_too_little_room_is_refused_before_the_work(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automatch.conversion.staging.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(CheckpointError, match=r"new needs 484,352 bytes, but its disk has 1,000 free; make room"):
        convert(source, mixed(), tmp_path / "new", format="dcp")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


LIMITED = """
import resource, signal, sys
from automatch.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(source: Path, tmp_path: Path) -> None:
    write(mixed(), tmp_path / "m.json")
    words = ["convert", str(source), "--mapping", str(tmp_path / "m.json"), "-o", str(tmp_path / "new")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words, "--format", "dcp"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: {tmp_path}/new cannot be written: File too large"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "old.safetensors"]


def test_a_folder_that_is_not_what_was_planned_is_noticed(source: Path, tmp_path: Path) -> None:
    plan = convert(source, mixed(1), tmp_path / "new", format="dcp", allow_unread=("old.*",)).plan
    first, second, *others = plan.items
    planned = replace(plan, items=(replace(first, key="other"), replace(second, dtype="float16"), *others))
    with pytest.raises(CheckpointError) as caught:
        distributed._check_written(planned, tmp_path / "new")
    assert str(caught.value).split("\n") == [
        "the folder written is not what was planned; convert again:",
        "  new.0.qkv should not be there",
        "  other is missing",
        "  new.0.up is float32 [64, 96]",
    ]
