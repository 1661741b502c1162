"""Expectations that remember what was proved, on records made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automatch.check.compare import check
from automatch.check.expected import Expected, read
from automatch.check.proved import Proved
from automatch.check.written import update, written
from automatch.cli import main
from automatch.core.expr import Source
from automatch.core.graph import Function
from automatch.core.mapping import Entry, MappingRecord, ProofRecord, Shown, Status
from automatch.core.mapping_json import dumps
from automatch.errors import MappingFormatError
from tests.apply.records import entry, record

OLD = Function("a" * 64, (("gelu", 2), ("linear", 4)))
NEW = Function("b" * 64, (("linear", 4), ("relu", 2)))
ORDER = Function("c" * 64, OLD.operators)
AGREED = ProofRecord("agree", "all outputs agree", 3, 1e-9, "2x4", "2x4")
DIFFER = ProofRecord("differ", "output 0 differs by 0.3", 3, 1e-9, "2x4", "2x4", divergence=("first at relu",))
NOTHING = ProofRecord("nothing", "no output has a partner", 0, 1e-9, "2x4", "2x4")


def layer(index: int, name: str, status: Status = "proved") -> Entry:
    made = entry(f"h.{index}.{name}", Source(f"l.{index}.{name}", (4,)), status)
    shown = Shown(*((4, 4, "no other value fits") if status == "proved" else (1, 4, "three were multiplied by zero")))
    return replace(made, evidence=replace(made.evidence, shown=shown))


def shown(
    proof: ProofRecord | None = AGREED,
    weights: Status = "proved",
    source: Function | None = OLD,
    target: Function | None = OLD,
    not_run: str = "",
) -> MappingRecord:
    """Three layers of a weight that is proved or not, and a bias that is proved."""
    made = record(*(layer(i, *part) for i in range(3) for part in (("w", weights), ("b", "proved"))))
    sides = {"source": replace(made.source, function=source), "target": replace(made.target, function=target)}
    return replace(made, **sides, proof=proof, not_run=not_run)  # type: ignore[arg-type]


PROVED = json.loads(written(shown()))
IN_PART = json.loads(written(shown(weights="structural")))


def test_what_was_shown_stands_before_the_weights() -> None:
    assert written(shown(weights="structural", source=None)).split("\n") == [
        "{",
        '  "format": "automatch.expected",',
        '  "version": 1,',
        '  "layers": {"i": [0, 1, 2]},',
        '  "proved": {',
        '    "verdict": "agrees, in part shown",',
        '    "not_proved": ["h.{i}.w"],',
        f'    "target": {{"digest": "{"a" * 64}", "operators": {{"gelu": 2, "linear": 4}}}}',
        "  },",
        '  "weights": {',
        '    "h.{i}.w": {"is": "l.{i}.w"},',
        '    "h.{i}.b": {"is": "l.{i}.b"}',
        "  }",
        "}",
        "",
    ]
    assert "not_proved" not in PROVED["proved"]


@pytest.mark.parametrize("proof", [None, DIFFER, NOTHING])
def test_nothing_is_remembered_where_nothing_was_shown(proof: ProofRecord | None) -> None:
    assert "proved" not in json.loads(written(shown(proof)))


def test_it_is_read_with_its_patterns_written_out() -> None:
    got = read(IN_PART, "e.json", to_compare=True)
    assert isinstance(got, Expected)
    assert got.proved == Proved("agrees, in part shown", frozenset({"h.0.w", "h.1.w", "h.2.w"}), OLD, OLD)
    assert read({**PROVED, "proved": {"verdict": "proved"}}, "e.json", to_compare=True).proved == Proved("proved")


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (PROVED, shown()),
        (IN_PART, shown(weights="structural")),
        (IN_PART, shown()),
        ({**PROVED, "proved": {"verdict": "proved"}}, shown(source=NEW, target=None)),
        ({key: value for key, value in PROVED.items() if key != "proved"}, shown(DIFFER, target=NEW)),
    ],
)
def test_as_much_or_more_is_as_expected(wanted: dict[str, Any], got: MappingRecord) -> None:
    assert check(got, wanted).ok


CHANGED = "the target's function changed: gelu 2 -> 0, relu 0 -> 2"


@pytest.mark.parametrize(
    ("wanted", "got", "sentences"),
    [
        (PROVED, shown(DIFFER), ["was proved, is now refuted: output 0 differs by 0.3", "first at relu"]),
        (IN_PART, shown(DIFFER), ["agreed when it was run, is now refuted: output 0 differs by 0.3", "first at relu"]),
        (PROVED, shown(None), ["was proved, is not run now"]),
        (PROVED, shown(None, not_run="on meta"), ["was proved, is not run now: on meta"]),
        (PROVED, shown(NOTHING), ["was proved, is not run now: no output has a partner"]),
        (
            PROVED,
            shown(weights="structural"),
            ["not proved any more: h.{i}.w (3 keys): three were multiplied by zero"],
        ),
        (PROVED, shown(target=NEW), [CHANGED]),
        (PROVED, shown(source=NEW), [CHANGED.replace("target", "source")]),
        (
            PROVED,
            shown(target=ORDER),
            ["the target's function changed in order, shapes or wiring; its operators are the same"],
        ),
        (PROVED, shown(source=None), ["the function of the source was not recorded"]),
        (
            PROVED,
            shown(DIFFER, target=NEW),
            ["was proved, is now refuted: output 0 differs by 0.3", "first at relu", CHANGED],
        ),
    ],
)
def test_less_or_something_else_is_a_difference(
    wanted: dict[str, Any], got: MappingRecord, sentences: list[str]
) -> None:
    report = check(got, wanted)
    assert not report.ok
    assert list(report.proof) == sentences
    assert (report.missing, report.extra, report.different) == ((), (), ())


def test_one_key_that_is_not_proved_any_more_is_named() -> None:
    made = shown()
    made = replace(made, entries=(layer(0, "w", "structural"), *made.entries[1:]))
    assert check(made, PROVED).proof == ("not proved any more: h.0.w: three were multiplied by zero",)


def test_the_report_says_it_before_the_weights() -> None:
    lines = str(check(shown(DIFFER, target=NEW), PROVED)).split("\n")
    assert lines == [
        "not as expected: 0 different, 0 missing, 0 extra (6 weights compared)",
        "proof (what was shown before, and is not now):",
        "  was proved, is now refuted: output 0 differs by 0.3",
        "  first at relu",
        f"  {CHANGED}",
    ]


def test_a_mapping_file_that_was_proved_asks_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(dumps(shown()))
    assert check(shown(), path).ok
    assert check(shown(target=NEW), path).proof == (CHANGED,)
    assert check(shown(weights="structural"), shown()).proof[0].startswith("not proved any more: h.{i}.w")
    assert check(shown(weights="structural"), shown(weights="structural")).ok


def test_another_mapping_asks_nothing_of_functions_that_one_side_does_not_know(tmp_path: Path) -> None:
    assert check(shown(source=None, target=None), shown()).ok
    assert check(shown(), shown(source=None, target=None)).ok
    assert check(shown(None), shown(None, target=NEW)).ok


def test_an_update_remembers_the_new_function(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(written(shown()))
    assert not update(shown(), path)
    assert update(shown(source=NEW, target=NEW), path)
    assert path.read_text() == written(shown(source=NEW, target=NEW))
    assert not update(shown(source=NEW, target=NEW), path)


def test_a_file_that_asks_for_no_proof_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text('{"format": "automatch.expected", "version": 1, "weights": {"h.0.w": "l.0.w"}}')
    before = path.read_bytes()
    made = replace(shown(), entries=shown().entries[:1])
    assert not update(made, path)
    assert path.read_bytes() == before


def test_the_command_fails_and_says_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping, expected = tmp_path / "m.json", tmp_path / "e.json"
    mapping.write_text(dumps(shown(target=NEW)))
    expected.write_text(written(shown()))
    assert main(["check", str(mapping), str(expected)]) == 1
    assert CHANGED in capsys.readouterr().out
    assert main(["check", str(mapping), str(expected), "--update"]) == 0
    assert main(["check", str(mapping), str(expected)]) == 0


def test_damage_is_reported_with_its_path() -> None:
    proved = {
        "verdict": "refuted",
        "not_proved": ["", "h.{i}.w"],
        "source": {"digest": "", "operators": {"gelu": "2"}},
        "target": 3,
        "sure": True,
    }
    with pytest.raises(MappingFormatError) as caught:
        check(shown(), {**PROVED, "proved": proved})
    assert str(caught.value).split("\n") == [
        "the expectation: the expectation is damaged; mend it:",
        '  $.proved.verdict: expected one of proved, agrees, in part shown, found "refuted"',
        '  $.proved.not_proved[0]: expected text that is not empty, found ""',
        '  $.proved.source.digest: expected text that is not empty, found ""',
        '  $.proved.source.operators.gelu: expected an integer, found "2"',
        "  $.proved.target: expected an object, found 3",
        "  $.proved.sure: this field is not known here",
    ]


@pytest.mark.parametrize(
    ("proved", "message"),
    [
        ({}, "$.proved.verdict: this field is missing"),
        ([], "$.proved: expected an object, found an empty list"),
        (
            {"verdict": "proved", "not_proved": ["h.0.w"]},
            "$.proved.not_proved: the verdict says that every weight was proved",
        ),
        (
            {"verdict": "agrees, in part shown", "not_proved": ["h.{k}.w"]},
            "$.proved.not_proved[0]: {k} is not in $.layers",
        ),
        (
            {"verdict": "agrees, in part shown", "not_proved": ["h.0.w", "h.9.w"]},
            "$.proved.not_proved[1]: 'h.9.w' is not in $.weights",
        ),
    ],
)
def test_a_contradiction_is_refused(proved: object, message: str) -> None:
    with pytest.raises(MappingFormatError) as caught:
        check(shown(), {**PROVED, "proved": proved})
    assert message in str(caught.value)
