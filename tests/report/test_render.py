from __future__ import annotations

from typing import get_args

import pytest

from automatch.core.mapping import Verdict
from automatch.report.render import VERDICTS, facts, heading, indented, plain, status, table, verdict
from tests.report.records import record


def test_plain_lines_have_no_escapes_and_no_trailing_blanks() -> None:
    said = plain([heading("Title"), table(["a", "b"], [["x", status("guessed")], ["longer", ""]]), indented("more")])
    assert "\x1b" not in said
    assert all(line == line.rstrip() for line in said.splitlines())
    assert "longer" in said


def test_colour_that_the_environment_forces_stays_out_of_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "5")
    assert plain([status("guessed")]) == "guessed"


def test_long_cells_are_folded_and_nothing_is_lost() -> None:
    key = ".".join(f"part{i}" for i in range(40))
    said = plain([table(["key"], [[key]])], width=50)
    assert "".join(said.splitlines()[1:]) == key


def test_folded_facts_stay_in_their_column() -> None:
    said = plain([facts([("name", "word " * 30)])], width=40).splitlines()
    assert len(said) > 2
    assert all(line.startswith("        word") for line in said[1:])


def test_folded_lines_stay_indented() -> None:
    assert all(line.startswith("    word") for line in plain([indented("word " * 30, 4)], width=40).splitlines())


def test_every_verdict_has_a_colour_and_only_its_words_are_coloured() -> None:
    assert set(VERDICTS) == set(get_args(Verdict))
    line = verdict(record())
    (span,) = line.spans
    assert (line.plain[span.start : span.end], span.style) == ("not run", VERDICTS["not run"])
