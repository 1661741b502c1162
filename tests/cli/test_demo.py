from __future__ import annotations

from pathlib import Path

import pytest

import automatch
from automatch.cli import main


def test_the_small_pair_is_matched_filled_saved_and_loaded_strictly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--small"]) == 0
    said = capsys.readouterr().out
    assert "WanTeacher -> WanLite" in said
    assert "<All keys matched successfully>" in said
    assert "[1, 4, 4, 6], finite" in said
    assert "at full size" not in said


def test_outside_a_checkout_the_demo_says_where_to_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(automatch, "__file__", str(tmp_path / "automatch" / "__init__.py"))
    assert main(["demo"]) == 2
    assert "run it from a checkout" in capsys.readouterr().err
