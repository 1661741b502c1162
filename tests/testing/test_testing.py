"""The helper for other libraries' tests, as a function and as a pytest plugin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch

from automatch.check.written import written
from automatch.mapping import Mapping
from automatch.testing import UPDATE, assert_as_expected, assert_mapping
from tests.apply.records import record, whole

Pair: TypeAlias = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]

MET = {"format": "automatch.expected", "version": 1, "weights": {"blocks.0.w": "layers.0.w", "head": "head"}}


@pytest.fixture(autouse=True)
def _not_updating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(UPDATE, raising=False)


@pytest.fixture
def pair() -> Pair:
    ours = {"layers.0.w": torch.zeros(2, 3), "head": torch.zeros(3, 4)}
    return ours, {"blocks.0.w": torch.zeros(2, 3), "head": torch.zeros(3, 4)}


def saved(folder: Path, **weights: Any) -> Path:
    path = folder / "known.json"
    path.write_text(json.dumps(MET | {"weights": {"blocks.0.w": "layers.0.w", "head": "head"} | weights}))
    return path


def test_a_known_mapping_passes_and_is_handed_back(tmp_path: Path, pair: Pair) -> None:
    assert assert_mapping(pair[0], pair[1], saved(tmp_path))["blocks.0.w"].sources == ("layers.0.w",)


def test_another_mapping_fails_with_key_reasons_and_the_next_step(tmp_path: Path, pair: Pair) -> None:
    path = saved(tmp_path, head="layers.0.w")
    before = path.read_bytes()
    with pytest.raises(AssertionError) as caught:
        assert_mapping(pair[0], pair[1], path)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{path}: not as expected: 1 different, 0 missing, 0 extra (2 weights compared)"
    assert lines[1:4] == ["head: other sources", "  expected  layers.0.w", "  got       head  [structural]"]
    assert any(line.startswith("  because   ") for line in lines)
    assert lines[-1].startswith("Next: mend what changed; or, if the new mapping is right, let this test write it")
    assert path.read_bytes() == before


def test_options_are_those_of_match(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(TypeError, match="no_such_option"):
        assert_mapping(pair[0], pair[1], saved(tmp_path), no_such_option=True)


def test_a_file_that_is_not_there_fails_and_says_how_it_comes_to_be(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"new\.json: there is no such file\.\nNext: let this test write it"):
        assert_as_expected(Mapping(whole()), tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()


def test_updating_writes_the_file_and_says_what_was_different(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.json"
    assert_as_expected(Mapping(whole()), path, update=True)
    assert capsys.readouterr().out == f"{path} was written; look at what changed.\nthere was no such file\n"
    assert path.read_text(encoding="utf-8") == written(whole())
    assert_as_expected(Mapping(record(*whole().entries[:-1])), path, update=True)
    assert "missing (expected, but the mapping does not have them):\n  table" in capsys.readouterr().out
    assert_as_expected(Mapping(record(*whole().entries[:-1])), path)


def test_the_environment_asks_for_an_update_unless_the_test_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(UPDATE, "1")
    with pytest.raises(AssertionError, match="there is no such file"):
        assert_as_expected(Mapping(whole()), tmp_path / "new.json", update=False)
    assert_as_expected(Mapping(whole()), tmp_path / "new.json")
    assert (tmp_path / "new.json").exists()


TEST = """
from automatch.mapping import load
from automatch.testing import assert_as_expected

def test_known():
    assert_as_expected(load("mapping.json"), "known.json")
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "automatch.testing", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_as_a_plugin_it_rewrites_files_with_the_option_alone(tmp_path: Path) -> None:
    Mapping(whole()).save(tmp_path / "mapping.json")
    (tmp_path / "test_known.py").write_text(TEST)
    failed = run(tmp_path)
    assert failed.returncode == 1
    assert "known.json: there is no such file." in failed.stdout
    assert not (tmp_path / "known.json").exists()
    assert run(tmp_path, "--update").returncode == 0
    assert (tmp_path / "known.json").read_text(encoding="utf-8") == written(whole())
    assert run(tmp_path).returncode == 0


def test_importing_the_plugin_does_not_pay_for_torch() -> None:
    code = "import sys, automatch.testing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
