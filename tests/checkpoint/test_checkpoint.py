from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from automatch.checkpoint import load_checkpoint, read_shapes
from automatch.errors import CheckpointError
from tests.trace import nets

STATE = {"b.weight": torch.ones(3, 2), "a.bias": torch.zeros(2, dtype=torch.bfloat16), "n": torch.tensor(3)}
SHAPES = {"b.weight": ((3, 2), "float32"), "a.bias": ((2,), "bfloat16"), "n": ((), "int64")}


def shapes_of(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    return {weight.name: (weight.shape, weight.dtype) for weight in read_shapes(path)}


def sharded(folder: Path, weight_map: Mapping[str, str] | None = None) -> Path:
    save_file({"b.weight": STATE["b.weight"]}, folder / "model-1.safetensors")
    save_file({"a.bias": STATE["a.bias"], "n": STATE["n"]}, folder / "model-2.safetensors")
    told = {"b.weight": "model-1.safetensors", "a.bias": "model-2.safetensors", "n": "model-2.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": told if weight_map is None else weight_map}))
    return index


def refusal(path: Path) -> str:
    """What both readers say, which must be the same."""
    with pytest.raises(CheckpointError) as read:
        read_shapes(path)
    with pytest.raises(CheckpointError) as loaded:
        load_checkpoint(path)
    assert str(read.value) == str(loaded.value)
    assert "Next:" in str(read.value) or "\n" in str(read.value)
    return str(read.value)


def same(loaded: Mapping[str, Tensor]) -> bool:
    return set(loaded) == set(STATE) and all(torch.equal(loaded[key], STATE[key]) for key in STATE)


def test_one_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    assert shapes_of(path) == SHAPES
    assert same(load_checkpoint(path))
    assert [weight.name for weight in read_shapes(path)] == list(load_checkpoint(path))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_one_torch_file_keeps_its_order(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    assert list(shapes_of(path).items()) == list(SHAPES.items())
    assert same(load_checkpoint(path))


def test_a_state_dict_with_ties_and_extra_entries(tmp_path: Path) -> None:
    path = tmp_path / "tied.pt"
    torch.save({**nets.Tied().state_dict(), "_extra_state": {"version": 1}}, path)
    assert [(weight.name, weight.aliases) for weight in read_shapes(path)] == [
        ("embed.weight", ("out.weight",)),
        ("unused.weight", ()),
        ("unused.bias", ()),
    ]
    assert set(load_checkpoint(path)) == {"embed.weight", "unused.weight", "unused.bias", "out.weight"}


@pytest.mark.parametrize("entry", ["state_dict", "model", "ema"])
def test_the_only_mapping_of_tensors_in_a_training_checkpoint_is_taken(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "training.pt"
    optimiser = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, "loss": torch.tensor(0.5), entry: STATE, "optimizer": optimiser}, path)
    assert shapes_of(path) == SHAPES
    assert same(load_checkpoint(path))


def test_several_mappings_of_tensors_are_named_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    torch.save({"net": STATE, "ema": STATE}, path)
    assert "several state dicts: 'net', 'ema'" in refusal(path)


def test_a_sharded_checkpoint_is_read_in_the_order_of_its_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    for path in (index, tmp_path):
        assert list(shapes_of(path).items()) == list(SHAPES.items())
        assert same(load_checkpoint(path))


def test_a_folder_with_one_file_means_that_file(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    assert shapes_of(tmp_path) == SHAPES
    save_file({"only": torch.ones(1)}, tmp_path / "model.safetensors")
    assert list(shapes_of(tmp_path)) == ["only"]


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("model.safetensors", "model.fp16.safetensors"),
        ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.non_ema.safetensors"),
        ("pytorch_model.bin", "training_args.bin"),
    ],
)
def test_the_usual_name_is_preferred_to_what_stands_beside_it(tmp_path: Path, usual: str, other: str) -> None:
    save: Callable[..., None] = torch.save if usual.endswith(".bin") else save_file
    save(STATE, tmp_path / usual)
    save({"other": torch.ones(1)}, tmp_path / other)
    assert shapes_of(tmp_path) == SHAPES


def test_a_folder_that_is_unclear_is_refused(tmp_path: Path) -> None:
    assert "holds no checkpoint (found: nothing)" in refusal(tmp_path)
    save_file(STATE, tmp_path / "a.safetensors")
    save_file(STATE, tmp_path / "b.safetensors")
    assert "several checkpoints (a.safetensors, b.safetensors)" in refusal(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../model-1.safetensors", "/etc/passwd", "..\\secret", "C:\\secret", "sub/../../x", "", "//host/x"]
)
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path: Path, shard: str) -> None:
    index = sharded(tmp_path, {"b.weight": shard})
    message = refusal(index)
    assert "points outside its folder" in message
    assert shard in message


def test_missing_shards_are_told_together(tmp_path: Path) -> None:
    index = sharded(tmp_path, {"x": "gone-1.safetensors", "y": "gone-2.safetensors", "n": "model-2.safetensors"})
    message = refusal(index)
    assert "2 of 3 shards" in message
    assert "gone-1.safetensors: missing" in message
    assert "gone-2.safetensors: missing" in message


def test_an_index_and_shards_that_contradict_each_other_are_told_together(tmp_path: Path) -> None:
    index = sharded(
        tmp_path, {"b.weight": "model-1.safetensors", "x": "model-1.safetensors", "n": "model-2.safetensors"}
    )
    message = refusal(index)
    assert "x: not in model-1.safetensors, where the index places it" in message
    assert "a.bias: in model-2.safetensors, but the index does not say so" in message


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": []}', '{"weight_map": {}}', '{"metadata": {}}'])
def test_a_damaged_index_is_refused(tmp_path: Path, content: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    assert "this index" in refusal(index)


def test_an_index_with_strange_values_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": 3}}')
    assert "names no file for these keys:\n  a" in refusal(index)


@pytest.mark.parametrize("length", [0, 5, 8, 40, 300])
def test_a_safetensors_file_that_is_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    save_file({f"layer.{index}.weight": torch.ones(8) for index in range(8)}, whole)
    cut.write_bytes(whole.read_bytes()[:length])
    assert "cut short or damaged" in refusal(cut)


def test_a_safetensors_file_whose_last_tensor_is_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-4])
    assert "cut short or damaged" in refusal(path)


@pytest.mark.parametrize("header", [2**62, 100_000_001, 2**31])
def test_an_absurd_header_length_is_refused(tmp_path: Path, header: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header.to_bytes(8, "little") + b"{}")
    assert "its header claims" in refusal(path)


def test_a_header_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((8).to_bytes(8, "little") + b"{nonsens")
    assert "damaged" in refusal(path)


def test_an_empty_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({}, path)
    assert "holds no tensors" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.pt", b"", "an empty file"),
        ("model.safetensors.txt", b"hello there", "a text file of 11 bytes"),
        ("model.bin", b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        ("model.pt", b"<!DOCTYPE html>", "a text file"),
        ("model.gguf", b"\x01\x02\xff\xfe" * 30, "a format that automatch does not know"),
    ],
)
def test_a_file_that_is_no_checkpoint_says_what_was_found(
    tmp_path: Path, name: str, content: bytes, found: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path)
    assert found in message
    assert name in message


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "there is no such file or folder" in refusal(tmp_path / "gone.pt")


def test_a_truncated_torch_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "cut short, damaged or no checkpoint" in refusal(path)


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(TRAP),)  # type: ignore[return-value]


TRAP = ""


def test_nothing_in_a_torch_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sprung = tmp_path / "sprung"
    monkeypatch.setattr(f"{__name__}.TRAP", str(sprung))
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(1), "trap": Trap()}, path)
    assert "loading them could run code" in refusal(path)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Trap()))
    assert "plain.pkl" in refusal(tmp_path / "plain.pkl")
    assert not sprung.exists()


def test_python_objects_in_a_torch_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(1), "args": argparse.Namespace(lr=1)}, path)
    assert "argparse.Namespace" in refusal(path)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {"epoch": 3}, {}])
def test_a_torch_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    assert "state dict" in refusal(path)
