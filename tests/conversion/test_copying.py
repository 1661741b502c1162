from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from automatch.conversion import copying
from automatch.conversion.copying import copy_range
from automatch.errors import CheckpointError

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[int, int]]:
    (tmp_path / "old").write_bytes(CONTENT)
    source = os.open(tmp_path / "old", os.O_RDONLY)
    target = os.open(tmp_path / "new", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


def test_bytes_arrive_at_their_place_and_are_told_of(ends: tuple[int, int]) -> None:
    told: list[int] = []
    copy_range(ends[0], 300, ends[1], 7, 5000, told.append)
    assert os.pread(ends[1], 10_000, 0) == bytes(7) + CONTENT[300:5300]
    assert sum(told) == 5000


@pytest.mark.parametrize("answer", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, None])
def test_bytes_pass_through_memory_where_the_kernel_does_not_copy(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch, answer: int | None
) -> None:
    def refuse(*_: object) -> int:
        if answer is None:
            return 0
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    monkeypatch.setattr(copying, "BUFFER", 1000)
    copy_range(ends[0], 300, ends[1], 7, 5000, lambda _: None)
    assert os.pread(ends[1], 10_000, 0) == bytes(7) + CONTENT[300:5300]


def test_a_full_disk_is_no_reason_to_try_another_way(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space left"):
        copy_range(ends[0], 0, ends[1], 0, 100, lambda _: None)


def test_a_source_that_ends_too_early_is_said(ends: tuple[int, int]) -> None:
    with pytest.raises(CheckpointError, match="the file ended at byte 10240, before 60 more"):
        copy_range(ends[0], len(CONTENT) - 40, ends[1], 0, 100, lambda _: None)
