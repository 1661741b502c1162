from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automatch.check.compare import check
from automatch.check.wording import form_of
from automatch.core.expr import Affine, Concat, Constant, Expr, Gather, Permute, Resize, Slice, Source, Sum
from automatch.core.graph import Weight
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_json import dumps
from automatch.errors import MappingError, MappingFormatError
from tests.apply.records import block, entry, record, whole

Q, K = Source("q", (4,)), Source("k", (4,))

EXPECTED: dict[str, Any] = {
    "format": "automatch.expected",
    "version": 1,
    "layers": {"i": [0, 2]},
    "weights": {
        "conv": "patch",
        "same": "same",
        "new": "old",
        "blocks.{i}.in_proj": ["layers.{i}.q.weight", "layers.{i}.k.weight", "layers.{i}.v.weight"],
        "blocks.{i}.norm.weight": {"constant": 1},
        "blocks.{i}.mlp.0.weight": "layers.{i}.fc.0",
        "blocks.{i}.mlp.2.weight": ["layers.{i}.fc.2"],
        "embed": ["embed", "type"],
        "head": ["embed", "type"],
        "steps": {"constant": 3.0},
        "table": None,
    },
}


def with_weights(**changes: Any) -> dict[str, Any]:
    return EXPECTED | {"weights": EXPECTED["weights"] | changes}


def test_a_mapping_that_is_as_expected_is_ok() -> None:
    report = check(whole(), EXPECTED)
    assert report.ok
    assert str(report) == "as expected: 15 weights"
    report.raise_for_difference()


def test_an_expectation_may_be_a_file_a_mapping_file_a_mapping_or_plain_keys(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(EXPECTED))
    (tmp_path / "m.json").write_text(dumps(whole()))
    one = record(entry("w", Source("v", (2,))))
    assert check(whole(), tmp_path / "e.json").ok
    assert check(whole(), str(tmp_path / "m.json")).ok
    assert check(whole(), whole()).ok
    assert check(one, {"w": "v"}).ok
    assert not check(one, {"w": "u"}).ok


def test_keys_on_one_side_only_are_missing_or_extra() -> None:
    report = check(record(entry("a", Q), entry("b", K)), {"a": "q", "c": "k"})
    assert (report.missing, report.extra, report.different) == (("c",), ("b",), ())
    assert not report.ok


@pytest.mark.parametrize(
    ("expr", "wanted", "what"),
    [
        (Q, "q", None),
        (Resize(Slice(Q, 0, 1, 4), (2,), ("leading",), 2.0), "q", None),
        (Q, "k", "other sources"),
        (Q, ["q", "k"], "other sources"),
        (Concat((Q, K)), "q", "other sources"),
        (Concat((Q, K)), ["q", "k"], None),
        (Sum((Q, K)), ["q", "k"], None),
        (Concat((Q, Slice(K, 0, 0, 2), Q)), ["q", "k"], None),
        (Concat((K, Q)), ["q", "k"], "the sources in another order"),
        (Q, ["q", "q"], "neither concatenated nor summed"),
        (Affine(Concat((Q, Q))), ["q", "q"], None),
        (Q, {"constant": 0.0}, "has sources, though a constant was expected"),
        (Q, None, "mapped, though nothing was expected"),
        (None, None, None),
        (None, "q", "unmapped"),
        (None, {"constant": 0.0}, "unmapped"),
        (Constant(1.0, (2,)), {"constant": 1.0}, None),
        (Constant(1.0, (2,)), {"constant": 0.0}, "another constant"),
        (Constant(1.0, (2,)), "q", "other sources"),
        (Concat((Constant(1.0, (2,)), Constant(0.0, (2,)))), {"constant": 1.0}, "another constant"),
        (Affine(Constant(1.0, (2,)), 2.0, -2.0), {"constant": 0.0}, None),
        (Sum((Constant(1.0, (2,)), Permute(Constant(2.0, (2,)), (0,)))), {"constant": 3.0}, None),
        (Resize(Constant(1.0, (2,)), (4,), ("pad",)), {"constant": 1.0}, "another constant"),
        (Resize(Constant(1.0, (2,)), (4,), ("tile",), 0.5), {"constant": 0.5}, None),
    ],
)
def test_an_entry_is_held_against_what_is_wanted(expr: Expr | None, wanted: Any, what: str | None) -> None:
    both = tuple(Weight(key, (4,), "float32") for key in "qk")
    built = record(entry("w", expr))
    built = replace(built, source=replace(built.source, weights=both))
    assert [difference.what for difference in check(built, {"w": wanted}).different] == ([what] if what else [])


def test_a_tied_source_may_go_by_any_of_its_names() -> None:
    built = record(entry("w", Source("head", (2,))))
    tied = Weight("embed", (2,), "float32", "parameter", ("head",))
    built = replace(built, source=replace(built.source, weights=(tied,)))
    assert check(built, {"w": "embed"}).ok
    assert check(built, {"w": "head"}).ok
    assert check(built, record(entry("w", Source("embed", (2,))))).ok


def test_an_expected_key_that_the_source_does_not_have_is_said_to_be_one() -> None:
    (difference,) = check(record(entry("w", Source("norm.weight", (2,)))), {"w": "norm.wieght"}).different
    assert difference.what == "the expected norm.wieght is no key of the source, but norm.weight is"


@pytest.mark.parametrize(
    ("expr", "text", "what"),
    [
        (Q, "q", None),
        (Permute(Source("q", (4, 2)), (1, 0)), "q", "the same sources, but another expression"),
        (Concat((Q, K)), "cat(q, k)", None),
        (Concat((K, Q)), "cat(q, k)", "the sources in another order"),
        (Q, "cat(q, k)", "other sources"),
        (None, "q", "unmapped"),
        (Affine(Q, shift=1.0), "1 + q", None),
    ],
)
def test_the_text_of_an_expression_is_compared_word_for_word(expr: Expr | None, text: str, what: str | None) -> None:
    built = record(entry("w", expr))
    built = replace(built, source=replace(built.source, weights=tuple(Weight(k, (4,), "float32") for k in "qk")))
    assert [difference.what for difference in check(built, {"w": {"is": text}}).different] == ([what] if what else [])


def test_a_form_tells_apart_what_reads_the_same() -> None:
    one, other = (record(entry("w", Gather(Q, (2,), index))) for index in ((0, 1), (1, 0)))
    wanted = {"w": {"is": "gather(q, 2 indices)", "form": form_of(Gather(Q, (2,), (0, 1)))}}
    assert check(one, wanted).ok
    (difference,) = check(other, wanted).different
    assert difference.what == "the same text, but another expression"
    assert check(other, {"w": {"is": "gather(q, 2 indices)"}}).ok


def test_a_tied_source_in_a_text_may_go_by_any_of_its_names() -> None:
    built = record(entry("w", Permute(Source("head.weight", (2, 3)), (1, 0))))
    tied = Weight("embed.weight", (2, 3), "float32", "parameter", ("head.weight",))
    built = replace(built, source=replace(built.source, weights=(tied,)))
    assert check(built, {"w": {"is": "embed.weight.T"}}).ok
    assert check(built, {"w": {"is": "head.weight.T"}}).ok


def test_against_another_mapping_expressions_count() -> None:
    got, want = record(entry("w", Slice(Q, 0, 0, 2))), record(entry("w", Slice(Q, 0, 2, 4)))
    (difference,) = check(got, want).different
    assert difference.what == "the same sources, but another expression"
    assert (difference.expected, difference.got) == ("q[2:4]", "q[0:2]")
    assert check(got, record(entry("w", None, shape=(2,)))).different[0].what == "mapped, though nothing was expected"


def test_the_report_names_keys_sources_reasons_and_rivals() -> None:
    assert str(check(whole(), with_weights(new="cross", gone="q", table="patch"))).split("\n") == [
        "not as expected: 2 different, 1 missing, 0 extra (15 weights compared)",
        "new: other sources",
        "  expected  cross",
        "  got       old  [guessed]",
        "  because   by order",
        "  rival     other: 0.25 behind",
        "table: unmapped",
        "  expected  patch",
        "  got       nothing  [unmapped]",
        "  because   no counterpart",
        "missing (expected, but the mapping does not have them):",
        "  gone",
    ]


def layered(depth: int, source: int) -> MappingRecord:
    return record(*(each for layer in range(depth) for each in block(layer, layer + source)))


def test_equal_differences_across_layers_are_shown_once_with_their_number() -> None:
    built = layered(8, 1)
    weights: dict[str, Any] = {each.target: list(each.sources) or {"constant": 1.0} for each in built.entries}
    weights |= {f"blocks.{i}.mlp.0.weight": f"layers.{i + 1}.fc.2" for i in range(8)}
    report = check(built, weights)
    assert len(report.different) == 8
    assert str(report).split("\n") == [
        "not as expected: 8 different, 0 missing, 0 extra (32 weights compared)",
        "blocks.0.mlp.0.weight  (8 keys of the form blocks.{}.mlp.{}.weight): other sources",
        "  expected  layers.1.fc.2",
        "  got       layers.1.fc.0.T  [guessed]",
        "  because   enters attention as query",
        "  likewise  blocks.1.mlp.0.weight, blocks.2.mlp.0.weight, blocks.3.mlp.0.weight, blocks.4.mlp.0.weight "
        "and 3 more",
    ]


def test_missing_and_extra_keys_are_grouped_too() -> None:
    lines = str(check(layered(2, 0), {f"h.{i}.w": "q" for i in range(2)})).split("\n")
    assert lines == [
        "not as expected: 0 different, 2 missing, 8 extra (0 weights compared)",
        "missing (expected, but the mapping does not have them):",
        "  h.0.w; likewise h.1.w",
        "extra (the expectation does not speak of them):",
        "  blocks.0.in_proj; likewise blocks.1.in_proj",
        "  blocks.0.norm.weight; likewise blocks.1.norm.weight",
        "  blocks.0.mlp.0.weight; likewise blocks.0.mlp.2.weight, blocks.1.mlp.0.weight, blocks.1.mlp.2.weight",
    ]


def test_a_difference_is_raised_with_the_whole_report() -> None:
    report = check(whole(), with_weights(same="old"))
    with pytest.raises(MappingError) as caught:
        report.raise_for_difference()
    assert str(caught.value) == str(report)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "e.json: not JSON: "),
        ('{"format": "else"}', "e.json: format 'else', expected 'automatch.expected' or 'automatch.mapping'"),
        ("[]", "e.json: format None, expected"),
        (
            '{"format": "automatch.expected", "version": 9, "weights": {}}',
            "version 9, but this automatch reads version 1",
        ),
        (
            '{"format": "automatch.expected", "version": 1, "weights": {"a": "b", "a": "c"}}',
            '"a", 2 times in one object',
        ),
    ],
)
def test_a_damaged_expectation_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(MappingFormatError) as caught:
        check(whole(), tmp_path / "e.json")
    assert message in str(caught.value)
    with pytest.raises(MappingFormatError, match=r"there is no such file \(expectation file expected\)"):
        check(whole(), tmp_path / "absent.json")
