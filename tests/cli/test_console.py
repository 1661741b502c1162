from __future__ import annotations

import io
import warnings

import pytest
from rich.console import RenderableType

from automatch.cli.console import show, warn, warnings_as_lines
from automatch.errors import InputsWarning
from automatch.report.render import heading, status, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_on_terminal(monkeypatch: pytest.MonkeyPatch, *parts: RenderableType, no_color: str = "") -> str:
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("NO_COLOR", no_color)
        show(parts)
    return terminal.getvalue()


def test_a_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown_on_terminal(monkeypatch, heading("Title"), table(["status"], [[status("guessed")]]))
    assert "\x1b[" in said


def test_a_terminal_that_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown_on_terminal(monkeypatch, table(["status"], [[status("guessed")]]), no_color="1")
    assert "\x1b" not in said
    assert "guessed" in said


def test_what_is_no_terminal_gets_plain_lines_as_wide_as_it_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(["word " * 20])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert "\x1b" not in "".join(lines)


def test_brackets_are_no_markup_on_a_terminal_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "norm[bold]:smile:" in shown_on_terminal(monkeypatch, "norm[bold]:smile:")


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    warn("all ids\nare equal")
    assert capsys.readouterr() == ("", "warning: all ids are equal\n")


def test_warnings_about_inputs_are_lines_said_once_and_also_before_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with warnings_as_lines():
            for _ in range(2):
                warnings.warn("all ids are equal", InputsWarning, stacklevel=2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        work()
    assert capsys.readouterr().err == "warning: all ids are equal\n"


def test_other_warnings_stay_as_they_are() -> None:
    with pytest.warns(UserWarning, match="old"), warnings_as_lines():
        warnings.warn("old", UserWarning, stacklevel=1)
