from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from automatch.checkpoint import load_checkpoint, open_checkpoint
from automatch.checkpoint.safetensors_header import encode_header
from automatch.errors import CheckpointError

FIRST, SECOND = {"b": torch.ones(3, 2), "t": torch.ones(2)}, {"a": torch.zeros(2), "n": torch.tensor(3)}


def shards(folder: Path, *states: dict[str, Tensor], suffix: str = "safetensors") -> list[str]:
    names = [f"model-{place:05}-of-{len(states):05}.{suffix}" for place in range(1, len(states) + 1)]
    for name, state in zip(names, states, strict=True):
        if suffix == "safetensors":
            save_file(state, folder / name)
        else:
            torch.save(state, folder / name)
    return names


def index(folder: Path, weight_map: Mapping[str, str], name: str = "model.safetensors.index.json") -> Path:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return folder / name


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("model.safetensors.index.json", "safetensors"),
        ("diffusion_pytorch_model.safetensors.index.json", "safetensors"),
        ("pytorch_model.bin.index.json", "bin"),
    ],
)
def test_shards_are_one_checkpoint_in_the_order_of_their_index(tmp_path: Path, name: str, suffix: str) -> None:
    one, two = shards(tmp_path, FIRST, SECOND, suffix=suffix)
    path = index(tmp_path, {"a": two, "b": one, "n": two, "t": one}, name)
    for named in (path, tmp_path):
        catalog = open_checkpoint(named)
        assert list(catalog.shapes) == ["a", "b", "n", "t"]
        assert catalog.files == (path, tmp_path / two, tmp_path / one)
        assert catalog.stored["b"].file == tmp_path / one
        loaded = load_checkpoint(named)
        assert all(torch.equal(loaded[key], {**FIRST, **SECOND}[key]) for key in "abnt")


def test_ties_in_a_shard_stay_aliases(tmp_path: Path) -> None:
    one, two = shards(tmp_path, {"x": FIRST["b"], "y": FIRST["b"]}, SECOND, suffix="bin")
    index(tmp_path, {"y": one, "a": two, "x": one, "n": two}, "pytorch_model.bin.index.json")
    catalog = open_checkpoint(tmp_path)
    assert [(weight.name, weight.aliases) for weight in catalog.weights] == [("x", ("y",)), ("a", ()), ("n", ())]
    assert list(catalog.views) == ["y", "a", "x", "n"]


def test_a_key_in_two_shards_is_refused_whatever_the_index_says(tmp_path: Path) -> None:
    one, two = shards(tmp_path, FIRST, {**SECOND, "b": torch.ones(1)})
    index(tmp_path, {"a": two, "b": one, "n": two, "t": one})
    message = refusal(tmp_path)
    assert f"b: in {one} and in {two}; a key may be in one shard only" in message
    assert message.count("b:") == 1


def test_an_index_that_places_a_key_twice_is_refused(tmp_path: Path) -> None:
    one, two = shards(tmp_path, FIRST, SECOND)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(f'{{"weight_map": {{"a": "{two}", "b": "{one}", "b": "{two}"}}}}')
    assert f"b: in {one} and in {two}" in refusal(path)


def test_everything_that_contradicts_is_told_together(tmp_path: Path) -> None:
    one, two = shards(tmp_path, FIRST, {**SECOND, "t": torch.ones(2)})
    message = refusal(index(tmp_path, {"a": one, "b": one, "gone": two}))
    assert f"t: in {one} and in {two}" in message
    assert f"a: not in {one}, where the index places it" in message
    assert f"gone: not in {two}" in message
    assert f"n: in {two}, but the index does not say so" in message


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    one, two = shards(tmp_path, FIRST, SECOND)
    (tmp_path / two).write_bytes((tmp_path / two).read_bytes()[:-1])
    assert f"{two}: this safetensors file is cut short" in refusal(index(tmp_path, {"a": two, "b": one}))


def test_numbered_shards_without_an_index_are_taken_with_a_note(tmp_path: Path) -> None:
    shards(tmp_path, FIRST, SECOND)
    catalog = open_checkpoint(tmp_path)
    assert set(catalog.shapes) == {"a", "b", "n", "t"}
    assert catalog.notes == (
        "the index model.safetensors.index.json is missing; the 2 numbered shards were taken for the whole checkpoint",
    )


def test_numbered_shards_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    one, two, three = shards(tmp_path, FIRST, SECOND, {"c": torch.ones(1)})
    (tmp_path / two).unlink()
    message = refusal(tmp_path)
    assert f"1 of 3 shards:\n  {two}: missing" in message
    assert "model.safetensors.index.json" in message
    (tmp_path / one).unlink()
    (tmp_path / three).rename(tmp_path / "other-00001-of-00001.safetensors")
    shards(tmp_path, FIRST)
    assert "several checkpoints" in refusal(tmp_path)


def test_a_shard_with_a_number_beyond_the_count_is_refused(tmp_path: Path) -> None:
    one, _ = shards(tmp_path, FIRST, SECOND)
    spare = "model-00003-of-00002.safetensors"
    (tmp_path / spare).write_bytes((tmp_path / one).read_bytes())
    assert f"these are not among shards 1 to 2:\n  {spare}\nNext: " in refusal(tmp_path)


def test_the_next_step_is_told_however_many_shards_are_missing(tmp_path: Path) -> None:
    path = index(tmp_path, {f"w{place}": f"gone-{place}.safetensors" for place in range(30)})
    assert refusal(path).endswith("... and 10 more\nNext: fetch these files into the index's folder.")


def test_numbered_shards_that_share_a_key_are_refused(tmp_path: Path) -> None:
    one, two = shards(tmp_path, FIRST, {"b": torch.ones(1)})
    assert f"b: in {one} and in {two}" in refusal(tmp_path)


def test_a_folder_of_links_as_a_cache_keeps_it_is_read(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    names = shards(blobs, FIRST, SECOND)
    index(blobs, {key: name for name, state in zip(names, (FIRST, SECOND), strict=True) for key in state})
    for place, file in enumerate(sorted(blobs.iterdir())):
        file.rename(blobs / f"blob{place}")
        (snapshot / file.name).symlink_to(f"../../blobs/blob{place}")
    catalog = open_checkpoint(snapshot)
    assert set(catalog.shapes) == {"a", "b", "n", "t"}
    assert catalog.stored["b"].file == snapshot / names[0]
    (blobs / "blob0").unlink()
    assert f"{names[0]}: missing" in refusal(snapshot)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.safetensors")
    assert "neither a file nor a folder" in refusal(tmp_path / "x.safetensors")


def test_a_safetensors_file_has_no_entries(tmp_path: Path) -> None:
    save_file(FIRST, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="has no entries, so not 'model' either"):
        open_checkpoint(tmp_path / "x.safetensors", entry="model")


def test_two_hundred_thousand_tensors_open_in_seconds(tmp_path: Path) -> None:
    weight_map: dict[str, str] = {}
    for shard in range(200):
        name = f"model-{shard + 1:05}-of-00200.safetensors"
        keys = [f"model.layers.{shard}.experts.{place}.down_proj.weight" for place in range(1000)]
        head, offsets = encode_header([(key, "bfloat16", (8, 8)) for key in keys])
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            file.truncate(max(offsets.values()) + 128)
        weight_map |= dict.fromkeys(keys, name)
    path = index(tmp_path, weight_map)
    started = time.process_time()
    assert len(open_checkpoint(path).weights) == 200_000
    assert time.process_time() - started < 30  # about 2 s; a quadratic step would take minutes


def test_a_header_whose_length_begins_as_a_pickle_does_is_still_a_header(tmp_path: Path) -> None:
    for width in range(0, 200, 8):
        save_file({"w" * (width + 1): torch.ones(1)}, tmp_path / "x.safetensors")
        if (tmp_path / "x.safetensors").read_bytes().startswith(b"\x80"):
            break
    assert (tmp_path / "x.safetensors").read_bytes().startswith(b"\x80")
    assert list(open_checkpoint(tmp_path / "x.safetensors").shapes) == ["w" * (width + 1)]


def test_a_safetensors_checkpoint_is_opened_without_torch(tmp_path: Path) -> None:
    save_file(FIRST, tmp_path / "x.safetensors")
    code = (
        "import sys; from automatch.checkpoint import open_checkpoint; import automatch.checkpoint.reading\n"
        f"print(list(open_checkpoint({str(tmp_path)!r}).shapes), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['b', 't'] False\n"
