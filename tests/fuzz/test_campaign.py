"""Campaigns go on whatever the matcher does, and say what happened."""

from __future__ import annotations

import time

import pytest

import automatch
from tests.fuzz import __main__ as command
from tests.fuzz import campaign
from tests.fuzz.pair import Pair


def test_an_error_is_unsure_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pair: Pair) -> automatch.Mapping:
        raise ZeroDivisionError("once more")

    monkeypatch.setattr(campaign, "answer", fail)
    result = campaign.run(0)
    assert result.outcome == "unsure"
    assert "ZeroDivisionError: once more" in result.line


def test_a_time_out_is_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    def dawdle(pair: Pair) -> automatch.Mapping:
        time.sleep(30)
        raise AssertionError("not stopped")

    monkeypatch.setattr(campaign, "answer", dawdle)
    monkeypatch.setattr(campaign, "LIMIT_S", 1)
    result = campaign.run(0)
    assert result.outcome == "unsure"
    assert "no answer in 1 s" in result.line
    assert result.seconds < 20


def test_a_campaign_of_failures_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(pair: Pair) -> automatch.Mapping:
        raise ZeroDivisionError

    monkeypatch.setattr(campaign, "answer", fail)
    monkeypatch.setattr("sys.argv", ["fuzz", "--pairs", "2", "--seed", "5"])
    assert command.main() == 1
    said = capsys.readouterr().out
    assert "seed 5: unsure" in said
    assert "2 pairs: 0 exact (0 equal to the reference), 2 unsure, 0 false proofs" in said
