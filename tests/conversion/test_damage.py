"""Every way in which a checkpoint can be broken: a message that says what, exit status 2, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automatch.cli import main
from automatch.conversion.convert import convert
from automatch.core.mapping_file import write
from automatch.errors import CheckpointError
from tests.conversion.checkpoints import moved, source_tensors

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of two shards that converts well."""
    place = tmp_path / "old"
    place.mkdir()
    tensors = source_tensors(moved())
    half = len(tensors) // 2
    parts = {FIRST: dict(list(tensors.items())[:half]), SECOND: dict(list(tensors.items())[half:])}
    for name, part in parts.items():
        save_file(part, place / name)
    index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
    (place / INDEX).write_text(json.dumps(index))
    write(moved(), tmp_path / "m.json")
    return place


def edit_index(change: Callable[[dict[str, str]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / INDEX).read_text())
        change(content["weight_map"])
        (folder / INDEX).write_text(json.dumps(content))

    return edit


def edit_header(change: Callable[[dict[str, dict[str, Any]]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        raw = (folder / SECOND).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / SECOND).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])

    return edit


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / SECOND)
        change(tensors)
        save_file(tensors, folder / SECOND)

    return edit


def becomes(name: str, content: bytes) -> Callable[[Path], None]:
    def write_it(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write_it


def cut(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-100])


def lengthen(folder: Path) -> None:
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes() + bytes(100))


def claim(folder: Path) -> None:
    save_file({**load_file(folder / SECOND), **load_file(folder / FIRST)}, folder / SECOND)


def absurd(folder: Path) -> None:
    (folder / SECOND).write_bytes((2**62).to_bytes(8, "little") + (folder / SECOND).read_bytes()[8:])


def shift(header: dict[str, dict[str, Any]], by: int) -> None:
    header["old.3.v"]["data_offsets"] = [at + by for at in header["old.3.v"]["data_offsets"]]


def forget(key: str) -> Callable[[dict[str, Any]], None]:
    def without(content: dict[str, Any]) -> None:
        del content[key]

    return without


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard that is cut short": (cut, SECOND),
    "a shard with something behind it": (lengthen, SECOND),
    "a shard of noise": (becomes(SECOND, b"\x93" * 500), SECOND),
    "a shard that is a text": (becomes(SECOND, b"<html>404</html>"), SECOND),
    "a shard that was not fetched": (becomes(SECOND, b"version https://git-lfs.github.com/spec/v1\noid 1"), SECOND),
    "a shard that is missing": (lambda at: (at / SECOND).unlink(), SECOND),
    "a header of absurd size": (absurd, SECOND),
    "offsets that overlap": (edit_header(lambda header: shift(header, -64)), "old.3.v"),
    "offsets with a gap": (edit_header(lambda header: shift(header, 64)), "old.3.v"),
    "a dtype that contradicts the offsets": (edit_header(lambda h: h["old.3.v"].update(dtype="F64")), "old.3.v"),
    "a dtype that nobody knows": (edit_header(lambda h: h["old.3.v"].update(dtype="F31")), "F31"),
    "a shape that contradicts the offsets": (edit_header(lambda h: h["old.3.v"].update(shape=[96, 65])), "old.3.v"),
    "an index that points outside": (edit_index(lambda places: places.update({"old.3.v": "../x.st"})), "../x.st"),
    "an index that points to the root": (edit_index(lambda places: places.update({"old.3.v": "/etc/x"})), "/etc/x"),
    "an index with a key in the wrong shard": (edit_index(lambda places: places.update({"old.3.v": FIRST})), "old.3.v"),
    "an index without a key": (edit_index(forget("old.3.v")), "old.3.v"),
    "an index that is no JSON": (becomes(INDEX, b"{"), INDEX),
    "two shards that claim one key": (claim, "old.0.k"),
    "a key that is missing": (lambda at: _drop(at, "old.3.v"), "old.3.v: missing"),
    "a key of another shape": (
        edit_tensors(lambda tensors: tensors.update({"old.3.v": torch.zeros(64, 96)})),
        "old.3.v: shape [64, 96], but the mapping was made for [96, 64]",
    ),
    "a key of another kind of numbers": (
        edit_tensors(lambda tensors: tensors.update({"old.3.v": torch.zeros(96, 64, dtype=torch.int8)})),
        "old.3.v: int8, but the mapping was made for float32",
    ),
}


def _drop(folder: Path, key: str) -> None:
    edit_tensors(forget(key))(folder)
    edit_index(forget(key))(folder)


def test_the_undamaged_checkpoint_converts(folder: Path, tmp_path: Path) -> None:
    convert(folder, moved(), tmp_path / "new.safetensors")
    assert len(load_file(tmp_path / "new.safetensors")) == 4


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_and_nothing_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    hurt, named = DAMAGES[damage]
    hurt(folder)
    words = ["convert", str(folder), "--mapping", str(tmp_path / "m.json"), "-o", str(tmp_path / "new"), "--quiet"]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "\nerror: " in err  # a warning of the mapping precedes it
    assert named in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "old"]


def test_a_source_that_shrinks_while_it_is_copied_is_noticed(folder: Path, tmp_path: Path) -> None:
    def shrink(done: int, total: int) -> None:
        with (folder / SECOND).open("r+b") as file:
            file.truncate(1000)

    with pytest.raises(CheckpointError, match=rf"{SECOND}: the file ended at byte \d+, before \d+ more"):
        convert(folder, moved(), tmp_path / "new", progress=shrink)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "old"]
