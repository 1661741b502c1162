from __future__ import annotations

from typing import Any

import pytest

from automatch.check.expected import FORMS, Filled, MadeOf, Unmapped, Written, from_document, from_plain
from automatch.errors import MappingFormatError


def document(weights: dict[str, Any], **layers: list[int]) -> dict[str, Any]:
    return {"format": "automatch.expected", "version": 1, "layers": layers, "weights": weights}


def test_a_variable_counts_in_the_target_and_takes_its_layers_in_sources() -> None:
    weights = {"blocks.{i}.in_proj": ["layers.{i}.q", "layers.{i}.k"], "text": "text.0"}
    assert from_document(document(weights, i=[0, 2, 5]), "e.json") == {
        "blocks.0.in_proj": MadeOf(("layers.0.q", "layers.0.k")),
        "blocks.1.in_proj": MadeOf(("layers.2.q", "layers.2.k")),
        "blocks.2.in_proj": MadeOf(("layers.5.q", "layers.5.k")),
        "text": MadeOf(("text.0",)),
    }


def test_several_variables_give_every_combination() -> None:
    wanted = from_document(document({"l.{i}.e.{j}": "m.{i}.x.{j}.{i}"}, i=[3, 4], j=[7]), "e.json")
    assert wanted == {"l.0.e.0": MadeOf(("m.3.x.7.3",)), "l.1.e.0": MadeOf(("m.4.x.7.4",))}


def test_constants_and_refusals_may_have_variables_too() -> None:
    wanted = from_document(document({"n.{i}.w": {"constant": 1}, "t.{i}": None}, i=[5, 6]), "e.json")
    assert wanted == {"n.0.w": Filled(1.0), "n.1.w": Filled(1.0), "t.0": Unmapped(), "t.1": Unmapped()}


def test_the_text_of_an_expression_has_variables_like_a_source() -> None:
    wants = {"b.{i}.qkv": {"is": "cat(l.{i}.q, l.{i}.k.T)"}, "t": {"is": "gather(t, 2 indices)", "form": "0a1b"}}
    assert from_document(document(wants, i=[0, 3]), "e.json", to_compare=True) == {
        "b.0.qkv": Written("cat(l.0.q, l.0.k.T)"),
        "b.1.qkv": Written("cat(l.3.q, l.3.k.T)"),
        "t": Written("gather(t, 2 indices)", "0a1b"),
    }


def test_the_text_of_an_expression_is_refused_where_it_is_to_be_run() -> None:
    with pytest.raises(MappingFormatError) as caught:
        from_document(document({"a": "q", "b": {"is": "q.T"}}), "e.json")
    assert str(caught.value).split("\n") == [
        "e.json: the text of an expression can be compared, but not run; use a mapping file for:",
        "  b",
    ]


def test_layers_may_be_left_out() -> None:
    plain = {"format": "automatch.expected", "version": 1, "weights": {"w": "v"}}
    assert from_document(plain, "e.json") == {"w": MadeOf(("v",))}


def test_braces_mean_nothing_in_a_plain_dict() -> None:
    assert from_plain({"a.{i}": "b.{i}"}, "e") == {"a.{i}": MadeOf(("b.{i}",))}


def test_all_damage_is_reported_together_with_paths() -> None:
    weights = {"a": 3, "b.{k}": "c", "d": "e.{i}", "f": [], "g": ["h", ""], "n": {"constant": "1"}, "o": {"value": 1}}
    with pytest.raises(MappingFormatError) as caught:
        from_document(document(weights, i=[0]), "e.json")
    assert str(caught.value).split("\n") == [
        "e.json: the expectation is damaged; mend it:",
        f"  $.weights.a: expected {FORMS}, found 3",
        '  $.weights["b.{k}"]: {k} is not in $.layers',
        "  $.weights.d: {i} stands in a source, but not in the target key",
        f"  $.weights.f: expected {FORMS}, found an empty list",
        '  $.weights.g[1]: expected text that is not empty, found ""',
        '  $.weights.n.constant: expected a number, found "1"',
        "  $.weights.o.constant: this field is missing",
        "  $.weights.o.value: this field is not known here",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "automatch.mapping"}, "e.json: format 'automatch.mapping', expected 'automatch.expected'"),
        ({"version": 2}, "version 2, but this automatch reads version 1; install a newer automatch"),
        ({"layers": {"i": [0, -1]}}, "$.layers.i[1]: expected an integer that is not negative, found -1"),
        ({"layers": {"2": [0]}}, '$.layers["2"]: a variable is a word such as i'),
        ({"weights": ["a"]}, "$.weights: expected an object, found a list"),
        ({"note": "x"}, "$.note: this field is not known here"),
        ({"weights": {"a.{i}": "b.{i}", "a.1": "c"}}, "$.weights[\"a.1\"]: 'a.1' is also spoken of by 'a.{i}'"),
    ],
)
def test_a_damaged_document_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MappingFormatError) as caught:
        from_document(document({}, i=[0, 1]) | change, "e.json")
    assert message in str(caught.value)


def test_a_plain_dict_with_a_strange_value_is_refused() -> None:
    with pytest.raises(MappingFormatError, match=r'\$\["a.b"\]: expected a source key'):
        from_plain({"a.b": 3.0}, "e")  # type: ignore[dict-item]  # that is the point
