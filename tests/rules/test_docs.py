"""The examples in `docs/rules.md`, run as they stand."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from automatch.core.expr import Function, Reduction
from automatch.rules.file import dumps, loads
from automatch.rules.reading import JOINS, read_reading, read_term

DOCS = Path(__file__).parents[2] / "docs" / "rules.md"
TEXT = DOCS.read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_print_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    shown = [(code, output) for (kind, code), (_, output) in pairwise(BLOCKS) if kind == "python"]
    assert len(shown) == 3
    for code, output in shown:
        exec(code, names)
        assert capsys.readouterr().out == output


def test_the_rules_in_it_are_a_file_byte_by_byte() -> None:
    (toml,) = (block for kind, block in BLOCKS if kind == "toml")
    assert dumps(loads(toml, "docs")) == toml


def test_every_reading_and_every_function_is_explained() -> None:
    table = TEXT[TEXT.index("| reading | is |") :].split("\n\n")[0]
    readings = [each for line in table.split("\n")[2:] for each in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
    assert [type(read_reading(each)).__name__ for each in readings] == [
        "Carried",
        "Carried",
        "Axis",
        "Count",
        "Derived",
    ]
    grammar = BLOCKS[-1][1]
    words = {
        *get_args(Function),
        *get_args(Reduction),
        *JOINS,
        "rotary_pairs",
        "rotary_halves",
        "weight_norm",
        "resize",
    }
    assert {word for word in words - {"reciprocal"} if word not in grammar} == set()


@pytest.mark.parametrize(
    "term", re.findall(r"^  ((?:cat|stack|interleave|rotary|weight|resize|exp)\S*\(.*?\))", BLOCKS[-1][1], re.M)
)
def test_the_terms_in_the_grammar_are_terms(term: str) -> None:
    assert read_term(term)
