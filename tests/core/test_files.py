from __future__ import annotations

from pathlib import Path

import pytest

from automatch.core.files import replacing
from automatch.errors import CheckpointError, MappingError


def test_a_file_appears_with_its_content_and_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    out.write_text("old")
    with replacing(out, MappingError) as temporary:
        temporary.write_text("new")
        assert out.read_text() == "old"
    assert out.read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def write(out: Path, problem: BaseException | None = None) -> None:
    with replacing(out, CheckpointError) as temporary:
        temporary.write_text("half")
        if problem is not None:
            raise problem


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    out.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write(out, KeyboardInterrupt())
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_is_an_error_of_the_given_class(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device")
    with pytest.raises(
        CheckpointError, match=r"m\.json cannot be written: No space left on device; nothing was changed"
    ):
        write(tmp_path / "m.json", full)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the folder .*absent does not exist; make it first"):
        write(tmp_path / "absent" / "m.json")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        write(tmp_path)
