from __future__ import annotations

import os
from pathlib import Path

import pytest

from automatch.checkpoint.reading import Files
from automatch.errors import CheckpointError


def test_bytes_are_read_from_any_place_and_counted(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    memory = bytearray(10)
    with Files() as files:
        files.read_into(tmp_path / "x", 90, memoryview(memory))
        assert memory == bytes(range(90, 100))
        files.read_into(tmp_path / "x", 100, memoryview(b""))
        assert files.bytes_read == 10


def test_reads_that_stop_short_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: whole(fd, [parts[0][:7]], at))
    memory = bytearray(80)
    with Files() as files:
        files.read_into(tmp_path / "x", 5, memoryview(memory))
    assert memory == bytes(range(5, 85))


def test_memory_of_wider_entries_is_filled_to_its_last_byte(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x01\0\0\0" * 6)
    held = bytearray(24)
    with Files() as files:
        files.read_into(tmp_path / "x", 0, memoryview(held).cast("I", (2, 3)))
    assert held == b"\x01\0\0\0" * 6


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"12345")
    with Files() as files, pytest.raises(CheckpointError, match=r"short: this file ends at byte 5, 2 bytes early"):
        files.read_into(tmp_path / "short", 3, memoryview(bytearray(4)))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with Files() as files, pytest.raises(CheckpointError, match="gone cannot be read: No such file"):
        files.fd(tmp_path / "gone")


def test_few_files_are_open_at_a_time_and_none_afterwards(tmp_path: Path) -> None:
    paths = [tmp_path / str(place) for place in range(10)]
    for path in paths:
        path.write_bytes(path.name.encode())
    before = set(os.listdir("/proc/self/fd"))
    memory = bytearray(1)
    with Files(most=3) as files:
        for path in [*paths, *reversed(paths)]:
            files.read_into(path, 0, memoryview(memory))
            assert memory == path.name.encode()
            assert len(set(os.listdir("/proc/self/fd")) - before) <= 4  # and the listing's own
        assert files.fd(paths[0]) == files.fd(paths[0])
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1
