"""How much memory is left: what the kernel says, and what a control group allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from automatch.core import memory


def group(folder: Path, limit: str, used: int, files: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nactive_file {files}\ninactive_file 0\n")


def test_the_tightest_limit_around_counts_and_pages_of_files_are_free(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/old\n0::/batch/job\n")
    groups = tmp_path / "groups"
    group(groups / "batch", "1000", 400, 100)
    group(groups / "batch" / "job", "max", 300, 0)
    assert memory._left_in_group(groups, own) == [700]
    group(groups / "batch" / "job", "500", 450, 0)
    assert memory._left_in_group(groups, own) == [50, 700]


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert memory._left_in_group(tmp_path, tmp_path / "none") == []
    assert memory._left_in_all(tmp_path / "none") == []


def test_the_kernels_own_number_is_read_in_bytes(tmp_path: Path) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 100 kB\nMemAvailable: 40 kB\n")
    assert memory._left_in_all(table) == [40 * 1024]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is not known")
def test_this_machine_has_memory() -> None:
    assert (memory.available() or 0) > 1_000_000
