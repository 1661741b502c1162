"""Conversions under `torchrun`: as one process would write it, or nothing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import save_file

from automatch.conversion.convert import convert
from automatch.core.mapping_file import write
from tests.conversion.checkpoints import mixed, moved, save, source_tensors
from tests.conversion.ranked_processes import run_ranked

WAYS: dict[str, dict[str, str | int]] = {
    "shards": {"max_shard_size": 40_000},
    "two shards": {"max_shard_size": 300_000},
    "one.safetensors": {},
}
"""More files than processes, fewer (for three and four of them), and one."""


def content(place: Path) -> dict[str, bytes]:
    files = place.iterdir() if place.is_dir() else [place]
    return {path.name: path.read_bytes() for path in sorted(files)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    save(mixed(), tmp_path / "old.safetensors")
    write(mixed(), tmp_path / "m.json")
    return tmp_path / "old.safetensors"


@pytest.mark.parametrize("size", [2, 3, 4])
def test_several_processes_write_what_one_does(source: Path, size: int) -> None:
    folder = source.parent
    (folder / "alone").mkdir()
    (folder / "together").mkdir()
    calls = [
        {"checkpoint": str(source), "mapping": str(folder / "m.json"), "out": str(folder / "together" / out), **how}
        for out, how in WAYS.items()
    ]
    done = run_ranked(size, "tests.conversion.ranked_convert", json.dumps(calls))
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for out, how in WAYS.items():
        plan = convert(source, mixed(), folder / "alone" / out, **how).plan  # type: ignore[arg-type]
        assert content(folder / "together" / out) == content(folder / "alone" / out)
        shares = [nbytes for _, place, nbytes in told if Path(place).name == out]
        assert len(shares) == size
        assert sum(shares) == plan.nbytes
        assert min(shares) > plan.nbytes / size / 2, "the work is not shared"
    assert len(content(folder / "alone" / "shards")) > 4
    assert len([name for name in content(folder / "alone" / "two shards") if name.endswith(".safetensors")]) == 2
    assert {path.name for path in (folder / "together").iterdir()} == {*WAYS, "one.mapping.json"}


def trouble(source: Path, what: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The command line under `torchrun`, with a second process that runs into trouble."""
    folder = source.parent
    command = ["convert", str(source), "--mapping", str(folder / "m.json"), "-o", str(folder / "new"), *options]
    return run_ranked(2, "tests.conversion.ranked_trouble", what, *command)


@pytest.mark.parametrize("options", [("--max-shard-size", "40KB"), ("--format", "dcp")])
def test_a_process_that_dies_leaves_nothing_and_the_next_run_is_right(source: Path, options: tuple[str, ...]) -> None:
    done = trouble(source, "die", *options)
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr
    assert not (source.parent / "new").exists()
    how = {"max_shard_size": "40KB"} if "dcp" not in options else {"format": "dcp"}
    for out in ("new", "undisturbed"):
        convert(source, mixed(), source.parent / out, **how)  # type: ignore[arg-type]
    assert content(source.parent / "new") == content(source.parent / "undisturbed")
    assert not list(source.parent.glob(".*"))


@pytest.mark.parametrize("options", [("--max-shard-size", "60KB"), ("--format", "dcp")])
def test_a_source_that_one_process_cannot_read_fails_all_and_leaves_nothing(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    tensors = source_tensors(moved())
    folder = tmp_path / "old"
    folder.mkdir()
    places = {key: f"model-{1 + (int(key.split('.')[1]) > 1):05d}-of-00002.safetensors" for key in tensors}
    for name in set(places.values()):
        save_file({key: tensor for key, tensor in tensors.items() if places[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    write(moved(), tmp_path / "m.json")
    cut = folder / "model-00002-of-00002.safetensors"
    done = trouble(folder, str(cut), *options)
    assert done.returncode != 0
    assert re.search(r"^error: .* end(s|ed) at byte", done.stderr, re.MULTILINE)
    assert "error: process 1 of the group has failed; its own message says why" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"old", "m.json", ".new.converting"}
