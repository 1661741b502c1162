from __future__ import annotations

import io
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automatch.checkpoint import Catalog, load_checkpoint, open_checkpoint
from automatch.checkpoint.dtypes import ALL
from automatch.core.expr import Permute, Slice, Source
from automatch.errors import CheckpointError

GRID = torch.arange(24.0).reshape(4, 6)
VIEWS = {
    "whole": GRID,
    "turned": GRID.t(),
    "rows": GRID[1:3],
    "columns": GRID[:, 1:3],
    "last": GRID[:, 3:],
    "every": GRID[:, ::2],
    "point": GRID[2, 3],
    "empty": GRID[:0],
    "parameter": nn.Parameter(torch.ones(2)),
    "image": torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
    "count": torch.tensor(7),
}
BOTH = pytest.mark.parametrize("zipped", [True, False])


def saved(path: Path, content: object, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def refusal(path: Path, entry: str | None = None) -> str:
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, entry=entry)
    assert str(path) in str(refused.value)
    return str(refused.value)


def repacked(path: Path, change: Any) -> Path:
    """The file with records of its zip archive changed: `change(name, content)` gives a record anew, or None."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        new = {name: change(name.split("/", 1)[1], content) for name, content in records.items()}
        for name in (name for name, content in new.items() if content is not None):
            archive.writestr(name, new[name])
    return path


def same(loaded: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    return list(loaded) == list(state) and all(
        loaded[key].dtype == state[key].dtype and torch.equal(loaded[key], state[key].detach()) for key in state
    )


@BOTH
def test_tensors_of_every_stride_are_found_where_they_lie(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "x.pt", VIEWS, zipped)
    assert same(load_checkpoint(path), VIEWS)
    views = open_checkpoint(path).views
    assert views["turned"] == Permute(Source("turned", (4, 6)), (1, 0))
    assert views["columns"] == Slice(Source("columns", (4, 6)), 1, 1, 3)
    assert views["rows"] == Source("rows", (2, 6))


@BOTH
def test_every_dtype_that_torch_saves_is_read(tmp_path: Path, zipped: bool) -> None:
    names = [dtype.name for dtype in ALL if hasattr(torch, dtype.name)]
    state = {name: torch.arange(16, dtype=torch.uint8).view(getattr(torch, name)) for name in names if name != "bool"}
    loaded = load_checkpoint(saved(tmp_path / "x.pt", state, zipped))
    assert {name: value.dtype for name, value in loaded.items()} == {name: v.dtype for name, v in state.items()}
    assert all(torch.equal(loaded[name].view(torch.uint8), state[name].view(torch.uint8)) for name in state)


@BOTH
def test_a_catalog_says_at_which_byte_a_tensor_lies(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.ones(3), "b": torch.arange(5)}, zipped)
    block = open_checkpoint(path).stored["b"]
    content = path.read_bytes()[block.offset : block.offset + block.nbytes]
    assert content == bytes(torch.arange(5).view(torch.uint8).tolist())
    assert block.file == path


@BOTH
def test_ties_are_aliases_and_views_of_one_storage_are_not(tmp_path: Path, zipped: bool) -> None:
    state = {"embed": GRID, "half": GRID[:2], "head": GRID, "turned": GRID.t(), "turned_too": GRID.t()}
    catalog = open_checkpoint(saved(tmp_path / "x.pt", state, zipped))
    assert [(weight.name, weight.aliases) for weight in catalog.weights] == [
        ("embed", ("head",)),
        ("half", ()),
        ("turned", ("turned_too",)),
    ]
    assert list(catalog.views) == list(state)
    assert catalog.views["head"] == Source("embed", (4, 6))


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (torch.ones(1).expand(5), "has strides [0], so it is no block; save it with .contiguous()"),
        (torch.as_strided(GRID, (3, 3), (1, 1)), "so it is no block"),
        (torch.eye(3).to_sparse(), "is a tensor of layout sparse_coo"),
        (torch.ones(3, device="meta"), "was on the meta device when it was saved"),
        (torch.tensor([1 + 2j], dtype=torch.complex64).conj(), "is the conjugate"),
        (torch.ones(2, dtype=torch.complex128), "has dtype complex128"),
    ],
)
def test_a_tensor_that_is_no_block_of_numbers_is_named(tmp_path: Path, tensor: Tensor, problem: str) -> None:
    message = refusal(saved(tmp_path / "x.pt", {"fine": torch.ones(1), "odd.weight": tensor, "odder": tensor}))
    assert f"odd.weight {problem}" in message or ("odd.weight" in message and problem in message)
    assert "2 tensors of this file cannot be read" in message
    assert "fine" not in message


def test_a_refused_sparse_tensor_does_not_trouble_the_next_load(tmp_path: Path) -> None:
    refusal(saved(tmp_path / "x.pt", {"sparse": torch.eye(3).to_sparse()}))
    assert torch.load(saved(tmp_path / "y.pt", {"w": torch.ones(1)}), weights_only=True)["w"].item() == 1


def test_a_distributed_tensor_in_a_torch_file_is_refused(tmp_path: Path) -> None:
    code = f"""
import torch
from torch.distributed.tensor import DTensor, Replicate, init_device_mesh
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
torch.save({{"w": DTensor.from_local(torch.ones(2), mesh, [Replicate()])}}, {str(tmp_path / "x.pt")!r})
from automatch.checkpoint import open_checkpoint
try:
    open_checkpoint({str(tmp_path / "x.pt")!r})
except Exception as error:
    print(type(error).__name__, error)
torch.distributed.destroy_process_group()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("CheckpointError"), done.stderr
    assert "DTensor" in done.stdout


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(100), "v": torch.arange(7)}, zipped)
    content = path.read_bytes()
    for length in range(64, len(content), 97):
        path.write_bytes(content[:length])
        message = refusal(path)
        # A name of torch's own that is cut in its middle is a name that torch does not know.
        assert "cut short, damaged or no checkpoint" in message or "GLOBAL" in message


def test_flipped_bytes_are_refused_or_read_but_never_crash(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(3), "v": torch.arange(7)[::2]})
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        try:
            catalog = open_checkpoint(path)
        except CheckpointError:
            refused += 1
            continue
        assert all(block.offset + block.nbytes <= len(content) for block in catalog.stored.values())
    assert refused > 100


def test_records_that_are_compressed_missing_or_of_another_size_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(100)})
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    assert "is compressed, which torch.save never does" in refusal(path)
    path.write_bytes(content)
    assert "missing" in refusal(repacked(path, lambda name, held: None if name == "data/0" else held))
    path.write_bytes(content)
    message = refusal(repacked(path, lambda name, held: held[:-4] if name == "data/0" else held))
    assert "storage 0 should have 400 bytes, the file holds 396" in message


def test_a_pickle_that_a_flipped_bit_makes_speak_of_another_storage_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.zeros(2), "b": torch.ones(2)})
    content = path.read_bytes()
    flipped = content.replace(b"X\x01\0\0\x000", b"X\x01\0\0\x001", 1)
    assert flipped != content
    path.write_bytes(flipped)
    assert "x/data.pkl does not have the checksum that the zip directory says" in refusal(path)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    config: Any = torch.utils.serialization.config
    with config.patch("save.compute_crc32", False):
        path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("x/data.pkl").CRC == 0
    assert load_checkpoint(path)["w"].tolist() == [1.0, 1.0]


def test_numbers_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    repacked(path, lambda name, held: b"big" if name == "byteorder" else held)
    assert "writes numbers the other way round" in refusal(path)


def test_a_directory_that_names_a_record_twice_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("x/data/0", b"\0" * 8)
    assert "names a record twice" in refusal(path)


def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(100)[:77]})
    repacked(path, lambda name, held: held.replace(b"KM\x85", b"K\xff\x85") if name == "data.pkl" else held)
    assert "w of shape [255] does not lie in its storage of 400 bytes" in refusal(path)


def test_a_program_and_a_plain_pickle_are_told_apart(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"w": torch.ones(2)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/constants.pkl", b"")
    assert "it is a TorchScript program" in refusal(path)
    (tmp_path / "y.pkl").write_bytes(pickle.dumps({"w": [1.0]}, protocol=2))
    assert "it does not begin as torch.save begins a file" in refusal(tmp_path / "y.pkl")


def test_entries_that_are_no_tensors_are_left_out_with_a_note(tmp_path: Path) -> None:
    catalog = open_checkpoint(saved(tmp_path / "x.pt", {"w": torch.ones(2, 2), "version": 3, "_extra": {"a": 1}}))
    assert list(catalog.shapes) == ["w"]
    assert catalog.notes == ("2 entries are no tensors and were left out: 'version', '_extra'",)


def opened(folder: Path, content: object, entry: str | None = None) -> Catalog:
    return open_checkpoint(saved(folder / "x.pt", content), entry=entry)


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_of_several_entries_the_one_called_as_state_dicts_are_is_taken_and_said(tmp_path: Path, name: str) -> None:
    catalog = opened(tmp_path, {"ema": {"w": torch.ones(3)}, name: {"w": torch.ones(2)}, "epoch": 3})
    assert catalog.shapes == {"w": (2,)}
    said = f"entry {name!r} was read; other entries with tensors were left out: 'ema' (1 tensor, 12 bytes)"
    assert catalog.notes[0] == said


def test_an_entry_is_taken_by_name(tmp_path: Path) -> None:
    content = {"model": {"w": torch.ones(2)}, "a.b": {"c": {"w": torch.ones(3)}}, "n": {"d": {"w": torch.ones(4)}}}
    assert opened(tmp_path, content, "model").shapes == {"w": (2,)}
    assert opened(tmp_path, content, "a.b.c").shapes == {"w": (3,)}
    assert opened(tmp_path, content, "n").shapes == {"w": (4,)}


def test_several_unnamed_entries_are_listed_with_their_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"model": {"w": torch.ones(2)}, "state_dict": {"w": torch.ones(2)}})
    message = refusal(path)
    assert "this file holds several state dicts: 'model', 'state_dict'" in message
    assert "model: 1 tensor, 8 bytes" in message
    assert '--entry NAME, or entry="NAME"' in message
    assert "no entry 'ema' of this file holds tensors" in refusal(path, "ema")
    assert "'model': 1 tensor, 8 bytes" in refusal(path, "ema")


def test_an_inner_choice_says_where_it_was_made(tmp_path: Path) -> None:
    inner = {"model": {"w": torch.ones(2)}, "ema": {"w": torch.ones(2)}}
    catalog = opened(tmp_path, {"app": inner})
    assert catalog.notes[0].startswith("of 'app', entry 'model' was read")


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {"p": {"q": {"w": torch.ones(2)}}}
    content["model"] = content
    assert "this file holds itself" in refusal(saved(tmp_path / "x.pt", content))
