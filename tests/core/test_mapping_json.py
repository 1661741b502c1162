from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import automatch.core
from automatch.core.expr import Constant, Expr, Source
from automatch.core.graph import Weight
from automatch.core.mapping import (
    ComparedOutput,
    Entry,
    Evidence,
    MappingRecord,
    ProofRecord,
    Rival,
    Shown,
    Side,
)
from automatch.core.mapping_json import LINE, dumps, loads
from automatch.errors import MappingFormatError
from tests.apply.expressions import expressions
from tests.apply.records import entry, record, whole

Damage = Callable[[dict[str, Any]], object]

SCHEMA = Draft202012Validator(
    json.loads((Path(automatch.core.__file__).parent / "mapping.schema.json").read_text(encoding="utf-8"))
)


def test_reading_what_was_written_gives_the_same_record() -> None:
    assert loads(dumps(whole()), "m.json") == whole()


def test_the_bytes_are_stable() -> None:
    assert dumps(loads(dumps(whole()), "m.json")) == dumps(whole())


def test_the_text_is_laid_out_for_people_and_for_line_diffs() -> None:
    lines = dumps(whole()).split("\n")
    assert lines[:3] == ["{", '  "format": "automatch.mapping",', '  "version": 1,']
    assert '      {"name": "same", "shape": [4], "dtype": "float32", "kind": "tensor"},' in lines
    assert lines[-2:] == ["}", ""]
    assert max(map(len, lines)) <= LINE


def test_empty_optional_fields_are_left_out() -> None:
    document = json.loads(dumps(record(entry("w", Source("w", (2,))), entry("t", None))))
    assert set(document) == {"format", "version", "verdict", "source", "target", "entries"}
    assert set(document["source"]) == {"name", "rung", "weights"}
    assert set(document["entries"][0]["evidence"]) == {"method", "reasons"}
    assert "expr" not in document["entries"][1]


def test_real_dumps_satisfy_the_schema() -> None:
    SCHEMA.check_schema(SCHEMA.schema)
    assert [error.message for error in SCHEMA.iter_errors(json.loads(dumps(whole())))] == []


NAMES = st.text(min_size=1, max_size=8)
WORDS = st.lists(st.text(max_size=12), max_size=2).map(tuple)
NUMBERS = st.none() | st.floats(allow_nan=False)
EVIDENCE = st.builds(
    Evidence,
    st.sampled_from(["colours", "structure", "names"]),
    WORDS,
    NUMBERS,
    NUMBERS,
    st.lists(st.builds(Rival, st.lists(NAMES, max_size=2).map(tuple), st.text(max_size=9)), max_size=2).map(tuple),
    WORDS,
    st.none() | st.integers(0, 99),
)
FLOATS = st.floats(allow_nan=False)
PROOFS = st.none() | st.builds(
    ProofRecord,
    st.sampled_from(["agree", "differ", "nothing"]),
    st.text(max_size=9),
    st.integers(0, 9),
    FLOATS,
    st.text(max_size=9),
    st.text(max_size=9),
    st.text(max_size=9),
    st.lists(
        st.builds(
            ComparedOutput,
            st.integers(0, 9),
            st.integers(0, 9),
            st.lists(st.integers(0, 9), max_size=3).map(tuple),
            FLOATS,
            st.none() | FLOATS,
        ),
        max_size=2,
    ).map(tuple),
    WORDS,
)


@given(st.data(), st.lists(expressions(depth=3), min_size=1, max_size=3))
def test_any_record_survives_the_round_trip_and_satisfies_the_schema(data: st.DataObject, exprs: list[Expr]) -> None:
    # Equal keys have equal shapes in the strategy, so that the records are consistent.
    keys = data.draw(st.lists(NAMES, min_size=len(exprs), max_size=len(exprs), unique=True))
    entries = [_with_evidence(entry(key, expr), data) for key, expr in zip(keys, exprs, strict=True)]
    built = replace(record(*entries), notes=data.draw(WORDS), proof=data.draw(PROOFS))
    text = dumps(built)
    assert loads(text, "m.json") == built
    assert SCHEMA.is_valid(json.loads(text))


def _with_evidence(made: Entry, data: st.DataObject) -> Entry:
    size = prod(made.shape)
    shown = data.draw(st.none() | st.builds(Shown, st.integers(0, size), st.just(size), st.text(max_size=9)))
    return replace(made, evidence=replace(data.draw(EVIDENCE), shown=shown))


def shown() -> MappingRecord:
    """The whole record with a proof, in which one entry was shown."""
    built = whole()
    first = replace(
        built.entries[1], evidence=replace(built.entries[1].evidence, shown=Shown(3, 4, "one row is never read"))
    )
    output = ComparedOutput(0, 1, (2, 3), 1e-15, 0.1)
    proof = ProofRecord("agree", "they do", 3, 1e-5, "f32[2]", "f32[2]", "another too", (output,), ("a table is kept",))
    return replace(built, entries=(built.entries[0], first, *built.entries[2:]), proof=proof)


def _delete(*path: str | int) -> Damage:
    return lambda document: _at(document, path[:-1]).pop(path[-1])


def _set(value: object, *path: str | int) -> Damage:
    return lambda document: _at(document, path[:-1]).__setitem__(path[-1], value)


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        document = document[step]
    return document


STRUCTURAL: list[tuple[Damage, str]] = [
    (_delete("entries"), "$.entries: this field is missing"),
    (_delete("source", "rung"), "$.source.rung: this field is missing"),
    (_delete("entries", 1, "status"), "$.entries[1].status: this field is missing"),
    (_delete("entries", 1, "evidence"), "$.entries[1].evidence: this field is missing"),
    (_delete("entries", 1, "expr", "key"), "$.entries[1].expr.key: this field is missing"),
    (_delete("entries", 1, "expr"), "$.entries[1]: same: status 'structural' contradicts expression None"),
    (_set("unmapped", "entries", 1, "status"), "$.entries[1]: same: status 'unmapped' contradicts expression"),
    (
        _set("sure", "entries", 1, "status"),
        "$.entries[1].status: expected one of proved, structural, guessed, unmapped",
    ),
    (_set("guess", "source", "rung"), "$.source.rung: expected one of export, draft_export, recorder, names"),
    (_set("", "entries", 1, "target"), '$.entries[1].target: expected text that is not empty, found ""'),
    (_set("torch.float32", "entries", 1, "dtype"), '$.entries[1].dtype: expected a dtype such as "float32"'),
    (_set("4", "entries", 1, "shape", 0), '$.entries[1].shape[0]: expected an integer, found "4"'),
    (_set(None, "entries", 2, "evidence", "cost"), "$.entries[2].evidence.cost: expected a number, found null"),
    (_set("vibes", "entries", 1, "evidence", "method"), "$.entries[1].evidence.method: expected one of colours"),
    (_set({}, "entries", 2, "evidence", "rivals", 0), "$.entries[2].evidence.rivals[0].sources: this field is missing"),
    (_set(1, "entries", 1, "confidence"), "$.entries[1].confidence: this field is not known here"),
    (_set(1, "comment"), "$.comment: this field is not known here"),
    (_set({}, "entries"), "$.entries: expected a list, found an object"),
    (_set(["x"], "entries"), '$.entries[0]: expected an object, found "x"'),
    (_set("weight", "source", "weights", 0, "kind"), "$.source.weights[0].kind: expected one of parameter, buffer"),
    (_set([-1], "chains", 0, "layers"), "$.chains[0].layers[0]: expected an integer that is not negative, found -1"),
    (_set("", "chains", 0, "policy"), "$.chains[0].policy: expected text that is not empty"),
    (_set([1], "notes"), "$.notes[0]: expected text, found 1"),
]

CONTRADICTIONS: list[tuple[Damage, str]] = [
    (_set("same", "entries", 2, "target"), "$.entries: 'same' occurs 2 times"),
    (_set("same", "entries", 2, "target"), "$.entries: 'new' of $.target.weights has no entry"),
    (_set("else", "entries", 1, "target"), "$.entries[1].target: 'else' is not in $.target.weights"),
    (_set([5], "entries", 1, "shape"), "$.entries[1]: same: expression of shape [4], target of [5]"),
    (_set([3], "target", "weights", 1, "shape"), "$.entries[1].shape: [4], but $.target.weights has 'same' as [3]"),
    (_set("float16", "entries", 1, "dtype"), "$.entries[1].dtype: float16, but $.target.weights has 'same' as float32"),
    (_set("absent", "entries", 1, "expr", "key"), "$.entries[1].expr: source 'absent' is not in $.source.weights"),
    (
        _set([9], "source", "weights", 1, "shape"),
        "$.entries[1].expr: source 'same' of shape [4], but $.source.weights has [9]",
    ),
    (_set("same", "source", "weights", 0, "name"), "$.source.weights: 'same' occurs 2 times"),
    (_set([0, 4], "chains", 0, "layers"), "$.chains[0].layers: [4] are named, but there are 4 source layers, from 0"),
]


def test_a_proof_survives_the_round_trip_and_satisfies_the_schema() -> None:
    assert loads(dumps(shown()), "m.json") == shown()
    assert [error.message for error in SCHEMA.iter_errors(json.loads(dumps(shown())))] == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("maybe", "proof", "outcome"), "$.proof.outcome: expected one of agree, differ, nothing"),
        (_delete("proof", "tolerance"), "$.proof.tolerance: this field is missing"),
        (_set(1, "proof", "luck"), "$.proof.luck: this field is not known here"),
        (_set("0", "proof", "outputs", 0, "gap"), "$.proof.outputs[0].gap: expected a number"),
        (_delete("entries", 1, "evidence", "shown", "of"), "$.entries[1].evidence.shown.of: this field is missing"),
    ],
)
def test_a_damaged_proof_is_refused_by_reader_and_schema(damage: Damage, message: str) -> None:
    document = json.loads(dumps(shown()))
    damage(document)
    with pytest.raises(MappingFormatError) as caught:
        loads(json.dumps(document), "m.json")
    assert message in str(caught.value)
    assert not SCHEMA.is_valid(document)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set(5, "entries", 1, "evidence", "shown", "elements"), "$.entries[1].evidence.shown.elements: 5 were shown"),
        (_set(9, "entries", 1, "evidence", "shown", "of"), "shown.of: 9, but the weight has 4 elements"),
        (_set("proved", "entries", 1, "status"), "$.entries[1].status: proved, but 3 of 4 elements were shown"),
    ],
)
def test_a_proof_that_contradicts_its_weight_is_refused(damage: Damage, message: str) -> None:
    document = json.loads(dumps(shown()))
    damage(document)
    with pytest.raises(MappingFormatError) as caught:
        loads(json.dumps(document), "m.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(("damage", "message"), STRUCTURAL)
def test_structural_damage_is_refused_by_reader_and_schema(damage: Damage, message: str) -> None:
    document = json.loads(dumps(whole()))
    damage(document)
    with pytest.raises(MappingFormatError) as caught:
        loads(json.dumps(document), "m.json")
    assert message in str(caught.value)
    assert not SCHEMA.is_valid(document)


@pytest.mark.parametrize(("damage", "message"), CONTRADICTIONS)
def test_a_file_that_contradicts_itself_is_refused(damage: Damage, message: str) -> None:
    document = json.loads(dumps(whole()))
    damage(document)
    with pytest.raises(MappingFormatError) as caught:
        loads(json.dumps(document), "m.json")
    assert message in str(caught.value)


def test_all_faults_are_reported_together() -> None:
    document = json.loads(dumps(whole()))
    document["entries"][0]["status"] = "sure"
    document["entries"][0]["dtype"] = 3
    document["entries"][4]["expr"] = {"op": "sum", "parts": []}
    document["target"]["weights"][2]["shape"] = [2.5]
    with pytest.raises(MappingFormatError) as caught:
        loads(json.dumps(document), "m.json")
    assert str(caught.value).split("\n") == [
        "m.json: 4 faults in the mapping; mend the file or make it again:",
        "  $.target.weights[2].shape[0]: expected an integer, found 2.5",
        '  $.entries[0].dtype: expected a dtype such as "float32", found 3',
        '  $.entries[0].status: expected one of proved, structural, guessed, unmapped, found "sure"',
        "  $.entries[4].expr: a sum needs at least one part",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.json: not JSON: Expecting value: line 1 column 1"),
        (dumps(whole())[:-40], "m.json: not JSON: "),
        ('{"format": NaN}', "m.json: not JSON: NaN is not allowed"),
        ("[" * 100_000, "m.json: nested too deep to be read; is this the right file?"),
        ('{"version": 1, "version": 2}', 'm.json: keys are repeated; keep one of each:\n  "version", 2 times in one'),
        ("[]", "m.json: expected an object of format 'automatch.mapping', found an empty list"),
        ("{}", "m.json: format None, expected 'automatch.mapping'; is this the right file?"),
        ('{"format": "automatch.expected", "version": 1}', "m.json: format 'automatch.expected', expected"),
    ],
)
def test_what_is_no_mapping_is_refused(text: str, message: str) -> None:
    with pytest.raises(MappingFormatError) as caught:
        loads(text, "m.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "m.json: automatch.mapping version 2, but this automatch reads version 1; install a newer automatch"),
        ("0", "version 0, but this automatch reads version 1; make the file again with this automatch"),
        ("true", "version true, but this automatch reads version 1"),
        ('"1"', 'version "1", but this automatch reads version 1'),
    ],
)
def test_another_version_is_refused_with_the_next_step(version: str, message: str) -> None:
    text = dumps(whole()).replace('"version": 1', f'"version": {version}', 1)
    with pytest.raises(MappingFormatError) as caught:
        loads(text, "m.json")
    assert message in str(caught.value)


def test_an_alias_counts_as_a_key_of_its_side() -> None:
    tied = Weight("embed", (2,), "float32", "parameter", ("head",))
    target = Weight("w", (2,), "float32")
    made = Entry("w", (2,), "float32", "structural", Source("head", (2,)), Evidence("structure"))
    built = MappingRecord(Side("A", "export", (tied,)), Side("B", "export", (target,)), (made,))
    assert loads(dumps(built), "m.json") == built


def test_a_number_that_is_none_is_not_written() -> None:
    with pytest.raises(ValueError, match="NaN has no place in a mapping"):
        dumps(record(entry("w", Constant(float("nan"), (2,)))))
