from __future__ import annotations

import io
import logging
import time
from contextlib import redirect_stderr

import pytest

from automatch.cli.progress import progress, without_torch_logs


def test_without_a_terminal_every_stage_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as stage:
        stage("tracing source (export)")
        stage("matching")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[11:] for line in err.splitlines()] == ["tracing source (export)", "matching", "done"]
    assert all(line.startswith("[") and line[7:11] == " s] " for line in err.splitlines())


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=True) as stage:
        stage("tracing")
    assert capsys.readouterr() == ("", "")


def test_what_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        with progress() as stage:
            stage("tracing")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert "done" not in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_every_stage_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress() as stage:
        stage("tracing source [export]")
        stage("matching")
    assert "tracing source [export]" in terminal.getvalue()
    assert "matching" in terminal.getvalue()


def test_the_spinner_goes_on_where_stderr_is_redirected_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, elsewhere = Terminal(), io.StringIO()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    with progress() as stage:
        stage("tracing")
        with redirect_stderr(elsewhere):
            time.sleep(0.4)
    assert elsewhere.getvalue() == ""
    assert 2 <= terminal.getvalue().count("tracing") <= 20


def test_torch_logs_are_off_inside_and_as_before_outside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TORCH_LOGS", raising=False)
    with without_torch_logs():
        logging.getLogger("torch.test").error("inside")
    logging.getLogger("torch.test").error("outside")
    assert caplog.messages == ["outside"]


def test_torch_logs_that_are_asked_for_stay(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("TORCH_LOGS", "+export")
    with without_torch_logs():
        logging.getLogger("torch.test").error("inside")
    assert caplog.messages == ["inside"]
