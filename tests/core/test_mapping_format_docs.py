from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

import automatch.core
from automatch.check.expected import from_document
from automatch.core.expr import Expr, Fit
from automatch.core.expr_json import FITS
from automatch.core.graph import Rung
from automatch.core.mapping import Status, Verdict
from automatch.core.mapping_json import dumps, loads

DOCS = Path(__file__).parents[2] / "docs" / "mapping-format.md"
SCHEMA: dict[str, Any] = json.loads((Path(automatch.core.__file__).parent / "mapping.schema.json").read_text())


@pytest.fixture
def text() -> str:
    return DOCS.read_text(encoding="utf-8")


def test_the_example_is_a_mapping_file_byte_by_byte(text: str) -> None:
    example = re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0]
    assert dumps(loads(example, "docs")) == example
    assert Draft202012Validator(SCHEMA).is_valid(json.loads(example))


def test_the_example_of_an_expectation_is_one(text: str) -> None:
    example = re.findall(r"```json\n(.*?)```", text, re.DOTALL)[1]
    wanted = from_document(json.loads(example), "docs")
    assert list(wanted)[:3] == ["text_proj.weight", "blocks.0.attn.in_proj_weight", "blocks.1.attn.in_proj_weight"]
    assert str(wanted["blocks.1.attn.in_proj_weight"]).startswith("MadeOf(sources=('blocks.2.self_attn.q.weight'")


def test_every_field_of_the_schema_is_explained(text: str) -> None:
    fields = set(SCHEMA["properties"])
    for definition in SCHEMA["$defs"].values():
        fields |= set(definition.get("properties", {}))
        fields |= {name for variant in definition.get("oneOf", []) for name in variant["properties"]}
    assert {name for name in fields if f"`{name}`" not in text} == set()


def test_operators_and_words_are_those_of_the_code(text: str) -> None:
    ops = {variant["properties"]["op"]["const"] for variant in SCHEMA["$defs"]["expr"]["oneOf"]}
    assert ops == {operator.__name__.lower() for operator in get_args(Expr)}
    assert set(FITS) == set(get_args(Fit))
    assert set(SCHEMA["$defs"]["entry"]["properties"]["status"]["enum"]) == set(get_args(Status))
    assert set(SCHEMA["$defs"]["side"]["properties"]["rung"]["enum"]) == set(get_args(Rung))
    assert set(SCHEMA["properties"]["verdict"]["enum"]) == set(get_args(Verdict))
    words = ops | set(FITS) | set(get_args(Status)) | set(get_args(Rung)) | set(get_args(Verdict))
    assert {word for word in words if f"`{word}`" not in text} == set()
